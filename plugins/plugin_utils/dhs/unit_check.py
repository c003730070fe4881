# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether units are where they are recorded to be, and run the firmware that is recorded: one finding for each unit and kind. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..firmware.device import listed, text
from .level import FirmwareReading
from .units import AVAILABLE, RESERVED, Unit, UnitState, folded

OTHER_UNIT, MISPLACED_UNIT, UNKNOWN_UNIT = "other_unit", "misplaced_unit", "unknown_unit"
OTHER_FIRMWARE, NOT_READ, EMPTY_SLOT = "other_firmware", "not_read", "empty_slot"
_MOST = 1000  # components of a device


@dataclass(frozen=True)
class DeviceReading:
    """What the device of a CI said when it was asked, or the ``problem`` why it did not; ``silent``: it can't be reached.

    ``versions``: by component, what it runs: several where it contradicts itself, none where it does not say. ``parts``: by slot, the
    serial number of what is in it, empty for nothing; a slot of which it says nothing is not among them.
    """

    serial: str = ""
    model: str = ""
    tag: str = ""
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problem: str = ""
    silent: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain_versions(self) -> dict[str, str]:
        """What each component runs that says one version."""
        return {component: versions[0] for component, versions in self.versions.items() if len(versions) == 1}

    def to_dict(self) -> dict[str, Any]:
        """As the result of a task has it."""
        said = {"serial": self.serial, "model": self.model, "asset_tag": self.tag, "problem": self.problem, "silent": self.silent}
        firmware = {component: list(versions) for component, versions in self.versions.items()}
        return {**said, "firmware": firmware, "parts": dict(self.parts)}

    @classmethod
    def of(cls, data: object) -> DeviceReading | None:
        """What :meth:`to_dict` made; ``None`` for anything else."""
        if not isinstance(data, Mapping) or not isinstance(data.get("firmware"), Mapping) or len(data["firmware"]) > _MOST:
            return None
        said = [data.get(key) for key in ("serial", "model", "asset_tag", "problem")]
        versions = {component: value for component, value in data["firmware"].items() if text(component) and isinstance(value, list)}
        if not all(isinstance(one, str) for one in said) or len(versions) < len(data["firmware"]):
            return None
        if not all(text(version) for one in versions.values() for version in one):
            return None
        parts = data.get("parts", {})
        if not isinstance(parts, Mapping) or len(parts) > _MOST:
            return None
        if not all(isinstance(slot, str) and isinstance(one, str) and one == text(one) for slot, one in parts.items()):
            return None
        serial, model, tag, problem = map(str, said)
        read = {str(component): tuple(value) for component, value in versions.items()}
        return cls(serial, model, tag, read, problem, data.get("silent") is True, dict(parts))


@dataclass(frozen=True)
class RecordedDevice:
    """Which device a CI is recorded to have: the ``unit`` that the storage has in use by it, or what its attributes say.

    ``versions``: what it is to run, by component; ``brought``: the components of which a release says that.
    """

    ci: str
    unit: Unit | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    brought: frozenset[str] = frozenset()

    @property
    def serial(self) -> str:
        """The serial number that is recorded; empty for none."""
        return self.unit.serial if self.unit else text(self.attributes.get("serial"))

    @property
    def model(self) -> str:
        """The model that is recorded; empty for none."""
        return self.unit.model if self.unit else text(self.attributes.get("model"))


@dataclass(frozen=True)
class UnitFinding:
    """What is not as it is recorded: of a unit by its tag, or of a CI, or of both."""

    ci: str
    unit: str
    kind: str
    detail: str


def check_device(recorded: RecordedDevice, found: DeviceReading, by_serial: Mapping[str, Sequence[Unit]]) -> Iterator[UnitFinding]:
    """What a device that answered is otherwise than it is recorded. ``by_serial``: all units, by the serial number as it is compared."""
    ci, unit = recorded.ci, recorded.unit
    named = by_serial.get(folded(found.serial), ()) if found.serial else ()
    mine = next((one for one in named if one.model == found.model), named[0] if named else None)
    tag = unit.tag if unit else mine.tag if mine else ""
    wrong = _differing(recorded, found)
    if mine is not None and mine.ci != ci and mine != unit:
        what = f"it says that it is {found.serial}, which the hardware storage has as {mine.tag}, {mine}"
        yield UnitFinding(ci, mine.tag, MISPLACED_UNIT, what)
    elif mine is None and by_serial and found.serial and (unit is not None or folded(found.serial) != folded(recorded.serial)):
        what = f"it says that it is {found.serial}, which nobody has recorded; for this CI that is {recorded.serial or 'none'}"
        yield UnitFinding(ci, tag, UNKNOWN_UNIT, what)
    elif wrong:
        yield UnitFinding(ci, tag, OTHER_UNIT, f"it is not the recorded unit: {'; '.join(wrong)}")
    changed = [
        f"{component} {listed(found.versions.get(component, ()))} where {version} is recorded"
        for component, version in sorted(recorded.versions.items())
        if found.versions.get(component, ()) != (version,)
    ]
    if changed:
        yield UnitFinding(ci, mine.tag if mine else tag, OTHER_FIRMWARE, f"it runs {', and '.join(changed)}")


