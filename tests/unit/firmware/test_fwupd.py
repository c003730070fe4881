# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host with fwupd says is read in one way, and what it is told has nothing in it that it said."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import Minutes
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import (
    DeviceError,
    DeviceIdentity,
    Goal,
    SilentError,
    Task,
    Verdict,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.fwupd import Fwupd, Reply, parse_survey
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.update import look
from hypothesis import given, settings
from hypothesis import strategies as st

GUID = "b585990a-003e-5270-89d5-3705a17f9a43"
NUMBER = "08d460be0f1f9f128413f816022a6439e0078018"
OTHER = "4bde70ba4e39b28f9eab1628f9dd6e6244c03027"
GOAL = Goal(GUID, "1.2.5", ("1.2.2",), "immediate", Minutes(1, 0.0001, 0.0001))
WEBCAM = {"Name": "Webcam", "DeviceId": NUMBER, "Guid": [GUID], "Flags": ["updatable"], "Version": "1.2.5", "UpdateState": 2}
CPU = {"Name": "EPYC", "DeviceId": OTHER, "Guid": ["94dafde8-adf3-5325-8317-75df3d0f403a"], "Flags": ["internal"]}


def printed(*devices: Any, history: Any = None, **lines: str) -> str:
    """What the program on a host prints."""
    said = {"serial": "SN1", "model": "T1", "tag": "A-1", "booted": "1000", "state": "running", **lines}
    return "\n".join(
        [*said.values(), json.dumps(history or {"Devices": []}), "--- devices ---", json.dumps({"Devices": list(devices)}), ""]
    )


class Host:
    """A host that prints this, and what it was told; ``statuses`` are those of commands, 0 behind the last one."""

    def __init__(self, output: str, *statuses: int, error: str = "") -> None:
        self.output, self.statuses, self.error = output, list(statuses), error
        self.told: list[list[str]] = []
        self.put: list[Path] = []

    def run(self, argv: Sequence[str], _seconds: float, _alive: Callable[[], None] | None) -> Reply:
        if list(argv[:2]) == ["sh", "-c"] and "get-devices" in argv[2]:
            return Reply(0, self.output)
        self.told.append(list(argv))
        return Reply(self.statuses.pop(0) if self.statuses else 0, self.error)

    def bring(self, file: Path, _seconds: float, _alive: Callable[[], None] | None) -> str:
        self.put.append(file)
        return "/root/.ansible/tmp/x/image.cab"

    @property
    def device(self) -> Fwupd:
        return Fwupd(self.run, self.bring)


def test_a_host_says_which_machine_it_is_and_what_its_parts_run() -> None:
    device = Host(printed(CPU, WEBCAM)).device
    assert device.identity() == DeviceIdentity("SN1", "T1", "A-1")
    assert device.versions(GUID.upper()) == ("1.2.5",)
    assert device.versions(CPU["Guid"][0]) == ()  # which does not say any
    assert device.tasks() == ()
    assert device.condition().up
    assert look(device, DeviceIdentity("SN1", "T1"), GOAL, time).good
    assert Host(f"{printed(CPU, WEBCAM)}\nIdle\u2026: 0%").device.versions(GUID) == ("1.2.5",)  # which it says to people now and then
    two = Host(printed(WEBCAM, {**WEBCAM, "DeviceId": OTHER, "Version": "1.2.2"})).device
    assert two.versions(GUID) == ("1.2.2", "1.2.5")


@pytest.mark.parametrize(
    ("slot", "serial"),
    [("Webcam", "W-1"), (GUID, "W-1"), (GUID.upper(), "W-1"), ("webcam", None), ("EPYC", None), ("", None), (NUMBER, None)],
)
def test_a_part_with_a_serial_number_is_in_the_slot_that_has_its_name_or_its_guid(slot: str, serial: str | None) -> None:
    part = Host(printed(CPU, {**WEBCAM, "Serial": "W-1"})).device.part(slot)
    assert (part.serial if part else None) == serial


@pytest.mark.parametrize("said", ["", "0000", "Default string", None, 7, "a\x1b[2J"])
def test_a_number_that_many_parts_have_is_none(said: Any) -> None:
    assert Host(printed({**WEBCAM, "Serial": said})).device.part("Webcam") is None


def test_of_two_parts_of_one_name_nobody_knows_which_is_meant() -> None:
    for serial in ("W-1", "W-2", ""):
        assert Host(printed({**WEBCAM, "Serial": "W-1"}, {**WEBCAM, "DeviceId": OTHER, "Serial": serial})).device.part("Webcam") is None


@pytest.mark.parametrize("component", ["BIOS", f"{GUID}x", "", f"--{GUID}"])
def test_a_component_of_redfish_is_none_of_fwupd(component: str) -> None:
    with pytest.raises(DeviceError, match="is no GUID, by which fwupd on the host knows a part"):
        Host(printed(WEBCAM)).device.versions(component)


@pytest.mark.parametrize("more", [{"Flags": ["unreachable"]}, {"Flags": ["wait-for-replug"]}, {"Problems": ["unreachable"]}])
def test_a_part_that_is_not_there_says_no_version(more: dict[str, Any]) -> None:
    assert Host(printed({**WEBCAM, **more})).device.versions(GUID) == ()
    assert Host(printed({**WEBCAM, "Flags": ["is-bootloader"]})).device.versions(GUID) == ()


def test_a_part_that_is_only_emulated_is_none_of_the_machine() -> None:
    device = Host(printed({**WEBCAM, "Flags": ["emulated"]}, {**WEBCAM, "DeviceId": OTHER, "Version": "1.2.2"})).device
    assert device.versions(GUID) == ("1.2.2",)
    assert look(device, DeviceIdentity("SN1", "T1"), GOAL, time).verdict is Verdict.OTHER


@pytest.mark.parametrize(
    ("more", "task"),
    [
        ({"Flags": ["needs-reboot"]}, Task(f"part {NUMBER}", "Pending", "Webcam; needs-reboot")),
        ({"Flags": ["needs-shutdown"]}, Task(f"part {NUMBER}", "Pending", "Webcam; needs-shutdown")),
        ({"Flags": ["needs-activation"]}, Task(f"part {NUMBER}", "Pending", "Webcam; needs-activation")),
        ({"UpdateState": 1}, Task(f"part {NUMBER}", "Pending", "Webcam; update pending")),
        ({"UpdateState": 4}, Task(f"part {NUMBER}", "Pending", "Webcam; needs-reboot")),
        ({"Problems": ["update-pending"]}, Task(f"part {NUMBER}", "Pending", "Webcam; update pending")),
        ({"Problems": ["update-in-progress"]}, Task(f"part {NUMBER}", "Running", "Webcam")),
    ],
)
def test_what_a_part_waits_for_is_a_task(more: dict[str, Any], task: Task) -> None:
    device = Host(printed(CPU, {**WEBCAM, **more})).device
    assert device.tasks() == (task,)
    assert device.task(task.address) == task
    assert not device.task(f"part {OTHER}").runs


@pytest.mark.parametrize(
    ("moment", "state", "flag", "waits"),
    [
        ("1003", 2, "needs-reboot", True),
        ("1003", 4, "needs-reboot", True),
        ("400", 2, "needs-reboot", False),
        ("1000", 3, "needs-reboot", False),
        ("1000", 2, "needs-activation", False),
        ("", 2, "needs-reboot", False),
    ],
)
def test_what_was_given_since_the_host_has_begun_waits_although_the_part_says_nothing(
    moment: str, state: int, flag: str, waits: bool
) -> None:
    entry = {"DeviceId": NUMBER, "Flags": [flag, "historical"], "UpdateState": state, "Releases": [{"BootTime": moment}]}
    device = Host(printed(WEBCAM, history={"Devices": [entry]})).device
    assert [task.waits for task in device.tasks()] == [True] * waits


@pytest.mark.parametrize("state", ["starting", "stopping", "maintenance"])
def test_a_host_that_is_not_up_is_waited_for(state: str) -> None:
    assert not Host(printed(state=state)).device.condition().up
    assert Host(printed(state="degraded")).device.condition().up
    assert Host(printed(state="")).device.condition().up  # without systemd


@pytest.mark.parametrize(
    "serial",
    ["", "0", "00000000", "Default string", "To Be Filled By O.E.M.", "Not Specified", "System Serial Number", "None", "N/A", "0123456789"],
)
def test_a_number_that_many_machines_have_is_no_serial_number(serial: str) -> None:
    with pytest.raises(DeviceError, match="so nobody knows which machine it is"):
        Host(printed(serial=serial)).device.identity()


@pytest.mark.parametrize("tag", ["", "Default string", "No Asset Tag", "Not Specified", "Asset-1234567890"])
def test_a_tag_that_nobody_has_put_there_is_none(tag: str) -> None:
    assert Host(printed(tag=tag)).device.identity().tag == ""


def test_a_part_is_given_an_image_by_its_own_number_and_older_only_on_the_way_back() -> None:
    host = Host(printed(WEBCAM, {**WEBCAM, "DeviceId": OTHER}))
    image = Path("odd name; reboot.cab")
    assert host.device.push(image, GOAL, False) == ""
    place = "/root/.ansible/tmp/x/image.cab"
    rest = [argv[2:] for argv in host.told]
    assert rest == [["fwupdmgr", "--json", "--no-reboot-check", "install", place, number] for number in (NUMBER, OTHER)]
    assert host.put == [image]
    host.told.clear()
    host.device.push(image, GOAL, True)
    assert [argv[2:6] for argv in host.told] == [["fwupdmgr", "--json", "--no-reboot-check", "--allow-older"]] * 2


def test_the_host_begins_anew_and_parts_that_wait_are_activated() -> None:
    host = Host(printed({**WEBCAM, "Flags": ["needs-activation"]}, CPU))
    host.device.restart("activation")
    assert [argv[2:] for argv in host.told] == [["fwupdmgr", "--json", "activate", NUMBER]]
    host.told.clear()
    host.device.restart("host_reset")
    assert [argv[2:4] for argv in host.told] == [["sh", "-c"]]
    assert "shutdown -r now" in host.told[0][-1]
    with pytest.raises(DeviceError, match="no part of it waits to be activated"):
        Host(printed(WEBCAM)).device.restart("activation")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ('noise\n{"Error": {"Message": "is older"}}', "status 1: is older"),
        ("boom\nno such thing", "status 1: no such thing"),
        ("", "status 1$"),
    ],
)
def test_a_refusal_is_a_sentence(output: str, words: str) -> None:
    with pytest.raises(DeviceError, match=f"the host answers fwupdmgr with {words}"):
        Host(printed(WEBCAM), 1, error=output).device.push(Path("image.cab"), GOAL, False)


