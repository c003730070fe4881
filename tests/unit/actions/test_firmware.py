# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a host by what its machine says, without Ansible: staging reads, and a state is what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import firmware
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.device import open_device, recorded_identity
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.firmware import FirmwareHost
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import Unit, UnitState
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware import redfish
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from bmc import PASSWORD, USER, Bmc, FastClock, image, serve
from registry import make_certificate
from releases import write_release

CHANGES = {"BIOS": ("2.4.0", "2.5.0", "host_reset"), "NIC.1": ("22.0.6", "22.1", "immediate")}
SOFTWARE = ("health", "hooks", "settings", "licence")
SHORT = {"transfer": 30, "silence": 0.3, "restart": 0.3}


class Journal:
    """The steps that were noted."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, Mapping[str, Any]]] = []

    def note_step(self, _run: Any, _host: str, step: str, about: Mapping[str, Any], _now: datetime) -> None:
        self.noted.append((step, about))

    def steps(self, _run: Any, _host: str) -> list[tuple[str, Mapping[str, Any]]]:
        return list(self.noted)

    def renew(self, _run: Any, _now: datetime) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def machine(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bmc]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[1]))
    monkeypatch.setattr(firmware, "time", FastClock())
    with serve(Bmc(seconds=0.03), *certificate) as machine:
        yield machine


def write(folder: Path, version: str, which: int, back: bool = True) -> Path:
    """A release with the version before (0) or the new one (1) of each component."""
    images, files = [], {}
    for component, versions in CHANGES.items():
        before, own = ("0.1", versions[0]) if which == 0 else (versions[0], versions[1])
        files[f"{component}.bin"] = image(component, own)
        entry = {"component": component, "models": ["R750"], "image": f"{component}.bin", "version": own, "from": [before]}
        images.append({**entry, "back_to": [before] if back else [], "takes_effect": versions[2], "minutes": SHORT})
    return write_release(folder, files, **{**dict.fromkeys(SOFTWARE, ...), "kind": "firmware", "firmware": images, "version": version})


class Make:
    """Makes the device of a host as each run does, with a library and a journal that stay. ``before``: the package that it had."""

    def __init__(self, machine: Bmc, path: Path) -> None:
        self.machine, self.path, self.journal = machine, path, Journal()
        self.repository = OciLayout.create(path / "dsl").repository("hello")

    @property
    def before(self) -> str | None:
        return self.repository.resolve("hello", "1.0")

    def __call__(self, *, before: bool = True, back: bool = True, unit: Unit | None = None, **changes: str | None) -> FirmwareHost:
        machine, path = self.machine, self.path
        if before and self.before is None:
            archive(write(path / "old", "1.0", 0), self.repository)
        digest = self.repository.resolve("hello", "2.0") or archive(write(path / "new", "2.0", 1, back), self.repository).digest
        deployment: Any = SimpleNamespace(release="hello", version="2.0", digest=digest, run=None)
        attributes = {"redfish": machine.url, "serial": machine.serial, "model": machine.model, "asset_tag": machine.tag} | changes
        options = {"dsl": str(path / "dsl"), "redfish_user": USER, "redfish_password": PASSWORD}
        kept: Any = self.journal
        (path / "run").mkdir(exist_ok=True)
        said = recorded_identity("srv1", attributes, unit)
        return FirmwareHost(options, kept, deployment, "srv1", said, lambda: open_device(said, options, None), path / "run")


@pytest.fixture
def host(machine: Bmc, tmp_path: Path) -> Make:
    return Make(machine, tmp_path)


def versions(machine: Bmc) -> dict[str, str]:
    return {name: machine.components[name].version for name in CHANGES}


OLD, NEW = ({name: pair[which] for name, pair in CHANGES.items()} for which in (0, 1))


def test_all_components_get_there_and_back_and_the_last_one_goes_first(machine: Bmc, host: Make) -> None:
    stage = host().stage(None, OLD)
    assert stage
    assert stage["version"] == "1.0"
    assert machine.flashed == []
    assert host().activate() == (HostState.STARTED, "")
    assert versions(machine) == NEW
    assert host().confirm() == (HostState.ACTIVE, "")
    again = host().stage(None, OLD)
    assert again
    assert again["version"] == "2.0"  # it has it
    assert host().back_out(host.before) == (HostState.BACKED_OUT, "")
    assert versions(machine) == OLD
    assert machine.flashed == ["2.5.0", "22.1", "22.0.6", "2.4.0"]
    assert host().confirm()[0] is HostState.STUCK


def test_the_hardware_storage_says_which_machine_it_is_where_it_has_it(machine: Bmc, host: Make) -> None:
    unit = Unit(machine.tag, "Contoso", machine.serial, machine.model, UnitState.IN_USE, ci="srv1")
    assert host(unit=unit, serial=None, model=None, asset_tag=None).stage(None, OLD)
    other = replace(unit, serial="SN9")
    with pytest.raises(DeviceError, match="it is not the recorded device: its serial number"):
        host(unit=other, serial=None, model=None).stage(None, OLD)
    with pytest.raises(DeviceError, match="the hardware storage has SN9 in it; find out which unit is there"):
        host(unit=other)
    with pytest.raises(DeviceError, match="its asset tag is A-0001, and the recorded one is T1"):
        host(unit=replace(unit, tag="T1"), asset_tag=None).stage(None, OLD)
    machine.tag = ""  # few machines are told what people call them
    assert host(unit=replace(unit, tag="T1"), asset_tag=None).stage(None, OLD)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"serial": None, "model": None}, "has no attribute serial, nor model"),
        ({"redfish": "http://\x07"}, "the attribute redfish of the CI srv1 is no address"),
        ({"serial": None}, "has no attribute serial"),
        ({"serial": "SN9"}, "it is not the recorded device"),
        ({"model": "R640"}, "it is not the recorded device"),
        ({"redfish": "http://127.0.0.1"}, "the address of the BMC"),
        ({"redfish_fingerprint": "0" * 64}, "has a certificate that is not trusted here"),
    ],
)
def test_what_the_cmdb_has_wrong_is_refused_when_it_is_staged(machine: Bmc, host: Make, attributes: dict[str, str], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        host(**attributes).stage(None, OLD)
    assert machine.tasks == {}


def test_an_image_for_another_model_goes_to_no_machine(machine: Bmc, host: Make) -> None:
    machine.model = "R640"
    with pytest.raises(DeviceError, match="the release has no image for the R640"):
        host().stage(None, OLD)
    state, detail = host().activate()
    assert state is HostState.FAILED
    assert "the release has no image for the R640" in detail
    assert machine.tasks == {}


def test_an_image_that_takes_effect_in_a_way_that_there_is_not_is_refused_when_it_is_staged(
    machine: Bmc, host: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redfish.Bmc, "effects", frozenset({"immediate"}))
    with pytest.raises(DeviceError, match="takes effect by host_reset, which can't be done by Redfish; it can have immediate"):
        host().stage(None, OLD)
    assert machine.tasks == {}


def test_a_machine_that_could_not_come_back_or_is_not_well_is_not_staged(machine: Bmc, host: Make) -> None:
    with pytest.raises(DeviceError, match=r"no archived version of hello has that for the R750"):
        host(before=False).stage(None, OLD)
    machine.health = "Critical"
    with pytest.raises(DeviceError, match="before anything was done to it"):
        host().stage(None, OLD)
    machine.health = "OK"
    machine.components["BIOS"].version = "2.3.0"
    with pytest.raises(DeviceError, match=r"it runs BIOS 2\.3\.0, and 2\.5\.0 is only for 2\.4\.0"):
        host().stage(None, OLD)


def test_a_point_of_no_return_needs_nothing_to_go_back_to_and_is_owed(machine: Bmc, host: Make) -> None:
    assert host(before=False, back=False).stage(None, OLD) is None
    assert host().activate() == (HostState.STARTED, "")
    state, detail = host().back_out(host.before)
    assert state is HostState.OWED
    assert "it runs NIC.1 22.1" in detail
    assert "there is no way down to 22.0.6: back_to of NIC.1 22.1 has not" in detail
    assert versions(machine) == NEW


def test_one_that_is_as_before_has_failed_and_needs_nothing_to_be_back(machine: Bmc, host: Make) -> None:
    machine.faults = {"critical"}
    state, detail = host().activate()
    assert state is HostState.FAILED
    assert "it runs BIOS 2.4.0, not 2.5.0" in detail
    machine.faults = set()
    assert host().back_out(host.before) == (HostState.BACKED_OUT, "")
    assert machine.flashed == []


def test_one_that_is_half_there_is_stuck(machine: Bmc, host: Make) -> None:
    machine.components["NIC.1"].version = "1"
    state, detail = host().activate()
    assert state is HostState.STUCK
    assert "it runs NIC.1 1, and 22.1 is only for 22.0.6" in detail
    assert host().back_out(host.before) == (HostState.BACKED_OUT, "")
    assert machine.flashed == ["2.5.0", "2.4.0"]


def test_one_that_can_not_be_reached_is_as_before_or_lost(machine: Bmc, host: Make) -> None:
    good = host()
    machine.faults = {"mute"}
    machine.reset("bmc")
    assert good.activate()[0] is HostState.FAILED  # it was given nothing
    assert host().confirm()[0] is HostState.LOST
    assert host().back_out(host.before) == (HostState.BACKED_OUT, "")


def test_it_goes_back_with_the_package_that_staging_found_and_with_no_other(machine: Bmc, host: Make) -> None:
    """The library may have another release that says of other bytes that they are the version from before."""
    assert host().activate() == (HostState.STARTED, "")
    folder = write(host.path / "test", "9.9-test", 0)
    (folder / "payload" / "BIOS.bin").write_bytes(image("BIOS", "evil"))
    other = archive(folder, host.repository).digest
    state, detail = host().back_out(None)
    assert state is HostState.OWED
    assert "no way down to 22.0.6: staging found no package for it" in detail
    assert host().back_out(host.before) == (HostState.BACKED_OUT, "")
    assert versions(machine) == OLD
    with pytest.raises(DeviceError, match=r"hello 9\.9-test and hello 1\.0 have BIOS 2\.4\.0, NIC\.1 22\.0\.6 for the R750 as different"):
        host().stage(None, OLD)
    for installed, version in ((host.before, "1.0"), (other, "9.9-test")):
        assert host().stage(installed, OLD) == {"version": version, "digest": installed}


def test_a_package_that_nobody_signed_is_no_way_down_unless_it_was_deployed(
    machine: Bmc, host: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware, "distrust_once", lambda *arguments: f"{arguments[3].version} is not trusted")
    with pytest.raises(DeviceError, match=r"nobody could bring it back: 1\.0 is not trusted"):
        host().stage(None, OLD)
    found = host().stage(host.before, OLD)
    assert found
    assert found["version"] == "1.0"
    assert machine.tasks == {}


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ({}, ""),  # nothing is known of it, so the clearance has counted a spare
        ({"BIOS": "2.2.0", "NIC.1": "22.1"}, ""),
        ({"BIOS": "2.4.0", "NIC.1": "22.1"}, "it runs BIOS 2.3.0, and the CMDB has BIOS 2.4.0"),
        ({"BIOS": "2.5.0", "NIC.1": "22.1"}, "it runs BIOS 2.3.0, and the CMDB has BIOS 2.5.0"),
    ],
)
def test_one_for_which_no_spare_was_counted_is_not_staged(machine: Bmc, host: Make, recorded: dict[str, str], words: str) -> None:
    """What the CMDB has, by which spares are counted, anybody may have entered; what counts is read."""
    entry = {"component": "BIOS", "models": ["R750"], "image": "BIOS.bin", "version": "2.5.0", "from": ["2.4.0", "2.3.0"]}
    said = {"firmware": [{**entry, "back_to": ["2.4.0"], "takes_effect": "host_reset", "minutes": SHORT}], "kind": "firmware"}
    files = {"BIOS.bin": image("BIOS", "2.5.0")}
    archive(write_release(host.path / "new", files, **{**dict.fromkeys(SOFTWARE, ...), **said, "version": "2.0"}), host.repository)
    machine.components["BIOS"].version = "2.3.0"
    device = host(before=False)
    if not words:
        assert device.stage(None, recorded) is None
        return
    with pytest.raises(DeviceError, match=f"{words}: .* run the same command again"):
        device.stage(None, recorded)


def test_what_was_done_to_the_unit_before_an_exchange_is_not_taken_for_done_to_the_new_one(machine: Bmc, host: Make) -> None:
    about = {"component": "BIOS", "version": "2.5.0", "before": "2.4.0", "tasks": [], "serial": "SN0000"}
    host.journal.noted = [("stage", about), ("activate", about | {"task": "/redfish/v1/TaskService/Tasks/1"})]
    machine.components["BIOS"].version = "2.6.0"
    state, detail = host().back_out(host.before)  # it got nothing, and does not run what the one before it ran
    assert state is HostState.OWED
    assert "it runs BIOS 2.6.0" in detail
    machine.components["BIOS"].version = "2.4.0"
    assert host().back_out(host.before) == (HostState.BACKED_OUT, "")
    assert machine.tasks == {}
    assert host().activate() == (HostState.STARTED, "")
    assert machine.flashed == ["2.5.0", "22.1"]
    assert {about["serial"] for _step, about in host.journal.noted} == {"SN0000", "SN0001"}
    assert host().back_out(host.before) == (HostState.BACKED_OUT, "")
    assert versions(machine) == OLD
