# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed behind the storage's back is one finding for each unit and kind, and nothing that a device says is taken for more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.level import FirmwareReading
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.unit_check import (
    DeviceReading,
    RecordedDevice,
    check_device,
    check_parts,
    check_readings,
    parts_seen,
    units_by_serial,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import Unit, UnitState
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERE = Unit("T1", "Contoso", "SN1", "R750", UnitState.IN_USE, ci="srv1")
THERE = replace(HERE, tag="T2", serial="SN2", ci="srv2")
SPARE = Unit("T3", "Contoso", "SN3", "R750", UnitState.IN_STOCK, "available", "ams-1")
UNITS = MappingProxyType(units_by_serial([HERE, THERE, SPARE]))
RECORDED = RecordedDevice("srv1", HERE, {"redfish": "https://bmc1"}, {"BIOS": "2.5.0"})
FOUND = DeviceReading("SN1", "R750", "T1", {"BIOS": ("2.5.0",)})


def kinds(recorded: RecordedDevice = RECORDED, units: Any = UNITS, **changes: Any) -> list[tuple[str, str]]:
    return [(one.kind, one.detail) for one in check_device(recorded, replace(FOUND, **changes), units)]


def test_what_is_as_recorded_is_no_finding() -> None:
    assert kinds() == []
    assert kinds(tag="") == []
    assert kinds(RecordedDevice("srv9", None, {"serial": "SN9", "model": "R750"}, {"BIOS": "2.5.0"}), {}, serial="SN9") == []
    assert kinds(RecordedDevice("srv9", None, {"serial": "SN9"}, {"BIOS": "2.5.0"}), serial="SN9") == []  # the storage need not have all


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"serial": "SN3"}, "misplaced_unit", "it says that it is SN3, which the hardware storage has as T3, in stock ams-1, available"),
        ({"serial": "sn2"}, "misplaced_unit", "which the hardware storage has as T2, in use by srv2"),
        ({"serial": "SN7"}, "unknown_unit", "it says that it is SN7, which nobody has recorded; for this CI that is SN1"),
        ({"serial": ""}, "other_unit", "its serial number is not said, and SN1 is recorded"),
        ({"model": "R640"}, "other_unit", "its model is R640, and R750 is recorded"),
        ({"tag": "T9"}, "other_unit", "its asset tag is T9, and T1 is recorded"),
        ({"versions": {"BIOS": ("2.4.0",)}}, "other_firmware", "it runs BIOS 2.4.0 where 2.5.0 is recorded"),
        ({"versions": {"BIOS": ("2.4.0", "2.5.0")}}, "other_firmware", "it runs BIOS 2.4.0 and 2.5.0 where 2.5.0 is recorded"),
        ({"versions": {}}, "other_firmware", "it runs BIOS no version where 2.5.0 is recorded"),
    ],
)
def test_what_is_not_as_recorded_is_one_finding(changes: dict[str, Any], kind: str, words: str) -> None:
    ((found, detail),) = kinds(**changes)
    assert found == kind
    assert words in detail


def test_a_spare_that_serves_where_nobody_recorded_it_is_misplaced_also_when_the_ci_says_that_it_is_there() -> None:
    recorded = RecordedDevice("srv9", None, {"serial": "SN3", "model": "R750"}, {})
    assert [kind for kind, _detail in kinds(recorded, serial="SN3")] == ["misplaced_unit"]


def test_two_records_that_are_not_the_same_are_a_finding_when_the_device_is_one_of_them() -> None:
    recorded = replace(RECORDED, attributes={"serial": "SN0"})
    assert kinds(recorded) == [
        ("other_unit", "it is not the recorded unit: the CI has the serial number SN0, and the hardware storage SN1")
    ]


def test_what_was_exchanged_with_other_firmware_is_two_findings_and_no_more() -> None:
    everything: dict[str, Any] = {"serial": "SN3", "model": "R640", "tag": "T3", "versions": {"BIOS": ("1.0",)}}
    assert [kind for kind, _detail in kinds(**everything)] == ["misplaced_unit", "other_firmware"]


