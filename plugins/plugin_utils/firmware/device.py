# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device says of itself, what an update wants of it, and how it is judged. Pure.

Only versions decide: a device runs what it says that it runs when it is asked afterwards, whatever became of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from ..dsl.firmware import Minutes
from ..errors import TidegateError

if TYPE_CHECKING:
    from pathlib import Path

GONE = "Gone"
"""The state of a task of which the device knows nothing any more."""
NOT_RUNNING = ("Previous-", "Available-")
"""How the names of entries of an inventory begin that say what a device does not run."""
_FAILED = frozenset({"Killed", "Exception", "Cancelled"})
_OVER = _FAILED | {"Completed", GONE}
_LONGEST = 200  # characters of what a device says, as far as anything is made of it


class DeviceError(TidegateError):
    """A device did not do, or say, what it was asked for."""


class SilentError(DeviceError):
    """A device can't be reached, or says that it is busy: it may be about to begin anew, and is worth another try."""


class UpdateStep(StrEnum):
    """The steps of an update, in order. Each is written to the journal before it is done.

    ``over``: it is known what the device runs, and nothing is under way there any more, so whoever goes on begins anew.
    """

    IDENTIFY = "identify"
    PRECHECK = "precheck"
    STAGE = "stage"
    ACTIVATE = "activate"
    RESTART = "restart"
    RETURN = "return"
    READ = "read"
    HEALTH = "health"
    OVER = "over"


# With these the device has been given something, or may have been.
BEGUN = (UpdateStep.STAGE, UpdateStep.ACTIVATE, UpdateStep.RESTART, UpdateStep.RETURN, UpdateStep.READ, UpdateStep.HEALTH)


class Verdict(StrEnum):
    """What a device runs, as it was read: the version that it was to get, the one from before, another, or nobody knows."""

    NEW = "new"
    OLD = "old"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class DeviceIdentity:
    """Which device it is. An empty text is not known."""

    serial: str
    model: str
    tag: str = ""


@dataclass(frozen=True)
class Task:
    """What a device is at. ``address``: where it tells of it, empty when nowhere. ``words``: what it says of it."""

    address: str
    state: str = ""
    words: str = ""
    critical: bool = False

    @property
    def runs(self) -> bool:
        """Whether it is not over: what is not known to be over is not."""
        return self.state not in _OVER

    @property
    def failed(self) -> bool:
        """Whether the device says that it came to nothing, so nothing is to be expected of it; that it did not is no proof of anything."""
        return self.state in _FAILED or (self.critical and not self.runs)

    @property
    def waits(self) -> bool:
        """Whether it waits for the device, or its host, to begin anew."""
        return self.state == "Pending"


@dataclass(frozen=True)
class Condition:
    """How a device is: whether it and its host are up, and what is wrong."""

    up: bool
    problem: str = ""


@dataclass(frozen=True)
class Goal:
    """What a component of a device is to become. ``before``: from which versions; without any it only may have it already."""

    component: str
    version: str
    before: tuple[str, ...]
    takes_effect: str
    minutes: Minutes


class Device(Protocol):
    """A way to a device: over the network to its BMC, or through what runs on its host.

    Every call raises :class:`SilentError` when nobody is there or busy, and :class:`DeviceError` for what should not be said.
    """

    @property
    def way(self) -> str:
        """What it is called in messages."""

    @property
    def effects(self) -> Collection[str]:
        """By what an image may take effect that is given to it: values of ``takes_effect``."""

    def identity(self, serial: str = "") -> DeviceIdentity:
        """Which device it is; of several that are there, the one with this serial number."""

    def part(self, slot: str) -> DeviceIdentity | None:
        """What is in a slot, without a serial number where that is nothing; ``None`` where it does not say so."""

    def condition(self, serial: str = "") -> Condition:
        """How the device and its host are."""

    def versions(self, component: str) -> tuple[str, ...]:
        """What a component runs: one version, several where entries of it disagree, none when it does not say."""

    def tasks(self) -> tuple[Task, ...]:
        """What it is at, and was."""

    def task(self, address: str) -> Task:
        """One task, at the address that it has in :meth:`tasks` or that :meth:`push` gave."""

    def push(self, image: Path, goal: Goal, back: bool, alive: Callable[[], None] | None = None, /) -> str:
        """Give it an image, and return the address at which it tells what becomes of it; empty when it gives none.

        The device shall not begin anew by itself, unless it has to for the ``goal``, as far as it can be told so. ``back``: the image is
        the one from before; only then may it be older than what is there. ``alive``: is called now and then meanwhile.
        """

    def restart(self, how: str, serial: str = "") -> None:
        """Have what it was given take effect, as ``takes_effect`` of the image says; one of :attr:`effects` but ``immediate``."""


