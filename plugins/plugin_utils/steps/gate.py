# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate has to go by, and what follows from its decision: between the journal, the RFC and the pure rules of the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..errors import ConflictError, TidegateError
from ..evidence.library import remember_sight
from ..metrics.model import BakeVerdict
from ..report.progress import Progress, gate_sentence
from ..rfc.model import IMPLEMENT, SCHEDULED, STATES, Rfc
from ..rfc.register import cleared_fingerprint
from ..rfc.source import Change
from ..rollout import states
from ..rollout.data_change import not_to_migrate, past_return
from ..rollout.deployments import Deployment, Run, Target
from ..rollout.failures import Reason, first_failure, no_reason
from ..rollout.gate import (
    Circumstances,
    GateDecision,
    GateInputs,
    StageCounts,
    WaveCounts,
    basis_of,
    decide_in,
    decide_late,
    decide_late_staging,
    decide_staging,
    unless_interrupted,
)
from ..rollout.holder import Holder
from ..rollout.journal import Journal
from ..rollout.slices import FORWARD
from ..rollout.states import DeploymentState, HostState, WaveState
from .clear import Wave, WaveStart, check_wave_start
from .record import move_to_implement, sync_change_record
from .sources import Sources
from .tell import Tell, warned

Opens = Callable[[Rfc, Wave], WaveStart]  # whether the wave may start now, whatever the RFC itself says
_UNMEASURED = BakeVerdict("inconclusive", "the policy asks for metrics, and none were measured")
_BAD = (HostState.FAILED, HostState.STUCK, HostState.STAGE_FAILED, HostState.WRITTEN_OFF)


def decide_staging_gate(
    journal: Journal, run: Run, change: Change, opens: Opens, tell: Tell, now: datetime, interrupted: str = "", reason: Reason = no_reason
) -> dict[str, Any]:
    """Open the first wave or hold; nothing to decide when the deployment is past staging.

    ``interrupted``: why somebody's interruption holds the run, empty when there was none. The RFC is read again, and the
    change has to be brought to Implement before anything starts.
    """
    deployment = journal.deployment(run.deployment)
    if deployment.state is not DeploymentState.STAGING:
        return {"changed": False, "decision": "proceed", "reason": f"{deployment.label} is past staging: {deployment.state}"}
    targets = journal.targets(run.deployment)
    spared = journal.spared(run.deployment)
    first = journal.round_start(run.deployment)
    targets = [target for target in targets if target.wave >= first]
    counts = []
    for number in sorted({target.wave for target in targets}):
        wave = [target for target in targets if target.wave == number]
        # A wave that is left out as a whole can't show whether the release is good, whoever says that its hosts are dead.
        states_ = Counter(target.state for target in [target for target in wave if target.host not in spared] or wave)
        failed = sum(states_[state] for state in states.LEFT_OUT)
        counts.append(StageCounts(size=states_.total(), staged=states_[HostState.STAGED], failed=failed))
    late = first > 1
    opening = min((target.wave for target in targets if target.state is HostState.STAGED), default=first) if late else first
    start = check_start(journal, change, deployment, opens, _wave(journal.targets(run.deployment), opening))
    ends_round = False
    if late:
        decision, ends_round = decide_late_staging(_summed(counts), start.stop)
    else:
        stop = start.stop or not_to_migrate(deployment, targets)  # behind this gate nothing is staged any more
        decision = decide_staging(counts, deployment.rollout, stop)
    decision = unless_interrupted(decision, interrupted)
    if decision.decision == "proceed":
        problem = move_to_implement(journal, run, change, now)
        decision = GateDecision("hold", problem) if problem else decision
    unstaged = [target for target in targets if target.state is not HostState.STAGED]
    decision = GateDecision(decision.decision, decision.reason + first_failure(unstaged, reason))
    journal.decide_staging(run, decision, now, start.until, ends_round=ends_round and not interrupted)
    return _result(decision, None, len(counts), targets, "stage") | _followed(
        journal, run, change, decision, tell, now, started=decision.decision == "proceed"
    )


@dataclass(frozen=True)
class OpenWave:
    """The wave that a gate is to decide about; that of ``number`` ``None`` is all hosts that had got lost in waves that are decided."""

    number: int | None
    of: int
    hosts: tuple[Target, ...]
    """Its hosts, but for those that never got the release."""
    inputs: GateInputs
    """What its gate decides by, as far as the journal has it."""


