# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers of one deployment in one process: threads of which one runs at a time, in an order that a seed gives.

What they write to the journal and how they wait for each other is real; the hosts, the clock and the controllers' ends are made up.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slices import STAGING, Meeting, SliceMove
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import slices

_D, _H = DeploymentState, HostState
PATIENCE = 300.0
_WORKS = 8  # how often one that has something to do gets its turn for one that looks whether it still waits
RFC = "CHG0001"


class Killed(BaseException):
    """The controller is gone, wherever it was."""


@dataclass
class Fault:
    """What happens to a controller at its nth step: it is killed, or stands still for so many seconds."""

    controller: int
    step: int
    seconds: float | None = None


@dataclass
class Host:
    """What a host itself knows, and who was there."""

    token: int = 0
    visits: list[tuple[str, int]] = field(default_factory=list)

    def visit(self, what: str, token: int) -> bool:
        """Do something as the holder of a token; a host refuses one that is lower than what it has seen."""
        if token < self.token:
            return False
        self.token = token
        self.visits.append((what, token))
        return True


class World:
    """The controllers of one deployment, by number, and the hosts that each has in its inventory."""

    def __init__(self, journal: SliceJournal, deployment: int, own: Mapping[int, Sequence[str]], seed: int, faults: Sequence[Fault] = ()):
        self.journal, self.deployment, self.own = journal, deployment, own
        self.random = random.Random(seed)  # noqa: S311 - an order, no secret
        self.faults = {(fault.controller, fault.step): fault for fault in faults}
        self.hosts = {target.host: Host() for target in journal.targets(deployment)}
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.pause = 40.0 if faults else 5.0  # seconds that go by while a controller waits between two looks
        self.bad_waves: set[int] = set()
        self.last: list[int] = []
        self.failures: list[str] = []
        self.ended: dict[int, str] = {}
        self.waiting: set[int] = set()
        self._turns: dict[int, threading.Semaphore] = {}
        self._asleep: dict[int, datetime] = {}
        self._back = threading.Semaphore(0)

    def run(self, launch: str = "") -> None:
        """Let all controllers run to their ends; ``launch`` tells those of one launch from those of another."""
        self._turns = {number: threading.Semaphore(0) for number in self.own}
        self.ended, self.waiting = {}, set()
        threads = [threading.Thread(target=self._controller, args=(number, launch), daemon=True) for number in self.own]
        for thread in threads:
            thread.start()
        for _turn in range(60_000):
            waiting = [number for number in self._turns if number not in self.ended]
            if not waiting:
                break
            able = [number for number in waiting if self._asleep.get(number, self.now) <= self.now]
            if not able:
                self.now = min(self._asleep[number] for number in waiting)
                continue
            weights = [1 if number in self.waiting else _WORKS for number in able]
            self._turns[self.random.choices(able, weights)[0]].release()
            self._back.acquire()
        else:
            self.failures.append(f"the controllers {sorted(set(self._turns) - set(self.ended))} wait for ever")

    def _controller(self, number: int, launch: str) -> None:
        self._turns[number].acquire()
        try:
            Controller(self, number, launch).deploy()
            self.ended[number] = "ended"
        except Killed:
            self.ended[number] = "killed"
        except (ConflictError, StateError) as error:
            self.ended[number] = str(error)
        except BaseException as error:
            self.failures.append(repr(error))
            self.ended[number] = repr(error)
        self._back.release()

    def step(self, number: int, steps: int) -> None:
        """Let another controller have its turn."""
        fault = self.faults.get((number, steps))
        if fault is not None and fault.seconds is None:
            raise Killed
        if fault is not None and fault.seconds is not None:
            self._asleep[number] = self.now + timedelta(seconds=fault.seconds)
        self._back.release()
        self._turns[number].acquire()
        self.waiting.discard(number)


