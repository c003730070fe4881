# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate is told and what follows from its decision: between the journal, the RFC and the pure rules of the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from .clearing import Opening, Wave
from .errors import ConflictError, TidegateError
from .progress import Progress, gate_sentence, share
from .recording import CheckObjectives, check, follow, start
from .rfc.course import cleared_as
from .rfc.model import IMPLEMENT, SCHEDULED, STATES, Rfc
from .rfc.source import Change
from .rollout import states
from .rollout.deployments import Deployment, Run, Target, remark_in
from .rollout.gate import GateDecision, GateInputs, StageCounts, WaveCounts, decide, decide_staging, unless_interrupted
from .rollout.holder import Holder
from .rollout.journal import Journal
from .rollout.states import DeploymentState, HostState, WaveState
from .telling import Tell, warned

Reason = Callable[[str], str]  # why there is no outcome of a host's step, as far as that is known
Opens = Callable[[Rfc, Wave], Opening]  # whether the wave may start now, whatever the RFC itself says
_WANTED = {
    "completed": (DeploymentState.COMPLETED,),
    "staged": (DeploymentState.STAGING,),
    "backed_out": (DeploymentState.BACKED_OUT, DeploymentState.CANCELLED),
}
_TOO_LATE = {
    "completed": (DeploymentState.BACKING_OUT, DeploymentState.BACKED_OUT),
    "staged": (DeploymentState.ACTIVATING, DeploymentState.COMPLETED, DeploymentState.BACKING_OUT, DeploymentState.BACKED_OUT),
    "backed_out": (),
}
_WOULD = {"completed": "deployed", "staged": "staged", "backed_out": "backed out"}
_ASKED = 20  # hosts without an outcome of which Ansible is asked why
# Of these the detail says in a few words what became of the host.
_EXPLAINED = (HostState.WRITTEN_OFF, HostState.SUPERSEDED)
_BAD = (HostState.FAILED, HostState.STUCK, HostState.STAGE_FAILED, HostState.WRITTEN_OFF)


def _no_reason(_host: str) -> str:
    return ""


def decide_staging_gate(
    journal: Journal, run: Run, change: Change, opens: Opens, tell: Tell, now: datetime, interrupted: str = "", reason: Reason = _no_reason
) -> dict[str, Any]:
    """Open the first wave or hold; nothing to decide when the deployment is past staging. ``interrupted``: see :mod:`.interrupt`.

    The RFC is read again, and the change has to be brought to Implement before anything starts.
    """
    deployment = journal.deployment(run.deployment)
    if deployment.state is not DeploymentState.STAGING:
        return {"changed": False, "decision": "proceed", "reason": f"{deployment.label} is past staging: {deployment.state}"}
    targets = journal.targets(run.deployment)
    spared = journal.spared(run.deployment)
    counts = []
    for number in sorted({target.wave for target in targets}):
        wave = [target for target in targets if target.wave == number]
        # A wave that is left out as a whole can't show whether the release is good, whoever says that its hosts are dead.
        states_ = Counter(target.state for target in [target for target in wave if target.host not in spared] or wave)
        failed = sum(states_[state] for state in states.LEFT_OUT)
        counts.append(StageCounts(size=states_.total(), staged=states_[HostState.STAGED], failed=failed))
    opening = _opening(journal, change, deployment, opens, _wave(targets, 1))
    decision = unless_interrupted(decide_staging(counts, deployment.rollout, opening.stop), interrupted)
    if decision.decision == "proceed":
        problem = start(journal, run, change, now)
        decision = GateDecision("hold", problem) if problem else decision
    decision = GateDecision(decision.decision, decision.reason + _first_failure(targets, reason))
    journal.decide_staging(run, decision, now, opening.until)
    return _result(decision, None, len(counts), targets, "stage") | _followed(
        journal, run, change, decision, tell, now, started=decision.decision == "proceed"
    )


