# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that stand in for one another are updated one at a time, by what they say themselves; an audit names what changed since."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from bmc import PASSWORD, Bmc, Component
from rack import HOSTS, Rack, build_rack
from waiting import wait_until


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with build_rack(tmp_path_factory.mktemp("rack")) as made:
        yield made


@pytest.fixture
def rack(built: Rack) -> Rack:
    built.fresh()
    return built


def overlap(one: Bmc, other: Bmc) -> bool:
    """Whether two machines were at an image at the same time, by what they say themselves."""
    return any(begin < after and start < end for begin, end in one.down for start, after in other.down)


@pytest.fixture
def redundant(rack: Rack) -> Iterator[Rack]:
    """The first two are redundant, as the second says, and all three go in one wave."""
    rack.point("srv2", redundant_with=["srv1"])
    rack.waves(3)
    yield rack
    rack.point("srv2")
    rack.waves(1)


def test_of_two_that_are_redundant_one_is_down_at_a_time_there_and_back_while_the_third_goes_on(redundant: Rack) -> None:
    first, second, third = redundant.machines.values()
    for machine in redundant.machines.values():
        machine.seconds = 1
    rfc = redundant.rfc("CHG0200010", "3.0.0", redundant.archive("3.0.0", ["2.4.0"]))
    status, said = redundant.play("deploy", rfc)
    assert status == 0, said
    assert redundant.flashed == [["3.0.0"]] * 3
    assert not overlap(first, second)
    assert overlap(first, third) or overlap(second, third)
    status, said = redundant.play("backout", rfc)
    assert status == 0, said
    assert redundant.flashed == [["3.0.0", "2.4.0"]] * 3
    assert not overlap(first, second)


def test_what_is_redundant_with_one_that_did_not_come_back_is_not_touched(redundant: Rack) -> None:
    redundant.machines["srv1"].faults = {"other_version"}
    redundant.machines["srv1"].seconds = 1
    rfc = redundant.rfc("CHG0200011", "3.1.0", redundant.archive("3.1.0", ["2.4.0"]))
    status, said = redundant.play("deploy", rfc, "--forks", "1")  # one worker, and so in their order
    assert status != 0
    assert "srv1, which is redundant with it, is stuck in CHG0200011#" in said
    assert redundant.flashed[1] == []
    assert redundant.machines["srv2"].components["BIOS"].version == "2.4.0"
    assert redundant.flashed[2] == ["3.1.0", "2.4.0"]
    assert redundant.states("CHG0200011")["srv1"] == "owed"
    assert redundant.states("CHG0200011")["srv3"] == "backed_out"
    redundant.machines["srv1"].components = {"BIOS": Component("2.4.0")}
    redundant.machines["srv1"].faults = set()
    status, said = redundant.play("backout", rfc)
    assert status == 0, said
    assert redundant.deployment("CHG0200011") == "backed_out"


@pytest.mark.thorough
def test_a_killed_run_keeps_nobody_from_going_on_with_what_is_redundant(redundant: Rack) -> None:
    for machine in redundant.machines.values():
        machine.seconds = 2
    rfc = redundant.rfc("CHG0200012", "3.2.0", redundant.archive("3.2.0", ["2.4.0"]))
    with redundant.start("deploy", rfc) as process:
        pair = [redundant.machines[name] for name in ("srv1", "srv2")]
        wait_until(lambda: any(machine.tasks for machine in pair) or process.poll() is not None, 90)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    status, said = redundant.play("deploy", rfc, "--forks", "1")  # so that who waited for another's worker would wait for good
    assert status == 0, said
    assert redundant.flashed == [["3.2.0"]] * 3
    assert not overlap(redundant.machines["srv1"], redundant.machines["srv2"])
    status, said = redundant.play("backout", rfc)
    assert status == 0, said


def test_who_names_none_that_there_is_gets_nothing(redundant: Rack) -> None:
    redundant.point("srv2", redundant_with=["srv9"])
    rfc = redundant.rfc("CHG0200013", "3.3.0", redundant.archive("3.3.0", ["2.4.0"]))
    status, said = redundant.play("deploy", rfc)
    assert status != 0
    assert "redundant_with of the CI srv2 names 'srv9', which the CMDB does not have; correct it" in said
    assert redundant.flashed == [[], [], []]
    redundant.play("backout", rfc)


def differences(rack: Rack) -> list[dict[str, Any]]:
    """What the newest audit has named."""
    ((data,),) = rack.rows("select data from history where event = 'audited' order by seq desc limit 1")
    found: list[dict[str, Any]] = json.loads(data)["differences"]
    return found


@pytest.mark.thorough
def test_an_audit_names_what_changed_behind_the_records_once_for_each_unit_and_kind(rack: Rack) -> None:
    rfc = rack.rfc("CHG0200020", "3.5.0", rack.archive("3.5.0", ["2.4.0"]))
    status, said = rack.play("deploy", rfc)
    assert status == 0, said
    rack.rows("update asset_firmware set at = '2020-01-01 00:00:00.000000'")
    status, said = rack.play("audit", rfc, "--check")
    assert status == 0, said
    assert "3 of 3 hosts were compared with the CMDB and the DSL: each runs what the CMDB says" in said
    old = "select count(*) from asset_firmware where at < '2021-01-01'"
    assert rack.rows(old)[0][0] == len(HOSTS)
    status, said = rack.play("audit", rfc)
    assert status == 0, said
    assert rack.rows(old) == [(0,)]  # what an audit reads is read
    rack.move(*(MoveOrder("receive", f"A-{n}", "Contoso", f"SN-{n}", "R750", stockroom="ams-1") for n in (50, 51)))
    first, second, third = rack.machines.values()
    first.components = {"BIOS": Component("2.3.0")}
    second.serial, second.tag = "SN-50", "A-50"
    third.faults = {"mute"}
    third.reset("bmc")
    status, said = rack.play("audit", rfc)
    found = differences(rack)
    rack.play("audit", rfc)
    again = differences(rack)
    second.serial, second.tag = "SN-srv2", "A-srv2"
    rack.rows("delete from asset where tag in ('A-50', 'A-51')")
    assert status != 0
    named = sorted((one["host"] or "", one["unit"] or "", one["kind"]) for one in found)
    assert named == [
        ("", "A-51", "not_read"),
        ("srv1", "A-srv1", "other_firmware"),
        ("srv2", "A-50", "misplaced_unit"),
        ("srv3", "", "unreachable"),
    ]
    minute = r"20\S+ \S+"
    assert re.search(
        rf"it runs BIOS 2\.3\.0 where 3\.5\.0 is recorded \(between {minute} and {minute} UTC, no RFC covers it\); find out who", said
    )
    (firmware,), (same,) = ([one for one in all_of if one["kind"] == "other_firmware"] for all_of in (found, again))
    assert firmware["after"] < firmware["since"]
    assert [same[key] for key in ("after", "since", "covered_by")] == [firmware["after"], firmware["since"], []]
    assert "it says that it is SN-50, which the hardware storage has as A-50, in stock ams-1, available" in said
    assert PASSWORD not in said
    third.faults = set()
    third.reset("bmc")
    first.components = {"BIOS": Component("3.5.0")}
    status, said = rack.play("backout", rfc)
    assert status == 0, said
