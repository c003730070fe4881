# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One component of one device gets another version, step by step; what it runs in the end is read, and nothing else is believed.

Each step is noted before it is done. Who goes on after a run that was killed asks the device first: while a task of ours is under way it
is waited for, and what has the version already gets no image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..activity import note as say
from .device import (
    Condition,
    Device,
    DeviceError,
    DeviceIdentity,
    Goal,
    Noted,
    SilentError,
    Task,
    UpdateOutcome,
    UpdateStep,
    Verdict,
    differences,
    judge,
    last_begun,
    listed,
)

_LOOK = 0.5  # seconds between two looks at first, each of several requests
_SLOWEST = 5.0
_SLOWER = 1.1  # by which each look is later than the one before
_MINUTE = 60.0

Note = Callable[[UpdateStep, Mapping[str, Any]], None]
Answer = TypeVar("Answer")


class Clock(Protocol):
    """What waits: the module :mod:`time`, or a test's."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class RefusedError(DeviceError):
    """An update that must not be done; this run has given the device nothing."""


class Update:
    """One component of one device on its way to a version.

    ``unit``: the device as it is recorded. ``image``: the file with the version. ``past``: what this deployment has noted of the device
    so far. ``note``: writes a step to the journal; ``alive``: is called while it waits, to say that somebody is still at work.
    ``back``: it is on its way back, so it need not be well.
    """

    def __init__(
        self,
        device: Device,
        unit: DeviceIdentity,
        goal: Goal,
        image: Callable[[], Path],
        past: Sequence[Noted],
        note: Note,
        clock: Clock,
        alive: Callable[[], None] = lambda: None,
        *,
        back: bool = False,
    ) -> None:
        self._back = back
        self._device, self._unit, self._goal, self._image = device, unit, goal, image
        self._tell, self._clock, self._alive = note, clock, alive
        self._last = last_begun(past, goal.component)
        self._about: dict[str, Any] = {"component": goal.component, "version": goal.version}
        if self._last is not None and self._last.about.get("version") == goal.version:
            self._about |= self._last.about
        self._begun = self._last is not None

    def run(self) -> UpdateOutcome:
        """Do what is still to be done. Raises :class:`RefusedError`, or :class:`DeviceError` when the device was given nothing and can't be
        asked."""
        try:
            outcome = self._run()
        except RefusedError:
            raise
        except DeviceError as error:
            if not self._begun:
                raise
            return UpdateOutcome(Verdict.UNKNOWN, (), str(error), begun=True, settled=False)
        if outcome.settled and self._begun:
            self._note(UpdateStep.OVER)
        return outcome

    # -- the steps ---------------------------------------------------------

    def _run(self) -> UpdateOutcome:
        self._note(UpdateStep.IDENTIFY)
        self._patiently(self._identify)
        self._note(UpdateStep.PRECHECK)
        last = self._last
        if last is not None and last.about.get("version") == self._goal.version:
            return self._resume(last.step)
        if last is not None:
            self._calm_down(last)
        found = self._versions()
        if set(found) == {self._goal.version}:
            self._idle_tasks()
            return self._finish()
        self._refuse_version(found)
        refuse_effect(self._device, self._goal.takes_effect)
        image = self._image()  # which may take its time, in which somebody else may begin something there
        self._patiently(lambda: refuse_unwell(self._device, self._unit, self._back))
        return self._stage(found[0], image, self._idle_tasks())

    def _idle_tasks(self) -> list[str]:
        """The addresses of the tasks that are over; raises :class:`RefusedError` while one is not."""
        tasks = self._patiently(self._device.tasks)
        running = [task for task in tasks if task.runs]
        if running:
            what = f"it is at something already, {running[0].address} is {running[0].state}"
            raise RefusedError(f"{what}{_in_brackets(running[0].words)}; wait for that, or end it there")
        return [task.address for task in tasks]

    def _resume(self, step: str) -> UpdateOutcome:
        """Go on behind the last step that a run before noted."""
        if step == UpdateStep.STAGE:
            given = self._patiently(self._mine)
            if given is not None:
                return self._activate(given)
            found = self._versions()
            if set(found) != {str(self._about.get("before"))}:
                return self._finish()
            return self._stage(found[0], self._image(), [task.address for task in self._device.tasks()])
        if step == UpdateStep.ACTIVATE:
            return self._activate(Task(str(self._about.get("task", "")), "New"))
        if step == UpdateStep.RESTART:
            # Nobody knows whether it was told to. When nothing comes of it, it was not, or is at rest again.
            return self._return() or self._restart()
        return self._return() or self._finish()

    def _calm_down(self, last: Noted) -> None:
        """Let end what this deployment has begun with another version, so that it is known from what the device goes on."""
        minutes = self._goal.minutes
        self._until(minutes.transfer + minutes.silence, lambda: not any(task.runs and not task.waits for task in self._device.tasks()))
        if self._goal.before and any(task.waits for task in self._device.tasks()):  # it would take effect at any time later
            self._tell(UpdateStep.RESTART, last.about)
            self._reset()
            self._until(minutes.silence + minutes.restart, lambda: not any(task.runs for task in self._device.tasks()))
        self._until(minutes.silence + minutes.restart, lambda: self._device.condition(self._unit.serial).up)

    def _stage(self, before: str, image: Path, tasks: list[str]) -> UpdateOutcome:
        """Give it the image; ``tasks``: those that are none of ours."""
        self._about |= {"before": before, "tasks": tasks}
        self._note(UpdateStep.STAGE)
        self._begun = True
        minutes = self._goal.minutes
        end = self._clock.monotonic() + minutes.transfer * _MINUTE
        pauses = self._pauses()
        while True:
            try:
                given = Task(self._device.push(image, self._goal, self._back, self._alive), "New")
                break
            except SilentError as error:
                # It may have taken it all the same.
                mine = self._patiently(self._mine)
                if mine is not None:
                    given = mine
                    break
                if self._clock.monotonic() >= end or set(self._versions()) != {before}:
                    return self._finish(f"it did not take the image: {error}")
                next(pauses)
            except DeviceError as error:
                return self._finish(f"it refuses the image: {error}")
        return self._activate(given)

    def _activate(self, task: Task) -> UpdateOutcome:
        """Wait until the device has written the image."""
        self._about["task"] = task.address
        self._note(UpdateStep.ACTIVATE)
        minutes = self._goal.minutes
        last = task

        def over() -> bool:
            nonlocal last
            last = self._device.task(task.address) if task.address else self._mine() or Task("", "Completed")
            return not last.runs or last.waits

        if not self._until(minutes.transfer + minutes.silence, over):
            return self._finish(f"its task is still {last.state} after all its minutes{_in_brackets(last.words)}", settled=False)
        if last.failed:
            return self._finish(f"it says that its task came to nothing{_in_brackets(last.words) or f' ({last.state})'}")
        if self._goal.takes_effect == "immediate":
            return self._return() or self._finish()
        return self._restart()

    def _restart(self) -> UpdateOutcome:
        """Have the device, or its host, begin anew, unless it has done so by itself."""
        minutes = self._goal.minutes
        self._until(minutes.silence + minutes.restart, lambda: self._device.condition(self._unit.serial).up)
        if self._has_it():
            return self._finish()
        self._note(UpdateStep.RESTART)
        try:
            self._reset()
        except DeviceError as error:
            return self._finish(f"it can't be restarted: {error}")
        return self._return() or self._finish()

    def _return(self) -> UpdateOutcome | None:
        """Wait until the device and its host are there again with the version; nothing when they are not, by the time that they have."""
        self._note(UpdateStep.RETURN)
        minutes = self._goal.minutes
        came = self._until(minutes.silence + minutes.restart, lambda: self._device.condition(self._unit.serial).up and self._has_it())
        return self._finish() if came else None

    def _finish(self, detail: str = "", settled: bool = True) -> UpdateOutcome:
        """Read what it runs and how it is; that is the verdict."""
        self._note(UpdateStep.READ)
        found: tuple[str, ...] = ()

        def read() -> bool:
            nonlocal found
            self._identify()
            found = self._device.versions(self._goal.component)
            return bool(found)

        if not self._until(self._goal.minutes.silence, read):
            what = "it does not say which version it runs" if self._silence is None else str(self._silence)
            return UpdateOutcome(Verdict.UNKNOWN, (), "; ".join(filter(None, (detail, what))), self._begun, settled=False)
        verdict = judge(found, self._goal, str(self._about.get("before", "")))
        waiting = [task for task in self._patiently(self._device.tasks) if task.runs] if self._begun else []
        said = [detail] if verdict is not Verdict.NEW else []
        if verdict is not Verdict.NEW:
            said.append(f"it runs {self._goal.component} {listed(found)}, not {self._goal.version}")
        if waiting:
            said.append(f"{waiting[0].address} is {waiting[0].state}{_in_brackets(waiting[0].words)}, so that may change yet")
        if verdict is Verdict.NEW:
            self._note(UpdateStep.HEALTH)
            condition = Condition(up=False)

            def well() -> bool:
                nonlocal condition
                condition = self._device.condition(self._unit.serial)
                return not condition.problem

            if not self._until(self._goal.minutes.restart, well):
                said.append(f"it runs {self._goal.component} {listed(found)}, and {condition.problem or self._silence}")
        return UpdateOutcome(verdict, found, "; ".join(filter(None, said)), self._begun, settled and not waiting)

    # -- parts of steps ----------------------------------------------------

    def _note(self, step: UpdateStep) -> None:
        say(f"{self._goal.component} {self._goal.version}: {step}")
        self._tell(step, dict(self._about))

    def _identify(self) -> None:
        wrong = differences(self._device.identity(self._unit.serial), self._unit)
        if wrong:
            what = f"it is not the recorded device: {'; '.join(wrong)}"
            raise RefusedError(what) if not self._begun else DeviceError(what)

    def _refuse_version(self, found: Collection[str]) -> None:
        before = self._goal.before
        if len(found) != 1 or not set(found) <= set(before):
            only = f"{self._goal.version} is only for {listed(before)}" if before else f"nothing brings it to {self._goal.version}"
            raise RefusedError(f"it runs {self._goal.component} {listed(found)}, and {only}; bring it there by another release first")

    def _versions(self) -> tuple[str, ...]:
        return tuple(self._patiently(lambda: self._device.versions(self._goal.component)))

    def _mine(self) -> Task | None:
        """The task that the device has begun since the image was given to it; of several one that runs."""
        before = self._about.get("tasks")
        known = before if isinstance(before, list) else []
        mine = [task for task in self._device.tasks() if task.address not in known]
        running = [task for task in mine if task.runs]
        return next(reversed(running or mine), None)

    def _has_it(self) -> bool:
        try:
            return set(self._device.versions(self._goal.component)) == {self._goal.version}
        except SilentError:
            return False

    def _reset(self) -> None:
        if self._goal.takes_effect == "immediate":  # for which nobody has given leave to interrupt anything
            raise DeviceError(
                "something waits there for a restart, and the image that it is to get needs none; restart it, or see to it there"
            )
        with contextlib.suppress(SilentError):  # it may be why it is silent
            self._device.restart(self._goal.takes_effect, self._unit.serial)

    def _pauses(self) -> Any:
        pause = _LOOK
        while True:
            self._clock.sleep(pause)
            self._alive()
            yield pause
            pause = min(pause * _SLOWER, _SLOWEST)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """What the device answers. One that was given something may fall silent between any two questions, and is asked again as long as
        its minutes of silence last; when they are over, :class:`SilentError` is raised."""
        answers: list[Answer] = []

        def answered() -> bool:
            answers.append(ask())
            return True

        if self._begun and self._until(self._goal.minutes.silence, answered):
            return answers[0]
        return ask()

    def _until(self, minutes: float, reached: Callable[[], bool]) -> bool:
        """Look until something is so, or the time is over; a device that is silent meanwhile is asked again."""
        end = self._clock.monotonic() + minutes * _MINUTE
        pauses = self._pauses()
        while True:
            self._silence: SilentError | None = None
            try:
                if reached():
                    return True
            except SilentError as error:
                self._silence = error
            if self._clock.monotonic() >= end:
                return False
            next(pauses)


def refuse_effect(device: Device, takes_effect: str) -> None:
    """Raise :class:`RefusedError` for an image that takes effect by what can't be done this way."""
    if takes_effect not in device.effects:
        ways = ", ".join(sorted(device.effects))
        raise RefusedError(f"its image takes effect by {takes_effect}, which can't be done by {device.way}; it can have {ways}")


