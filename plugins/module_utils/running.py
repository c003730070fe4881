# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the live release of a home runs at this moment, asked as the gate of a wave asks it; nothing is changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from .health import CheckError, attempt
from .processes import Processes, of_release, start_time
from .release_home import HostError, Release, ReleaseHome
from .release_hooks import Order, for_checks

_PATIENCE = 20.0  # seconds to wait for an operation that is under way on the host
_LOOKS = 2  # at a release that seems to be down: one that is being restarted by its own service manager is not
_PAUSE = 1.0  # seconds between them
_NOTED = 20  # processes that the log names
_BOOT = "/proc/sys/kernel/random/boot_id"


def look_running(home: ReleaseHome, live: Release, settings: Optional[Mapping[str, Any]], as_released: bool) -> dict[str, str]:
    """Look at the health checks of the live release, and for the processes that it was seen to have.

    ``settings``: the host's values, without which nothing can be checked. ``as_released``: whether its files are what was released; else
    no command of it is run. Returns ``down``, why it does not run, and ``problem``, why there is no telling, each empty for none.
    """
    if settings is None:
        return {"down": "", "problem": "nobody said which settings this host has"}
    order = Order("audit", 0, settings)
    try:
        with undisturbed(home, _PATIENCE):
            down = _down(home, live, order, as_released)
    except (HostError, OSError) as error:
        return {"down": "", "problem": order.redactor.text(str(error))}
    return {"down": order.redactor.text(down), "problem": ""}


@contextlib.contextmanager
def undisturbed(home: ReleaseHome, seconds: float) -> Iterator[None]:
    """Keep operations from beginning in a home, and change nothing in it; raises :class:`HostError` while one is under way for longer."""
    try:
        lock = os.open(home.path / "lock", os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:  # nobody ever did anything here
        yield
        return
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HostError(
                        f"another operation has been holding {home.path} for more than {seconds:g} s; wait for it and audit again"
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(lock)


def note_processes(live: Release) -> dict[str, Any]:
    """For the log, which processes of a release run once it was found well, so that it can be missed when none of them is there."""
    found: Processes = {}
    with contextlib.suppress(OSError):
        found = of_release(live.tree)
    return {"runs": sorted([pid, moment] for pid, moment in found.items())[:_NOTED], "boot": _boot()} if found else {}


def _down(home: ReleaseHome, live: Release, order: Order, as_released: bool) -> str:
    checks = [check for check in live.config["health"] if as_released or "command" not in check]
    means = for_checks(home, live, order)
    reason = ""
    for number in range(_LOOKS):
        if number:
            time.sleep(_PAUSE)
        reason = ""
        for check in checks:
            try:
                attempt(check, check["timeout"], *means)
            except CheckError as error:
                reason = f"health check {check['name']!r} failed: {error}"
                break
        if not reason:
            return _gone(home, live)
    return reason


def _gone(home: ReleaseHome, live: Release) -> str:
    """That nothing runs any more of what was seen to run of the release, in words; nothing when something does, or nothing was seen."""
    known, boot = home.history().runs.get(live.id, ({}, ""))
    if not known or boot != _boot() or _alive(known) or of_release(live.tree):
        return ""
    return f"its health checks pass, but none of its {len(known)} processes runs any more, so something else answers"


def _alive(known: Processes) -> bool:
    return any(start_time(pid) == moment for pid, moment in known.items())


def _boot() -> str:
    """What tells this run of the kernel from others, for process ids begin anew with each."""
    try:
        with open(_BOOT, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
