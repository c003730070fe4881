# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of a release that became live: a process of its own that takes the host back by itself, unless somebody confirms in time.

So a host is not left alone with a release that has cut it off from whoever installed it, nor with one whose controller has died. Time
is counted from the start of the guard, by a clock that nobody sets; a host that boots in between has no guard any more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from . import beside

_INTERVAL = 0.25  # seconds between two looks at whether it is still wanted
_LEAVING = 5.0  # seconds to get out of a login session
_LOGIN = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "KillUserProcesses")
_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit")


def start(path: Path, seconds: float, go_back: Callable[[Callable[[], bool]], Optional[float]]) -> None:
    """Have ``go_back`` called when ``seconds`` are over, unless :func:`.beside.end` comes first, by somebody who has the home.

    It gets what says whether it is still to be done, and returns after how many seconds it has to be called again; nothing when it is
    done. Raises :class:`OSError` when there can be no such guard.
    """
    deadline = _now() + seconds
    beside.start(path, lambda record: _guard(record, deadline, go_back), leave_session)


def _guard(record: int, due: float, go_back: Callable[[Callable[[], bool]], Optional[float]]) -> None:
    while beside.wanted(record):
        if _now() >= due:
            pause = go_back(lambda: beside.wanted(record))
            if pause is None:
                return
            due = _now() + pause
        time.sleep(min(_INTERVAL, max(0.01, due - _now())))


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def leave_session() -> str:
    """Get out of a login session that ends with all its processes, as logind does with ``KillUserProcesses``.

    Returns why that is necessary and not possible, nothing when all is well. Source: org.freedesktop.login1(5) and
    org.freedesktop.systemd1(5).
    """
    if not _in_session() or _ask("get-property", *_LOGIN).split() == ["b", "false"]:
        return ""
    name = f"tidegate-guard-{os.getpid()}.scope"
    _ask("call", *_SYSTEMD, "ssa(sv)a(sa(sv))", name, "fail", "1", "PIDs", "au", "1", str(os.getpid()), "0")
    deadline = _now() + _LEAVING
    while _in_session():
        if _now() > deadline:
            return "logind may end a session's processes (KillUserProcesses), and this one can't leave it for a scope of its own"
        time.sleep(0.05)
    return ""


def _in_session(own: Path = Path("/proc/self/cgroup")) -> bool:
    try:
        return "/session-" in own.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _ask(*arguments: str) -> str:
    """What busctl answers, nothing when it can't."""
    import subprocess  # noqa: PLC0415 - only in a session of logind's

    command = ["busctl", "--system", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LEAVING)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("ascii", "replace") if done.returncode == 0 else ""
