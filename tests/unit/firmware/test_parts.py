# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a slot, by what a device says of its parts; also when it says nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceIdentity
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.parts import part_in, parts_of
from hypothesis import given
from hypothesis import strategies as st

TREE: dict[str, dict[str, Any]] = {
    "/s/1": {"Memory": {"@odata.id": "/s/1/m"}, "Storage": {"@odata.id": "/s/1/st"}},
    "/s/1/m/A1": {"Id": "DIMM.A1", "SerialNumber": "M1", "Model": "16G"},
    "/s/1/st/1": {"Id": "1", "Drives": [{"@odata.id": "/d/0"}, {"@odata.id": "https://elsewhere/d"}, 7]},
    "/d/0": {"Id": "0", "Name": "Bay 0", "SerialNumber": "D0"},
    "/c/1": {"Power": {"@odata.id": "/c/1/p"}, "PowerSubsystem": {"@odata.id": "/c/1/ps"}},
    "/c/1/p": {"PowerSupplies": [{"MemberId": "0", "Name": "PSU 0", "SerialNumber": "P0"}, None]},
    "/c/1/ps": {"PowerSupplies": {"@odata.id": "/c/1/ps/l"}},
    "/c/1/ps/l/1": {"Id": "1", "Location": {"PartLocation": {"ServiceLabel": "PSU 1"}}, "SerialNumber": "P1", "Model": "800W"},
}
LISTS = {"/s/1/m": ["/s/1/m/A1"], "/s/1/st": ["/s/1/st/1"], "/c/1/ps/l": ["/c/1/ps/l/1"]}


def found(slot: str) -> DeviceIdentity | None:
    return part_in(slot, parts_of(TREE.__getitem__, LISTS.__getitem__, ["/s/1"], ["/c/1"]))


@pytest.mark.parametrize(
    ("slot", "serial"), [("DIMM.A1", "M1"), ("Bay 0", "D0"), ("PSU 0", "P0"), ("PSU 1", "P1"), ("PSU 2", ""), ("", ""), ("psu 1", "")]
)
def test_a_part_is_found_by_its_id_its_name_or_the_label_of_its_place(slot: str, serial: str) -> None:
    part = found(slot)
    assert (part.serial if part else "") == serial


def test_a_slot_that_two_parts_name_or_that_says_no_serial_number_can_not_be_read() -> None:
    one, other = {"Id": "0", "SerialNumber": "S1"}, {"Name": "0", "SerialNumber": "S2"}
    assert part_in("0", [one, other]) is None
    assert part_in("0", [one, one]) == DeviceIdentity("S1", "")
    assert part_in("0", [{"Id": "0", "SerialNumber": None}]) is None
    assert part_in("0", [{"Id": "0"}, one]) == DeviceIdentity("S1", "")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([{"Id": "0", "Status": {"State": "Absent"}}], DeviceIdentity("", "")),
        ([{"Id": "0", "Status": {"State": "Absent"}, "Model": "800W"}], DeviceIdentity("", "")),
        ([{"Id": "0", "Status": {"State": "Absent"}}, {"Name": "0", "Status": {"State": "Enabled"}}], None),
        ([{"Id": "0", "Status": {"State": "Absent"}}, {"Name": "0", "SerialNumber": "S1"}], DeviceIdentity("S1", "")),
        ([{"Id": "0", "Status": "Absent"}], None),
        ([{"Id": "1", "Status": {"State": "Absent"}}], None),
        ([], None),
    ],
)
def test_a_slot_is_empty_when_all_that_is_said_of_it_says_so(parts: list[dict[str, Any]], expected: DeviceIdentity | None) -> None:
    assert part_in("0", parts) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Id", "Name", "SerialNumber", "Location", "PartLocation", "ServiceLabel", "@odata.id", "Drives"]), inner
        )
    ),
    max_leaves=12,
)
PAGES = st.dictionaries(
    st.sampled_from(
        ["Id", "Name", "MemberId", "SerialNumber", "Model", "Location", "Memory", "Storage", "Power", "PowerSupplies", "Drives"]
    ),
    JSON,
)


@given(PAGES, st.text(max_size=3))
def test_nonsense_is_nothing_that_can_be_read(page: dict[str, Any], slot: str) -> None:
    parts = list(parts_of(lambda _address: page, lambda _address: ["/x"], ["/s"], ["/c"]))
    part = part_in(slot, [one for one in parts if isinstance(one, dict)])
    assert part is None or part.serial
