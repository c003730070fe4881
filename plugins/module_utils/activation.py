# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activation: make a staged release the live one, whole, or leave the host on the one it had.

The one primitive is :func:`switch_to`: stop what runs, flip the link, start, check health. Activating is switching forward
with a way back, and counts when :func:`confirm` finds that it lasted; backing out is switching to the previous release, or to none, and
then what was there must not answer any more. What is about to become live is held against its package before its hooks run, and put right.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional, Union

from . import beside, logs, watch
from .account import check_account
from .health import CheckError, filled, where
from .release_files import remove
from .release_home import HostError, Release, ReleaseHome
from .release_hooks import Order, is_healthy, outside_fault, passes, run_hook, trouble, values_for
from .repair import Damaged, Supplies, find_release, put_right
from .running import note_processes
from .switch import give_state, switch_to, take_away

__all__ = ["Order", "activate", "back_out", "confirm"]

_LOOKS = 3  # at a release over which nobody watched
_LISTED = 5  # faults that a message names
_PAUSE = 0.5  # seconds between them
_TRIES = 9  # of a guard to go back, each twice as long after the one before: the last one more than eight minutes after the first
_PATIENCE = 1.0  # seconds for which a guard waits for the home before it looks again whether it is still wanted

_Step = Callable[[ReleaseHome, str, Optional[str], Order], dict[str, Any]]


