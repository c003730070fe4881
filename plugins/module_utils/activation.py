# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activation: make a staged release the live one, whole, or leave the host on the one it had.

The one primitive is :func:`_switch`: stop what runs, flip the link, start, check health. Activating is switching forward
with a way back, and counts when :func:`confirm` finds that it lasted; backing out is switching to the previous release, or to none, and
then what was there must not answer any more. What is about to become live is held against its package before its hooks run, and put right.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from . import logs, watch
from .account import check_account, find_account, give
from .endpoint import EndpointError, fill
from .health import CheckError, attempt, filled, run_command, wait_healthy, where
from .processes import MARK, below, end_release, marked, of_release, start_time
from .redaction import Redactor
from .release_home import HostError, Release, ReleaseHome
from .repair import Damaged, Supplies, find_release, put_right
from .supervision import Precautions

_GLANCE = 2.0  # seconds for one look at a health check that should not pass
_GONE = 4.0  # seconds until what was stopped must not pass its health checks any more
_INTERVAL = 0.2  # seconds between two looks at that
_LOOKS = 3  # at a release over which nobody watched
_PAUSE = 0.5  # seconds between them


class Order:
    """Who wants a change: the deployment, its fencing token, the host's values for the release's settings, and what came with the order.

    ``stable``: for how many seconds a release that came up has to stay healthy. ``previous`` and ``next`` are the versions from which and
    to which the host switches, for the hooks; empty for none.
    """

    def __init__(
        self, deployment: str, token: int, settings: Mapping[str, Any], supplies: Optional[Supplies] = None, stable: float = 0
    ) -> None:
        self.deployment = deployment
        self.token = token
        self.settings = settings
        self.supplies = supplies or Supplies()
        self.stable = stable
        self.previous = self.next = ""

    def switch(self, previous: Optional[Release], following: Optional[Release]) -> None:
        """From now on the host switches from the release ``previous`` to ``following``; nothing stands for having none."""
        self.previous, self.next = (release.version if release else "" for release in (previous, following))

    @functools.cached_property
    def redactor(self) -> Redactor:
        """Knows the host's values, which nothing that is written or answered may have."""
        return Redactor(self.settings)

    def entry(self, **data: Any) -> dict[str, Any]:
        """What every log entry of this order carries."""
        return {"deployment": self.deployment, "token": self.token, **data}


_Step = Callable[[ReleaseHome, str, Optional[str], Order], dict[str, Any]]


