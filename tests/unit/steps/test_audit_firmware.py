# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other firmware is there since the first reading that differed, and came about after the last one that did not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import named_before, save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.level import FirmwareReading
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.unit_check import DeviceReading, RecordedDevice
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import Unit, UnitState
from ansible_collections.tidegate.release.plugins.plugin_utils.report.differences import difference_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.coverage import Span
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import compare_devices
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_changes import with_changes
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_firmware import PastReadings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNIT = Unit("T1", "Contoso", "SN1", "R750", UnitState.IN_USE, ci="web1")
DEVICE = RecordedDevice("web1", UNIT, {"redfish": "https://bmc1"}, {"BIOS": "2.4.0", "NIC": "1.0"})


def at(hours: int) -> datetime:
    return NOON + timedelta(hours=hours)


def text(hours: int) -> str:
    return at(hours).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def audit(
    *readings: FirmwareReading, named: Any = None, spans: tuple[Span, ...] = (), device: RecordedDevice = DEVICE, **versions: str
) -> dict[str, Any]:
    """The one difference of a device that says these versions at noon."""
    past = PastReadings(NOON, {"T1": readings}, named or {})
    said = {"BIOS": "2.4.0", "NIC": "1.0", **versions}
    answer = DeviceReading("SN1", "R750", versions={component: (version,) for component, version in said.items()})
    (one,) = with_changes(compare_devices([device], {"web1": answer}, [UNIT], past), spans)
    assert one["kind"] == "other_firmware"
    return one


def moments(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["after"], one["since"], one["latest"], one["covered_by"]


GOOD = FirmwareReading("BIOS", "2.4.0", at(-24))
BAD = FirmwareReading("BIOS", "2.5.0", at(-6))
NIGHT = Span("CHG1", "web1", at(-15), at(-14))


def test_what_was_as_recorded_the_last_time_came_about_since_then_and_is_covered_by_what_was_open_in_between() -> None:
    first = audit(GOOD, BIOS="2.5.0")
    assert moments(first) == (text(-24), text(0), text(0), [])
    assert "recorded (between 2026-02-28 12:00 and 2026-03-01 12:00 UTC, no RFC covers it); find out" in difference_lines([first])[0]
    assert moments(audit(GOOD, spans=(NIGHT,), BIOS="2.5.0")) == (text(-24), text(0), text(0), ["CHG1"])
    others = (Span("CHG2", "web2", at(-15), at(-14)), Span("CHG3", "web1", at(-30), at(-25)), Span("CHG4", "web1", at(1), None))
    assert audit(GOOD, spans=others, BIOS="2.5.0")["covered_by"] == []


def test_an_audit_that_named_it_already_says_since_when_and_not_the_reading_after_it() -> None:
    first = audit(GOOD, BIOS="2.5.0")
    named = {("web1", first["detail"]): (text(-30), text(-10))}
    assert moments(audit(BAD, named=named, spans=(NIGHT,), BIOS="2.5.0")) == (text(-30), text(-10), text(-10), ["CHG1"])
    assert moments(audit(GOOD, named=named, BIOS="2.5.0")) == (text(-24), text(0), text(0), []), "it was put right in between"


def test_where_nobody_has_seen_it_as_recorded_no_change_is_said_to_cover_it_or_not_to() -> None:
    unseen = audit(BAD, spans=(NIGHT,), BIOS="2.5.0")
    assert moments(unseen) == (None, text(-6), text(-6), None)
    assert "recorded (since 2026-03-01 06:00 UTC); find out" in difference_lines([unseen])[0]
    assert moments(audit(spans=(NIGHT,), BIOS="2.5.0")) == (None, text(0), text(0), None)
    other = FirmwareReading("BIOS", "2.3.0", at(-6))
    assert moments(audit(other, BIOS="2.5.0")) == (None, text(0), text(0), None)
    stranger = RecordedDevice("web1", None, DEVICE.attributes | {"serial": "SN1", "model": "R750"}, {"BIOS": "2.4.0"})
    assert audit(GOOD, device=stranger, BIOS="2.5.0")["since"] == text(0), "a unit's readings are of that unit"


def test_each_component_has_its_own_time_and_has_to_be_covered() -> None:
    nic = FirmwareReading("NIC", "1.0", at(-2))
    one = audit(GOOD, nic, spans=(NIGHT,), BIOS="2.5.0", NIC="1.1")
    assert moments(one) == (text(-24), text(0), text(0), []), "the second one came about when no change was open"
    both = (NIGHT, Span("CHG2", "web1", at(-1), None))
    assert audit(GOOD, nic, spans=both, BIOS="2.5.0", NIC="1.1")["covered_by"] == ["CHG1", "CHG2"]
    assert audit(BAD, nic, spans=both, BIOS="2.5.0", NIC="1.1")["covered_by"] is None


def test_the_last_audits_are_asked_until_one_that_saw_all_and_did_not_name_it(tmp_path: Path) -> None:
    one = {"host": "web1", "kind": "other_firmware", "detail": "x", "after": text(-9), "since": text(-8)}
    other = {**one, "detail": "y"}
    rows = [(3, 3, [one]), (3, 3, [other, {**one, "kind": "other"}, {**other, "host": "web2", "since": None}]), (2, 3, [])]
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        with cmdb.read() as connection:
            assert named_before(connection, "other_firmware") == {}
        for number, (compared, hosts, differences) in enumerate(rows):
            save_audit(cmdb, compared, hosts, differences, "carl", at(number))
        with cmdb.read() as connection:
            assert named_before(connection, "other_firmware") == {("web1", "y"): (text(-9), text(-8))}
