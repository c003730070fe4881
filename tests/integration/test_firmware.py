# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of firmware through the same verbs, waves and gates, to machines whose hosts nobody can log in to."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from bmc import PASSWORD, Component
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


def test_firmware_is_deployed_in_waves_and_backed_out(rack: Rack) -> None:
    rfc = rack.rfc("CHG0200001", "2.5.0", rack.archive("2.5.0", ["2.4.0"]))
    status, said = rack.play("deploy", rfc, "-vvv")
    assert status == 0, said
    assert rack.versions == ["2.5.0"] * 3
    assert rack.flashed == [["2.5.0"]] * 3
    assert set(rack.installed.values()) == {"2.5.0"}
    before = rack.rows("select distinct previous_version from deployment_host")
    assert before == [("2.4.0",)]  # which nobody had told the CMDB: it was read, and that release is archived
    steps = rack.rows("select data from journal where event = 'firmware_step' and host = 'srv1' order by seq")
    names = [json.loads(data)["step"] for (data,) in steps]
    assert names == ["identify", "precheck", "stage", "activate", "restart", "return", "read", "health", "over"]
    # What was read is on record: of the CI, of the unit that serves it, and as what units of the model have to have.
    assert {json.loads(attributes)["firmware"]["BIOS"] for (attributes,) in rack.rows("select attributes from ci")} == {"2.5.0"}
    read = "select a.tag, f.component, f.version from asset_firmware f join asset a on a.id = f.asset_id order by a.tag"
    assert rack.rows(read) == [(f"A-{name}", "BIOS", "2.5.0") for name in HOSTS]
    level = "select model, component, version, release from firmware_level"
    assert rack.rows(level) == [("R750", "BIOS", "2.5.0", "bios")]
    status, said = rack.play("deploy", rfc)
    assert status == 0, said
    assert rack.flashed == [["2.5.0"]] * 3
    status, said = rack.play("backout", rfc)
    assert status == 0, said
    assert rack.versions == ["2.4.0"] * 3
    assert set(rack.installed.values()) == {"2.4.0"}
    assert rack.deployment("CHG0200001") == "backed_out"
    assert {version for _tag, _component, version in rack.rows(read)} == {"2.4.0"}
    assert rack.rows(level) == [("R750", "BIOS", "2.4.0", "bios")]
    # Nowhere but in the vault.
    secret = PASSWORD.encode()
    assert PASSWORD not in rack.said
    own = rack.path / "vault.yml"
    assert [path for path in rack.path.rglob("*") if path.is_file() and path != own and secret in path.read_bytes()] == []
    assert all(machine.sessions == {} for machine in rack.machines.values())


def test_one_that_lies_brings_all_back_that_got_it(rack: Rack) -> None:
    rack.machines["srv3"].faults = {"lies"}
    rfc = rack.rfc("CHG0200002", "2.6.0", rack.archive("2.6.0", ["2.4.0"]))
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert "it runs BIOS 2.4.0, not 2.6.0" in said
    assert rack.versions == ["2.4.0"] * 3
    assert rack.deployment("CHG0200002") == "backed_out"
    assert rack.flashed == [["2.6.0", "2.4.0"]] * 2 + [[]]
    assert "2.6.0" not in rack.installed.values()


def test_what_the_cmdb_has_under_a_wrong_address_or_can_not_go_back_gets_nothing(rack: Rack) -> None:
    rack.point("srv2", rack.machines["srv3"].url)
    rack.point("srv3", rack.machines["srv2"].url)
    rack.machines["srv1"].components = {"BIOS": Component("2.3.0")}
    rfc = rack.rfc("CHG0200004", "2.8.0", rack.archive("2.8.0", ["2.4.0", "2.3.0"]))
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert "its serial number is SN-srv3, and the recorded one is SN-srv2" in said
    assert "no archived version of bios has that for the R750" in said
    assert rack.flashed == [[], [], []]
    assert {path for machine in rack.machines.values() for method, path in machine.requests if method == "POST"} == {
        "/redfish/v1/SessionService/Sessions"
    }
    for name in HOSTS:
        rack.point(name)
    status, said = rack.play("backout", rfc)
    assert status == 0, said


@pytest.mark.thorough
def test_a_machine_with_another_version_than_recorded_gets_nothing_before_a_spare_is_there(rack: Rack) -> None:
    rack.archive("2.3.0", ["2.2.0"])
    rfc = rack.rfc("CHG0200006", "2.4.5", rack.archive("2.4.5", ["2.4.0", "2.3.0"], back_to=["2.4.0"]))
    with Cmdb.open(str(rack.path / "cmdb.sqlite")) as cmdb:
        cis = [{**ci, "attributes": {**ci["attributes"], "firmware": {"BIOS": "2.4.0"}}} for ci in cmdb.cis()]
        cmdb.put_cis(cis, "test")
    rack.machines["srv1"].components = {"BIOS": Component("2.3.0")}
    rack.spoil_stock()
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert "it runs BIOS 2.3.0, and the CMDB has BIOS 2.4.0" in said
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert "spares for what can't go back: 1 of R750 are needed and 0 are usable" in said
    assert rack.flashed == [[], [], []]
    rack.rows("delete from firmware_level")  # what units of the model have to have is not the matter here
    rack.move(MoveOrder("receive", "A-77", "Contoso", "SN-77", "R750", stockroom="ams-1"))
    rack.machines["srv3"].faults = {"lies"}  # so that it does not end before one looks
    status, said = rack.play("deploy", rfc)
    assert rack.flashed[0] == ["2.4.5"], said
    assert rack.rows("select event from history where asset = 'A-77' order by seq")[1] == ("asset reserve",)
    status, said = rack.play("backout", rfc, "-e", "tidegate_accept=srv1")
    assert status == 0, said
    assert rack.rows("select substate from asset where tag = 'A-77'") == [("available",)]


