# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that the host program leaves beside itself, to look at a release or to take it back.

It holds nothing that its starter has open, neither the connection nor the home's lock. What it has to say is in a file, which it holds
locked while it lives, and which has its process group; when that file has no name any more, nobody wants it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .processes import start_time
from .release_files import remove

_PATIENCE = 5.0  # seconds for it to end when it is told to
_LARGEST = 65536  # bytes of its file that are read
_REASON = 4096  # bytes of a reason why it could not begin


def start(path: Path, work: Callable[[int], None], prepare: Callable[[], str] = lambda: "") -> None:
    """Have ``work`` done by a process of its own, which gets the descriptor of the file ``path``.

    ``prepare`` is called there before, and says why the work can't be done there, nothing when it can. Raises :class:`OSError` with
    that, and when there can be no such process.
    """
    remove(path)
    record = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    reader, writer = os.pipe()
    try:
        fcntl.flock(record, fcntl.LOCK_EX)  # the processes forked from here have it too
        child = os.fork()
        if child == 0:
            try:
                if os.fork() == 0:
                    _begin(record, writer, work, prepare)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        writer = -1
        problem = os.read(reader, _REASON)
        if problem != b"ok":
            remove(path)
            raise OSError(problem.decode(errors="replace") or "it ended at once")
    finally:
        for descriptor in (record, reader, writer):
            if descriptor >= 0:
                os.close(descriptor)


def _begin(record: int, writer: int, work: Callable[[int], None], prepare: Callable[[], str]) -> None:
    os.setsid()
    problem = prepare()
    os.pwrite(record, json.dumps({"group": os.getpgrp()}).encode(), 0)
    os.write(writer, problem.encode()[:_REASON] or b"ok")
    if not problem:
        _detach(record)
        work(record)


def end(path: Path) -> tuple[dict[str, Any], bool]:
    """End such a process, if there is one; return what its file says, which may be nothing, and whether it was alive."""
    try:
        record = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        remove(path)
        return {}, False
    try:
        alive = False
        if not _free(record, 0):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                # Not when only a check that it had begun is left of it.
                alive = start_time(int(_read(record)["group"])) != ""
            # Whoever holds the lock is the one whose number is in the file, so that can't be another process's by now.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    os.killpg(int(_read(record)["group"]), number)
                if _free(record, _PATIENCE):
                    break
        return _read(record), alive
    except (OSError, ValueError, TypeError):
        return {}, False
    finally:
        os.close(record)
        remove(path)


def alive(path: Path) -> bool:
    """Whether there is such a process."""
    try:
        record = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not _free(record, 0)
    finally:
        os.close(record)


def peek(path: Path) -> dict[str, Any]:
    """What the file of such a process says by now; nothing when that can't be told."""
    try:
        record = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    try:
        return _read(record)
    except (OSError, ValueError, TypeError):
        return {}
    finally:
        os.close(record)


def say(record: int, what: dict[str, Any]) -> None:
    """Put into the file what the process has to say, besides its group."""
    text = json.dumps({"group": os.getpgrp(), **what}).encode()
    os.pwrite(record, text.ljust(os.fstat(record).st_size), 0)  # never shorter than before, and so never empty


def wanted(record: int) -> bool:
    """Whether the file still has a name, so that somebody may ask."""
    return os.fstat(record).st_nlink > 0


def _free(record: int, seconds: float) -> bool:
    """Whether nobody holds the file any more, now or within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def _read(record: int) -> dict[str, Any]:
    return dict(json.loads(os.pread(record, _LARGEST, 0)))


def _detach(record: int) -> None:
    """Let go of everything that the starter had open, or ssh would wait for this process and the home would stay locked."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != record:
            with contextlib.suppress(OSError):
                os.close(int(name))

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit  # so that a check that is under way is ended with its processes

    signal.signal(signal.SIGTERM, leave)
