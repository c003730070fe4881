# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What arm, fire and collect do: the hosts of a wave are switched at one instant, each by its own clock. See docs/instant.md."""

from __future__ import annotations

import time
from typing import Any

from ...module_utils.instant import clock
from ..clock import utc_now
from ..rollout.deployments import Deployment, Target
from ..rollout.host_answer import REFUSED, Answer
from ..rollout.instant_journal import SPARE, UP, InstantJournal
from ..rollout.journal import Journal
from ..rollout.options import Together
from ..rollout.states import UNKNOWN, HostState, WaveState
from ..rollout.together import Armed, clock_fault
from .host import HostAction

_LOOKS = 3  # at a host's clock
_MINUTE = 60.0


class TogetherAction(HostAction):
    """Base of arm, fire and collect."""

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        """See :class:`HostAction`."""
        together = deployment.rollout.together
        if together is None:
            return {"changed": False, "skipped": True}
        self._journal = InstantJournal(self._cmdb)
        self._deployment = deployment
        return self.do(together)

    def do(self, together: Together) -> dict[str, Any]:
        """Do the step; its result."""
        raise NotImplementedError

    def target(self) -> Target:
        """This host as the journal has it."""
        return self._journal.target(self._run, self._host)

    def ended(self, answer: Answer, target: Target) -> dict[str, Any]:
        """Journal how a host stands after its switch, or that there was none; the result."""
        state = HostState.LOST if answer["state"] == REFUSED else HostState(answer["state"])
        self.note_outside(self._deployment, target, answer)
        detail, warned = self.repaired(answer, answer["detail"])
        if answer.get("unconfirmed"):
            self._journal.went_back(self._run, self._host, answer["detail"], utc_now())
        self._journal.activated(self._run, self._host, state, detail, utc_now())
        return {**self.outcome(answer, state, detail, target.wave), **warned}

    def lost(self, journal: Journal, detail: str) -> str:
        """See :class:`HostAction`."""
        journal.activated(self._run, self._host, HostState.LOST, detail, utc_now())
        return HostState.LOST

    def ask(self, operation: str, target: Target, **more: Any) -> Answer:
        """Have the host do an operation that can go forward."""
        rollout = self._deployment.rollout
        guarded = {"confirm_within": rollout.confirm_minutes * 60} if rollout.guarded else {}
        about = {"stable": rollout.stable, **guarded, **more}
        answer = self.switch(self._deployment, target.previous_digest, operation=operation, **about)
        return self.healed(self._deployment, target.previous_digest, answer)

    @property
    def patience(self) -> float:
        """For how many seconds an armed host waits to be told: the wave may take longer than it is planned for."""
        return self._deployment.rollout.wave_minutes * _MINUTE + SPARE