def look_at_wave(journal: Journal, deployment: Deployment) -> OpenWave:
    """The open wave of a deployment, as the journal has it."""
    waves = journal.waves(deployment.id)
    number = next((number for number, state, _decision in waves if state is WaveState.OPEN), None)
    targets = journal.targets(deployment.id)
    spared = journal.spared(deployment.id)
    planned = [target for target in targets if target.host not in spared]
    # A host that could not be staged never gets to its wave; staging's own gate has counted it, and the total still does.
    wave = [target for target in planned if number in (None, target.wave) and target.state is not HostState.STAGE_FAILED]
    late = number is not None and journal.round_start(deployment.id) > 1
    alone = journal.gone_back(deployment.id) if deployment.rollout.guarded else set()
    inputs = GateInputs(
        wave=number or len(waves),
        of=len(waves),
        counts=_count(wave),
        bad_so_far=sum(target.state in (*_BAD, HostState.LOST) for target in planned),
        total=len(planned),
        rollout=deployment.rollout if number else replace(deployment.rollout, wave_budget=deployment.rollout.total_budget),
        stop="",
        stuck=sum(target.state is HostState.STUCK for target in (wave if late else targets)),
        went_back=sum(target.state is HostState.LOST or target.host in alone for target in wave) if deployment.rollout.guarded else 0,
        metrics=_UNMEASURED if number and deployment.rollout.bake_of(number) else None,
        late=late,
    )
    return OpenWave(number, len(waves), tuple(wave), inputs)


def decide_wave_gate(
    journal: Journal,
    run: Run,
    change: Change,
    opens: Opens,
    tell: Tell,
    now: datetime,
    interrupted: str = "",
    reason: Reason = no_reason,
    metrics: BakeVerdict | None = None,
    *,
    about: int | None = None,
) -> dict[str, Any]:
    """Decide about the open wave; when all are decided, about the hosts that had got lost in them.

    ``interrupted``: why somebody's interruption holds the run, empty when there was none. ``metrics``: what was measured of the wave came
    to. ``about``: the number of the wave that it is to be about; raises :class:`ConflictError` when another one is open by now.
    Holds without writing when the deployment is not activating, for then somebody else has decided.
    """
    deployment = journal.deployment(run.deployment)
    wave = look_at_wave(journal, deployment)
    number = wave.number
    if deployment.state not in (DeploymentState.ACTIVATING, DeploymentState.BAKING):
        return {"changed": False, "decision": "hold", "reason": f"{deployment.label} is {deployment.state} and has no open wave"}
    if about not in (None, number):
        raise ConflictError(f"the gate of wave {about} of {deployment.label} was already decided; run deploy again to go on from there")
    targets = journal.targets(run.deployment)
    # Of late hosts a whole wave may be left out; it is asked of those that change next.
    after = min((x.wave for x in targets if number is not None and x.wave > number and x.state not in states.LEFT_OUT), default=None)
    start = WaveStart("") if after is None else check_start(journal, change, deployment, opens, _wave(targets, after))
    inputs = replace(wave.inputs, stop=start.stop, metrics=metrics or wave.inputs.metrics)
    # Of a host that came up, and of which there is nothing to be said, Ansible need not be asked: that takes long.
    remarkable = [target for target in wave.hosts if target.state is not HostState.ACTIVE or target.detail]
    circumstances = Circumstances(
        past_return(deployment) or journal.ways_out(deployment),
        journal.waiting_for_people(deployment) or _not_fired(journal, deployment, number),
        first_failure(remarkable, reason),
        interrupted,
    )
    decision = decide_in(inputs, circumstances)
    if number is None:
        journal.decide_lost(run, decision, now)
    else:
        ends_round = inputs.late and decide_late(inputs)[1] and not interrupted
        journal.decide_wave(run, number, decision, now, start.until, basis_of(inputs, circumstances), ends_round=ends_round)
    said = f"wave {number} of {wave.of}: {decision.reason}" if number is not None else ""
    return _result(decision, number, wave.of, wave.hosts) | _followed(journal, run, change, decision, tell, now, wave=said)


def make_wave_check(sources: Sources) -> Opens:
    """What looks whether a wave may start now, and remembers what it saw in the library."""

    def check(rfc: Rfc, wave: Wave) -> WaveStart:
        found = check_wave_start(sources, rfc, wave)
        remember_sight(sources.cmdb, found.sight, sources.now)
        return found

    return check


def to_decide(journal: Journal, number: str, holder: Holder) -> Deployment:
    """The deployment that this run may decide about: the one that it drives, or one that is over, about which nothing is decided.

    Raises :class:`TidegateError` when it is neither.
    """
    current = journal.latest(number)
    if current is None or current.state in states.OPEN:
        return journal.driven_by(number, holder)
    return journal.as_driven_by(current, holder) or current


