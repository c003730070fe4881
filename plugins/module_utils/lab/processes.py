# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a lab: which they are, and how to stop and end them and nothing else."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..processes import line_of, start_time

PATIENCE = 15  # seconds until a host has to answer, or to be gone


class LabError(Exception):
    """Something that keeps the lab from coming up or down; the message is for a person."""


@dataclass(frozen=True)
class Process:
    """A process of a lab's host. ``started`` is in clock ticks since boot: with the id it names one process for ever."""

    pid: int
    started: str
    host: str
    namespace: str


def find(lab: Path, name: Optional[str] = None) -> list[Process]:
    """The processes of a host, or of every host of the lab in the directory ``lab``.

    One belongs to a host if its environment says so (``TIDEGATE_LAB``, or ``TIDEGATE_STATE`` of a service that was started without
    sshd between), if it writes its errors to the host's log, as sshd does, which overwrites its environment with its title, or if it
    lives in the process name space of one of those, as what sudo starts without the environment does.
    """
    own = _namespace("self")
    spared = line_of(os.getpid())
    marked: list[Process] = []
    others: list[tuple[int, str]] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in spared:
            continue
        with contextlib.suppress(OSError):
            started, namespace, host = start_time(int(entry)), _namespace(entry), _host(entry, lab)
            if host is not None and started:
                marked.append(Process(int(entry), started, host, namespace))
            elif namespace != own:
                others.append((int(entry), namespace))
    isolated = {process.namespace: process.host for process in marked if process.namespace != own}
    for pid, namespace in others:
        started = start_time(pid)
        if namespace in isolated and started:
            marked.append(Process(pid, started, isolated[namespace], namespace))
    return [process for process in marked if name in (None, process.host)]


def end(lab: Path, name: Optional[str] = None) -> bool:
    """Kill the processes of a host, or of all, and wait until they and their mounts are gone; return whether there were any.

    Raises :class:`LabError` when some do not end.
    """
    deadline = time.monotonic() + PATIENCE
    any_found = False
    while True:
        found = find(lab, name)
        if not found:
            return any_found
        any_found = True
        if time.monotonic() > deadline:
            raise LabError(f"processes {[process.pid for process in found]} of the lab {lab} do not end; look at them with ps")
        handles = [handle for handle in (_signal(process, signal.SIGKILL) for process in found) if handle is not None]
        try:
            _await_end(handles, deadline)
        finally:
            for handle in handles:
                os.close(handle)


def stop(lab: Path, name: str) -> None:
    """Freeze every process of a host, those included that are being started meanwhile."""
    stopped: set[Process] = set()
    while True:
        fresh = set(find(lab, name)) - stopped
        if not fresh:
            return
        _send(fresh, signal.SIGSTOP)
        stopped |= fresh


def cont(lab: Path, name: str) -> None:
    """Let a host go on that was stopped."""
    _send(find(lab, name), signal.SIGCONT)


def terminate(processes: list[Process]) -> None:
    """Kill these processes and don't wait."""
    _send(processes, signal.SIGKILL)


def _host(entry: str, lab: Path) -> Optional[str]:
    log = os.path.join("/proc", entry, "fd", "2")
    with contextlib.suppress(OSError):
        folder, rest = os.path.split(os.readlink(log))
        if rest in {"log", "log (deleted)"} and os.path.dirname(folder) == str(lab / "hosts"):
            return os.path.basename(folder)
    mark, state = f"TIDEGATE_LAB={lab}:".encode(), f"TIDEGATE_STATE={lab}/hosts/".encode()
    for variable in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
        if variable.startswith(mark):
            return os.fsdecode(variable[len(mark) :])
        if variable.startswith(state):
            return os.fsdecode(variable[len(state) :].partition(b"/")[0])
    return None


def _namespace(entry: str) -> str:
    return os.readlink(os.path.join("/proc", entry, "ns", "pid"))


def _signal(process: Process, number: int) -> Optional[int]:
    """Signal just this process, not one that has got its id since; return a handle to wait for its end."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if start_time(process.pid) == process.started:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
            return handle
    os.close(handle)
    return None


def _send(processes: Iterable[Process], number: int) -> None:
    for process in processes:
        handle = _signal(process, number)
        if handle is not None:
            os.close(handle)


def _await_end(handles: list[int], deadline: float) -> None:
    # A handle turns readable when the process has given up its name spaces, and the first one of a host when all others are gone.
    waiting = select.poll()
    for handle in handles:
        waiting.register(handle, select.POLLIN)
    left = len(handles)
    while left and time.monotonic() < deadline:
        for handle, _event in waiting.poll(200):
            waiting.unregister(handle)
            left -= 1