def redacted(step: _Step) -> _Step:
    """``step`` without a value of the host's settings in what it answers and raises: here all of it passes."""

    @functools.wraps(step)
    def run(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
        try:
            answer = step(home, digest, previous, order)
        except HostError as error:
            error.args = (order.redactor.text(str(error)),)
            raise
        return answered(answer, order)

    return run


def answered(answer: dict[str, Any], order: Order) -> dict[str, Any]:
    """An answer as it leaves the host: with what was read outside the trees, and without a value of the host's settings."""
    if order.reading is not None:
        answer = {**answer, "read": {**order.reading, "text": order.redactor.text(order.reading["text"])}}
    return {**answer, **{key: order.redactor.text(answer[key]) for key in ("detail", "reason") if key in answer}}


@redacted
def activate(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the staged release ``digest`` live; ``previous`` is the digest that was live when it was staged.

    Returns ``state``: ``started``, and a watch is kept until :func:`confirm`; ``failed`` when it did not come up and the host is back
    on what it had; ``stuck`` when that did not come up either, with ``damaged`` if that was for files of the previous release which are
    not here. ``detail`` says why, or what is to be known of one that came up, such as that the release before did not stop. Where an
    earlier attempt went back by itself, and the order says that this is not known, that is the answer, with ``unconfirmed``.
    ``repaired`` are the paths that were put right. Raises :class:`HostError` before anything is touched, and :class:`Lacking` when the
    order has to bring more. Of a release that acts outside its tree all this is said by what is read there afterwards, which is ``read``.
    """
    home.fence(order.token)
    disarm(home)
    watched = watch.end(home.watch)
    target = find_release(home, digest, order.supplies, "is not staged here; run the deployment again to stage it", **order.entry())
    before = find_previous(home, previous, order)
    order.switch(before, target)
    gone = gone_back(home, target, before, order) if order.unknown and order.confirm_within > 0 else None
    ready = make_ready(home, target, before, order, watched) if gone is None else gone
    return ready if isinstance(ready, dict) else switch_forward(home, target, before, order, ready)


def disarm(home: ReleaseHome) -> None:
    """Whoever waits here for an instant waits no more, see instant.py; the caller has the home's lock."""
    beside.end(home.armed)
    remove(home.instant)


class Ready(NamedTuple):
    """A host on which nothing is in the way of a switch. ``repaired``: paths that were put right; ``changed``: what is to be said of
    packages that were not as they were; ``first``: for the log, what is to be known of a host that had no release; ``untouched``: it runs
    whole what it ran before."""

    repaired: list[str]
    changed: str
    first: dict[str, Any]
    untouched: bool


def make_ready(
    home: ReleaseHome,
    target: Release,
    before: Optional[Release],
    order: Order,
    watched: Optional[watch.Watched],
    *,
    prepare: bool = True,
) -> Union[dict[str, Any], Ready]:
    """Do all that has to be done before the host is switched to ``target``, or give the answer of one that is not to be switched.

    ``prepare``: whether its hook of that name runs, which is once for a switch. Raises what :func:`activate` raises.
    """
    live = home.live()
    _refuse_unknown(home, live, target, before)
    if live is None and before is not None:
        raise HostError(
            f"{home.name} {before.version} should be live here but nothing is; find out who did that, or back out to bring it back"
        )
    for release in (target, before):
        if release is not None:
            _refuse_unusable(home, release, order)
    untouched = _is_back(home, before)
    settled = live is not None and live.id == target.id and home.at_rest(target)
    try:
        repaired = put_right(home, target, order.supplies, **order.entry())
        if target.has_packages or (before is not None and before.has_packages):
            from .system_packages import refuse  # noqa: PLC0415 - few releases bring packages, and every host imports this

            refuse(home, target, target if settled else before, untouched=untouched, waits=True)
            order.packages_of = before if untouched else None
    except (HostError, OSError) as error:
        if untouched:
            raise
        return fall_back(home, target, before, order, str(error))
    changed = _changed_packages(target) if settled else ""
    if settled and not repaired and not changed:
        seen = watched.failed if watched and watched.about == _about(target, order) else ""
        if seen or not order.checked or (is_healthy(home, target, order) and not outside_fault(home, target, order)):
            return fall_back(home, target, before, order, seen) if seen else _still_started(home, target, before, order)
    first = {}
    if live is None:
        give_state(home, target, None)
        # What passes already can't say later that the release is gone.
        checks = enumerate(target.config["health"])
        first["passed"] = [position for position, check in checks if passes(home, target, check, order)]
    try:
        if prepare:
            run_hook(home, target, "prepare", order)
    except (CheckError, OSError) as error:
        return _not_begun(home, target, before, order, str(error), untouched=untouched)
    return Ready(repaired, changed, first, untouched)


def _not_begun(
    home: ReleaseHome, target: Release, before: Optional[Release], order: Order, reason: str, *, untouched: bool
) -> dict[str, Any]:
    """The answer of a host that can't be switched after all."""
    order.switch(target, before)
    if not untouched or outside_fault(home, before, order, back=True):
        return fall_back(home, target, before, order, reason)
    return {"state": "failed", "changed": False, "detail": reason, "version": before.version if before else None}


def _is_back(home: ReleaseHome, before: Optional[Release]) -> bool:
    """Whether the host runs whole what it ran before."""
    live = home.live()
    return home.at_rest(before) and (live.id if live else None) == (before.id if before else None)


def poise_forward(home: ReleaseHome, target: Release, before: Optional[Release], order: Order, ready: Ready) -> Optional[dict[str, Any]]:
    """Do what can be done of a switch before its moment, or give the answer of a host that can't be switched after all."""
    try:
        home.require_room()
        home.poise(target)
        home.go_first()
    except HostError as error:
        return _not_begun(home, target, before, order, str(error), untouched=ready.untouched)
    return None


def switch_forward(
    home: ReleaseHome, target: Release, before: Optional[Release], order: Order, ready: Ready, *, poised: bool = False
) -> dict[str, Any]:
    """Switch a host that is ``ready``; see :func:`activate`. ``poised``: it has its guard, and :func:`poise_forward` came before."""
    if not poised:
        try:
            home.require_room()
            set_guard(home, target, before, order)
        except HostError as error:
            return _not_begun(home, target, before, order, str(error), untouched=ready.untouched)
    home.append("activating", target.id, **order.entry(before=before.id if before else None, **ready.first))
    try:
        remark = switch_to(home, target, order)
        home.append("started", target.id, **order.entry())
    except Exception as error:  # whatever it is, the host must not stay in between
        return fall_back(home, target, before, order, str(error) or type(error).__name__)
    remark = "; ".join(filter(None, (remark, ready.changed)))
    return {**_outcome("started", target, remark, ready.repaired), **_started(home, target, order, changed=True)}


@redacted
def confirm(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Look again at the release ``digest``, which came up a while ago, and end the watch over it.

    Returns ``state``: ``active`` when it is well now and was all the time; else ``failed`` or ``stuck``, as from :func:`activate`.
    Raises :class:`HostError` when it is not this release that is live, and :class:`Lacking`; then nothing is touched.
    """
    home.fence(order.token)
    live, target = home.live(), home.find(digest)
    gone = gone_back(home, target, find_previous(home, previous, order), order) if target and order.confirm_within > 0 else None
    if gone is not None:
        return gone
    if target is None or live is None or live.id != target.id:
        what = f"{home.name} {live.version}" if live else "nothing"
        raise HostError(f"{what} is live here and not {digest}, which came up; find out who changed it")
    before = find_previous(home, previous, order)
    values_for(home, target, order)  # raises while nothing is touched
    order.switch(before, target)
    watched = watch.end(home.watch)
    try:
        problem = _trouble_since(home, target, order, watched)
        if not problem and (fault := outside_fault(home, target, order)):
            problem = f"it came up and did not last: {fault}"
        if not problem:
            beside.end(home.guard)
            home.append("active", target.id, **order.entry(**note_processes(target)))
            return {"state": "active", "changed": False, "version": target.version}
    except Exception as error:  # whatever it is, it is not known that it lasts
        problem = str(error) or type(error).__name__
    return fall_back(home, target, before, order, problem)


@redacted
def back_out(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Leave the release ``digest`` and bring ``previous`` back (``None``: the host had no release before).

    Returns ``state`` ``backed_out``, or ``owed`` when the previous release does not come up, or when there was none and the one that
    left still answers; ``detail`` says why, or what is to be known of a host that is back, and ``repaired`` names the paths that were put
    right. Raises :class:`HostError` before anything is touched, and :class:`Lacking` when the order has to bring more.
    """
    home.fence(order.token)
    disarm(home)
    watch.end(home.watch)
    return switch_back(home, make_ready_back(home, digest, previous, order), order)


class ReadyBack(NamedTuple):
    """A host on which nothing is in the way back from ``target``, with what is ``live`` to what it had ``before``. ``repaired``: paths that
    were put right; ``changed``: what is to be said of packages that were not as they were; ``well``: it is back already."""

    target: Optional[Release]
    live: Optional[Release]
    before: Optional[Release]
    repaired: list[str]
    changed: str
    well: bool


def make_ready_back(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> ReadyBack:
    """Do all that has to be done before the host goes back from ``digest``; raises what :func:`back_out` raises."""
    before = find_previous(home, previous, order)
    if home.is_current(digest):
        find_release(
            home, digest, order.supplies, "is live here but damaged, so nobody knows how to stop it; mend it first", **order.entry()
        )
    live = home.live()
    target = home.find(digest)
    _refuse_unknown(home, live, target, before)
    order.switch(target or live, before)
    at_rest = home.at_rest(before) and (live.id if live else None) == (before.id if before else None)
    if before is not None:
        _refuse_unusable(home, before, order)
        if before.has_packages and not at_rest:
            from .system_packages import refuse_owned  # noqa: PLC0415 - few releases bring packages, and every host imports this

            refuse_owned(home, before, going_back=True)
    repaired = put_right(home, before, order.supplies, **order.entry()) if before else []
    changed = _changed_packages(before) if at_rest and before is not None else ""
    well = at_rest and not repaired and not changed and (before is None or not order.checked or is_healthy(home, before, order))
    well = well and not (order.checked and outside_fault(home, before, order, back=True))
    return ReadyBack(target, live, before, repaired, changed, well)


def switch_back(home: ReleaseHome, ready: ReadyBack, order: Order) -> dict[str, Any]:
    """Bring back a host that is ``ready``; see :func:`back_out`."""
    target, live, before, repaired, changed, well = ready
    version = before.version if before else None
    beside.end(home.guard)
    if well:
        return {"state": "backed_out", "changed": False, "version": version}
    if target is not None:
        home.append("backed_out", target.id, **order.entry())
    problem, remark = _restore(home, target or live, before, order)
    if problem:
        return {"state": "owed", "changed": True, "version": version, "detail": problem}
    return _outcome("backed_out", before, "; ".join(filter(None, (remark, changed))), repaired)


def _changed_packages(live: Release) -> str:
    """What is to be said of the packages of the live release when they are not as they were installed, and so are installed anew."""
    if not live.has_packages:
        return ""
    from .system_packages import differences  # noqa: PLC0415 - as above

    found = [one.sentence for one in differences(live)]
    more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return f"packages were put right: {', '.join([*found[:_LISTED], *more])}" if found else ""


def _still_started(home: ReleaseHome, target: Release, before: Optional[Release], order: Order) -> dict[str, Any]:
    """``target`` has come up before, and is well; it has a watch of its own from now on, and a guard, unless it was confirmed already."""
    try:
        if home.history().last != ("active", target.id):
            set_guard(home, target, before, order)
    except HostError as error:
        return fall_back(home, target, before, order, str(error))
    return _started(home, target, order, changed=False)


def _started(home: ReleaseHome, target: Release, order: Order, *, changed: bool) -> dict[str, Any]:
    """``target`` has come up; watch it until somebody looks again."""
    if order.stable > 0 and order.checked:
        with contextlib.suppress(OSError):  # then confirm has to look more than once
            watch.start(home.watch, _about(target, order), order.stable, lambda: trouble(home, target, order))
    return {"state": "started", "changed": changed, "version": target.version}


def set_guard(home: ReleaseHome, target: Release, before: Optional[Release], order: Order, ahead: float = 0.0) -> None:
    """See to it that the host goes back by itself if the order says so; raises :class:`HostError` when nobody would.

    The time to confirm begins ``ahead`` seconds from now. A guard of a host that was not switched then finds nothing to do.
    """
    if order.confirm_within <= 0:
        beside.end(home.guard)
        return
    reason, tries = f"nobody reached it anew and confirmed it within {order.confirm_within:g} seconds", 0

    def go_back(wanted: Callable[[], bool]) -> Optional[float]:
        nonlocal tries
        order.is_guard, order.supplies, order.packages_of = True, Supplies(), None  # what the controller knew and brought is gone
        try:
            with home.locked(_PATIENCE):
                if wanted() and not _is_back(home, before):
                    watch.end(home.watch)
                    tries += 1
                    stuck = fall_back(home, target, before, order, reason, unconfirmed=True)["state"] == "stuck"
                    if stuck and tries < _TRIES:
                        return float(2**tries)
                remove(home.guard)
                return None
        except (HostError, OSError):  # somebody is at it, who may end this guard
            return _PAUSE

    from .guard import start  # noqa: PLC0415 - few releases have one, and every host imports this

    try:
        start(home.guard, ahead + order.confirm_within, go_back)
    except OSError as error:
        raise HostError(f"nothing would take this host back by itself ({error}); mend it, or set rollout.confirm_minutes to 0") from None


def gone_back(home: ReleaseHome, target: Release, before: Optional[Release], order: Order) -> Optional[dict[str, Any]]:
    """The answer of a host that has left the deployment's release by itself, or tried to; nothing when it has not.

    What it could not bring to its end is tried once more, so that the answer says why.
    """
    at = home.unconfirmed(order.deployment)
    if not at:
        return None
    beside.end(home.guard)
    detail = f"it went back by itself at {at}, for nobody had reached it anew to confirm the release"
    order.switch(target, before)
    if _is_back(home, before) and not outside_fault(home, before, order, back=True):
        return {**_outcome("failed", before, detail), "unconfirmed": True}
    return {**fall_back(home, target, before, order, detail, unconfirmed=True), "unconfirmed": True}


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
        problem = trouble(home, target, order)
        if problem:
            return f"it came up and did not stay well: {problem}"
    return ""


def fall_back(home: ReleaseHome, target: Release, before: Optional[Release], order: Order, reason: str, **marks: bool) -> dict[str, Any]:
    """``target`` did not come up, or did not last: ``failed`` when ``before`` serves again, ``stuck`` when it does not.

    ``marks``: what else the log is to say of that.
    """
    if not order.is_guard:
        beside.end(home.guard)
    said = _logs(home, target, order, reason)  # before another release writes there
    with contextlib.suppress(OSError):  # on a full disk the way back is still open; that it began stands in the log
        home.append("failed", target.id, **order.entry(reason=order.redactor.text(reason), **marks))
    order.switch(target, before)
    order.supplies.more = False  # it is too late to ask for any
    try:
        repaired = put_right(home, before, order.supplies, **order.entry()) if before else []
    except (HostError, OSError) as error:  # no hook runs of what is not as it was archived
        damaged = {"reason": f"{reason}{said}", "damaged": isinstance(error, Damaged)}
        problem = _and_read(home, before, order, str(error))
        return {**_outcome("stuck", before, f"{reason}; going back failed too: {problem}{said}"), **damaged}
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

    order.reading = None
    try:
        remark = switch_to(home, before, order, check) if before else take_away(home, failed, order)
    except Exception as error:  # whatever it is, the answer has to say that this host needs somebody
        reason = str(error) or type(error).__name__
        if order.reading is None:
            reason = _and_read(home, before, order, reason)
        what = f"{home.name} {before.version}: {reason}{_logs(home, before, order, reason)}" if before else f"having no release: {reason}"
        return what, ""
    if before is not None or order.checked:  # else nobody has looked yet whether what was there is gone
        with contextlib.suppress(OSError):
            home.append("restored", before.id if before else None, **order.entry())
    return "", remark


def _and_read(home: ReleaseHome, before: Optional[Release], order: Order, problem: str) -> str:
    """``problem``, which kept the host from going back to ``before``, and what is read outside the trees after that."""
    fault = outside_fault(home, before, order, back=True)
    said = order.reading["text"] if order.reading else ""
    return "; ".join(filter(None, (problem, fault or (f"it says {said}" if said else ""))))


def _logs(home: ReleaseHome, release: Release, order: Order, reason: str) -> str:
    """What ``release`` logged last, as further lines of a message that says ``reason``; else what its start hook printed."""
    start = home.output_of("start")
    if not release.config.get("logs") and not (start.is_file() and start.stat().st_size):
        return ""
    entries = release.config.get("logs") or [str(start)]
    try:
        said = logs.last_lines(entries, values_for(home, release, order), release.tree, home.state, order.redactor)
    except Exception as error:  # the reason is what matters, and the way back
        said = f"its logs can't be read: {error}"
    kept, name = [""], ""
    for line in said.splitlines():
        if not line.startswith(" "):
            name = line
        elif line.strip() not in reason:
            kept += [line] if name in kept else [name, line]
    return "\n".join(kept) if len(kept) > 1 else ""


def _refuse_unknown(home: ReleaseHome, live: Optional[Release], target: Optional[Release], before: Optional[Release]) -> None:
    if live is not None and live.id not in {release.id for release in (target, before) if release}:
        raise HostError(
            f"{home.name} {live.version} is live here, which the journal does not know of; "
            "somebody changed it since staging, audit the host before deploying"
        )


def find_previous(home: ReleaseHome, digest: Optional[str], order: Order) -> Optional[Release]:
    if digest is None:
        return None
    advice = "was live before but is no longer on this host, so there is nothing to go back to; stage it again first"
    return find_release(home, digest, order.supplies, advice, **order.entry())


def _refuse_unusable(home: ReleaseHome, release: Release, order: Order) -> None:
    """Raise :class:`HostError` for settings that a check can't be made with, and a user as whom the release can't run.

    Between stop and start it would be too late to find out.
    """
    values = values_for(home, release, order)
    check_account(release.config, release.files, release.tree)
    for check in release.config["health"]:
        try:
            where(check, values, order.redactor)
            filled(check, values, order.redactor)
        except CheckError as error:
            raise HostError(f"{release.name} {release.version}: {error}; correct tidegate_settings, or the release") from None
