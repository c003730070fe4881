# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activation: make a staged release the live one, whole, or leave the host on the one it had.

The one primitive is :func:`_switch`: stop what runs, flip the link, start, check health. Activating is switching forward
with a way back; backing out is switching to the previous release, or to none, and then what was there must not answer any more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from .health import CheckError, attempt, run_command, wait_healthy
from .processes import MARK, end_release
from .release_home import HostError, Release, ReleaseHome, changed_files

_GLANCE = 2.0  # seconds for one look at a health check that should not pass
_GONE = 4.0  # seconds until what was stopped must not pass its health checks any more
_INTERVAL = 0.2  # seconds between two looks at that


@dataclass(frozen=True)
class Order:
    """Who wants a change: the deployment, its fencing token, and the host's values for the release's settings.

    ``previous`` and ``next`` are the versions from which and to which the host switches, for the hooks; empty for none.
    """

    deployment: str
    token: int
    settings: Mapping[str, Any]
    previous: str = ""
    next: str = ""

    def entry(self, **data: Any) -> dict[str, Any]:
        """What every log entry of this order carries."""
        return {"deployment": self.deployment, "token": self.token, **data}


def activate(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the staged release ``digest`` live; ``previous`` is the digest that was live when it was staged.

    Returns ``state``: ``active``; ``failed`` when it did not come up and the host is back on what it had; ``stuck`` when
    that did not come up either. ``detail`` says why, or what is to be known of an active one, such as that the release before did not
    stop. Raises :class:`HostError` before anything is touched.
    """
    home.fence(order.token)
    target = home.find(digest)
    if target is None:
        raise HostError(f"{digest} is not staged here; run the deployment again to stage it")
    before = _find_previous(home, previous)
    order = replace(order, previous=before.version if before else "", next=target.version)
    live = home.live()
    _refuse_unknown(home, live, target, before)
    if live is None and before is not None:
        raise HostError(
            f"{home.name} {before.version} should be live here but nothing is; find out who did that, or back out to bring it back"
        )
    for release in (target, before):
        if release is not None:
            _settings(release, order)
    if live is not None and live.id == target.id and home.at_rest(target) and _healthy(home, target, order):
        return {"state": "active", "changed": False, "version": target.version}
    wrong = changed_files(target)
    if wrong:
        # Its files share inodes with those of other releases: an edit there since staging is an edit here.
        raise HostError(
            f"{len(wrong)} files of {home.name} {target.version} were changed since it was staged, {wrong[0]} first; "
            "find out who did it, then deploy again under a new RFC"
        )
    untouched = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    first = {}
    if live is None:  # what passes already can't say later that the release is gone
        checks = enumerate(target.config["health"])
        first["passed"] = [position for position, check in checks if _passes(home, target, check, order)]
    try:
        _hook(home, target, "prepare", order)
    except (CheckError, OSError) as error:
        if not untouched:
            return _fall_back(home, target, before, order, str(error))
        return {"state": "failed", "changed": False, "detail": str(error), "version": before.version if before else None}
    home.append("activating", target.id, **order.entry(before=before.id if before else None, **first))
    try:
        remark = _switch(home, target, order)
        home.append("active", target.id, **order.entry())
    except Exception as error:  # whatever it is, the host must not stay in between
        return _fall_back(home, target, before, order, str(error) or type(error).__name__)
    return _with_detail({"state": "active", "changed": True, "version": target.version}, remark)


def back_out(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Leave the release ``digest`` and bring ``previous`` back (``None``: the host had no release before).

    Returns ``state`` ``backed_out``, or ``owed`` when the previous release does not come up, or when there was none and the one that
    left still answers; ``detail`` says why, or what is to be known of a host that is back. Raises :class:`HostError` before anything
    is touched.
    """
    home.fence(order.token)
    before = _find_previous(home, previous)
    live = home.live()
    target = home.find(digest)
    _refuse_unknown(home, live, target, before)
    version = before.version if before else None
    order = replace(order, previous=target.version if target else live.version if live else "", next=version or "")
    at_rest = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    if at_rest and (before is None or _healthy(home, before, order)):
        return {"state": "backed_out", "changed": False, "version": version}
    if before is not None:
        _settings(before, order)
    if target is not None:
        home.append("backed_out", target.id, **order.entry())
    problem, remark = _restore(home, target or live, before, order)
    if problem:
        return {"state": "owed", "changed": True, "version": version, "detail": problem}
    return _with_detail({"state": "backed_out", "changed": True, "version": version}, remark)


def _fall_back(home: ReleaseHome, target: Release, before: Optional[Release], order: Order, reason: str) -> dict[str, Any]:
    """``target`` did not come up: ``failed`` when ``before`` serves again, ``stuck`` when it does not."""
    with contextlib.suppress(OSError):  # on a full disk the way back is still open; that it began stands in the log
        home.append("failed", target.id, **order.entry(reason=reason))
    order = replace(order, previous=target.version, next=before.version if before else "")
    problem, remark = _restore(home, target, before, order)
    outcome = {"changed": True, "version": before.version if before else None}
    if problem:
        return {"state": "stuck", "detail": f"{reason}; going back failed too: {problem}", **outcome}
    return {"state": "failed", "detail": f"{reason}; {remark}" if remark else reason, **outcome}


def _with_detail(outcome: dict[str, Any], detail: str) -> dict[str, Any]:
    return {**outcome, "detail": detail} if detail else outcome


def _restore(home: ReleaseHome, failed: Optional[Release], before: Optional[Release], order: Order) -> tuple[str, str]:
    """Leave ``failed`` and go back to ``before``.

    Return what kept the host from being as it was, empty when it is; and what a person should know all the same.
    """
    try:
        remark = _switch(home, before, order, back=True) if before else _take_away(home, failed, order)
    except Exception as error:  # whatever it is, the answer has to say that this host needs somebody
        what = f"{home.name} {before.version}" if before else "having no release"
        return f"{what}: {str(error) or type(error).__name__}", ""
    with contextlib.suppress(OSError):
        home.append("restored", before.id if before else None, **order.entry())
    return "", remark


def _switch(home: ReleaseHome, target: Release, order: Order, *, back: bool = False) -> str:
    """Stop what is live, make ``target`` live, start it and wait for its health; return what a person should know all the same.

    A release that can't be stopped and still answers does not keep a new one out. On the way ``back`` it does: nobody could say
    that it was left.
    """
    leaving = home.live()
    remark = _stop(home, leaving, order) if leaving else ""
    if leaving is None or leaving.id == target.id:
        remark = ""  # what answers is the release that should
    elif remark and _still(lambda: _serves(home, leaving, order)):
        remark += f", but {leaving.version} still passes its health checks"
        if back:
            raise CheckError(f"{remark}; end it on the host and run this again")
        remark += f": what answers for {target.version} may be {leaving.version}"
    home.flip(target)
    try:
        _hook(home, target, "start", order)
        _check_health(home, target, order)
    except (CheckError, HostError) as error:
        if not remark:
            raise
        raise CheckError(f"{error}; {remark}") from error
    return remark


def _stop(home: ReleaseHome, leaving: Release, order: Order) -> str:
    """Run the stop hook of ``leaving``; when it fails, end what runs of the release and return that in words.

    What is left because it is broken may not even stop, and what can't stop must be replaced all the same.
    """
    try:
        _hook(home, leaving, "stop", order)
    except (CheckError, HostError) as error:
        ended, left = end_release(leaving.tree)
        number = f"{ended} process{'' if ended == 1 else 'es'} of {leaving.version}"
        return f"{error}; {number} had to be ended{f', {left}' if left else ''}"
    return ""


def _take_away(home: ReleaseHome, leaving: Optional[Release], order: Order) -> str:
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
    _hook(home, leaving, "remove", order)
    home.flip(None)
    before = home.passed_before(leaving.id) or []
    telling = [check for position, check in enumerate(leaving.config["health"]) if position not in before]
    passing: list[str] = []

    def look() -> bool:
        passing[:] = [check["name"] for check in telling if _passes(home, leaving, check, order)]
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


def _refuse_unknown(home: ReleaseHome, live: Optional[Release], target: Optional[Release], before: Optional[Release]) -> None:
    if live is not None and live.id not in {release.id for release in (target, before) if release}:
        raise HostError(
            f"{home.name} {live.version} is live here, which the journal does not know of; "
            "somebody changed it since staging, audit the host before deploying"
        )


def _find_previous(home: ReleaseHome, digest: Optional[str]) -> Optional[Release]:
    if digest is None:
        return None
    release = home.find(digest)
    if release is None:
        raise HostError(f"the previous release {digest} is no longer on this host, so there is nothing to go back to; stage it again first")
    return release


def _settings(release: Release, order: Order) -> dict[str, Any]:
    """The release's settings with this host's values; raises :class:`HostError` naming all that lack one."""
    values = {name: order.settings.get(name, default) for name, default in release.config.get("settings", {}).items()}
    lacking = sorted(name for name, value in values.items() if value is None)
    if lacking:
        raise HostError(
            f"{release.name} {release.version} needs {', '.join(lacking)} from this host; set tidegate_settings in its inventory variables"
        )
    bad = sorted(name for name, value in values.items() if "\0" in str(value))
    if bad:
        raise HostError(f"the settings {', '.join(bad)} of this host have a null byte in them; correct tidegate_settings")
    return values


def _environment(home: ReleaseHome, release: Release, order: Order) -> dict[str, str]:
    environment = {f"TIDEGATE_{name.upper()}": str(value) for name, value in _settings(release, order).items()}
    environment.update(
        TIDEGATE_RELEASE=release.name,
        TIDEGATE_VERSION=release.version,
        TIDEGATE_DIGEST=release.digest,
        TIDEGATE_TREE=str(release.tree),
        TIDEGATE_STATE=str(home.state),
    )
    return environment


def _hook(home: ReleaseHome, release: Release, name: str, order: Order) -> None:
    hook = release.config.get("hooks", {}).get(name)
    if hook:
        try:
            with home.running_hook(name) as mark:
                environment = {
                    **_environment(home, release, order),
                    "TIDEGATE_PREVIOUS": order.previous,
                    "TIDEGATE_NEXT": order.next,
                    MARK: mark,
                }
                run_command(hook["command"], hook["timeout"], str(release.tree), environment, str(home.output_of(name)))
        except CheckError as error:
            raise CheckError(f"hook {name} of {release.name} {release.version}: {error}") from error


def _check_health(home: ReleaseHome, release: Release, order: Order) -> None:
    for check in release.config["health"]:
        wait_healthy(check, _settings(release, order), str(release.tree), _environment(home, release, order))


def _still(look: Callable[[], bool]) -> bool:
    """Whether ``look`` is true now and goes on to be: what was stopped may take a moment."""
    deadline = time.monotonic() + _GONE
    while look():
        if time.monotonic() > deadline:
            return True
        time.sleep(_INTERVAL)
    return False


def _serves(home: ReleaseHome, release: Release, order: Order) -> bool:
    """Whether all health checks of a release pass at the first attempt; not when the host lacks a setting for them."""
    try:
        return all(_passes(home, release, check, order) for check in release.config["health"])
    except HostError:
        return False


def _passes(home: ReleaseHome, release: Release, check: Mapping[str, Any], order: Order) -> bool:
    seconds = min(check["timeout"], _GLANCE)
    try:
        attempt(check, seconds, _settings(release, order), str(release.tree), _environment(home, release, order))
    except CheckError:
        return False
    return True


def _healthy(home: ReleaseHome, release: Release, order: Order) -> bool:
    try:
        _check_health(home, release, order)
    except (CheckError, HostError):
        return False
    return True
