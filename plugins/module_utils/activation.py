# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activation: make a staged release the live one, whole, or leave the host on the one it had.

The one primitive is :func:`_switch`: stop what runs, flip the link, start, check health. Activating is switching forward
with a way back; backing out is switching to the previous release. What is about to become live is held against its package before
its hooks run, and put right.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from .health import CheckError, run_command, wait_healthy
from .release_home import HostError, Release, ReleaseHome
from .repair import Damaged, Supplies, find_release, put_right

_GLANCE = 2.0  # seconds to find out whether what should have stopped still serves


@dataclass(frozen=True)
class Order:
    """Who wants a change: the deployment, its fencing token, the host's values for the release's settings, and what came with the order."""

    deployment: str
    token: int
    settings: Mapping[str, Any]
    supplies: Supplies = field(default_factory=Supplies)

    def entry(self, **data: Any) -> dict[str, Any]:
        """What every log entry of this order carries."""
        return {"deployment": self.deployment, "token": self.token, **data}


def activate(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the staged release ``digest`` live; ``previous`` is the digest that was live when it was staged.

    Returns ``state``: ``active``; ``failed`` when it did not come up and the host is back on what it had; ``stuck`` when
    that did not come up either, with ``damaged`` if that was for files of the previous release which are not here. ``repaired`` are the
    paths that were put right. Raises :class:`HostError` before anything is touched, and :class:`Lacking` when the order has to bring more.
    """
    home.fence(order.token)
    target = find_release(home, digest, order.supplies, "is not staged here; run the deployment again to stage it", **order.entry())
    before = _find_previous(home, previous, order)
    live = home.live()
    _refuse_unknown(home, live, target, before)
    if live is None and before is not None:
        raise HostError(
            f"{home.name} {before.version} should be live here but nothing is; find out who did that, or back out to bring it back"
        )
    for release in (target, before):
        if release is not None:
            _settings(release, order)
    untouched = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    try:
        repaired = put_right(home, target, order.supplies, **order.entry())
    except (HostError, OSError) as error:
        if untouched:
            raise
        return _fall_back(home, target, before, order, str(error))
    if live is not None and live.id == target.id and not repaired and home.at_rest(target) and _healthy(home, target, order):
        return {"state": "active", "changed": False, "version": target.version}
    try:
        _hook(home, target, "prepare", order)
    except (CheckError, OSError) as error:
        if not untouched:
            return _fall_back(home, target, before, order, str(error))
        return {"state": "failed", "changed": False, "detail": str(error), "version": before.version if before else None}
    home.append("activating", target.id, **order.entry(before=before.id if before else None))
    try:
        _switch(home, target, order)
        home.append("active", target.id, **order.entry())
    except Exception as error:  # whatever it is, the host must not stay in between
        return _fall_back(home, target, before, order, str(error) or type(error).__name__)
    return {"state": "active", "changed": True, "version": target.version, **_repairs(repaired)}


def back_out(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Leave the release ``digest`` and bring ``previous`` back (``None``: the host had no release before).

    Returns ``state`` ``backed_out``, or ``owed`` with a ``detail`` when the previous release does not come up; and in ``repaired`` the
    paths of it that were put right. Raises :class:`HostError` before anything is touched, and :class:`Lacking` when the order has to
    bring more.
    """
    home.fence(order.token)
    before = _find_previous(home, previous, order)
    if home.is_current(digest):
        find_release(
            home, digest, order.supplies, "is live here but damaged, so nobody knows how to stop it; mend it first", **order.entry()
        )
    live = home.live()
    target = home.find(digest)
    _refuse_unknown(home, live, target, before)
    version = before.version if before else None
    at_rest = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    if before is not None:
        _settings(before, order)
    repaired = put_right(home, before, order.supplies, **order.entry()) if before else []
    if at_rest and not repaired and (before is None or _healthy(home, before, order)):
        return {"state": "backed_out", "changed": False, "version": version}
    if target is not None:
        home.append("backed_out", target.id, **order.entry())
    problem = _restore(home, before, order)
    if problem:
        return {"state": "owed", "changed": True, "version": version, "detail": problem}
    return {"state": "backed_out", "changed": True, "version": version, **_repairs(repaired)}


def _repairs(repaired: list[str]) -> dict[str, Any]:
    """What the answer says of paths that were put right."""
    return {"repaired": repaired} if repaired else {}


def _fall_back(home: ReleaseHome, target: Release, before: Optional[Release], order: Order, reason: str) -> dict[str, Any]:
    """``target`` did not come up: ``failed`` when ``before`` serves again, ``stuck`` when it does not."""
    with contextlib.suppress(OSError):  # on a full disk the way back is still open; that it began stands in the log
        home.append("failed", target.id, **order.entry(reason=reason))
    outcome = {"changed": True, "version": before.version if before else None}
    try:
        repaired = put_right(home, before, replace(order.supplies, more=False), **order.entry()) if before else []
    except (HostError, OSError) as error:  # no hook runs of what is not as it was archived
        detail = f"{reason}; going back failed too: {error}"
        return {"state": "stuck", "detail": detail, "reason": reason, "damaged": isinstance(error, Damaged), **outcome}
    problem = _restore(home, before, order)
    if problem:
        return {"state": "stuck", "detail": f"{reason}; going back failed too: {problem}", **outcome}
    return {"state": "failed", "detail": reason, **outcome, **_repairs(repaired)}


def _restore(home: ReleaseHome, before: Optional[Release], order: Order) -> str:
    """Go back to ``before``; return what kept it from serving again, nothing when it does."""

    def check() -> None:
        # What is left may have written there until it was stopped.
        if before is not None:
            put_right(home, before, Supplies(), **order.entry())

    try:
        _switch(home, before, order, check)
    except Exception as error:  # whatever it is, the answer has to say that this host needs somebody
        what = f"{home.name} {before.version}" if before else "having no release"
        return f"{what}: {str(error) or type(error).__name__}"
    with contextlib.suppress(OSError):
        home.append("restored", before.id if before else None, **order.entry())
    return ""


def _switch(home: ReleaseHome, target: Optional[Release], order: Order, check: Callable[[], None] = lambda: None) -> None:
    """Stop what is live, ``check``, make ``target`` live, start it and wait for its health."""
    leaving = home.live()
    if leaving is not None:
        try:
            _hook(home, leaving, "stop", order)
        except (CheckError, HostError):
            # What is left because it is broken may not even stop. But if it still serves, it would be taken for the one that comes.
            if not (target and target.id == leaving.id) and _healthy(home, leaving, order, at_most=_GLANCE):
                raise
    check()
    home.flip(target)
    if target is not None:
        _hook(home, target, "start", order)
        _check_health(home, target, order)


def _refuse_unknown(home: ReleaseHome, live: Optional[Release], target: Optional[Release], before: Optional[Release]) -> None:
    if live is not None and live.id not in {release.id for release in (target, before) if release}:
        raise HostError(
            f"{home.name} {live.version} is live here, which the journal does not know of; "
            "somebody changed it since staging, audit the host before deploying"
        )


def _find_previous(home: ReleaseHome, digest: Optional[str], order: Order) -> Optional[Release]:
    if digest is None:
        return None
    advice = "was live before but is no longer on this host, so there is nothing to go back to; stage it again first"
    return find_release(home, digest, order.supplies, advice, **order.entry())


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
            run_command(hook["command"], hook["timeout"], str(release.tree), _environment(home, release, order))
        except CheckError as error:
            raise CheckError(f"hook {name} of {release.name} {release.version}: {error}") from error


def _check_health(home: ReleaseHome, release: Release, order: Order, at_most: float = math.inf) -> None:
    for check in release.config["health"]:
        limited = {**check, "timeout": min(check["timeout"], at_most)}
        wait_healthy(limited, _settings(release, order), str(release.tree), _environment(home, release, order))


def _healthy(home: ReleaseHome, release: Release, order: Order, at_most: float = math.inf) -> bool:
    try:
        _check_health(home, release, order, at_most)
    except (CheckError, HostError):
        return False
    return True