def check_parts(ci: str, units: Iterable[Unit], found: Mapping[str, str], seen: Mapping[str, str]) -> Iterator[UnitFinding]:
    """What is in the slots of a CI otherwise than it is recorded, a finding for each unit at most.

    ``units``: those that are recorded in slots of it; ``found``: see :attr:`DeviceReading.parts`; ``seen``: by serial number as it is
    compared, where parts were read, of this CI and of others.
    """
    for unit in units:
        serial = found.get(unit.slot)
        if serial is None or folded(serial) == folded(unit.serial):
            continue
        elsewhere = seen.get(folded(unit.serial))
        if serial:
            what = f"in the slot {unit.slot} is {serial}, and {unit.serial} is recorded"
            yield UnitFinding(ci, unit.tag, OTHER_UNIT, f"{what}{f', which is in {elsewhere}' if elsewhere else ''}")
        elif elsewhere:
            yield UnitFinding(ci, unit.tag, MISPLACED_UNIT, f"{unit.serial} is in {elsewhere}, and not in the slot {unit.slot}")
        else:
            yield UnitFinding(ci, unit.tag, EMPTY_SLOT, f"nothing is in the slot {unit.slot}, and {unit.serial} is recorded")


def parts_seen(readings: Mapping[str, DeviceReading]) -> dict[str, str]:
    """Where parts were read, by serial number as it is compared. ``readings`` are by CI."""
    found = ((serial, slot, ci) for ci, reading in sorted(readings.items()) for slot, serial in reading.parts.items())
    return {folded(serial): f"the slot {slot} of {ci}" for serial, slot, ci in found if serial}


def _differing(recorded: RecordedDevice, found: DeviceReading) -> list[str]:
    """In what a device is not the recorded one, and in what two records of it are not the same."""
    said = {"serial number": found.serial, "model": found.model, "asset tag": found.tag}
    wanted = {"serial number": recorded.serial, "model": recorded.model, "asset tag": ""}
    wanted["asset tag"] = recorded.unit.tag if recorded.unit else text(recorded.attributes.get("asset_tag"))
    wrong = [
        f"its {what} is {said[what] or 'not said'}, and {wanted[what]} is recorded"
        for what in said
        if wanted[what] and said[what] != wanted[what] and (said[what] or what != "asset tag")
    ]
    if wrong or recorded.unit is None:
        return wrong
    by_ci = {"serial number": text(recorded.attributes.get("serial")), "model": text(recorded.attributes.get("model"))}
    return [
        f"the CI has the {what} {by_ci[what]}, and the hardware storage {wanted[what]}"
        for what in by_ci
        if by_ci[what] not in ("", wanted[what])
    ]


def check_readings(
    units: Iterable[Unit],
    readings: Mapping[str, Sequence[FirmwareReading]],
    models: Iterable[str],
    read_now: Iterable[str],
    read_days: int,
    now: datetime,
) -> Iterator[UnitFinding]:
    """The units whose firmware matters and that were not read for ``read_days``.

    It matters of those in use, and of those in stock that could be taken, when they were read before or their model has a level, as
    ``models`` have. ``readings`` are by tag; ``read_now``: the tags of those that have just been read.
    """
    with_level, now_read = set(models), set(read_now)
    for unit in units:
        counts = unit.state is UnitState.IN_USE or (unit.state is UnitState.IN_STOCK and unit.substate in (AVAILABLE, RESERVED))
        read = [one.at for one in readings.get(unit.tag, ())]
        if not counts or unit.tag in now_read or not (read or unit.model in with_level):
            continue
        if not read or now - max(read) > timedelta(days=read_days):
            since = f"since {max(read).date().isoformat()}" if read else "yet"
            what = f"the firmware of {unit.tag}, a {unit.model}, was not read {since}, and the policy believes that for {read_days} days"
            yield UnitFinding(unit.ci, unit.tag, NOT_READ, what)


def units_by_serial(units: Iterable[Unit]) -> dict[str, list[Unit]]:
    """Units by their serial number as it is compared, those in use first: what is retired has it still."""
    found: dict[str, list[Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda unit: (unit.state is UnitState.RETIRED, unit.state is not UnitState.IN_USE, unit.tag)):
        found[folded(unit.serial)].append(unit)
    return dict(found)