def decide_wave_gate(
    journal: Journal, run: Run, change: Change, opens: Opens, tell: Tell, now: datetime, interrupted: str = "", reason: Reason = _no_reason
) -> dict[str, Any]:
    """Decide about the open wave; when all are decided, about the hosts that had got lost in them. ``interrupted``: see :mod:`.interrupt`.

    Holds without writing when the deployment is not activating, for then somebody else has decided.
    """
    deployment = journal.deployment(run.deployment)
    waves = journal.waves(run.deployment)
    number = next((number for number, state, _decision in waves if state is WaveState.OPEN), None)
    if deployment.state is not DeploymentState.ACTIVATING:
        return {"changed": False, "decision": "hold", "reason": f"{deployment.label} is {deployment.state} and has no open wave"}
    targets = journal.targets(run.deployment)
    planned = [target for target in targets if target.host not in journal.spared(run.deployment)]
    # A host that could not be staged never gets to its wave; staging's own gate has counted it, and the total still does.
    wave = [target for target in planned if number in (None, target.wave) and target.state is not HostState.STAGE_FAILED]
    counts = _count(wave)
    following = None if number in (None, len(waves)) else _wave(targets, (number or 0) + 1)
    opening = _opening(journal, change, deployment, opens, following) if following else Opening("")
    decision = decide(
        GateInputs(
            wave=number or len(waves),
            of=len(waves),
            counts=counts,
            bad_so_far=sum(target.state in (*_BAD, HostState.LOST) for target in planned),
            total=len(planned),
            rollout=deployment.rollout if number else replace(deployment.rollout, wave_budget=deployment.rollout.total_budget),
            stop=opening.stop,
            stuck=sum(target.state is HostState.STUCK for target in targets),
        )
    )
    decision = unless_interrupted(GateDecision(decision.decision, decision.reason + _first_failure(wave, reason)), interrupted)
    if number is None:
        journal.decide_lost(run, decision, now)
    else:
        journal.decide_wave(run, number, decision, now, opening.until)
    return _result(decision, number, len(waves), wave) | _followed(journal, run, change, decision, tell, now)


def to_decide(journal: Journal, number: str, holder: Holder) -> Deployment:
    """The deployment that this run may decide about: the one that it drives, or one that is over, about which nothing is decided.

    Raises :class:`TidegateError` when it is neither.
    """
    current = journal.latest(number)
    return current if current is not None and current.state not in states.OPEN else journal.driven_by(number, holder)


def to_conclude(journal: Journal, number: str, holder: Holder, change: Change, wanted: str) -> Deployment:
    """The deployment that this run may close: the one that it drives, or one that was over as wanted before this run began.

    ``wanted``: see :func:`conclude`. Raises :class:`TidegateError` when it is neither.
    """
    current = journal.latest(number)
    if current is None or current.holder == str(holder) or current.state in states.OPEN:
        return journal.driven_by(number, holder)
    if wanted == "completed" and current.state is DeploymentState.COMPLETED:
        journal.refuse_superseded(current.id)
        wants = change.read().digest
        if wants != current.digest:
            raise ConflictError(f"{current.label} is completed with {current.digest}, but its RFC names {wants}; raise a new RFC for that")
    return current


def foresee(journal: Journal, number: str, wanted: str) -> dict[str, Any]:
    """What :func:`conclude` would be about, were this not check mode. Nothing is written."""
    current = journal.latest(number)
    failed = current is not None and (current.state in _TOO_LATE[wanted] or (wanted == "staged" and _past_staging(journal, current)))
    if current is not None and failed:
        sentence = f"{current.label} is {current.state}, so it would not end {_WOULD[wanted]}. This was check mode: nothing has changed."
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
    reason: Reason = _no_reason,
) -> dict[str, Any]:
    """Close the deployment and its change; the result is failed, with one sentence, unless the deployment's state is ``wanted``.

    A complete one is held against the objectives of its RFC by ``make``. What could not be written to the change is in ``warnings`` and
    does not fail.
    ``wanted`` is ``completed``, ``staged`` or ``backed_out``; a back-out that had nothing to undo is a cancelled deployment.
    When somebody interrupted the run (see :mod:`.interrupt`), what is not done is held.
    """
    all_staged = all(target.state in (HostState.STAGED, HostState.WRITTEN_OFF) for target in journal.targets(run.deployment))
    held = bool(interrupted) and not (wanted == "staged" and all_staged) and journal.hold(run, interrupted, now)
    if wanted == "staged" and not held and _past_staging(journal, journal.deployment(run.deployment)):
        journal.hold(run, "it is past staging", now)  # as it was: this run does not go on with it
    deployment = journal.conclude(run, now)
    targets = journal.targets(run.deployment)
    success = deployment.state in _WANTED[wanted] and (wanted != "staged" or all_staged)
    sentence = _verdict(deployment, targets, journal.locked(run.deployment), interrupted, reason)
    objectives, problems = check(journal, run, change, make, now)
    problems += follow(journal, run, change, sentence, now)
    if held:
        problems += tell(journal, run, "hold", interrupted, now)
    if deployment.state in (DeploymentState.COMPLETED, DeploymentState.BACKED_OUT, DeploymentState.CANCELLED):
        problems += tell(journal, run, "done", sentence, now)
    journal.rest(run, now)
    return {
        "changed": False,
        "failed": not success,
        "state": deployment.state,
        "objectives": [asdict(one) for one in objectives],
        "msg": sentence,
        **warned(problems),
        "progress": {"step": "conclude", "state": deployment.state, "detail": sentence},
    }