ONE = replace(HERE, tag="P1", serial="PS1", model="PSU", slot="PSU 1")
TWO = replace(ONE, tag="P2", serial="PS2", slot="PSU 2")


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ({"PSU 1": "PS1", "PSU 2": "ps2"}, {}, []),
        ({}, {}, []),  # of which its BMC says nothing
        ({"PSU 1": "PS9"}, {}, [("P1", "other_unit", "in the slot PSU 1 is PS9, and PS1 is recorded")]),
        ({"PSU 1": ""}, {}, [("P1", "empty_slot", "nothing is in the slot PSU 1, and PS1 is recorded")]),
        ({"PSU 1": ""}, {"Bay": "PS1"}, [("P1", "misplaced_unit", "PS1 is in the slot Bay of srv2, and not in the slot PSU 1")]),
        (
            {"PSU 1": "PS2", "PSU 2": "PS1"},
            {},
            [
                ("P1", "other_unit", "in the slot PSU 1 is PS2, and PS1 is recorded, which is in the slot PSU 2 of srv1"),
                ("P2", "other_unit", "in the slot PSU 2 is PS1, and PS2 is recorded, which is in the slot PSU 1 of srv1"),
            ],
        ),
    ],
)
def test_what_is_in_a_slot_otherwise_than_recorded_is_one_finding(
    here: dict[str, str], there: dict[str, str], expected: list[tuple[str, str, str]]
) -> None:
    seen = parts_seen({"srv1": replace(FOUND, parts=here), "srv2": replace(FOUND, parts=there)})
    found = list(check_parts("srv1", [ONE, TWO], here, seen))
    assert [(one.unit, one.kind, one.detail) for one in found] == expected
    assert {one.ci for one in found} <= {"srv1"}


@pytest.mark.parametrize("parts", [[], "x", {"PSU 1": None}, {"PSU 1": "a\x1b[2J"}, {1: "S"}, {"PSU 1": " S"}])
def test_parts_that_are_none_are_no_answer(parts: Any) -> None:
    said = {**FOUND.to_dict(), "parts": {"PSU 1": "PS1", "PSU 2": ""}}
    answer = DeviceReading.of(said)
    assert answer is not None
    assert answer.parts == {"PSU 1": "PS1", "PSU 2": ""}
    assert DeviceReading.of({**said, "parts": parts}) is None


texts = st.sampled_from(["", "SN1", "SN2", "SN3", "sn1", "SN9", "R750", "T1"])


@given(serial=texts, model=texts, tag=texts, version=st.lists(texts, max_size=2), unit=st.sampled_from([HERE, THERE, None]))
def test_whatever_a_device_says_there_is_one_finding_for_each_kind_and_at_most_one_of_which_unit_it_is(
    serial: str, model: str, tag: str, version: list[str], unit: Unit | None
) -> None:
    recorded = RecordedDevice("srv1", unit if unit is not THERE else replace(THERE, ci="srv1"), {"serial": serial}, {"BIOS": "2"})
    found = list(check_device(recorded, DeviceReading(serial, model, tag, {"BIOS": tuple(version)}), UNITS))
    assert len({one.kind for one in found}) == len(found)
    assert len([one for one in found if one.kind != "other_firmware"]) <= 1
    assert [one.ci for one in found] == ["srv1"] * len(found)


def test_what_was_not_read_for_longer_than_the_policy_believes_it_is_named_once() -> None:
    def reading(days: int) -> list[FirmwareReading]:
        return [FirmwareReading("BIOS", "2.5.0", NOW - timedelta(days=days)), FirmwareReading("NIC", "1", NOW - timedelta(days=days))]

    def unread(unit: Unit, days: int | None, models: tuple[str, ...] = (), now: tuple[str, ...] = ()) -> list[str]:
        readings = {} if days is None else {unit.tag: reading(days)}
        return [one.detail for one in check_readings([unit], readings, models, now, 90, NOW)]

    assert unread(SPARE, 90) == []
    assert unread(SPARE, 91) == ["the firmware of T3, a R750, was not read since 2025-11-30, and the policy believes that for 90 days"]
    assert "was not read yet" in unread(SPARE, None, ("R750",))[0]
    assert unread(SPARE, None) == []  # nobody has ever brought firmware to one such
    assert len(unread(HERE, 91)) == 1
    assert unread(HERE, 91, now=("T1",)) == []
    assert unread(replace(SPARE, substate="defective"), 91) == []
    assert unread(replace(HERE, state=UnitState.RETIRED, ci=""), 91) == []


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("SN1"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["serial", "model", "firmware", "BIOS"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(json, st.dictionaries(st.sampled_from(["serial", "model", "asset_tag", "firmware", "problem", "silent"]), json))
def test_what_is_no_answer_of_a_device_is_none(instead: Any, changes: dict[str, Any]) -> None:
    assert DeviceReading.of(FOUND.to_dict()) == FOUND
    if not isinstance(instead, dict):
        assert DeviceReading.of(instead) is None
    read = DeviceReading.of(FOUND.to_dict() | changes)
    assert read is None or all(isinstance(version, str) and version for one in read.versions.values() for version in one)
