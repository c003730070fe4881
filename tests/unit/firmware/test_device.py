# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only the versions that a device says decide, and they are the same text or another."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import Minutes
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import (
    DeviceIdentity,
    Goal,
    Noted,
    Task,
    UpdateStep,
    Verdict,
    differences,
    judge,
    last_begun,
    text,
    versions_of,
)
from hypothesis import given
from hypothesis import strategies as st

GOAL = Goal("BIOS", "3.5a", ("3.5",), "host_reset", Minutes())
ENTRY = {"Id": "BIOS", "SoftwareId": "159", "Version": "3.5"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@pytest.mark.parametrize(
    ("read", "verdict"),
    [
        (("3.5a",), Verdict.NEW),
        (("3.5",), Verdict.OLD),
        (("3.5A",), Verdict.OTHER),
        (("3.5", "3.5a"), Verdict.OTHER),
        ((), Verdict.UNKNOWN),
    ],
)
def test_a_version_is_the_same_text_or_another_one(read: tuple[str, ...], verdict: Verdict) -> None:
    assert judge(read, GOAL, "3.5") is verdict


def test_entries_of_what_does_not_run_do_not_count() -> None:
    def entries(**versions: str) -> list[dict[str, Any]]:
        return [{**ENTRY, "Id": f"{kind}-159-{version}", "Version": version} for kind, version in versions.items()]

    assert versions_of("BIOS", [ENTRY]) == versions_of("159", [ENTRY]) == ("3.5",)
    assert versions_of("159", entries(Current="2", Installed="2", Previous="1", Available="3")) == ("2",)
    assert versions_of("159", entries(Current="2", Installed="3")) == ("2", "3")  # nobody knows
    assert versions_of("NIC", [ENTRY]) == ()
    assert versions_of("BIOS", [ENTRY, {**ENTRY, "Version": None}]) == ()


@given(st.lists(st.dictionaries(st.sampled_from(["Id", "SoftwareId", "Version"]), JSON | st.just("BIOS") | st.just("3.5a"))))
def test_no_answer_is_new_that_does_not_say_the_version(entries: list[dict[str, Any]]) -> None:
    verdict = judge(versions_of("BIOS", entries), GOAL, "3.5")
    said = [entry.get("Version") for entry in entries if "BIOS" in (entry.get("Id"), entry.get("SoftwareId"))]
    assert (verdict is Verdict.NEW) <= ("3.5a" in [one.strip() for one in said if isinstance(one, str)])


@given(JSON)
def test_a_text_of_a_device_can_be_shown(value: Any) -> None:
    assert text(value).isprintable()
    assert text(value).isascii()


def test_a_task_that_is_not_known_to_be_over_is_not() -> None:
    assert not any(Task("/t", state).runs for state in ("Completed", "Exception", "Killed", "Cancelled", "Gone"))
    assert all(Task("/t", state).runs for state in ("New", "Running", "Pending", "Suspended", "Interrupted", "", "Whatever"))
    assert Task("/t", "Completed", critical=True).failed
    assert not Task("/t", "Running", critical=True).failed


def test_what_is_recorded_is_compared() -> None:
    recorded = DeviceIdentity("S1", "R750", "A1")
    assert differences(recorded, recorded) == []
    assert len(differences(DeviceIdentity("S2", "R650", "A2"), recorded)) == 3
    assert differences(DeviceIdentity("S1", "R750", "A2"), DeviceIdentity("S1", "R750")) == []
    assert differences(DeviceIdentity("", "R750"), DeviceIdentity("", "R750")) == [
        "its serial number is not said, and the recorded one is not known"
    ]


def test_an_update_that_is_over_is_not_gone_on_with() -> None:
    def noted(step: UpdateStep, version: str = "3.5a", component: str = "BIOS") -> Noted:
        return Noted(step, {"component": component, "version": version})

    stage, read, over = noted(UpdateStep.STAGE), noted(UpdateStep.READ), noted(UpdateStep.OVER)
    assert last_begun([noted(UpdateStep.PRECHECK)], "BIOS") is None
    assert last_begun([stage, read, noted(UpdateStep.STAGE, component="NIC")], "BIOS") is read
    assert last_begun([stage, read, over], "BIOS") is None
    assert last_begun([stage, over, stage, noted(UpdateStep.IDENTIFY)], "BIOS") is stage