@dataclass(frozen=True)
class Noted:
    """A step that was written to the journal before it was done, and what was known then."""

    step: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateOutcome:
    """How an update ended. ``read``: what the device said of the component; ``detail``: what is wrong, empty for nothing.

    ``begun``: whether the device was given something, now or by an earlier run. ``settled``: whether nothing is under way there any more.
    """

    verdict: Verdict
    read: tuple[str, ...]
    detail: str = ""
    begun: bool = False
    settled: bool = True

    @property
    def good(self) -> bool:
        """Whether it runs what it was to get, and nothing is wrong."""
        return self.verdict is Verdict.NEW and not self.detail


def judge(read: Collection[str], goal: Goal, before: str) -> Verdict:
    """What versions that were read come to; ``before`` is the one that was there when the update began."""
    if not read:
        return Verdict.UNKNOWN
    if set(read) == {goal.version}:
        return Verdict.NEW
    return Verdict.OLD if set(read) == {before} else Verdict.OTHER


def listed(read: Collection[str]) -> str:
    """Versions for a sentence."""
    return " and ".join(sorted(read)) or "no version"


def differences(found: DeviceIdentity, recorded: DeviceIdentity) -> list[str]:
    """In what a device is not the recorded one, a sentence for each.

    Few devices are told the tag that people put on them, so only one that it says is compared; a model that is not recorded is not.
    """
    compared = (("serial number", found.serial, recorded.serial, True), ("model", found.model, recorded.model, bool(recorded.model)))
    wrong = [(what, said, wanted) for what, said, wanted, needed in compared if needed and (said != wanted or not said)]
    if found.tag and recorded.tag and found.tag != recorded.tag:
        wrong.append(("asset tag", found.tag, recorded.tag))
    return [f"its {what} is {said or 'not said'}, and the recorded one is {wanted or 'not known'}" for what, said, wanted in wrong]


def last_begun(noted: Iterable[Noted], component: str) -> Noted | None:
    """The last step of an update that was begun and is not over; ``None`` when there is none."""
    last = None
    for one in noted:
        if one.about.get("component") == component and (one.step in BEGUN or one.step == UpdateStep.OVER):
            last = None if one.step == UpdateStep.OVER else one
    return last


def text(value: object) -> str:
    """What a device says, when it is a text that can be shown; else it says nothing."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return ""
    stripped = value.strip()
    return stripped if stripped.isascii() and stripped.isprintable() else ""


def versions_of(component: str, entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What a component runs by the entries of an inventory; several where they disagree, none where one does not say.

    An inventory may list what runs as ``Current-`` or ``Installed-``, and beside it what ran before as ``Previous-``, or what it could
    install as ``Available-``.
    """
    found = {text(entry.get("Version")) for entry in entries if is_of(component, entry)}
    return () if "" in found else tuple(sorted(found))


def is_of(component: str, entry: Mapping[str, Any]) -> bool:
    """Whether an entry of an inventory says what a component runs."""
    ident = entry.get("Id")
    return component in (ident, entry.get("SoftwareId")) and not str(ident).startswith(NOT_RUNNING)
