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
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.instant_journal import InstantJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slices import STAGING, Meeting, SliceMove
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.together import Armed
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import slices

_D, _H = DeploymentState, HostState
PATIENCE = 300.0
_WORKS = 8  # how often one that has something to do gets its turn for one that looks whether it still waits
_LONG = timedelta(minutes=4)
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
    """What a host itself knows, and who was there. ``armed``: by whose token; ``told``: it switches by its own clock, at the instant."""

    token: int = 0
    visits: list[tuple[str, int]] = field(default_factory=list)
    armed: int | None = None
    told: bool = False

    def visit(self, what: str, token: int) -> bool:
        """Do something as the holder of a token; a host refuses one that is lower than what it has seen."""
        if token < self.token:
            return False
        self.token = token
        self.visits.append((what, token))
        return True

    def arm(self, token: int) -> bool:
        """Wait for an instant, as nobody has it wait any more."""
        done = self.visit("arm", token)
        self.armed, self.told = (token, False) if done else (self.armed, self.told)
        return done

    def tell(self, token: int) -> bool:
        """Learn the instant from whoever armed it."""
        self.told = self.visit("tell", token) and self.armed == token
        return self.told


class World:
    """The controllers of one deployment, by number, and the hosts that each has in its inventory."""

    def __init__(self, journal: SliceJournal, deployment: int, own: Mapping[int, Sequence[str]], seed: int, faults: Sequence[Fault] = ()):
        self.journal, self.deployment, self.own = journal, deployment, own
        self.random = random.Random(seed)  # noqa: S311 - an order, no secret
        self.faults = {(fault.controller, fault.step): fault for fault in faults}
        self.hosts = {target.host: Host() for target in journal.targets(deployment)}
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.pause = 40.0 if faults else 5.0  # seconds that go by while a controller waits between two looks
        self.together = journal.deployment(deployment).rollout.together is not None
        self.told: list[tuple[str, int]] = []  # which hosts were told an instant, and by which token the deployment was shared
        self.bad_waves: set[int] = set()
        self.last: list[int] = []
        self.failures: list[str] = []
        self.ended: dict[int, str] = {}
        self.waiting: set[int] = set()
        self._turns: dict[int, threading.Semaphore] = {}
        self._asleep: dict[int, datetime] = {}
        self._had: dict[int, datetime] = {}  # when each had its last turn
        self._back = threading.Semaphore(0)

    def run(self, launch: str = "") -> None:
        """Let all controllers run to their ends; ``launch`` tells those of one launch from those of another."""
        self._turns = {number: threading.Semaphore(0) for number in self.own}
        self.ended, self.waiting, self._had = {}, set(), {}
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
            # Where nothing is made to fail, nobody's lease ends because it had no turn while others let time go by.
            late = [number for number in able if not self.faults and self.now - self._had.setdefault(number, self.now) > _LONG]
            able = late or able
            weights = [1 if number in self.waiting else _WORKS for number in able]
            number = self.random.choices(able, weights)[0]
            self._had[number] = self.now
            self._turns[number].release()
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
        self.journal, self.instants = world.journal, InstantJournal(world.journal.cmdb)
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
        for batch in self.journal.batches(RFC, "activate-together" if self.world.together else "activate", self.holder):
            number = self._wave(batch[0])
            if self.world.together:
                self._at_one_instant(run, batch, number)
            for step in (self._confirm,) if self.world.together else (self._activate, self._confirm):
                for host in batch:
                    with contextlib.suppress(StateError):
                        step(run, host, number)
            if not self._gate(run, number):
                return

    def _at_one_instant(self, run: Run, batch: Sequence[str], number: int) -> None:
        """Arm, set the instant, tell it and collect, each on all hosts."""
        for host in batch:
            with contextlib.suppress(StateError):
                self._arm(run, host, number)
        if slices.meet_for_instant(self.journal, run, number, self.wait, lambda: self.instants.word(run, number) is not None):
            with contextlib.suppress(StateError, ConflictError):
                self._set_instant(run, number)
        for step in (self._tell, self._collect):
            for host in batch:
                with contextlib.suppress(StateError):
                    step(run, host, number)

    def _arm(self, run: Run, host: str, number: int) -> None:
        target = self.instants.arming(run, host, self.now())
        word = self.instants.word(run, number)
        if word is not None and word.at is None:
            return
        if target.state in (_H.ACTIVATING, _H.STARTED, _H.LOST, _H.ACTIVE):
            self._collect(run, host, number)
            if self.journal.target(run, host).state is not _H.FAILED:
                return
        if self.world.hosts[host].arm(run.token):
            self.instants.armed(run, host, Armed(0.0, 0.05, 0.1), self.now())

    def _set_instant(self, run: Run, number: int) -> None:
        if self.instants.word(run, number) is not None:
            return
        now = self.now()
        wave = {target.host: target.state for target in self.journal.targets(run.deployment) if target.wave == number}
        armed = self.instants.armed_hosts(run, number, now)
        if armed and all(host in armed or wave[host] in (_H.STARTED, _H.ACTIVE, _H.STAGE_FAILED) for host in wave):
            self.instants.fire(run, number, self.now() + timedelta(seconds=3), armed, self.now())
        else:
            self.instants.withdrawn(run, number, "the quorum", self.now())

    def _tell(self, run: Run, host: str, number: int) -> None:
        word, target = self.instants.word(run, number), self.journal.target(run, host)
        due = target.state not in (_H.ACTIVATING, _H.STARTED, _H.LOST, _H.ACTIVE)
        if word is None or word.at is None or host not in word.hosts or not due:
            return
        self.journal.activating(run, host, self.now())
        self.world.told.append((host, run.shared))
        if not self.world.hosts[host].tell(run.token):
            self.journal.activated(run, host, _H.LOST, "", self.now())

    def _collect(self, run: Run, host: str, number: int) -> None:
        """Find out what a host has done, which was told an instant or not, or has the release from an earlier one."""
        target, itself = self.journal.target(run, host), self.world.hosts[host]
        if target.state not in (_H.ACTIVATING, _H.STARTED, _H.LOST, _H.ACTIVE):
            return
        self.journal.activating(run, host, self.now())
        done = itself.visit("activate" if itself.told else "look", run.token)
        state = _H.LOST if not done else _H.FAILED if number in self.world.bad_waves or not itself.told else _H.STARTED
        self.journal.activated(run, host, state, "", self.now())

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
        word = self.instants.word(run, number)
        good = all(state is _H.ACTIVE for state in wave)
        bad = _H.FAILED in wave and not (word is not None and word.at is None)
        self.journal.decide_wave(run, number, GateDecision("proceed" if good else "back_out" if bad else "hold", "wave"), self.now())

    def _wave(self, host: str) -> int:
        return next(target.wave for target in self.journal.targets(self.world.deployment) if target.host == host)