class Arm(TogetherAction):
    """Get a host ready; one of which it is not known what it runs is asked that instead."""

    step = "arm"

    def do(self, together: Together) -> dict[str, Any]:
        if self.options["back"]:
            return self._arm_back(together)
        target = self._journal.arming(self._run, self._host, utc_now())
        word = self._journal.word(self._run, target.wave)
        if word is not None and word.at is None:
            return {"changed": False, "skipped": True, "msg": f"{self._host} is not armed: {word.why}"}
        if target.state in (*UNKNOWN, HostState.ACTIVE):
            self._journal.activating(self._run, self._host, utc_now())
            answer = self.ask("collect", target, unknown=True)
            result = self.ended(answer, target)
            if answer["state"] != "failed" or answer["changed"] or answer.get("unconfirmed") or not self._is_open(target.wave):
                return result
            target = self.target()  # it has not switched, and is armed as the others are
        self._target = target
        offset, bound = self._clock(together)
        if self._run.epoch is not None:
            apart, unsure = self._journal.clock_apart()
            offset, bound = offset + apart, bound + unsure
        if fault := clock_fault(together, offset, bound):
            return self._not_armed({"state": "failed", "changed": False, "detail": fault})
        answer = self.ask("arm", target, terms=[self.patience, together.skew_milliseconds / 1000])
        if answer["state"] != "armed":
            return self._not_armed(answer)
        self._journal.armed(self._run, self._host, Armed(offset, bound, answer["took"]), utc_now())
        return self.outcome(answer, "armed", answer["detail"], target.wave)

    def _is_open(self, number: int) -> bool:
        """Whether an instant can be set for a wave; of one that is decided, hosts that had got lost are only asked what they run."""
        return any(wave == number and state is WaveState.OPEN for wave, state, _decision in self._journal.waves(self._deployment.id))

    def _arm_back(self, together: Together) -> dict[str, Any]:
        """Get it ready to go back. One that can't be is left as it is: it goes back when its turn comes, and then it is journalled why."""
        target = self._target = self._journal.arming(self._run, self._host, utc_now(), back=True)
        if target.state not in UP:
            return {"changed": False, "skipped": True}
        offset, bound = self._clock(together)
        if fault := clock_fault(together, offset, bound):
            return self._left_as_it_is(fault)
        terms = [self.patience, together.skew_milliseconds / 1000]
        answer = self.switch(self._deployment, target.previous_digest, operation="arm_back", terms=terms)
        if answer["state"] != "armed":
            return self._left_as_it_is(answer["detail"])
        self._journal.armed(self._run, self._host, Armed(offset, bound, answer["took"]), utc_now())
        return self.outcome(answer, "armed", answer["detail"], target.wave)

    def _left_as_it_is(self, why: str) -> dict[str, Any]:
        return {"changed": False, "skipped": True, "msg": f"{self._host} goes back when its turn comes: {why}"}

    def _clock(self, together: Together) -> tuple[float, float]:
        """How far the host's clock is from ours, in seconds, and by how much that may be wrong: as soon as that is well enough known."""
        found = []
        for _look in range(_LOOKS):
            asked = time.time()
            answer = self.call(self._deployment, operation="clock")
            received = time.time()
            if answer["state"] == REFUSED:
                continue
            own = clock()
            if answer["synchronised"] and own["synchronised"]:
                apart = max(answer["clock"] - received, asked - answer["clock"], 0.0)
                return apart, answer["error"] + own["error"]
            found.append((answer["clock"] - (asked + received) / 2, (received - asked) / 2))
            if not clock_fault(together, *found[-1]):
                break
        return min(found, key=lambda one: one[1], default=(0.0, float("inf")))

    def _not_armed(self, answer: Answer) -> dict[str, Any]:
        """A host that is not armed: it can't be, or has the release already."""
        self._journal.activating(self._run, self._host, utc_now())
        untouched = answer["state"] == REFUSED or (answer["state"] == "failed" and not answer["changed"])
        return self.ended({**answer, "state": self._unarmed} if untouched else answer, self._target)

    @property
    def _unarmed(self) -> HostState:
        """How a host stands that was not armed: as it stood before."""
        return HostState.FAILED if self._target.state in (HostState.STAGED, HostState.FAILED) else HostState.STUCK

    def lost(self, journal: Journal, detail: str) -> str:
        """See :class:`HostAction`: one that was armed, and that nobody tells an instant, stays as it is."""
        target = self.target()
        if self.options["back"]:
            return target.state
        if target.state in UNKNOWN:
            return super().lost(journal, detail)
        self._target = target
        journal.activating(self._run, self._host, utc_now())
        journal.activated(self._run, self._host, self._unarmed, f"it could not be armed: {detail}", utc_now())
        return self._unarmed


class Fire(TogetherAction):
    """Tell an armed host the instant. From here on it may change."""

    step = "fire"
    begins = False  # what was begun with the word is brought to its end

    def do(self, together: Together) -> dict[str, Any]:
        target, back = self.target(), self.options["back"]
        word = self._journal.word(self._run, target.wave)
        due = target.state in UP if back else target.state not in (*UNKNOWN, HostState.ACTIVE)
        if word is None or word.at is None or self._host not in word.hosts or not due:
            return {"changed": False, "skipped": True}
        (self._journal.backing_out if back else self._journal.activating)(self._run, self._host, utc_now())
        terms = [self.patience, together.skew_milliseconds / 1000]
        answer = self.call(self._deployment, operation="tell", at=word.at.timestamp(), terms=terms, settings=self.options["settings"])
        if answer["state"] == "told":
            return self.outcome(answer, "told", answer["detail"], target.wave)
        return {"changed": False, "skipped": True} if back else self.ended(answer, target)

    def lost(self, journal: Journal, detail: str) -> str:
        """See :class:`HostAction`: whether it was told to go back is found out by who brings it back."""
        return HostState.BACKING_OUT if self.options["back"] else super().lost(journal, detail)


class Collect(TogetherAction):
    """Find out what a host has done at the instant."""

    step = "collect"
    begins = False  # as above

    def do(self, together: Together) -> dict[str, Any]:
        target = self.target()
        if target.state not in (HostState.ACTIVATING, HostState.LOST):
            return {"changed": False, "skipped": True}
        self._journal.activating(self._run, self._host, utc_now())
        result = self.ended(self.ask("collect", target), target)
        return {**result, "progress": {**result["progress"], "step": "activate"}}
