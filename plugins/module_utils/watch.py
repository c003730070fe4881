# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch over a release that has just come up: a process of its own that looks at its health until somebody takes over.

It holds nothing that its starter has open, neither the connection nor the home's lock. What it saw is in a file, which it holds
locked while it lives.
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
from typing import Any, NamedTuple, Optional

from .home_log import now_in_utc
from .processes import start_time
from .release_files import remove

_INTERVAL = 0.5  # seconds between two looks
_LONGER = 60.0  # seconds that it goes on after the time that it was asked for: the last of a large wave come up late
_PATIENCE = 5.0  # seconds for it to end when it is told to
_LARGEST = 65536  # bytes of its file that are read


class Watched(NamedTuple):
    """What a watch saw. ``about`` is what it was started with; ``whole``: it saw all the time that it was asked for, or up to now.

    ``failed``: what was wrong when the first look failed and when that was, empty when none did.
    """

    about: str
    whole: bool
    failed: str


def start(path: Path, about: str, seconds: float, look: Callable[[], str]) -> None:
    """Begin to watch, for ``seconds`` and some more; ``look`` says what is wrong, nothing when all is well. Raises :class:`OSError`."""
    remove(path)
    record = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(record, fcntl.LOCK_EX)  # the processes forked from here have it too
        child = os.fork()
        if child == 0:
            try:
                if os.fork() == 0:
                    os.setsid()
                    _detach(record)
                    _watch(record, about, seconds, look)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    finally:
        os.close(record)


def end(path: Path) -> Optional[Watched]:
    """End the watch, if there is one, and return what it saw; nothing when there was none, or it can't be told."""
    try:
        record = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        remove(path)
        return None
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
        seen = _read(record)
        failed = seen.get("failed")
        return Watched(str(seen["about"]), alive or seen["seconds"] >= seen["wanted"], str(failed or ""))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(record)
        remove(path)


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


def _watch(record: int, about: str, seconds: float, look: Callable[[], str]) -> None:
    began = time.monotonic()
    seen: dict[str, Any] = {"about": about, "group": os.getpgrp(), "wanted": seconds, "seconds": 0.0, "failed": None}
    os.pwrite(record, json.dumps(seen).encode(), 0)
    while os.fstat(record).st_nlink and seen["seconds"] <= seconds + _LONGER:  # without a name nobody will ask
        reason = look()
        if reason and not seen["failed"]:
            seen["failed"] = f"{reason} (at {now_in_utc()})"
        seen["seconds"] = round(time.monotonic() - began, 1)
        os.pwrite(record, json.dumps(seen).encode(), 0)  # never shorter than before
        time.sleep(_INTERVAL)