class Controller:
    """A run of deploy with a slice of the hosts."""

    def __init__(self, world: World, number: int, launch: str) -> None:
        self.world, self.number, self.steps = world, number, 0
        self.journal = world.journal
        self.holder = Holder("deploy", f"m{number}", 100 + number, 1, f"{launch}boot")
        self.wait = slices.Waiting(self.now, lambda: "", PATIENCE, self._monotonic, self._sleep)

    def now(self) -> datetime:
        """The time, after whoever else is to have a turn before it."""
        self.steps += 1
        self.world.step(self.number, self.steps)
        return self.world.now

    def _monotonic(self) -> float:
        return self.world.now.timestamp()

    def _sleep(self, _seconds: float) -> None:
        self.world.waiting.add(self.number)
        self.world.now += timedelta(seconds=self.world.pause)

    def deploy(self) -> None:
        """What the plays of deploy do, in their order."""
        run = self.journal.join(self.world.deployment, set(self.world.own[self.number]), self.holder, self.now())
        self._forward(run)
        for batch in self.journal.batches(RFC, "backout", self.holder):
            for host in batch:
                slices.await_back_out(self.journal, run, self._wave(host), self.wait)
                with contextlib.suppress(StateError):
                    self.journal.backing_out(run, host, self.now())
                    back = self.world.hosts[host].visit("back", run.token)
                    self.journal.backed_out(run, host, _H.BACKED_OUT if back else _H.OWED, "", self.now())
        if slices.end_slice(self.journal, run, False, self.wait):
            self.world.last.append(self.number)
        self.journal.conclude(run, self.now())
        self.journal.release_lease(run, self.now())

    def _forward(self, run: Run) -> None:
        for batch in self.journal.batches(RFC, "stage", self.holder):
            for host in batch:
                self.journal.staged(run, host, None, self.now())
        if not self._gate(run, STAGING):
            return
        for batch in self.journal.batches(RFC, "activate", self.holder):
            number = self._wave(batch[0])
            for step in (self._activate, self._confirm):
                for host in batch:
                    with contextlib.suppress(StateError):
                        step(run, host, number)
            if not self._gate(run, number):
                return

    def _activate(self, run: Run, host: str, number: int) -> None:
        target = self.journal.activating(run, host, self.now())
        if target.state is _H.ACTIVE:
            self.world.hosts[host].visit("look", run.token)
        done = self.world.hosts[host].visit("activate", run.token)
        state = _H.LOST if not done else _H.FAILED if number in self.world.bad_waves else _H.STARTED
        self.journal.activated(run, host, state, "", self.now())

    def _confirm(self, run: Run, host: str, _number: int) -> None:
        if self.journal.confirming(run, host, self.now()) is not None:
            self.journal.activated(run, host, _H.ACTIVE, "", self.now())

    def _gate(self, run: Run, number: int) -> bool:
        met = slices.meet(self.journal, run, Meeting(number), self.wait)
        if met.move is SliceMove.DECIDE:
            with contextlib.suppress(ConflictError):
                self._decide(run, number)
        slices.await_wave(self.journal, run, number, self.wait)
        return self.journal.deployment(run.deployment).state in (_D.ACTIVATING, _D.COMPLETED, _D.SUPPORTING)

    def _decide(self, run: Run, number: int) -> None:
        targets = self.journal.targets(run.deployment)
        if number == STAGING:
            undone = any(target.state is _H.PLANNED for target in targets)
            self.journal.decide_staging(run, GateDecision("hold" if undone else "proceed", "staging"), self.now())
            return
        wave = [target.state for target in targets if target.wave == number and target.state is not _H.STAGE_FAILED]
        good = all(state is _H.ACTIVE for state in wave)
        bad = _H.FAILED in wave
        self.journal.decide_wave(run, number, GateDecision("proceed" if good else "back_out" if bad else "hold", "wave"), self.now())

    def _wave(self, host: str) -> int:
        return next(target.wave for target in self.journal.targets(self.world.deployment) if target.host == host)
