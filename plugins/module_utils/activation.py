# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activation: make a staged release the live one, whole, or leave the host on the one it had.

The one primitive is :func:`_switch`: stop what runs, flip the link, start, check health. Activating is switching forward
with a way back; backing out is switching to the previous release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .health import CheckError, run_command, wait_healthy
from .release_home import HostError, Release, ReleaseHome


@dataclass(frozen=True)
class Order:
    """Who wants a change: the deployment, its fencing token, and the host's values for the release's settings."""

    deployment: str
    token: int
    settings: Mapping[str, Any]

    def entry(self, **data: Any) -> dict[str, Any]:
        """What every log entry of this order carries."""
        return {"deployment": self.deployment, "token": self.token, **data}


def activate(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the staged release ``digest`` live; ``previous`` is the digest that was live when it was staged.

    Returns ``state``: ``active``; ``failed`` when it did not come up and the host is back on what it had; ``stuck`` when
    that did not come up either. Raises :class:`HostError` before anything is touched.
    """
    home.fence(order.token)
    target = home.find(digest)
    if target is None:
        raise HostError(f"{digest} is not staged here; run the deployment again to stage it")
    before = _find_previous(home, previous)
    live = home.live()
    if live is not None and live.id != target.id and (before is None or live.id != before.id):
        raise HostError(
            f"{home.name} {live.version} is live here, which the journal does not know of; "
            "somebody changed it since staging, audit the host before deploying"
        )
    _settings(target, order)
    if live is not None and live.id == target.id and home.stable() == target.id and _healthy(home, target, order):
        return {"state": "active", "changed": False, "version": target.version}
    home.append("activating", target.id, **order.entry(before=before.id if before else None))
    try:
        _switch(home, target, order, forward=True)
    except (CheckError, HostError, OSError) as error:
        home.append("failed", target.id, **order.entry(reason=str(error)))
        return {"changed": True, **_restore(home, before, order, str(error))}
    home.append("active", target.id, **order.entry())
    return {"state": "active", "changed": True, "version": target.version}


def back_out(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Leave the release ``digest`` and bring ``previous`` back (``None``: the host had no release before).

    Returns ``state`` ``backed_out``, or ``owed`` with a ``detail`` when the previous release does not come up.
    """
    home.fence(order.token)
    before = _find_previous(home, previous)
    live = home.live()
    target = home.find(digest)
    at_rest = home.stable() == (before.id if before else None)
    if (live.id if live else None) == (before.id if before else None) and at_rest and (before is None or _healthy(home, before, order)):
        return {"state": "backed_out", "changed": False, "version": before.version if before else None}
    if target is not None:
        home.append("backed_out", target.id, **order.entry())
    outcome = _restore(home, before, order, "")
    if outcome["state"] == "failed":
        return {"state": "backed_out", "changed": True, "version": outcome["version"]}
    return {"state": "owed", "changed": True, "version": outcome["version"], "detail": outcome["detail"]}


def _restore(home: ReleaseHome, before: Optional[Release], order: Order, reason: str) -> dict[str, Any]:
    """Go back to ``before``: ``failed`` (it serves again) or ``stuck`` (it does not)."""
    try:
        _switch(home, before, order, forward=False)
    except (CheckError, HostError, OSError) as error:
        what = f"{home.name} {before.version}" if before else "the state without a release"
        detail = f"{reason}; going back to {what} failed too: {error}" if reason else f"{what}: {error}"
        return {"state": "stuck", "detail": detail, "version": before.version if before else None}
    if before is not None:
        home.append("restored", before.id, **order.entry())
    return {"state": "failed", "detail": reason, "version": before.version if before else None}


def _switch(home: ReleaseHome, target: Optional[Release], order: Order, forward: bool) -> None:
    """Stop what is live, make ``target`` live, start it and wait for its health."""
    live = home.live()
    if target is not None and forward:
        _hook(home, target, "prepare", order)
    if live is not None:
        try:
            _hook(home, live, "stop", order)
        except CheckError:
            # A release that is being left because it is broken may not even stop; what counts is whether the next one comes up.
            if forward:
                raise
    home.flip(target)
    if target is not None:
        _hook(home, target, "start", order)
        _check_health(home, target, order)


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


def _check_health(home: ReleaseHome, release: Release, order: Order) -> None:
    for check in release.config["health"]:
        wait_healthy(check, _settings(release, order), str(release.tree), _environment(home, release, order))


def _healthy(home: ReleaseHome, release: Release, order: Order) -> bool:
    try:
        _check_health(home, release, order)
    except CheckError:
        return False
    return True
