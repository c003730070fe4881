# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch from one release to another, or to none: stop what runs, flip the link, bring packages, start, check health."""

from __future__ import annotations

import time
from typing import Callable, Optional

from . import logs
from .account import find_account, give
from .health import CheckError
from .processes import end_release, of_release
from .release_home import HostError, Release, ReleaseHome
from .release_hooks import Order, check_health, end_of, outside_fault, passes, run_hook, serves

_GONE = 4.0  # seconds until what was stopped must not pass its health checks any more
_INTERVAL = 0.2  # seconds between two looks at that


def switch_to(home: ReleaseHome, target: Release, order: Order, check: Optional[Callable[[], None]] = None) -> str:
    """Stop what is live, make ``target`` live, start it and wait for its health; return what a person should know all the same.

    On the way back ``check`` is called before ``target`` becomes live. A release that can't be stopped and still answers does not keep a
    new one out. On the way back it does: nobody could say that it was left, unless what is outside the trees is read.
    """
    leaving = home.live()
    remark = _stop(home, leaving, order) if leaving else ""
    if leaving is None or leaving.id == target.id:
        remark = ""  # what answers is the release that should
    elif remark and not leaving.acts_outside and _still(lambda: serves(home, leaving, order)):
        remark += f", but {leaving.version} still passes its health checks"
        if check is not None:
            raise CheckError(f"{remark}; end it on the host and run this again")
        remark += f": what answers for {target.version} may be {leaving.version}"
    if check is not None:
        check()
    give_state(home, target, leaving)
    home.flip(target)
    if target.has_packages or (order.leaving is not None and order.leaving.has_packages):
        from .system_packages import bring  # noqa: PLC0415 - few releases bring packages, and every host imports this

        bring(home, target, order)
    try:
        mark = run_hook(home, target, "start", order)
        units = [entry for entry in target.config.get("logs", []) if not isinstance(entry, str)]
        if order.checked:
            check_health(home, target, order, (lambda: logs.failed_unit(units)) if units else end_of(mark))
            fault = outside_fault(home, target, order, back=check is not None)
            if fault:
                raise CheckError(fault)
    except (CheckError, HostError) as error:
        if not remark:
            raise
        raise CheckError(f"{error}; {remark}") from error
    return remark


def _stop(home: ReleaseHome, leaving: Release, order: Order) -> str:
    """Run the stop hook of ``leaving``; when it fails, or stops nothing, end what runs of the release and return that in words.

    What is left because it is broken may not even stop, and what can't stop must be replaced all the same. What does not serve any more
    may go on: it finishes what it does.
    """
    try:
        run_hook(home, leaving, "stop", order)
        if "stop" not in leaving.config.get("hooks", {}) or not _still(lambda: _runs_and_serves(home, leaving, order)):
            return ""
        problem = f"hook stop of {leaving.name} {leaving.version} ended well, but its health checks go on passing"
    except (CheckError, HostError) as error:
        problem = str(error)
    ended, left = end_release(leaving.tree)
    number = f"{ended} process{'' if ended == 1 else 'es'} of {leaving.version}"
    return f"{problem}; {number} had to be ended{f', {left}' if left else ''}"


def _runs_and_serves(home: ReleaseHome, release: Release, order: Order) -> bool:
    return bool(of_release(release.tree)) and serves(home, release, order)


def take_away(home: ReleaseHome, leaving: Optional[Release], order: Order) -> str:
    """Have no release any more, where ``leaving`` was the first; return what a person should know all the same.

    All of it is done again when it was interrupted, also when the link is gone already: what counts is that nothing answers in the end.
    Raises :class:`CheckError` when a health check that did not pass before the release came still passes.
    """
    if leaving is None:
        home.flip(None)
        return ""
    remark = _stop(home, leaving, order)
    _ended, left = end_release(leaving.tree)  # what the stop hook forgot
    if left:
        raise CheckError(left)
    run_hook(home, leaving, "remove", order)
    if leaving.has_packages:
        from .system_packages import bring  # noqa: PLC0415 - as above

        bring(home, None, order)
    home.flip(None)
    if not order.checked:
        return remark
    fault = outside_fault(home, None, order, back=True)
    if fault:
        raise CheckError(fault)
    before = home.passed_before(leaving.id) or []
    telling = [check for position, check in enumerate(leaving.config["health"]) if position not in before]
    passing: list[str] = []

    def look() -> bool:
        passing[:] = [check["name"] for check in telling if passes(home, leaving, check, order)]
        return bool(passing)

    if _still(look):
        raise CheckError(
            f"{leaving.name} {leaving.version} was stopped, but its health check {passing[0]!r} still passes, so something still serves; "
            "end it on the host and run this again"
        )
    if telling:
        return remark
    blind = f"every health check of {leaving.name} {leaving.version} passed before it was installed, so none can show that it is gone"
    return f"{remark}; {blind}" if remark else blind


def give_state(home: ReleaseHome, release: Release, before: Optional[Release]) -> None:
    """See to it that the state directory is the release's user's, if it names one; ``before`` is the release that had it until now."""
    account = find_account(release.config)
    if account is not None:
        give(home.state, account, changed=before is not None and before.config.get("user") != account.name)


def _still(look: Callable[[], bool]) -> bool:
    """Whether ``look`` is true now and goes on to be: what was stopped may take a moment."""
    deadline = time.monotonic() + _GONE
    while look():
        if time.monotonic() > deadline:
            return True
        time.sleep(_INTERVAL)
    return False
