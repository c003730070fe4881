# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit is at its level by what it said lately; nothing orders versions but the ways that releases go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.level import (
    FirmwareLevel,
    FirmwareReading,
    LevelStanding,
    LevelState,
    Way,
    compare_to_levels,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEVEL = FirmwareLevel("R750", "BIOS", "00.1B.53")
# A version that sorts before, one that no scheme reads, and one for another model.
WAYS = [
    Way("bios 2", "R750", "BIOS", ("00.09.01",), "00.10.37"),
    Way("bios 3", "R750", "BIOS", ("00.10.37", "3.5a"), "00.1B.53"),
    Way("bios 4", "R750", "BIOS", ("00.1B.53",), "00.1C.00"),
    Way("other", "R650", "BIOS", ("7",), "00.1B.53"),
    Way("bmc", "R750", "BMC", ("7",), "00.1B.53"),
]


def compare(version: str, days: float = 1, component: str = "BIOS", model: str = "R750") -> list[LevelStanding]:
    reading = FirmwareReading(component, version, NOW - timedelta(days=days))
    return compare_to_levels(model, [reading], [LEVEL], WAYS, NOW, 90)


def test_each_state_and_what_is_said_of_it() -> None:
    said = {
        "00.1B.53": (LevelState.AT_LEVEL, "has BIOS 00.1B.53"),
        "00.10.37": (LevelState.BEHIND, "has BIOS 00.10.37, behind 00.1B.53: bios 3"),
        "00.09.01": (LevelState.BEHIND, "has BIOS 00.09.01, behind 00.1B.53: bios 2, then bios 3"),
        "3.5a": (LevelState.BEHIND, "has BIOS 3.5a, behind 00.1B.53: bios 3"),
        "00.1C.00": (LevelState.AHEAD, "has BIOS 00.1C.00, ahead of 00.1B.53"),
        "7": (LevelState.UNKNOWN, "has BIOS 7, from which no archived release leads to 00.1B.53"),
    }
    for version, expected in said.items():
        (found,) = compare(version)
        assert (found.state, found.sentence()) == expected


def test_what_was_not_read_lately_or_of_another_component_says_nothing() -> None:
    for found in (compare("00.1B.53", 91), compare("00.1B.53", component="BMC"), compare_to_levels("R750", [], [LEVEL], WAYS, NOW, 90)):
        assert [one.sentence() for one in found] == ["was not read lately, and is to have BIOS 00.1B.53"]
    assert compare("00.1B.53", 90)[0].state is LevelState.AT_LEVEL
    assert compare("x", model="R650") == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=15), st.integers(0, 6), st.integers(0, 6))
def test_a_chain_leads_from_what_it_has_to_the_level_in_circles_too(edges: list[tuple[int, int]], has: int, wanted: int) -> None:
    ways = [Way(f"{start}>{end}", "M", "C", (str(start),), str(end)) for start, end in edges]
    reading = FirmwareReading("C", str(has), NOW)
    (found,) = compare_to_levels("M", [reading], [FirmwareLevel("M", "C", str(wanted))], ways, NOW, 1)
    place = has
    for step in found.chain:
        start, end = map(int, step.split(">"))
        assert start == place
        place = end
    assert (found.state is LevelState.BEHIND) == (place == wanted and has != wanted)
    assert len(found.chain) <= 6