def _past_staging(journal: Journal, deployment: Deployment) -> bool:
    """Whether an open deployment has opened its first wave, so that nothing is staged any more."""
    forward = deployment.state in (DeploymentState.ACTIVATING, DeploymentState.HELD)
    return forward and any(state is not WaveState.CLOSED for _number, state, _decision in journal.waves(deployment.id))


def catch_up(journal: Journal, deployment: Deployment, change: Change, now: datetime) -> list[str]:
    """Write what a change system missed of a deployment that is over; return what still could not be written."""
    run = deployment.run
    problems = follow(journal, run, change, _verdict(deployment, journal.targets(deployment.id), set()), now)
    journal.rest(run, now)
    return problems


def _count(wave: list[Target]) -> WaveCounts:
    counted = Counter(target.state for target in wave)
    active, lost = counted[HostState.ACTIVE], counted[HostState.LOST]
    failed = sum(counted[state] for state in _BAD)
    return WaveCounts(size=len(wave), active=active, failed=failed, lost=lost, undone=len(wave) - active - failed - lost)


def _wave(targets: Iterable[Target], number: int) -> Wave:
    """The wave that is next; a host of it that could not be staged, or is written off, will not change."""
    hosts = tuple(target.host for target in targets if target.wave == number and target.state not in states.LEFT_OUT)
    return Wave(hosts, frozenset(target.host for target in targets if target.state is HostState.ACTIVE))


def _opening(journal: Journal, change: Change, deployment: Deployment, opens: Opens, wave: Wave) -> Opening:
    """Whether the wave may start now."""
    unknown = "it could not be found out whether the RFC still allows the next wave"
    try:
        rfc = change.read()
    except TidegateError as error:
        return Opening(f"{unknown}: {error}")
    if (rfc.number, rfc.digest) != (deployment.rfc, deployment.digest):
        return Opening(f"{unknown}: it is about something else now")
    if rfc.on_hold:
        return Opening("the RFC is on hold")
    if rfc.state not in (SCHEDULED, IMPLEMENT):
        return Opening(f"the RFC is {STATES[rfc.state]}")
    if cleared_as(journal.cmdb, rfc.number) != rfc.fingerprint:
        return Opening("the RFC was edited since it was cleared; run deploy again to have it cleared as it is now")
    return opens(rfc, wave)


def _followed(
    journal: Journal, run: Run, change: Change, decision: GateDecision, tell: Tell, now: datetime, *, started: bool = False
) -> dict[str, Any]:
    """What could not be written to the change and said to people, if anything: the decision stands, for hosts don't wait for it."""
    problems = follow(journal, run, change, decision.reason, now)
    if decision.decision != "proceed":
        problems += tell(journal, run, decision.decision, decision.reason, now)
    elif started:
        problems += tell(journal, run, "start", decision.reason, now)
    return warned(problems)


def _first_failure(wave: Iterable[Target], reason: Reason) -> str:
    """What the first host said that failed, or Ansible of one without an outcome in the journal, or else one that came up."""
    targets = list(wave)
    said = sorted((target for target in targets if target.detail), key=lambda target: target.state is HostState.ACTIVE)
    if said and said[0].state is not HostState.ACTIVE:
        return f" ({said[0].host}: {said[0].summary})"
    undone = [target.host for target in targets if target.state in (HostState.PLANNED, HostState.STAGED, *states.TOUCHED)][:_ASKED]
    found = next(((host, why) for host in undone if (why := reason(host))), None) or next(((one.host, one.summary) for one in said), None)
    return f" ({found[0]}: {found[1]})" if found else ""


