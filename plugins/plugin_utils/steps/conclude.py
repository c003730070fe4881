# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Close a deployment: what it came to, held against what the run was for, in a sentence, in its change and to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ..errors import ConflictError
from ..report.artifacts import first
from ..report.progress import share
from ..rfc.source import Change
from ..rollout import states
from ..rollout.data_change import in_doubt, is_past_return
from ..rollout.data_journal import DataJournal
from ..rollout.deployments import Deployment, Run, Target, remark_in
from ..rollout.failures import Reason, first_failure, no_reason
from ..rollout.holder import Holder
from ..rollout.journal import Journal
from ..rollout.states import DataState, DeploymentState, HostState, WaveState
from .record import CheckObjectives, check_objectives, sync_change_record
from .tell import Tell, warned

# By what a run was to bring about: the states that it has come to then, those in which it no longer can, and how a person calls it.
_WANTED = {
    "completed": (DeploymentState.COMPLETED, DeploymentState.SUPPORTING),
    "staged": (DeploymentState.STAGING,),
    "backed_out": (DeploymentState.BACKED_OUT, DeploymentState.CANCELLED),
}
_TOO_LATE = {
    "completed": (DeploymentState.BACKING_OUT, DeploymentState.BACKED_OUT),
    "staged": (
        DeploymentState.ACTIVATING,
        DeploymentState.BAKING,
        DeploymentState.SUPPORTING,
        DeploymentState.COMPLETED,
        DeploymentState.BACKING_OUT,
        DeploymentState.BACKED_OUT,
    ),
    "backed_out": (),
}
_WOULD = {"completed": "deployed", "staged": "staged", "backed_out": "backed out"}
_DATA_IN_THE_END = {DataState.REVERSED: ", its data as before", DataState.KEPT: ", its data kept as they are"}
# Of these the detail says in a few words what became of the host.
_EXPLAINED = (HostState.WRITTEN_OFF, HostState.SUPERSEDED, HostState.ACCEPTED)


def to_conclude(journal: Journal, number: str, holder: Holder, change: Change, wanted: str) -> Deployment:
    """The deployment that this run may close: the one that it drives, or one that was over as wanted before this run began.

    ``wanted``: see :func:`conclude`. Raises :class:`TidegateError` when it is neither.
    """
    current = journal.latest(number)
    if current is None or current.state in states.OPEN:
        return journal.driven_by(number, holder)
    if mine := journal.as_driven_by(current, holder):
        return mine
    if wanted == "completed" and current.state is DeploymentState.COMPLETED:
        journal.refuse_superseded(current.id)
        wants = change.read().digest
        if wants != current.digest:
            raise ConflictError(f"{current.label} is completed with {current.digest}, but its RFC names {wants}; raise a new RFC for that")
    return current


def foresee(journal: Journal, number: str, wanted: str, now: datetime) -> dict[str, Any]:
    """What :func:`conclude` would be about, were this not check mode. Nothing is written."""
    current = journal.latest(number)
    failed = current is not None and (current.state in _TOO_LATE[wanted] or (wanted == "staged" and _past_staging(journal, current)))
    if failed and current is not None and wanted == "staged" and current.state is DeploymentState.SUPPORTING:
        support = journal.support(current, now)
        failed = not (support.late and support.lets_in(now))  # else late hosts would be staged
    if current is not None and failed:
        sentence = f"{current.label} is {current.state}, so it would not end {_WOULD[wanted]}. This was check mode: nothing has changed."
    elif current is not None and current.state is DeploymentState.SUPPORTING and wanted == "completed":
        sentence = f"{current.label} is live: {current.reason}. This was check mode: nothing has changed."
    elif current is not None and current.state in _WANTED[wanted] and current.state not in states.OPEN:
        sentence = f"{current.label} is already {current.state}, so nothing would be done."
    else:
        sentence = f"{number} would be {_WOULD[wanted]}. This was check mode: nothing has changed."
    state = "none" if current is None else current.state
    return {
        "changed": False,
        "failed": failed,
        "state": state,
        "objectives": [],
        "msg": sentence,
        "passed_on": _passed_on(number, current, [] if current is None else journal.targets(current.id)),
        "progress": {"step": "conclude", "state": state, "detail": sentence},
    }