def decided_by_others(journal: Journal, run: Run, wave: int, why: str = "") -> dict[str, Any]:
    """The gate's result for one of several controllers, where another has decided about a wave, 0 for staging, or none could.

    ``why``: what is known of that.
    """
    deployment = journal.deployment(run.deployment)
    said = next((decision for number, _state, decision in journal.waves(run.deployment) if number == wave), None)
    forward = deployment.state in (*FORWARD, DeploymentState.SUPPORTING, DeploymentState.COMPLETED)
    decision = (said or "proceed") if forward else _stopped(deployment)
    return {"changed": False, "decision": decision, "reason": why or f"{decision}, as another controller has decided"}


def goes_on(deployment: Deployment, result: Mapping[str, Any], why: str) -> dict[str, Any]:
    """What one of several controllers does after a gate with this ``result``, when it has waited for its next wave; ``why``: if that came
    to nothing."""
    if result["decision"] != "proceed" or deployment.state in (*FORWARD, DeploymentState.SUPPORTING, DeploymentState.COMPLETED):
        return {}
    return {"decision": _stopped(deployment), "reason": why or deployment.reason}


def _stopped(deployment: Deployment) -> str:
    return "back_out" if deployment.state in (DeploymentState.BACKING_OUT, DeploymentState.BACKED_OUT) else "hold"


def _not_fired(journal: Journal, deployment: Deployment, wave: int | None) -> str:
    """Why the hosts of a wave were told no instant, as a sentence goes on; empty when they were, or need not be."""
    said = journal.word(deployment.run, wave) if deployment.rollout.together and wave is not None else None
    return f"; {said.why}" if said and said.why else ""


def _summed(waves: Collection[StageCounts]) -> StageCounts:
    return StageCounts(*(sum(getattr(wave, name) for wave in waves) for name in ("size", "staged", "failed")))


def _count(wave: list[Target]) -> WaveCounts:
    counted = Counter(target.state for target in wave)
    active, lost = counted[HostState.ACTIVE], counted[HostState.LOST]
    failed = sum(counted[state] for state in _BAD)
    return WaveCounts(size=len(wave), active=active, failed=failed, lost=lost, undone=len(wave) - active - failed - lost)


def _wave(targets: Iterable[Target], number: int) -> Wave:
    """The wave that is next; a host of it that could not be staged, or is written off, will not change."""
    hosts = tuple(target.host for target in targets if target.wave == number and target.state not in states.LEFT_OUT)
    return Wave(hosts, frozenset(target.host for target in targets if target.state is HostState.ACTIVE))


def check_start(journal: Journal, change: Change, deployment: Deployment, opens: Opens, wave: Wave) -> WaveStart:
    """Whether the wave may start now, by what people asked for, and what the RFC, the policy and the library say now."""
    unknown = "it could not be found out whether the RFC still allows the next wave"
    try:
        rfc = change.read()
    except TidegateError as error:
        return WaveStart(f"{unknown}: {error}")
    if (rfc.number, rfc.digest) != (deployment.rfc, deployment.digest):
        return WaveStart(f"{unknown}: it is about something else now")
    if asked := "the RFC is on hold" if rfc.on_hold else journal.asked_to_hold(deployment.id):
        return WaveStart(asked)
    if rfc.state not in (SCHEDULED, IMPLEMENT):
        return WaveStart(f"the RFC is {STATES[rfc.state]}")
    if cleared_fingerprint(journal.cmdb, rfc.number) != rfc.fingerprint:
        return WaveStart("the RFC was edited since it was cleared; run deploy again to have it cleared as it is now")
    return opens(rfc, wave)


def _followed(
    journal: Journal,
    run: Run,
    change: Change,
    decision: GateDecision,
    tell: Tell,
    now: datetime,
    *,
    started: bool = False,
    wave: str = "",
) -> dict[str, Any]:
    """What could not be written to the change and said to people, if anything: the decision stands, for hosts don't wait for it."""
    problems = sync_change_record(journal, run, change, decision.reason, now)
    if decision.decision != "proceed":
        problems += tell(journal, run, decision.decision, decision.reason, now)
    elif started:
        problems += tell(journal, run, "start", decision.reason, now)
    elif wave:
        problems += tell(journal, run, "wave", wave, now)
    return warned(problems)


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
    line = Progress.read({"progress": progress}, "gate", failed=False, unreachable=False)
    return {
        "changed": True,
        "decision": decision.decision,
        "reason": decision.reason,
        "msg": gate_sentence(line) if line else decision.reason,
        "progress": progress,
    }