def refuse_unwell(device: Device, unit: DeviceIdentity, back: bool = False) -> None:
    """Raise :class:`RefusedError` for a device of which nobody could say afterwards whether it is the update that it is not well of."""
    problem = "" if back else device.condition(unit.serial).problem
    if problem:
        raise RefusedError(f"before anything was done to it, {problem}; mend that first")


def look(device: Device, unit: DeviceIdentity, goal: Goal, clock: Clock, alive: Callable[[], None] = lambda: None) -> UpdateOutcome:
    """What a device that has got a version runs now, and how it is; nothing is changed there. One that is silent is asked again.

    ``alive`` as for :class:`Update`.
    """
    end = clock.monotonic() + goal.minutes.silence * _MINUTE
    while True:
        try:
            return _look(device, unit, goal)
        except SilentError:
            if clock.monotonic() >= end:
                raise
            clock.sleep(_SLOWEST)
            alive()


def _look(device: Device, unit: DeviceIdentity, goal: Goal) -> UpdateOutcome:
    wrong = differences(device.identity(unit.serial), unit)
    if wrong:
        return UpdateOutcome(Verdict.UNKNOWN, (), f"it is not the recorded device: {'; '.join(wrong)}")
    found = device.versions(goal.component)
    verdict = judge(found, goal, "")
    if verdict is not Verdict.NEW:
        return UpdateOutcome(verdict, found, f"it runs {goal.component} {listed(found)}, not {goal.version}")
    problem = device.condition(unit.serial).problem
    return UpdateOutcome(verdict, found, f"it runs {goal.component} {listed(found)}, and {problem}" if problem else "")


def _in_brackets(words: str) -> str:
    return f" ({words})" if words else ""
