# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens after a wave: the gate's decision. Pure: it judges counts, and knows neither hosts nor clock.

The order of the rules is their rank. A spent budget outranks everything, because what is known to be bad does not get better
by waiting; after that anything unknown holds; only what is left may proceed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..metrics.model import BakeVerdict
from .options import Rollout, Share

Decision = Literal["proceed", "hold", "back_out"]


@dataclass(frozen=True)
class WaveCounts:
    """How the hosts of one wave stand; every host is in exactly one of the four counts."""

    size: int
    """All hosts of the wave."""
    active: int
    """The release came up and has lasted."""
    failed: int = 0
    """Activation or staging failed, stuck hosts and those that were written off included."""
    lost: int = 0
    """Their true state is unknown."""
    undone: int = 0
    """Not tried to the end yet: planned, staged, activating or started."""

    @property
    def bad(self) -> int:
        """Hosts that count against the failure budgets."""
        return self.failed + self.lost


@dataclass(frozen=True)
class GateInputs:
    """What the gate after a wave decides by."""

    wave: int
    """The number of the wave, from 1."""
    of: int
    """How many waves the plan has."""
    counts: WaveCounts
    """How the hosts of this wave stand."""
    bad_so_far: int
    """Failed and lost hosts of every wave up to this one, this one included."""
    total: int
    """All hosts of the deployment."""
    rollout: Rollout
    """The deployment's share of the policy: its budgets and what follows when one is spent."""
    stop: str
    """Why nothing more may start at this moment, as a sentence; empty when it may."""
    stuck: int = 0
    """How many of the failed hosts could not return to their previous release."""
    went_back: int = 0
    """How many of the failed and lost hosts could not be reached anew, to confirm the release, where that is asked for."""
    metrics: BakeVerdict | None = None
    """What was measured of the wave came to; ``None`` when nothing was to be measured."""
    late: bool = False
    """Whether the wave is of hosts that came late."""

    def to_dict(self) -> dict[str, Any]:
        """As the journal has it, with what of the policy the gate goes by."""
        rollout = {name: getattr(self.rollout, name) for name in _POLICY}
        return {**asdict(replace(self, rollout=Rollout())), "rollout": {**rollout, **{name: asdict(rollout[name]) for name in _SHARES}}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateInputs:
        """What :meth:`to_dict` made."""
        rollout = Rollout(**{**data["rollout"], **{name: Share(**data["rollout"][name]) for name in _SHARES}})
        metrics = BakeVerdict(**data["metrics"]) if data["metrics"] else None
        return cls(**{**data, "counts": WaveCounts(**data["counts"]), "rollout": rollout, "metrics": metrics})


_SHARES = ("wave_budget", "total_budget")
_POLICY = (*_SHARES, "on_failure")


@dataclass(frozen=True)
class Circumstances:
    """What a gate's decision meets, each a sentence or a part of one, empty for nothing."""

    past: str = ""
    """What can't be brought back, so that nothing is backed out."""
    waiting: str = ""
    """What a wave that holds waits for people to do."""
    failure: str = ""
    """What the first host that failed has said."""
    interrupted: str = ""
    """Who interrupted the run."""


@dataclass(frozen=True)
class GateDecision:
    """``reason`` is a sentence for the journal, the report and the person who reads them."""

    decision: Decision
    reason: str


@dataclass(frozen=True)
class StageCounts:
    """How staging of one wave's hosts stands."""

    size: int
    """All hosts of the wave."""
    staged: int
    """The release is complete on the host, or further already."""
    failed: int = 0
    """It could not be staged."""

    @property
    def undone(self) -> int:
        """Hosts of which neither success nor failure is known."""
        return self.size - self.staged - self.failed


def decide(inputs: GateInputs) -> GateDecision:
    """Decide the gate after a wave.

    1. More bad hosts than the wave's or the deployment's budget, or one that could not be reached anew to confirm the release, which
       no budget is meant for: ``rollout.on_failure``.
    2. Hosts not done, or counts that don't add up: hold.
    3. No host of the wave is active: ``rollout.on_failure``, whatever the budget allows.
    4. Metrics of the wave are bad: ``rollout.on_failure``. They are inconclusive, or still measured: hold.
    5. Something stops what would start next: hold, unless it was the last wave.
    6. Otherwise proceed.
    """
    counts, rollout, name = inputs.counts, inputs.rollout, f"wave {inputs.wave} of {inputs.of}"
    # The larger one: a total that is behind the wave it includes must not hide the wave's failures.
    bad_so_far = max(inputs.bad_so_far, counts.bad)
    spent = _over(counts.bad, counts.size, rollout.wave_budget, f"in {name}") or _over(
        bad_so_far, inputs.total, rollout.total_budget, "in the deployment so far"
    )
    if not spent and inputs.went_back:
        spent = f"{_hosts(inputs.went_back)} in {name} could not be reached anew to confirm the release, for which there is no budget"
    if spent:
        return GateDecision(rollout.on_failure, f"{spent}{_needing_a_person(inputs.stuck)}")

    unclear = _unclear(inputs, name)
    if unclear:
        return GateDecision("hold", unclear)
    if not counts.active:
        return GateDecision(
            rollout.on_failure, f"none of {_hosts(counts.size)} in {name} runs the release{_needing_a_person(inputs.stuck)}"
        )
    measured = inputs.metrics
    if measured is not None and measured.outcome == "bad":
        return GateDecision(rollout.on_failure, f"{measured.reason}; {_active(counts, name)}{_needing_a_person(inputs.stuck)}")
    unknown = measured.reason if measured is not None and measured.outcome != "good" else ""
    stop = unknown or (inputs.stop if inputs.wave < inputs.of else "")
    if stop:
        return GateDecision("hold", f"{stop}; {_active(counts, name)}")
    within = f", {counts.bad} failed or lost within the budget of {rollout.wave_budget}" if counts.bad else ""
    good = f"; {measured.reason}" if measured is not None else ""
    return GateDecision("proceed", f"{_active(counts, name)}{within}{_needing_a_person(inputs.stuck)}{good}")


def _unclear(inputs: GateInputs, name: str) -> str:
    """Why the outcome of a wave is not known; empty when it is."""
    counts = inputs.counts
    numbers = (counts.active, counts.failed, counts.lost, counts.undone)
    if counts.size <= 0 or min(numbers) < 0 or sum(numbers) != counts.size or inputs.total < counts.size:
        return f"the counts of {name} don't add up, so its outcome is not known"
    if counts.undone:
        return f"{_share(counts.undone, counts.size)} in {name} not done, so its outcome is not known"
    return ""


def decide_in(inputs: GateInputs, circumstances: Circumstances) -> GateDecision:
    """What :func:`decide`, or :func:`decide_late`, says, and what becomes of it in these circumstances."""
    decision = unless_past_return(decide_late(inputs)[0] if inputs.late else decide(inputs), circumstances.past)
    waiting = circumstances.waiting if decision.decision == "hold" else ""
    said = replace(decision, reason=f"{decision.reason}{waiting}{circumstances.failure}")
    return unless_interrupted(said, circumstances.interrupted)


def basis_of(inputs: GateInputs, circumstances: Circumstances) -> dict[str, Any]:
    """What the event of a gate's decision says besides the decision, so that it can be judged again."""
    return {"inputs": inputs.to_dict(), "circumstances": asdict(circumstances)}


def decide_staging(waves: Sequence[StageCounts], rollout: Rollout, stop: str = "") -> GateDecision:
    """Decide whether the first wave may open: ``proceed`` or ``hold``, for nothing runs the release yet.

    Hosts on which staging failed count against the budgets just as if activation had failed on them; a wave of which no
    host is staged could only fail later. ``stop``: why nothing may start at this moment, empty when it may.
    """
    total = sum(wave.size for wave in waves)
    failed = sum(wave.failed for wave in waves)
    undone = sum(wave.undone for wave in waves)
    if not waves or any(min(wave.staged, wave.failed, wave.undone, wave.size - 1) < 0 for wave in waves):
        return GateDecision("hold", "the counts of the staged hosts don't add up, so it is not known where staging stands")
    if undone:
        return GateDecision("hold", f"staging is not done on {_share(undone, total)}")
    for number, wave in enumerate(waves, start=1):
        spent = _over(wave.failed, wave.size, rollout.wave_budget, f"of wave {number} in staging")
        if spent:
            return GateDecision("hold", spent)
        if not wave.staged:
            return GateDecision("hold", f"none of {_hosts(wave.size)} of wave {number} has the release staged")
    spent = _over(failed, total, rollout.total_budget, "of the deployment in staging") or stop
    if spent:
        return GateDecision("hold", spent)
    within = f", {failed} failed within the budget of {rollout.total_budget}" if failed else ""
    return GateDecision("proceed", f"{_share(total - failed, total)} staged{within}")


def decide_late(inputs: GateInputs) -> tuple[GateDecision, bool]:
    """Decide the gate after a wave of late hosts, and whether it ends their round, so that nobody waits for it.

    As :func:`decide`, with one difference. A wave that fails takes the release back where it is live only when the budget of the whole
    deployment is spent; else it ends the round, and what is behind it stays late. For such a wave is small and its hosts had been in
    trouble, so it says more of them than of the release, which has shown in earlier waves that it is good. One whose hosts came up, and
    whose metrics are bad, waits for a person, and so does one with a host that is stuck, or could not be reached anew.
    """
    counts, rollout = inputs.counts, inputs.rollout
    failed = decide(replace(inputs, rollout=replace(rollout, on_failure="back_out")))
    spent = _over(max(inputs.bad_so_far, counts.bad), inputs.total, rollout.total_budget, "")
    if failed.decision != "back_out" or spent:
        return decide(inputs), False
    does_badly = decide(replace(inputs, rollout=replace(rollout, on_failure="back_out"), metrics=None)).decision != "back_out"
    if does_badly or inputs.stuck or inputs.went_back:  # which is no trouble that its hosts had before, or needs a person
        return GateDecision("hold", f"{failed.reason}; where the release is live it stays until somebody has looked"), False
    return GateDecision("hold", f"{failed.reason}; where the release is live it stays, and what is left stays late"), not counts.undone


def decide_late_staging(counts: StageCounts, stop: str = "") -> tuple[GateDecision, bool]:
    """Decide whether the first wave of late hosts may open, and whether their round has come to nothing.

    A host that could not be staged again stays late, which the budgets have counted already. ``stop``: as for :func:`decide_staging`.
    """
    if counts.size <= 0 or min(counts.staged, counts.failed, counts.undone) < 0:
        return GateDecision("hold", "the counts of the late hosts don't add up, so it is not known where staging stands"), False
    if counts.undone:
        return GateDecision("hold", f"staging is not done on {_share(counts.undone, counts.size)}"), False
    if not counts.staged:
        return GateDecision("hold", f"none of {_hosts(counts.size)} that came late could be staged"), True
    if stop:
        return GateDecision("hold", stop), False
    left = f", {counts.failed} stay late" if counts.failed else ""
    return GateDecision("proceed", f"{_share(counts.staged, counts.size)} staged late{left}"), False


def unless_past_return(decision: GateDecision, past: str) -> GateDecision:
    """``decision``, or a hold behind a point of no return: there nothing is backed out. ``past``: what can't be brought back, as a
    sentence; empty for nothing."""
    if not past or decision.decision != "back_out":
        return decision
    return GateDecision("hold", f"{decision.reason}; {past}")


def unless_interrupted(decision: GateDecision, interrupted: str) -> GateDecision:
    """``decision``, or a hold when somebody interrupted the run: hosts are known to be bad whoever interrupts, all else can wait."""
    if not interrupted or decision.decision == "back_out":
        return decision
    return GateDecision("hold", f"{interrupted}; {decision.reason}")


def _over(bad: int, of: int, budget: Share, where: str) -> str | None:
    allowed = budget.at_most(of)
    if bad <= allowed:
        return None
    tolerates = f", which tolerates {allowed}" if budget.percent else ""
    return f"{_share(bad, of)} {where} failed or got lost, over the budget of {budget}{tolerates}"


def _active(counts: WaveCounts, name: str) -> str:
    return f"{_share(counts.active, counts.size)} in {name} active"


def _needing_a_person(stuck: int) -> str:
    return f"; {_hosts(stuck)} stuck between two releases and needing a person" if stuck > 0 else ""


def _share(number: int, of: int) -> str:
    return _hosts(1) if number == of == 1 else f"{number} of {_hosts(of)}"


def _hosts(number: int) -> str:
    return f"{number} host" if number == 1 else f"{number} hosts"
