# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit asks a device what is recorded of it, and what keeps it from answering is an answer, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.device_reading import DeviceQuestion, read_device, what_to_ask
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.unit_check import DeviceReading
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from bmc import PASSWORD, USER, Bmc, serve
from registry import make_certificate
from waiting import wait_until

WHO = {"redfish_user": USER, "redfish_password": PASSWORD}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bmc]:
    key, certificate = make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serve(Bmc(), key, certificate) as machine:
        yield machine


def read(machine: Bmc, who: Mapping[str, Any] = MappingProxyType(WHO), **changes: Any) -> DeviceReading:
    return read_device(who, DeviceQuestion({"redfish": machine.url, **changes}, "SN0001", ("BIOS", "PSU"), software=False), None)


def test_a_device_says_which_it_is_and_what_it_runs_and_nothing_is_changed_there(machine: Bmc) -> None:
    found = read(machine)
    assert found == DeviceReading("SN0001", "R750", "A-0001", {"BIOS": ("2.4.0",), "PSU": ()})
    assert DeviceReading.of(found.to_dict()) == found
    assert {path for method, path in machine.requests if method == "POST"} == {"/redfish/v1/SessionService/Sessions"}
    assert machine.sessions == {}


def test_what_is_in_slots_is_read_as_far_as_it_is_said(machine: Bmc) -> None:
    machine.parts = {"PSU 1": "PS1", "PSU 2": ""}
    asked = DeviceQuestion({"redfish": machine.url}, "SN0001", (), software=False, slots=("PSU 1", "PSU 2", "PSU 3"))
    found = read_device(WHO, asked, None)
    assert found.parts == {"PSU 1": "PS1", "PSU 2": ""}
    assert DeviceReading.of(found.to_dict()) == found
    supplies = [path for _method, path in machine.requests if path.endswith("/PowerSupplies")]
    assert len(supplies) == 1, "whatever many slots there are"


def test_why_a_device_does_not_answer_is_said(machine: Bmc) -> None:
    machine.faults = {"mute"}
    machine.reset("bmc")
    assert read(machine).silent
    machine.faults = set()
    machine.reset("bmc")
    wait_until(lambda: not machine.silent, 10)
    wrong = read(machine, {"redfish_user": USER, "redfish_password": "guessed"})
    assert not wrong.silent
    assert "does not know this user" in wrong.problem
    assert "who we are to the BMC" in read(machine, {}).problem
    assert "no https://host[:port]" in read(machine, redfish="http://bmc1").problem


def test_what_is_asked_is_what_is_recorded_of_it(tmp_path: Path) -> None:
    options = {"cmdb": str(tmp_path / "cmdb.sqlite")}
    with Cmdb.open(options["cmdb"], create=True) as cmdb:
        said = {"redfish": "https://bmc1", "serial": "SN0", "model": "R640", "firmware": {"BIOS": "2.4.0"}}
        cmdb.put_cis([{"name": "srv1", "attributes": said}, {"name": "web1"}], "test")
        assert what_to_ask(options, "web1") is None
        assert what_to_ask(options, "srv9") is None
        assert what_to_ask(options, "srv1") == DeviceQuestion(said, "SN0", ("BIOS",), software=False)
        guid = "b585990a-003e-5270-89d5-3705a17f9a43"
        for known, asked in (({"BIOS": "2.4.0"}, None), ({"BIOS": "2.4.0", guid: "1.2.2"}, (guid,))):
            own = {"serial": "SN3", "firmware": known}
            cmdb.put_cis([{"name": "srv3", "attributes": own}], "test")
            wanted = None if asked is None else DeviceQuestion(own, "SN3", asked, software=False, by_host=True)
            assert what_to_ask(options, "srv3") == wanted
        with cmdb.begin() as connection:
            new = MoveOrder("receive", "T1", "Contoso", "SN1", "R750", stockroom="ams-1")
            part = MoveOrder("receive", "P1", "Contoso", "PS1", "PSU", stockroom="ams-1")
            there = [MoveOrder("install", "T1", ci="srv1"), MoveOrder("install", "P1", ci="srv1", slot="PSU 1")]
            move_units(connection, [new, part, *there], "ann", utc_now(), True)
            row = {"ci": "srv1", "release": "hello", "version": "1.0", "digest": "sha256:" + "1" * 64}
            cmdb.record_installations(connection, [row], "ann", utc_now())
        assert what_to_ask(options, "srv1") == DeviceQuestion(said, "SN1", ("BIOS",), software=True, slots=("PSU 1",))