def test_a_killed_run_is_gone_on_with_and_no_device_is_flashed_twice(rack: Rack) -> None:
    for machine in rack.machines.values():
        machine.seconds = 2
    rfc = rack.rfc("CHG0200005", "2.9.0", rack.archive("2.9.0", ["2.4.0"]))
    with rack.start("deploy", rfc) as process:
        wait_until(lambda: bool(rack.machines["srv1"].tasks) or process.poll() is not None, 90)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert rack.states("CHG0200005")["srv1"] == "activating"
    status, said = rack.play("deploy", rfc)
    assert status == 0, said
    assert rack.flashed == [["2.9.0"]] * 3
    assert rack.versions == ["2.9.0"] * 3
    status, said = rack.play("backout", rfc)
    assert status == 0, said


def test_what_can_not_go_back_holds_the_gate_until_it_is_exchanged_or_accepted(rack: Rack) -> None:
    rack.spoil_stock()
    rack.machines["srv2"].faults = {"other_version"}
    rfc = rack.rfc("CHG0200003", "2.7.0", rack.archive("2.7.0", ["2.4.0"], back_to=[]))
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert "spares for what can't go back: 1 of R750 are needed and 0 are usable" in said
    rack.move(*(MoveOrder("receive", f"A-9{n}", "Contoso", f"SN-9{n}", "R750", stockroom="ams-1") for n in range(2)))
    rack.read_on_bench("A-90", "A-91", version="2.4.0")
    assert rack.flashed == [[], [], []]
    status, said = rack.play("deploy", rfc)
    assert status != 0
    assert rack.versions == ["2.7.0", "2.7.0-beta", "2.7.0"]
    number = rack.rows("select id from deployment where rfc = 'CHG0200003'")
    spares = "select tag, substate, deployment_id from asset where stockroom <> '' and substate <> 'defective' order by tag"
    assert rack.rows(spares) == [("A-90", "reserved", number[0][0]), ("A-91", "available", None)]
    # Nothing is owed that can't be paid.
    assert rack.deployment("CHG0200003") == "held"
    assert rack.states("CHG0200003") == {"srv1": "active", "srv2": "stuck", "srv3": "active"}
    assert "no firmware brings srv1 (serial number SN-srv1, no way down to BIOS 2.4.0), srv2" in said
    status, said = rack.play("backout", rfc)
    assert status != 0
    assert "can't be backed out as it is: no firmware brings srv1" in said
    assert rack.deployment("CHG0200003") == "held"
    status, said = rack.swap(rfc, "srv2", "SN-srv2", "SN-90")
    assert status != 0
    assert "srv2 is not exchanged as it is said: its serial number is SN-srv2, and the recorded one is SN-90" in said
    assert rack.rows(spares) == [("A-90", "reserved", number[0][0]), ("A-91", "available", None)]
    machine = rack.machines["srv2"]
    machine.serial, machine.tag, machine.components = "SN-90", "A-90", {"BIOS": Component("2.4.0")}
    for old, new in (("SN-srv3", "SN-90"), ("SN-srv2", "SN-srv3")):
        status, said = rack.swap(rfc, "srv2", old, new)
        assert status != 0, said
    status, said = rack.swap(rfc, "srv2", "SN-srv2", "SN-90")
    assert status == 0, said
    assert "A-90 is in srv2, as it says itself; run deploy of CHG0200003 again" in said
    assert rack.rows(spares) == [("A-91", "available", None), ("A-srv2", "quarantine", None)]
    attributes = json.loads(rack.rows("select attributes from ci where name = 'srv2'")[0][0])
    assert [attributes[key] for key in ("serial", "asset_tag")] == ["SN-90", "A-90"]
    assert "firmware" not in attributes
    status, said = rack.swap(rfc, "srv2", "SN-srv2", "SN-90")  # again, and nothing more is exchanged
    assert status == 0, said
    status, said = rack.play("backout", rfc)
    assert status != 0
    assert "no firmware brings srv1 (serial number SN-srv1, no way down to BIOS 2.4.0), srv3" in said
    status, said = rack.play("backout", rfc, "-e", json.dumps({"tidegate_accept": ["srv1", "srv3"]}))
    assert status == 0, said
    assert rack.deployment("CHG0200003") == "backed_out"
    assert rack.states("CHG0200003") == {"srv1": "accepted", "srv2": "backed_out", "srv3": "accepted"}
    assert rack.versions == ["2.7.0", "2.4.0", "2.7.0"]
    assert rack.flashed == [["2.7.0"], ["2.7.0-beta"], ["2.7.0"]]
    assert {host: version for host, version in rack.installed.items() if host != "srv2"} == {"srv1": "2.7.0", "srv3": "2.7.0"}
