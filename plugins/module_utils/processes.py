# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of this host: which there are, and how to end all of a hook's or all of a release's and no other.

A process is named by its id and the time when it started, so that another one that got the id since is never meant.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable, Optional

MARK = "TIDEGATE_HOOK"  # variable in the environment of everything that a hook starts, with another value each time
_PATIENCE = 5.0  # seconds until a process that was killed has to be gone
_GRACE = 5.0  # seconds that a release's processes get to end by themselves
_BLOCK = 1 << 16  # bytes that are read at a time
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h

# Start time in clock ticks since boot, by process id.
Processes = dict[int, str]


@functools.lru_cache(maxsize=None)
def find_prctl() -> Optional[Callable[..., Any]]:
    """The kernel's ``prctl``, if this Python can call it. Looking for it takes longer than a fork, so do it before one."""
    try:
        import ctypes  # noqa: PLC0415 - a Python may be built without it

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


def adopt_orphans() -> bool:
    """Make this process the parent of every process below it that loses its own; return whether the kernel does that."""
    prctl = find_prctl()
    return prctl is not None and bool(prctl(_SUBREAPER, 1, 0, 0, 0) == 0)


def go_first(wanted: bool) -> None:
    """Run before whatever else this machine has to do, or as everybody does again; nothing that is started meanwhile does.

    Only root may, and not in every container, so where it isn't allowed, nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError):  # a Python may be built without it
        policy = os.SCHED_FIFO if wanted else os.SCHED_OTHER
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(1 if wanted else 0))


def start_time(pid: int) -> str:
    """When the process started, in clock ticks since boot; empty when it is gone or a zombie."""
    fields = _stat(pid)
    return "" if not fields or fields[0] in "ZX" else fields[19]


def line_of(pid: int) -> set[int]:
    """The process and those that started it: whoever asks is never part of what is ended."""
    line: set[int] = set()
    while pid > 0 and pid not in line:
        line.add(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return line


def below(pids: Iterable[int]) -> Processes:
    """The descendants of the processes ``pids``, without these."""
    children: dict[int, list[int]] = {}
    started: Processes = {}
    for pid in _all():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
            started[pid] = "" if fields[0] in "ZX" else fields[19]
    found: Processes = {}
    waiting = list(pids)
    roots = set(waiting)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found and child not in roots:
                found[child] = started[child]
                waiting.append(child)
    return {pid: moment for pid, moment in found.items() if moment}


def marked(mark: str) -> Processes:
    """What a hook that ran with the value ``mark`` of ``TIDEGATE_HOOK`` started, wherever it has got to, and what is below that."""
    entry = f"{MARK}={mark}".encode()
    spared = line_of(os.getpid())
    found = _running(pid for pid in _all() if pid not in spared and _has(pid, entry))
    found.update((pid, moment) for pid, moment in below(found).items() if pid not in spared)
    return found


def with_variable(name: str) -> dict[int, tuple[str, list[str]]]:
    """By process that was started with the variable ``name`` in its environment: the value, and the arguments that it has."""
    entry, found = os.fsencode(name), {}
    for pid in _all():
        _before, is_there, rest = (b"\0" + _read(pid, "environ")).partition(b"\0%b=" % entry)
        if is_there and start_time(pid):
            arguments = [os.fsdecode(argument) for argument in _read(pid, "cmdline").split(b"\0") if argument]
            found[pid] = os.fsdecode(rest.partition(b"\0")[0]), arguments
    return found


def of_release(tree: Path) -> Processes:
    """What runs of the release whose tree is ``tree``.

    That is whatever has it as its ``TIDEGATE_TREE`` or runs a program of it, and what has its working directory there unless it has a
    terminal, for that is a person looking around. In another mount name space or below another root directory the same path is another
    release, so what runs there is left alone. The caller and those that started it are never among them.
    """
    spared = line_of(os.getpid())
    here = _place("self")
    entry = b"TIDEGATE_TREE=" + os.fsencode(tree)
    real = os.path.realpath(tree)
    return _running(pid for pid in _all() if pid not in spared and _place(str(pid)) == here and _belongs(pid, entry, real))


def end(find: Callable[[], Processes], grace: float = 0) -> str:
    """End what ``find`` finds, and look again until it finds nothing: by SIGTERM for ``grace`` seconds, then by SIGKILL.

    Return what can't be ended, in words; nothing when all of it is gone.
    """
    began = time.monotonic()
    asked: set[tuple[int, str]] = set()
    while True:
        found = find()
        if not found:
            return ""
        elapsed = time.monotonic() - began
        if elapsed > grace + _PATIENCE:
            names = ", ".join(f"{pid} ({_name(pid)})" for pid in sorted(found))
            return f"the processes {names} can't be ended, look at them with ps"
        for process in found.items():
            if elapsed >= grace:
                _send(*process, signal.SIGKILL)
            elif process not in asked:
                _send(*process, signal.SIGTERM)
                asked.add(process)
        time.sleep(0.05 if elapsed < grace else 0.01)


def end_release(tree: Path) -> tuple[int, str]:
    """End what runs of the release whose tree is ``tree``; return how many processes that were and what can't be ended, in words."""
    seen: set[tuple[int, str]] = set()

    def find() -> Processes:
        found = of_release(tree)
        seen.update(found.items())
        return found

    left = end(find, _GRACE)
    return len(seen), left


def _send(pid: int, started: str, number: int) -> None:
    """Signal this process, not one that has got its id since."""
    handle: Optional[int] = None
    try:
        with contextlib.suppress(OSError, AttributeError):  # Linux before 5.3 does not have it
            handle = os.pidfd_open(pid)
        if start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if handle is None:
                    os.kill(pid, number)
                else:
                    signal.pidfd_send_signal(handle, number)
    finally:
        if handle is not None:
            os.close(handle)


def _all() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _running(pids: Iterable[int]) -> Processes:
    found = {pid: start_time(pid) for pid in pids}
    return {pid: moment for pid, moment in found.items() if moment}


def _stat(pid: int) -> list[str]:
    """The fields of the process's ``stat`` from its state on; empty when it is gone."""
    # The name, in parentheses, may hold anything; what follows it is numbers, but for the state.
    return _read(pid, "stat").rpartition(b")")[2].decode("ascii", "replace").split()


def _name(pid: int) -> str:
    try:
        name = Path("/proc", str(pid), "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _has(pid: int, entry: bytes) -> bool:
    """Whether the process was started with ``entry``, a variable and its value, in its environment."""
    return b"\0%b\0" % entry in b"\0%b\0" % _read(pid, "environ")


def _read(pid: int, name: str) -> bytes:
    """What the kernel says of a process; empty when it is gone or not ours to see. Each activation reads some of all processes."""
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    except OSError:
        return b""
    found = b""
    try:
        while block := os.read(descriptor, _BLOCK):
            found += block
    except OSError:  # it ended meanwhile
        return b""
    finally:
        os.close(descriptor)
    return found


def _place(entry: str) -> Optional[tuple[int, int, str]]:
    """Root directory and mount name space of a process; nothing when it is gone or not ours to see."""
    try:
        root = os.stat(f"/proc/{entry}/root")
        return root.st_dev, root.st_ino, os.readlink(f"/proc/{entry}/ns/mnt")
    except OSError:
        return None


def _belongs(pid: int, entry: bytes, tree: str) -> bool:
    if _has(pid, entry):
        return True
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/{pid}/exe").startswith(f"{tree}/"):
            return True
        fields = _stat(pid)
        terminal = fields and fields[4] != "0"
        return not terminal and f"{os.readlink(f'/proc/{pid}/cwd')}/".startswith(f"{tree}/")
    return False