def conclude(
    journal: Journal,
    run: Run,
    change: Change,
    wanted: str,
    tell: Tell,
    make: CheckObjectives,
    now: datetime,
    interrupted: str = "",
    reason: Reason = no_reason,
    *,
    last: bool = True,
    unmet: str = "",
) -> dict[str, Any]:
    """Close the deployment and its change; the result is failed, with one sentence, unless the deployment's state is ``wanted``.

    A complete one is held against the objectives of its RFC by ``make``. What could not be written to the change is in ``warnings`` and
    does not fail.
    ``wanted`` is ``completed``, ``staged`` or ``backed_out``; a back-out that had nothing to undo is a cancelled deployment.
    When somebody interrupted the run (see :mod:`..actions.interrupt`), what is not done is held.
    ``last``: false for one of several controllers while others are at work; what is done once at the end is left to the last.
    ``unmet``: why the exit criteria of its support, which this run has measured, are not met; it has failed then.
    """
    first = journal.round_start(run.deployment)
    in_round = [target for target in journal.targets(run.deployment) if target.wave >= first]
    all_staged = all(target.state in (HostState.STAGED, HostState.WRITTEN_OFF) for target in in_round)
    held = bool(interrupted) and not (wanted == "staged" and all_staged) and journal.hold(run, interrupted, now)
    if wanted == "staged" and not held and run.epoch is None and _past_staging(journal, journal.deployment(run.deployment)):
        journal.hold(run, "it is past staging", now)  # as it was: this run does not go on with it
    deployment = journal.conclude(run, now)
    targets = journal.targets(run.deployment)
    success = deployment.state in _WANTED[wanted] and (wanted != "staged" or all_staged) and not unmet
    sentence = _verdict(deployment, targets, journal.locked(run.deployment), interrupted, reason, _data_left(journal, deployment), first)
    objectives, problems = check_objectives(journal, run, change, make, now) if last else ([], [])
    if last:
        problems += sync_change_record(journal, run, change, sentence, now)
    if held or unmet:
        problems += tell(journal, run, "hold", interrupted or f"its exit criteria are not met: {unmet}", now)
    if last and deployment.state in (*_WANTED["completed"], *_WANTED["backed_out"]):
        problems += tell(journal, run, "done", sentence, now)
    journal.release_lease(run, now)
    return {
        "changed": False,
        "failed": not success,
        "state": deployment.state,
        "objectives": [asdict(one) for one in objectives],
        "msg": sentence,
        "passed_on": _passed_on(deployment.rfc, deployment, targets),
        **warned(problems),
        "progress": {"step": "conclude", "state": deployment.state, "detail": sentence},
    }


def _passed_on(number: str, deployment: Deployment | None, targets: Iterable[Target]) -> dict[str, Any]:
    """What later jobs get to know of a deployment: its state, how many hosts are in which, and the first of those that need somebody."""
    hosts = list(targets)
    return {
        "rfc": number,
        "release": deployment.release if deployment else None,
        "version": deployment.version if deployment else None,
        "state": str(deployment.state) if deployment else "none",
        "hosts": dict(sorted(Counter(str(host.state) for host in hosts).items())),
        "amiss": first(host.host for host in hosts if host.state in states.AMISS),
    }


def _past_staging(journal: Journal, deployment: Deployment) -> bool:
    """Whether an open deployment has opened its first wave, so that nothing is staged any more."""
    forward = deployment.state in (DeploymentState.ACTIVATING, DeploymentState.BAKING, DeploymentState.HELD)
    first = journal.round_start(deployment.id)
    return forward and any(number >= first and state is not WaveState.CLOSED for number, state, _decision in journal.waves(deployment.id))


def catch_up(journal: Journal, deployment: Deployment, change: Change | None, now: datetime) -> list[str]:
    """Write what a change system missed of a deployment that is over; return what still could not be written.

    Without a ``change`` only the CMDB's register is brought up to date.
    """
    run = deployment.run
    problems = sync_change_record(journal, run, change, _verdict(deployment, journal.targets(deployment.id), set()), now)
    journal.release_lease(run, now)
    return problems


def _remark(targets: Iterable[Target], state: HostState) -> str:
    """What a host said that did come into ``state``, such as that the release before could not be stopped."""
    here = (target for target in targets if target.state is state)
    said = [(target.host, remark) for target in here if (remark := remark_in(target.state, target.summary))]
    more = f" {len(said) - 1} more of them are in the report." if len(said) > 1 else ""
    return f" {said[0][0]}: {said[0][1]}.{more}" if said else ""


def _data_left(journal: Journal, deployment: Deployment) -> str:
    """What keeps the data of a deployment that is backing out from being as before; empty when nothing does."""
    log = journal.data_log(deployment.id)
    if deployment.data is DataState.MIGRATED:
        why = DataJournal(journal.cmdb).reverse_barrier(deployment) or log[-1].data.get("detail")  # of an attempt before that
        return f"its data are still migrated{f': {why}' if why else ''}"
    return in_doubt(deployment, log)


