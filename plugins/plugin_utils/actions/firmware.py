# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stage, activate, confirm and backout do when the release is firmware: the device is asked, by whichever way leads to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from ..clock import utc_now
from ..dsl.firmware import FirmwareImage, images_for, is_without_way_back
from ..dsl.package import load_package_manifest
from ..dsl.repository import Repository, open_library
from ..errors import TidegateError
from ..evidence.package import PackageName
from ..firmware.device import Device, DeviceError, DeviceIdentity, Goal, Noted, UpdateOutcome, UpdateStep, Verdict, differences, listed
from ..firmware.images import image_file, image_of, release_that_runs
from ..firmware.update import RefusedError, Update, look, refuse_effect, refuse_unwell
from ..rollout.deployments import Deployment
from ..rollout.firmware_journal import FirmwareJournal
from ..rollout.readings import BEFORE, NEW
from ..rollout.states import HostState
from ..settings import optional_setting, required_setting
from ..steps.stage import distrust_once

_RENEWAL = 60.0  # seconds after which the lease is renewed, which is for ten minutes
_H = HostState
Found = tuple[HostState, str]
"""The state of a host, and why it is in that."""


class FirmwareHost:
    """The device of one host of a deployment.

    ``said``: which one it is, see :func:`..device.recorded_identity`; ``open_device``: the way to it; ``work``: the run's own directory.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        journal: FirmwareJournal,
        deployment: Deployment,
        host: str,
        said: Mapping[str, str],
        open_device: Callable[[], AbstractContextManager[Device]],
        work: Path,
    ) -> None:
        self._options, self._journal, self._deployment, self._work = options, journal, deployment, work
        self._host, self._run = host, deployment.run
        self._device = open_device
        self._unit = DeviceIdentity(said["serial"], said["model"], said["asset_tag"])
        self._renewed = time.monotonic()
        self._read: dict[str, str] = {}

    # -- steps -------------------------------------------------------------

    def stage(self, installed: str | None, recorded: Mapping[str, Any]) -> Mapping[str, str] | None:
        """Look whether the device can get the release; return the archived release that it has, ``None`` where it need not go back to one.

        ``installed``: the package that is on record for it; ``recorded``: the versions by component that the clearance took it to have,
        by which it counted the spares. Nothing is changed there. Raises :class:`DeviceError` when it can't get the
        release, or could not be brought back.
        """
        with self._device() as device:
            wrong = differences(device.identity(self._unit.serial), self._unit)
            if wrong:
                raise DeviceError(f"it is not the recorded device: {'; '.join(wrong)}")
            changes: dict[str, str] = {}
            can_return = False
            for image in self._images:
                found = device.versions(image.component)
                self._keep(image, found)
                if found == (image.version,):
                    continue
                if len(found) != 1 or found[0] not in image.from_versions:
                    raise DeviceError(
                        f"it runs {image.component} {listed(found)}, and {image.version} is only for {listed(image.from_versions)}; "
                        "bring it there by another release first"
                    )
                refuse_effect(device, image.takes_effect)
                refuse_unwell(device, self._unit)
                changes[image.component] = found[0]
                can_return = can_return or found[0] in image.back_to
        self._refuse_uncovered(changes, recorded)
        if not changes:
            return {"version": self._deployment.version, "digest": self._deployment.digest}
        try:
            before = release_that_runs(self._home, self._deployment.release, self._unit.model, changes, installed, self._distrust)
        except DeviceError:
            if can_return:
                raise
            return None
        if before is None and can_return:
            has = ", ".join(f"{component} {version}" for component, version in changes.items())
            raise DeviceError(
                f"it runs {has}, and no archived version of {self._deployment.release} has that for the {self._unit.model}, so nobody "
                "could bring it back; archive one that has, with its images"
            )
        return before

    def _refuse_uncovered(self, changes: Mapping[str, str], recorded: Mapping[str, Any]) -> None:
        """Raise :class:`DeviceError` for a device that has no way back from here, and was taken for one that has, so it has no spare."""
        without = [image.component for image in self._images if is_without_way_back(image, changes.get(image.component, image.version))]
        if without and not any(is_without_way_back(image, recorded.get(image.component)) for image in self._images):
            has = " and ".join(f"{component} {changes[component]}" for component in without)
            said = " and ".join(f"{component} {recorded.get(component) or 'unknown'}" for component in without)
            raise DeviceError(
                f"it runs {has}, and the CMDB has {said}: from what it runs there is no way back, so a spare has to be there for it; "
                "run the same command again, which counts the spares anew"
            )

    def activate(self) -> Found:
        """Give the device what it has not got yet, one component after the other, until one does not get there."""
        changed = False
        try:
            with self._device() as device:
                for image in self._images:
                    goal = _goal(image, image.version, image.from_versions)
                    outcome = self._update(device, goal, self._deployment.digest, image)
                    self._keep(image, outcome.read)
                    changed = changed or outcome.begun
                    if not outcome.good:
                        as_before = outcome.verdict is Verdict.OLD and outcome.settled and not self._got_any(image)
                        return (_H.FAILED if as_before else _bad(outcome)), outcome.detail
        except DeviceError as error:
            if not changed and not self._got_any():  # which stands in the journal before it is given anything
                return _H.FAILED, str(error)
            return (_H.STUCK if isinstance(error, RefusedError) else _H.LOST), str(error)
        return _H.STARTED, ""

    def confirm(self) -> Found:
        """Look at it again."""
        try:
            with self._device() as device:
                for image in self._images:
                    outcome = look(device, self._unit, _goal(image, image.version, image.from_versions), time, self._alive)
                    self._keep(image, outcome.read)
                    if not outcome.good:
                        return _bad(outcome), outcome.detail
        except DeviceError as error:
            return _H.LOST, str(error)
        return _H.ACTIVE, ""

    def back_out(self, previous: str | None) -> Found:
        """Bring the device down to what it ran before, as far as it was given something, the last component first.

        ``previous``: the package that staging found for that. A unit that came in exchange for one that was given something has to run
        what that ran.
        """
        given = self._given(self._noted())
        try:
            with self._device() as device:
                for image in reversed([image for image in self._images if image.component in given]):
                    outcome = self._go_back(device, image, given[image.component], previous)
                    self._keep(image, outcome.read)
                    if not outcome.good:
                        return _H.OWED, outcome.detail
        except DeviceError as error:
            return _H.OWED, str(error)
        return _H.BACKED_OUT, ""

    def _go_back(self, device: Device, image: FirmwareImage, version: str, previous: str | None) -> UpdateOutcome:
        digest = previous or ""
        before = image_of(self._home, digest, self._unit.model, image.component, version) if digest else None
        way = before is not None and version in image.back_to
        old = before or image
        goal = _goal(old, version, (image.version,) if way else ())
        try:
            return self._update(device, goal, digest, old, back=True)
        except RefusedError as error:
            if way:
                raise
            lacking = "no package from before has it" if digest else "staging found no package for it"
            why = lacking if version in image.back_to else f"back_to of {image.component} {image.version} has not"
            raise DeviceError(f"{error} (there is no way down to {version}: {why})") from None

    def note_read(self) -> None:
        """Write what the device was read to run, whatever a step came to."""
        if self._read:
            self._journal.note_read(self._run, self._host, self._unit, self._read, utc_now(), self._runs())

    def _runs(self) -> str:
        """Which release that is, by all of its images."""
        if all(self._read.get(image.component) == image.version for image in self._images):
            return NEW
        given = self._given(self._noted())
        as_before = all(self._read.get(component) == version for component, version in given.items())
        return BEFORE if given and as_before else ""

    # -- what they share ---------------------------------------------------

    def _keep(self, image: FirmwareImage, read: Collection[str]) -> None:
        if len(read) == 1:
            self._read[image.component] = next(iter(read))

    def _distrust(self, version: str, digest: str) -> str:
        """Why a package must not be the way down, when no deployment has brought it here: as for one that is staged."""
        package = PackageName(self._deployment.release, version, digest)
        dsl, policy = required_setting(self._options, "dsl"), optional_setting(self._options, "policy")
        return distrust_once(self._work / "tidegate-trust", dsl, policy, package, utc_now(), self._work / "tidegate-library")

    @cached_property
    def _home(self) -> Repository:
        return open_library(required_setting(self._options, "dsl")).repository(self._deployment.release)

    @cached_property
    def _images(self) -> tuple[FirmwareImage, ...]:
        images = images_for(self._unit.model, load_package_manifest(self._home, self._deployment.digest).firmware)
        if not images:
            raise DeviceError(f"the release has no image for the {self._unit.model}; take the CI out of the scope of the RFC")
        return images

    def _update(self, device: Device, goal: Goal, digest: str, image: FirmwareImage, *, back: bool = False) -> UpdateOutcome:
        def file() -> Path:
            try:
                return image_file(self._home, digest, image, self._work / "tidegate-images")
            except TidegateError as error:
                raise RefusedError(f"its image can't be had: {error}") from error

        return Update(device, self._unit, goal, file, self._past(), self._note, time, self._alive, back=back).run()

    def _past(self) -> list[Noted]:
        """What this deployment has noted of this very device; another one may have served the host before it."""
        return [one for one in self._noted() if one.about.get("serial") == self._unit.serial]

    def _noted(self) -> list[Noted]:
        return [Noted(step, about) for step, about in self._journal.steps(self._run, self._host)]

    @staticmethod
    def _given(noted: Iterable[Noted]) -> dict[str, str]:
        """The components that this deployment may have given something, each with what it ran before the first time."""
        given: dict[str, str] = {}
        for one in noted:
            if one.step == UpdateStep.STAGE:
                given.setdefault(str(one.about.get("component")), str(one.about.get("before")))
        return given

    def _got_any(self, but: FirmwareImage | None = None) -> bool:
        """Whether this deployment may have given the device another component's image than that of ``but``."""
        return bool(self._given(self._past()).keys() - ({but.component} if but else set()))

    def _note(self, step: UpdateStep, about: Mapping[str, Any]) -> None:
        self._renewed = time.monotonic()
        said = {**about, "serial": self._unit.serial}
        if step is UpdateStep.STAGE:  # for who asks later whether it can go back
            said["way_back"] = not any(
                one.component == said["component"] and one.version == said["version"] and said["before"] not in one.back_to
                for one in self._images
            )
        self._journal.note_step(self._run, self._host, step, said, utc_now())

    def _alive(self) -> None:
        if time.monotonic() - self._renewed >= _RENEWAL:
            self._renewed = time.monotonic()
            self._journal.renew(self._run, utc_now())


def _goal(image: FirmwareImage, version: str, before: tuple[str, ...]) -> Goal:
    return Goal(image.component, version, before, image.takes_effect, image.minutes)


def _bad(outcome: UpdateOutcome) -> HostState:
    """The state of a host whose device does not run what it was to, or not well."""
    return _H.LOST if outcome.verdict is Verdict.UNKNOWN else _H.STUCK