def _remark(targets: Iterable[Target], state: HostState) -> str:
    """What a host said that did come into ``state``, such as that the release before could not be stopped."""
    here = (target for target in targets if target.state is state)
    said = [(target.host, remark) for target in here if (remark := remark_in(target.state, target.summary))]
    more = f" {len(said) - 1} more of them are in the report." if len(said) > 1 else ""
    return f" {said[0][0]}: {said[0][1]}.{more}" if said else ""


def _verdict(
    deployment: Deployment, targets: list[Target], locked: Collection[str], interrupted: str = "", reason: Reason = _no_reason
) -> str:
    """How the deployment stands, for a person. ``locked``: the hosts that it has locked."""
    what = f"{deployment.rfc}: {deployment.release} {deployment.version}"
    if deployment.state is DeploymentState.COMPLETED:
        active = sum(target.state is HostState.ACTIVE for target in targets)
        others = _listed(target for target in targets if target.state is not HostState.ACTIVE)
        return f"{what} is live on {share(active, len(targets))}{others}.{_remark(targets, HostState.ACTIVE)}"
    if deployment.state is DeploymentState.BACKED_OUT:
        back = sum(target.state is HostState.BACKED_OUT for target in targets)
        left = [target for target in targets if target.state in _EXPLAINED]
        which = share(back, back + len(left)) if left else f"{_hosts(back)} it had touched"
        return f"{what} was backed out of {which}: {deployment.reason}{_listed(left)}.{_remark(targets, HostState.BACKED_OUT)}"
    if deployment.state is DeploymentState.CANCELLED:
        return f"{what} was cancelled before it touched a host: {deployment.reason}."
    if deployment.state is DeploymentState.BACKING_OUT:
        touched = [target for target in targets if target.state in states.TOUCHED]
        owed = [target.host for target in touched if target.host in locked]
        taken = [target.host for target in touched if target.host not in locked]
        failure = _first_failure(touched, reason)
        why = "" if failure in deployment.reason else failure  # one cause, once
        said = [
            f"{what} is being backed out, but hosts still owe it, {len(owed)} of them ({', '.join(owed[:5])}): {deployment.reason}{why}."
        ]
        if taken:
            said.append(f"Another deployment has changed {', '.join(taken[:5])} since, or is about to.")
        again = f"It was {interrupted}; run" if interrupted else "Bring them back and run"
        said.append(f"{again} the same command again{'' if interrupted else f'; {_FOR_GOOD}'}.")
        return " ".join(said)
    if deployment.state is DeploymentState.HELD:
        gone = any(target.state in (HostState.LOST, HostState.STAGE_FAILED) for target in targets)
        return f"{what} is held: {deployment.reason}. Run deploy again to go on, or backout to undo it{f'; {_FOR_GOOD}' if gone else ''}."
    staged = sum(target.state is HostState.STAGED for target in targets)
    why = _first_failure([target for target in targets if target.state in (HostState.PLANNED, HostState.STAGE_FAILED)], reason)
    return f"{what} is {deployment.state}: staged on {share(staged, len(targets))}{why}. Run deploy to go on, or backout to undo it."


_FOR_GOOD = "a host that will not come back is written off with tidegate.release.write_off"


def _listed(targets: Iterable[Target]) -> str:
    """How hosts stand that are not as they should be; empty when there are none."""
    others = [f"{target.host} is {target.detail if target.state in _EXPLAINED else target.state}" for target in targets]
    return f"; {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}" if others else ""


def _hosts(number: int) -> str:
    return "the 1 host" if number == 1 else f"all {number} hosts"


def _result(decision: GateDecision, wave: int | None, waves: int, targets: Collection[Target], after: str = "all waves") -> dict[str, Any]:
    outcomes: dict[str, list[str]] = {}
    for target in targets:
        outcomes.setdefault(target.state, []).append(target.host)
    progress = {
        "step": "gate",
        "wave": wave,
        "waves": waves,
        "hosts": len(targets),
        "state": decision.decision,
        "decision": decision.decision,
        "reason": decision.reason,
        "detail": decision.reason,
        "after": "" if wave else after,
        "outcomes": outcomes,
    }
    told = Progress.read({"progress": progress}, "gate", failed=False, unreachable=False)
    return {
        "changed": True,
        "decision": decision.decision,
        "reason": decision.reason,
        "msg": gate_sentence(told) if told else decision.reason,
        "progress": progress,
    }