def _verdict(
    deployment: Deployment,
    targets: list[Target],
    locked: Collection[str],
    interrupted: str = "",
    reason: Reason = no_reason,
    data_left: str = "",
    first: int = 1,
) -> str:
    """How the deployment stands, for a person. ``locked``: the hosts that it has locked. ``data_left``: see :func:`_data_left`.
    ``first``: the first wave of the round that is under way, more than 1 in one of late hosts.
    """
    what = f"{deployment.rfc}: {deployment.release} {deployment.version}"
    if deployment.state in (DeploymentState.COMPLETED, DeploymentState.SUPPORTING):
        active = sum(target.state is HostState.ACTIVE for target in targets)
        supporting = deployment.state is DeploymentState.SUPPORTING
        # What is late is in the reason, with what becomes of it.
        said = (HostState.ACTIVE, *(states.LATE if supporting else ()))
        others = _listed(target for target in targets if target.state not in said)
        why = f"; {deployment.reason}" if deployment.reason else ""
        return f"{what} is live on {share(active, len(targets))}{others}{why}.{_remark(targets, HostState.ACTIVE)}"
    if deployment.state is DeploymentState.BACKED_OUT:
        back = sum(target.state is HostState.BACKED_OUT for target in targets)
        left = [target for target in targets if target.state in _EXPLAINED]
        which = share(back, back + len(left)) if left else f"{_hosts(back)} it had touched" if back else "no host, for none had it"
        data = _DATA_IN_THE_END.get(deployment.data, "")
        return f"{what} was backed out of {which}{data}: {deployment.reason}{_listed(left)}.{_remark(targets, HostState.BACKED_OUT)}"
    if deployment.state is DeploymentState.CANCELLED:
        return f"{what} was cancelled before it touched a host: {deployment.reason}."
    if deployment.state is DeploymentState.BACKING_OUT:
        return _unfinished(deployment, targets, locked, interrupted, reason, data_left)
    if deployment.state in (DeploymentState.BAKING, DeploymentState.HELD):
        held = "held: " if deployment.state is DeploymentState.HELD else ""  # the reason of the other begins with its state
        return f"{what} is {held}{deployment.reason}. {_next_of_held(deployment, targets, first > 1)}"
    of_round = [target for target in targets if target.wave >= first]
    staged = sum(target.state is HostState.STAGED for target in of_round)
    why = first_failure([target for target in of_round if target.state in (HostState.PLANNED, HostState.STAGE_FAILED)], reason)
    return f"{what} is {deployment.state}: staged on {share(staged, len(of_round))}{why}. Run deploy to go on, {_to_undo(first > 1)}."


def _to_undo(late: bool) -> str:
    return "or backout to take it back from every host that has it" if late else "or backout to undo it"


def _unfinished(
    deployment: Deployment, targets: list[Target], locked: Collection[str], interrupted: str, reason: Reason, data_left: str
) -> str:
    """How a back-out stands that is not over; see :func:`_verdict`."""
    what = f"{deployment.rfc}: {deployment.release} {deployment.version}"
    touched = [target for target in targets if target.state in states.TOUCHED]
    owed = [target.host for target in touched if target.host in locked]
    taken = [target.host for target in touched if target.host not in locked]
    failure = first_failure(touched, reason)
    why = "" if failure in deployment.reason else failure  # one cause, once
    if data_left and not owed:
        return f"{what} is being backed out and every host is back, but {data_left}. Run the same command again when that is settled."
    said = [f"{what} is being backed out, but hosts still owe it, {len(owed)} of them ({', '.join(owed[:5])}): {deployment.reason}{why}."]
    if taken:
        said.append(f"Another deployment has changed {', '.join(taken[:5])} since, or is about to.")
    again = f"It was {interrupted}; run" if interrupted else "Bring them back and run"
    said.append(f"{again} the same command again{'' if interrupted else f'; {_FOR_GOOD}'}.")
    return " ".join(said)


def _next_of_held(deployment: Deployment, targets: list[Target], late: bool) -> str:
    """What a person can do about a deployment that is held."""
    if deployment.data in states.IN_DOUBT:
        return "To undo it, run backout with the same."
    if is_past_return(deployment):
        return "Run deploy again to go on; what it did to data can't be undone."
    gone = any(target.state in (HostState.LOST, HostState.STAGE_FAILED) for target in targets)
    return f"Run deploy again to go on, {_to_undo(late)}{f'; {_FOR_GOOD}' if gone else ''}."


_FOR_GOOD = "a host that will not come back is written off with tidegate.release.write_off"


def _listed(targets: Iterable[Target]) -> str:
    """How hosts stand that are not as they should be; empty when there are none."""
    others = [f"{target.host} is {target.detail if target.state in _EXPLAINED else target.state}" for target in targets]
    return f"; {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}" if others else ""


def _hosts(number: int) -> str:
    return "the 1 host" if number == 1 else f"all {number} hosts"
