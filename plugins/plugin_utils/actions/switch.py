# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What activate, confirm and backout share: they ask the journal, switch the host and journal how it went."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..clock import utc_now
from ..rollout.deployments import Deployment, Run, Target, as_remark
from ..rollout.host_answer import REFUSED
from ..rollout.journal import Journal
from ..rollout.states import UNKNOWN, HostState
from .host import HostAction
from .interrupt import interrupted
from .keepalive import connect_anew

if TYPE_CHECKING:
    from ..rollout.firmware_journal import FirmwareJournal
    from .firmware import FirmwareHost


@dataclass(frozen=True)
class _Step:
    """What of the journal a step uses."""

    begin: Callable[[Journal], Callable[[Run, str, datetime], Target | None]]  # writes ahead; None when there is nothing to do
    end: Callable[[Journal], Callable[[Run, str, HostState, str, datetime], None]]
    unknown: HostState  # of a host of which nobody knows what it did


_STEPS = {
    "activate": _Step(lambda journal: journal.activating, lambda journal: journal.activated, HostState.LOST),
    "confirm": _Step(lambda journal: journal.confirming, lambda journal: journal.activated, HostState.LOST),
    "backout": _Step(lambda journal: journal.backing_out, lambda journal: journal.backed_out, HostState.OWED),
}


class SwitchAction(HostAction):
    """Base of activate, confirm and backout, which differ in their ``step``."""

    _guarded = False  # whether the host goes back by itself when nobody confirms in time

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        """See :class:`HostAction`."""
        step = _STEPS[self.step]
        if deployment.rollout.firmware:
            return self._switch_device(journal, deployment)
        if deployment.rollout.hardware:
            return self._by_people(journal, deployment)
        if self.step == "backout" and deployment.epoch is not None:
            self.await_others(journal)
        told = {"told": True} if self.step == "backout" and self._was_told(journal, deployment) else {}
        if self.step == "backout" and not told and (stop := interrupted()):
            return self.not_begun(stop)
        target = step.begin(journal)(self._run, self._host, utc_now())
        if target is None:
            return {"changed": False, "skipped": True}
        self._guarded = deployment.rollout.guarded
        if self._guarded and self.step == "confirm":
            connect_anew(self._connection)
        if self.step == "backout":
            answer = self.switch(deployment, target.previous_digest, **told)
        else:
            answer = self.advance(deployment, target.previous_digest, unknown=target.state in UNKNOWN)
        state = self._refused(target) if answer["state"] == REFUSED else HostState(answer["state"])
        self.note_outside(deployment, target, answer)
        if answer.get("unconfirmed"):
            journal.went_back(self._run, self._host, answer["detail"], utc_now())
        # What is to be known of a release that came up is to be known of one that lasted.
        detail, warned = self.repaired(answer, answer["detail"] or (target.detail if state is HostState.ACTIVE else ""))
        noted = as_remark(detail) if state is HostState.BACKED_OUT else detail
        step.end(journal)(self._run, self._host, state, noted, utc_now())
        return {**self.outcome(answer, state, detail, target.wave), **warned}

    def _was_told(self, journal: Journal, deployment: Deployment) -> bool:
        """Whether this run has told the host an instant at which it goes back."""
        if deployment.rollout.together is None:
            return False
        target = journal.target(self._run, self._host)
        word = journal.word(self._run, target.wave)
        return word is not None and self._host in word.hosts and target.state is HostState.BACKING_OUT

    def _switch_device(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        """Do the step with the host's device, when no other that is redundant with it is at it."""
        step = _STEPS[self.step]
        if self.step == "confirm":
            target = step.begin(journal)(self._run, self._host, utc_now())
            if target is None:
                return {"changed": False, "skipped": True}
        else:
            taken, turn = self.await_turn(deployment, back=self.step == "backout")
            if taken is None:
                return self.not_begun(f"{interrupted()}, while {turn.why}")
            target = taken
            if turn.decision == "refused":
                return self.outcome({}, self._refused(target), turn.why, target.wave)
        kept = self.firmware_journal()
        device, (state, detail) = self._with_device(kept, deployment, target)
        with kept.in_one():
            if device is not None:
                device.note_read()
            step.end(kept)(self._run, self._host, state, detail, utc_now())
        return self.outcome({"changed": self.step != "confirm"}, state, detail, target.wave)

    def _with_device(
        self, journal: FirmwareJournal, deployment: Deployment, target: Target
    ) -> tuple[FirmwareHost | None, tuple[HostState, str]]:
        """Do the step with the host's device, in place of its tree; what was read of it is still to be noted."""
        from ..firmware.device import DeviceError  # noqa: PLC0415 - as for the library in ``host``

        try:
            device = self.firmware(journal, deployment)
            if self.step == "backout":
                found = device.back_out(target.previous_digest)
            else:
                found = device.activate() if self.step == "activate" else device.confirm()
        except DeviceError as error:  # it is not known which device that is, so nothing was done to any
            return None, (self._refused(target), str(error))
        return device, found

    def _by_people(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        """Do the step by work orders, for people, who don't exchange at the same time what is redundant."""
        from .device import read_in_place  # noqa: PLC0415 - as for the library in ``host``
        from .hardware import HardwareHost  # noqa: PLC0415 - as above

        step, read = _STEPS[self.step], functools.partial(read_in_place, self._host, options=self.options, action=self)
        parts = HardwareHost(self._cmdb, deployment, self._host, lambda: self.exchanged_parts(deployment), read)
        if self.step == "activate":
            taken, turn = self.firmware_journal().take_turn(self._run, self._host, utc_now())
            if taken is None:
                return self.not_begun(turn.why)
            if turn.decision == "refused":
                return self.outcome({}, self._refused(taken), turn.why, taken.wave)
            target, found = taken, parts.activate()
        else:
            begun = step.begin(journal)(self._run, self._host, utc_now())
            if begun is None:
                return {"changed": False, "skipped": True}
            target, found = begun, parts.confirm() if self.step == "confirm" else parts.back_out()
        state, detail = found
        if state is None:  # it stays as the journal has it, and the gate holds
            journal.renew(self._run, utc_now())
            waits = {"step": self.step, "wave": target.wave, "state": str(HostState.ACTIVATING), "detail": detail}
            return {"changed": True, "state": str(HostState.ACTIVATING), "msg": f"{self._host}: {detail}", "progress": waits}
        step.end(journal)(self._run, self._host, state, detail, utc_now())
        return self.outcome({"changed": self.step != "confirm"}, state, detail, target.wave)

    def lost(self, journal: Journal, detail: str) -> str:
        """See :class:`HostAction`."""
        step = _STEPS[self.step]
        if self._guarded and self.step != "backout":
            detail = f"{detail}; if it has the release, it goes back by itself unless somebody reaches it in time to confirm that"
        step.end(journal)(self._run, self._host, step.unknown, detail, utc_now())
        return step.unknown

    def _refused(self, target: Target) -> HostState:
        """The state of a host that refused, so it has not touched anything now.

        Whether it runs what it ran before the deployment is known only if no earlier order reached it.
        """
        untouched = self.step == "activate" and target.state in (HostState.STAGED, HostState.FAILED)
        return HostState.FAILED if untouched else _STEPS[self.step].unknown