def _redacted(step: _Step) -> _Step:
    """``step`` without a value of the host's settings in what it answers and raises: here all of it passes."""

    @functools.wraps(step)
    def run(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
        try:
            answer = step(home, digest, previous, order)
        except HostError as error:
            error.args = (order.redactor.text(str(error)),)
            raise
        return {**answer, **{key: order.redactor.text(answer[key]) for key in ("detail", "reason") if key in answer}}

    return run


@_redacted
def activate(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the staged release ``digest`` live; ``previous`` is the digest that was live when it was staged.

    Returns ``state``: ``started``, and a watch is kept until :func:`confirm`; ``failed`` when it did not come up and the host is back
    on what it had; ``stuck`` when that did not come up either, with ``damaged`` if that was for files of the previous release which are
    not here. ``detail`` says why, or what is to be known of one that came up, such as that the release before did not stop.
    ``repaired`` are the paths that were put right. Raises :class:`HostError` before anything is touched, and :class:`Lacking` when the
    order has to bring more.
    """
    home.fence(order.token)
    watched = watch.end(home.watch)
    target = find_release(home, digest, order.supplies, "is not staged here; run the deployment again to stage it", **order.entry())
    before = _find_previous(home, previous, order)
    order.switch(before, target)
    live = home.live()
    _refuse_unknown(home, live, target, before)
    if live is None and before is not None:
        raise HostError(
            f"{home.name} {before.version} should be live here but nothing is; find out who did that, or back out to bring it back"
        )
    for release in (target, before):
        if release is not None:
            _refuse_unusable(home, release, order)
    untouched = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    try:
        repaired = put_right(home, target, order.supplies, **order.entry())
    except (HostError, OSError) as error:
        if untouched:
            raise
        return _fall_back(home, target, before, order, str(error))
    if live is not None and live.id == target.id and not repaired and home.at_rest(target):
        seen = watched.failed if watched and watched.about == _about(target, order) else ""
        if seen or _healthy(home, target, order):
            return _fall_back(home, target, before, order, seen) if seen else _started(home, target, order, changed=False)
    first = {}
    if live is None:
        _give_state(home, target, None)
        # What passes already can't say later that the release is gone.
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
        home.append("started", target.id, **order.entry())
    except Exception as error:  # whatever it is, the host must not stay in between
        return _fall_back(home, target, before, order, str(error) or type(error).__name__)
    return {**_outcome("started", target, remark, repaired), **_started(home, target, order, changed=True)}


@_redacted
def confirm(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Look again at the release ``digest``, which came up a while ago, and end the watch over it.

    Returns ``state``: ``active`` when it is well now and was all the time; else ``failed`` or ``stuck``, as from :func:`activate`.
    Raises :class:`HostError` when it is not this release that is live, and :class:`Lacking`; then nothing is touched.
    """
    home.fence(order.token)
    live, target = home.live(), home.find(digest)
    if target is None or live is None or live.id != target.id:
        what = f"{home.name} {live.version}" if live else "nothing"
        raise HostError(f"{what} is live here and not {digest}, which came up; find out who changed it")
    before = _find_previous(home, previous, order)
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


@_redacted
def back_out(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Leave the release ``digest`` and bring ``previous`` back (``None``: the host had no release before).

    Returns ``state`` ``backed_out``, or ``owed`` when the previous release does not come up, or when there was none and the one that
    left still answers; ``detail`` says why, or what is to be known of a host that is back, and ``repaired`` names the paths that were put
    right. Raises :class:`HostError` before anything is touched, and :class:`Lacking` when the order has to bring more.
    """
    home.fence(order.token)
    watch.end(home.watch)
    before = _find_previous(home, previous, order)
    if home.is_current(digest):
        find_release(
            home, digest, order.supplies, "is live here but damaged, so nobody knows how to stop it; mend it first", **order.entry()
        )
    live = home.live()
    target = home.find(digest)
    _refuse_unknown(home, live, target, before)
    version = before.version if before else None
    order.switch(target or live, before)
    at_rest = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    if before is not None:
        _refuse_unusable(home, before, order)
    repaired = put_right(home, before, order.supplies, **order.entry()) if before else []
    if at_rest and not repaired and (before is None or _healthy(home, before, order)):
        return {"state": "backed_out", "changed": False, "version": version}
    if target is not None:
        home.append("backed_out", target.id, **order.entry())
    problem, remark = _restore(home, target or live, before, order)
    if problem:
        return {"state": "owed", "changed": True, "version": version, "detail": problem}
    return _outcome("backed_out", before, remark, repaired)


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
            attempt(check, check["timeout"], *_for_checks(home, release, order))
        except (CheckError, HostError) as error:
            return f"health check {check['name']!r} failed: {error}"
    return ""


def _fall_back(home: ReleaseHome, target: Release, before: Optional[Release], order: Order, reason: str) -> dict[str, Any]:
    """``target`` did not come up, or did not last: ``failed`` when ``before`` serves again, ``stuck`` when it does not."""
    said = _logs(home, target, order, reason)  # before another release writes there
    with contextlib.suppress(OSError):  # on a full disk the way back is still open; that it began stands in the log
        home.append("failed", target.id, **order.entry(reason=order.redactor.text(reason)))
    order.switch(target, before)
    order.supplies.more = False  # it is too late to ask for any
    try:
        repaired = put_right(home, before, order.supplies, **order.entry()) if before else []
    except (HostError, OSError) as error:  # no hook runs of what is not as it was archived
        damaged = {"reason": f"{reason}{said}", "damaged": isinstance(error, Damaged)}
        return {**_outcome("stuck", before, f"{reason}; going back failed too: {error}{said}"), **damaged}
    problem, remark = _restore(home, target, before, order)
    if problem:
        return _outcome("stuck", before, f"{reason}; going back failed too: {problem}{said}")
    return _outcome("failed", before, f"{'; '.join(filter(None, (reason, remark)))}{said}", repaired)


def _outcome(state: str, live: Optional[Release], detail: str, repaired: Sequence[str] = ()) -> dict[str, Any]:
    """The answer after something was touched; ``live`` is the release that is or should be live now, if any."""
    outcome: dict[str, Any] = {"state": state, "changed": True, "version": live.version if live else None}
    if detail:
        outcome["detail"] = detail
    if repaired:
        outcome["repaired"] = list(repaired)
    return outcome


def _restore(home: ReleaseHome, failed: Optional[Release], before: Optional[Release], order: Order) -> tuple[str, str]:
    """Leave ``failed`` and go back to ``before``.

    Return what kept the host from being as it was, empty when it is; and what a person should know all the same.
    """

    def check() -> None:
        # What is left may have written there until it was stopped.
        if before is not None:
            put_right(home, before, Supplies(), **order.entry())

    try:
        remark = _switch(home, before, order, check) if before else _take_away(home, failed, order)
    except Exception as error:  # whatever it is, the answer has to say that this host needs somebody
        reason = str(error) or type(error).__name__
        what = f"{home.name} {before.version}: {reason}{_logs(home, before, order, reason)}" if before else f"having no release: {reason}"
        return what, ""
    with contextlib.suppress(OSError):
        home.append("restored", before.id if before else None, **order.entry())
    return "", remark


def _logs(home: ReleaseHome, release: Release, order: Order, reason: str) -> str:
    """What ``release`` logged last, as further lines of a message that says ``reason``; else what its start hook printed."""
    start = home.output_of("start")
    if not release.config.get("logs") and not (start.is_file() and start.stat().st_size):
        return ""
    entries = release.config.get("logs") or [str(start)]
    try:
        said = logs.last_lines(entries, _values(home, release, order), release.tree, home.state, order.redactor)
    except Exception as error:  # the reason is what matters, and the way back
        said = f"its logs can't be read: {error}"
    kept, name = [""], ""
    for line in said.splitlines():
        if not line.startswith(" "):
            name = line
        elif line.strip() not in reason:
            kept += [line] if name in kept else [name, line]
    return "\n".join(kept) if len(kept) > 1 else ""


def _switch(home: ReleaseHome, target: Release, order: Order, check: Optional[Callable[[], None]] = None) -> str:
    """Stop what is live, make ``target`` live, start it and wait for its health; return what a person should know all the same.

    On the way back ``check`` is called before ``target`` becomes live. A release that can't be stopped and still answers does not keep a
    new one out. On the way back it does: nobody could say that it was left.
    """
    leaving = home.live()
    remark = _stop(home, leaving, order) if leaving else ""
    if leaving is None or leaving.id == target.id:
        remark = ""  # what answers is the release that should
    elif remark and _still(lambda: _serves(home, leaving, order)):
        remark += f", but {leaving.version} still passes its health checks"
        if check is not None:
            raise CheckError(f"{remark}; end it on the host and run this again")
        remark += f": what answers for {target.version} may be {leaving.version}"
    if check is not None:
        check()
    _give_state(home, target, leaving)
    home.flip(target)
    try:
        mark = _hook(home, target, "start", order)
        units = [entry for entry in target.config.get("logs", []) if not isinstance(entry, str)]
        _check_health(home, target, order, (lambda: logs.failed_unit(units)) if units else _end_of(mark))
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
        _hook(home, leaving, "stop", order)
        if "stop" not in leaving.config.get("hooks", {}) or not _still(lambda: _runs_and_serves(home, leaving, order)):
            return ""
        problem = f"hook stop of {leaving.name} {leaving.version} ended well, but its health checks go on passing"
    except (CheckError, HostError) as error:
        problem = str(error)
    ended, left = end_release(leaving.tree)
    number = f"{ended} process{'' if ended == 1 else 'es'} of {leaving.version}"
    return f"{problem}; {number} had to be ended{f', {left}' if left else ''}"


def _runs_and_serves(home: ReleaseHome, release: Release, order: Order) -> bool:
    return bool(of_release(release.tree)) and _serves(home, release, order)


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


def _own(home: ReleaseHome, release: Release) -> dict[str, Any]:
    """What ``${name}`` stands for everywhere; of commands it is all, for everybody on the host sees their arguments."""
    return {"release": release.name, "version": release.version, "digest": release.digest, "tree": release.tree, "state": home.state}


def _values(home: ReleaseHome, release: Release, order: Order) -> dict[str, Any]:
    """What ``${name}`` stands for in checks: the settings, and what each release has; raises what :func:`_settings` raises."""
    return {**_settings(release, order), **_own(home, release)}


def _refuse_unusable(home: ReleaseHome, release: Release, order: Order) -> None:
    """Raise :class:`HostError` for settings that a check can't be made with, and a user as whom the release can't run.

    Between stop and start it would be too late to find out.
    """
    values = _values(home, release, order)
    check_account(release.config, release.files, release.tree)
    for check in release.config["health"]:
        try:
            where(check, values, order.redactor)
            filled(check, values, order.redactor)
        except CheckError as error:
            raise HostError(f"{release.name} {release.version}: {error}; correct tidegate_settings, or the release") from None


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


def _give_state(home: ReleaseHome, release: Release, before: Optional[Release]) -> None:
    """See to it that the state directory is the release's user's, if it names one; ``before`` is the release that had it until now."""
    account = find_account(release.config)
    if account is not None:
        give(home.state, account, changed=before is not None and before.config.get("user") != account.name)


def _for_checks(home: ReleaseHome, release: Release, order: Order) -> tuple[dict[str, Any], str, dict[str, str], Precautions]:
    """What the checks of a release need to know: settings, directory, environment, and what is minded."""
    return _values(home, release, order), str(release.tree), _environment(home, release, order), _precautions(release, order)


def _precautions(release: Release, order: Order) -> Precautions:
    return Precautions(order.redactor, find_account(release.config))


def _hook(home: ReleaseHome, release: Release, name: str, order: Order) -> str:
    """Run a hook, if the release has it; return the mark that what it left running carries."""
    hook = release.config.get("hooks", {}).get(name)
    mark = ""
    if hook:
        try:
            with home.running_hook(name) as mark:
                environment = {
                    **_environment(home, release, order),
                    "TIDEGATE_PREVIOUS": order.previous,
                    "TIDEGATE_NEXT": order.next,
                    MARK: mark,
                }
                values = {**_own(home, release), "previous": order.previous, "next": order.next}
                command = [fill(part, values) for part in hook["command"]]
                log, precautions = str(home.output_of(name)), _precautions(release, order)
                run_command(command, hook["timeout"], str(release.tree), environment, log, precautions)
        except (CheckError, EndpointError) as error:
            raise CheckError(f"hook {name} of {release.name} {release.version}: {error}") from error
    return mark


def _end_of(mark: str) -> Callable[[], str]:
    """Says in words that all that a hook left running has ended; nothing as long as something runs, or when it left nothing.

    A service that another service manager starts, or that cleans its environment, does not carry the mark. One that loses it later, as
    many do by giving themselves a title, is still the process that was seen with it.
    """
    known = marked(mark) if mark else {}

    def ended() -> str:
        if not known:
            return ""
        known.update(marked(mark))
        known.update(below(known))
        running = {pid: moment for pid, moment in known.items() if start_time(pid) == moment}
        return "" if running else "all that the start hook left running has ended"

    return ended


def _check_health(home: ReleaseHome, release: Release, order: Order, ended: Callable[[], str] = lambda: "") -> None:
    for check in release.config["health"]:
        settings, tree, environment, precautions = _for_checks(home, release, order)
        wait_healthy(check, settings, tree, environment, ended, precautions)


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
        attempt(check, seconds, *_for_checks(home, release, order))
    except CheckError:
        return False
    return True


def _healthy(home: ReleaseHome, release: Release, order: Order) -> bool:
    try:
        _check_health(home, release, order)
    except (CheckError, HostError):
        return False
    return True
