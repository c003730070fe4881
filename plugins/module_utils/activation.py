# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activation: make a staged release the live one, whole, or leave the host on the one it had.

The one primitive is :func:`_switch`: stop what runs, flip the link, start, check health. Activating is switching forward
with a way back, and counts when :func:`confirm` finds that it lasted; backing out is switching to the previous release.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from . import logs, watch
from .daemons import Daemons
from .health import CheckError, attempt, run_command, wait_healthy
from .release_home import HostError, Release, ReleaseHome, changed_files

_GLANCE = 2.0  # seconds to find out whether what should have stopped still serves
_LOOKS = 3  # at a release over which nobody watched
_PAUSE = 0.5  # seconds between them


@dataclass(frozen=True)
class Order:
    """Who wants a change: the deployment, its fencing token, and the host's values for the release's settings.

    ``stable``: for how many seconds a release that came up has to stay healthy.
    """

    deployment: str
    token: int
    settings: Mapping[str, Any]
    stable: float = 0

    def entry(self, **data: Any) -> dict[str, Any]:
        """What every log entry of this order carries."""
        return {"deployment": self.deployment, "token": self.token, **data}


def activate(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the staged release ``digest`` live; ``previous`` is the digest that was live when it was staged.

    Returns ``state``: ``started``, and a watch is kept until :func:`confirm`; ``failed`` when it did not come up and the host is back on
    what it had; ``stuck`` when that did not come up either. Raises :class:`HostError` before anything is touched.
    """
    home.fence(order.token)
    watched = watch.end(home.watch)
    target = home.find(digest)
    if target is None:
        raise HostError(f"{digest} is not staged here; run the deployment again to stage it")
    before = _find_previous(home, previous)
    live = home.live()
    _refuse_unknown(home, live, target, before)
    if live is None and before is not None:
        raise HostError(
            f"{home.name} {before.version} should be live here but nothing is; find out who did that, or back out to bring it back"
        )
    for release in (target, before):
        if release is not None:
            _settings(release, order)
    if live is not None and live.id == target.id and home.at_rest(target):
        if watched and watched.failed and watched.about == _about(target, order):
            return _fall_back(home, target, before, order, watched.failed)
        if _healthy(home, target, order):
            return _started(home, target, order, changed=False)
    wrong = changed_files(target)
    if wrong:
        # Its files share inodes with those of other releases: an edit there since staging is an edit here.
        raise HostError(
            f"{len(wrong)} files of {home.name} {target.version} were changed since it was staged, {wrong[0]} first; "
            "find out who did it, then deploy again under a new RFC"
        )
    untouched = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    try:
        _hook(home, target, "prepare", order)
    except (CheckError, OSError) as error:
        if not untouched:
            return _fall_back(home, target, before, order, str(error))
        return {"state": "failed", "changed": False, "detail": str(error), "version": before.version if before else None}
    home.append("activating", target.id, **order.entry(before=before.id if before else None))
    try:
        _switch(home, target, order)
        home.append("started", target.id, **order.entry())
    except Exception as error:  # whatever it is, the host must not stay in between
        return _fall_back(home, target, before, order, str(error) or type(error).__name__)
    return _started(home, target, order, changed=True)


def confirm(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Look again at the release ``digest``, which came up a while ago, and end the watch over it.

    Returns ``state``: ``active`` when it is well now and was all the time; else ``failed`` or ``stuck``, as from :func:`activate`.
    Raises :class:`HostError` when it is not this release that is live, and then nothing is touched.
    """
    home.fence(order.token)
    live, target = home.live(), home.find(digest)
    if target is None or live is None or live.id != target.id:
        what = f"{home.name} {live.version}" if live else "nothing"
        raise HostError(f"{what} is live here and not {digest}, which came up; find out who changed it")
    before = _find_previous(home, previous)
    _settings(target, order)
    watched = watch.end(home.watch)
    try:
        problem = _trouble_since(home, target, order, watched)
        if not problem:
            home.append("active", target.id, **order.entry())
            return {"state": "active", "changed": False, "version": target.version}
    except Exception as error:  # whatever it is, it is not known that it lasts
        problem = str(error) or type(error).__name__
    return _fall_back(home, target, before, order, problem)


def back_out(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Leave the release ``digest`` and bring ``previous`` back (``None``: the host had no release before).

    Returns ``state`` ``backed_out``, or ``owed`` with a ``detail`` when the previous release does not come up.
    Raises :class:`HostError` before anything is touched.
    """
    home.fence(order.token)
    watch.end(home.watch)
    before = _find_previous(home, previous)
    live = home.live()
    target = home.find(digest)
    _refuse_unknown(home, live, target, before)
    version = before.version if before else None
    at_rest = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    if at_rest and (before is None or _healthy(home, before, order)):
        return {"state": "backed_out", "changed": False, "version": version}
    if before is not None:
        _settings(before, order)
    if target is not None:
        home.append("backed_out", target.id, **order.entry())
    problem = _restore(home, before, order)
    if problem:
        return {"state": "owed", "changed": True, "version": version, "detail": problem}
    return {"state": "backed_out", "changed": True, "version": version}


def _started(home: ReleaseHome, target: Release, order: Order, *, changed: bool) -> dict[str, Any]:
    """``target`` has come up; watch it until somebody looks again."""
    if order.stable > 0:
        with contextlib.suppress(OSError):  # then confirm has to look more than once
            watch.start(home.watch, _about(target, order), order.stable, lambda: _trouble(home, target, order))
    return {"state": "started", "changed": changed, "version": target.version}


def _about(target: Release, order: Order) -> str:
    return f"{target.id} by {order.deployment}"


def _trouble_since(home: ReleaseHome, target: Release, order: Order, watched: Optional[watch.Watched]) -> str:
    """What is or was wrong with ``target`` since it came up, nothing when it was well all the time."""
    if not home.at_rest(target):
        return "its activation, or a way back from it, was interrupted"
    mine = watched if watched and watched.about == _about(target, order) else None
    if mine and mine.failed:
        return f"it came up and did not stay well: {mine.failed}"
    for number in range(1 if order.stable <= 0 or (mine and mine.whole) else _LOOKS):
        time.sleep(_PAUSE if number else 0)
        trouble = _trouble(home, target, order)
        if trouble:
            return f"it came up and did not stay well: {trouble}"
    return ""


def _trouble(home: ReleaseHome, release: Release, order: Order) -> str:
    """What is wrong with ``release`` at this moment; nothing is tried again."""
    for check in release.config["health"]:
        try:
            attempt(check, check["timeout"], _settings(release, order), str(release.tree), _environment(home, release, order))
        except (CheckError, HostError) as error:
            return f"health check {check['name']!r} failed: {error}"
    return ""


def _fall_back(home: ReleaseHome, target: Release, before: Optional[Release], order: Order, reason: str) -> dict[str, Any]:
    """``target`` did not come up, or did not last: ``failed`` when ``before`` serves again, ``stuck`` when it does not."""
    said = _logs(home, target, order, reason)  # before another release writes there
    with contextlib.suppress(OSError):  # on a full disk the way back is still open; that it began stands in the log
        home.append("failed", target.id, **order.entry(reason=reason))
    problem = _restore(home, before, order)
    outcome = {"changed": True, "version": before.version if before else None}
    if problem:
        return {"state": "stuck", "detail": f"{reason}; going back failed too: {problem}{said}", **outcome}
    return {"state": "failed", "detail": f"{reason}{said}", **outcome}


def _restore(home: ReleaseHome, before: Optional[Release], order: Order) -> str:
    """Go back to ``before``; return what kept it from serving again, nothing when it does."""
    try:
        _switch(home, before, order)
    except Exception as error:  # whatever it is, the answer has to say that this host needs somebody
        reason = str(error) or type(error).__name__
        return f"{home.name} {before.version}: {reason}{_logs(home, before, order, reason)}" if before else f"having no release: {reason}"
    with contextlib.suppress(OSError):
        home.append("restored", before.id if before else None, **order.entry())
    return ""


def _logs(home: ReleaseHome, release: Release, order: Order, reason: str) -> str:
    """What ``release`` logged last, as further lines of a message that says ``reason``; else what its start hook printed."""
    entries = release.config.get("logs") or [str(home.output / "start.log")]
    if "logs" not in release.config and not os.path.exists(entries[0]):
        return ""
    try:
        said = logs.last_lines(entries, _settings(release, order), release.tree, home.state)
    except Exception as error:  # the reason is what matters, and the way back
        said = f"its logs can't be read: {error}"
    return "\n".join(["", *(line for line in said.splitlines() if line.strip() not in reason)])


def _switch(home: ReleaseHome, target: Optional[Release], order: Order) -> None:
    """Stop what is live, make ``target`` live, start it and wait for its health."""
    leaving = home.live()
    if leaving is not None:
        try:
            _hook(home, leaving, "stop", order)
        except (CheckError, HostError):
            # What is left because it is broken may not even stop. But if it still serves, it would be taken for the one that comes.
            if not (target and target.id == leaving.id) and _healthy(home, leaving, order, at_most=_GLANCE):
                raise
    home.flip(target)
    if target is not None:
        with Daemons() as daemons:
            _hook(home, target, "start", order)
        units = [entry for entry in target.config.get("logs", []) if not isinstance(entry, str)]
        _check_health(home, target, order, ended=(lambda: logs.failed_unit(units)) if units else daemons.ended)


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
            run_command(hook["command"], hook["timeout"], str(release.tree), _environment(home, release, order))
        except CheckError as error:
            raise CheckError(f"hook {name} of {release.name} {release.version}: {error}") from error


def _check_health(
    home: ReleaseHome, release: Release, order: Order, at_most: float = math.inf, ended: Callable[[], str] = lambda: ""
) -> None:
    for check in release.config["health"]:
        limited = {**check, "timeout": min(check["timeout"], at_most)}
        wait_healthy(limited, _settings(release, order), str(release.tree), _environment(home, release, order), ended)


def _healthy(home: ReleaseHome, release: Release, order: Order, at_most: float = math.inf) -> bool:
    try:
        _check_health(home, release, order, at_most)
    except (CheckError, HostError):
        return False
    return True