def test_a_host_without_fwupd_and_one_whose_fwupd_is_not_there_yet() -> None:
    def absent(_argv: Sequence[str], _seconds: float, _alive: Callable[[], None] | None) -> Reply:
        return Reply(127, "")

    with pytest.raises(DeviceError, match="its host has no fwupdmgr; install fwupd there"):
        Fwupd(absent, Host("").bring).tasks()
    failed = printed().replace('{"Devices": []}', '{"Error": {"Message": "Failed to connect to daemon"}}')
    for output in (failed, printed().replace('--- devices ---\n{"Devices": []}', "--- devices ---\n")):
        with pytest.raises(SilentError, match="fwupd on the host does not answer"):
            parse_survey(output)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "what the host says can't be understood"),
        ("1\n2\n3\n4\n5\n{}", "of its updates can't be understood"),
        (printed().replace('{"Devices": []}\n', '{"Devices": [], "Devices": [1]}\n'), "has the key 'Devices' twice"),
        (printed() + "x" * (5 << 20), "says more than 4 MiB"),
        (printed() + '{"Devices": []}', "is not JSON"),
    ],
)
def test_what_is_not_to_be_understood_is_no_answer(output: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        parse_survey(output)


@pytest.mark.parametrize("number", ["--force", "x; reboot", "$(reboot)", "", 7, NUMBER.upper(), f"{NUMBER} x"])
def test_a_number_that_is_none_reaches_no_command(number: Any) -> None:
    host = Host(printed({**WEBCAM, "DeviceId": number, "Flags": ["needs-activation"]}))
    with pytest.raises(DeviceError):
        host.device.restart("activation")
    with contextlib.suppress(DeviceError):
        host.device.push(Path("image.cab"), GOAL, False)
    assert host.told == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([NUMBER, GUID, "needs-reboot", "1.2.2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WEBCAM, "Problems", "Releases", "x"]), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(device=JSON, history=JSON, key=st.sampled_from([*WEBCAM, "Problems"]), value=JSON)
def test_whatever_it_answers_is_never_a_traceback(device: Any, history: Any, key: str, value: Any) -> None:
    host = Host(printed(device, {**WEBCAM, "Version": "1.2.2", key: value}, history={"Devices": history}))
    for ask in (
        host.device.identity,
        host.device.tasks,
        host.device.condition,
        lambda: host.device.versions(GUID),
        lambda: host.device.push(Path("image.cab"), GOAL, False),
        lambda: host.device.restart("activation"),
    ):
        with contextlib.suppress(DeviceError):
            ask()
    assert all(argv[-1] in (NUMBER, OTHER) for argv in host.told)
