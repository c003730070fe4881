# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A BMC is known by its certificate, asked within bounds, and whatever it answers is a sentence and no traceback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import Minutes
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware import redfish
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import (
    DeviceError,
    DeviceIdentity,
    Goal,
    SilentError,
    Verdict,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.redfish import Access, Bmc
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.update import look
from bmc import PASSWORD, ROOT, USER, FastClock, serve
from bmc import Bmc as Machine
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def shared(certificate: tuple[Path, Path]) -> Iterator[Machine]:
    with serve(Machine(), *certificate) as machine:
        yield machine


@pytest.fixture
def machine(shared: Machine) -> Iterator[Machine]:
    yield shared
    shared.faults = set()
    shared.answer_with = lambda _path: None
    shared.requests.clear()


@pytest.fixture
def fingerprint(certificate: tuple[Path, Path]) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[1].read_text())).hexdigest()


def said(ask: Callable[[], Any], kind: type[DeviceError] = DeviceError) -> str:
    with pytest.raises(kind) as error:
        ask()
    assert PASSWORD not in str(error.value)
    assert PASSWORD not in repr(error.value.__cause__)
    return str(error.value)


def test_a_certificate_that_nobody_signed_is_refused_before_anything_is_said(machine: Machine) -> None:
    assert "has a certificate that is not trusted here" in said(Bmc(machine.access()).identity)
    assert machine.requests == []


def test_a_handshake_that_is_broken_off_says_nothing_of_the_certificate() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def break_off() -> None:
            with server.accept()[0] as connection:
                connection.recv(1 << 16)

        threading.Thread(target=break_off, daemon=True).start()
        with Bmc(Access(f"https://127.0.0.1:{server.getsockname()[1]}", USER, PASSWORD)) as device, pytest.raises(SilentError):
            device.identity()


def test_one_whose_fingerprint_is_another_is_refused(machine: Machine, fingerprint: str) -> None:
    other = f"{'0' * 62}{fingerprint[-2:]}"
    assert "has a certificate that is not trusted here" in said(Bmc(machine.access(other)).identity)
    assert machine.requests == []
    written = ":".join(fingerprint[place : place + 2] for place in range(0, 64, 2)).upper()
    for form in (fingerprint, written):
        with Bmc(machine.access(form)) as device:
            assert device.identity() == DeviceIdentity("SN0001", "R750", "A-0001")
    assert machine.sessions == {}


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1", "https://", "https://u:p@h", "https://h/redfish", "https://h?x", "h", "https://h:x"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    assert "the address of the BMC" in said(lambda: Access(address, "root", PASSWORD))


def test_who_we_are_has_to_be_said_and_is_never_shown() -> None:
    assert "set tidegate_redfish_user" in said(lambda: Access("https://bmc1", "", ""))
    assert PASSWORD not in repr(Access("https://bmc1", "root", PASSWORD))
    assert "no SHA-256" in said(lambda: Access("https://bmc1", "root", PASSWORD, "abc"))


def test_a_wrong_password_is_not_repeated(machine: Machine, fingerprint: str) -> None:
    wrong = "not-the-password-of-it"
    access = replace(machine.access(fingerprint), password=wrong)
    found = said(Bmc(access).identity)
    assert "does not know this user" in found
    assert wrong not in found


def test_a_login_that_gives_no_session_lets_nobody_in(machine: Machine, fingerprint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redfish.HttpClient, "get_session_key", lambda _self: None)
    assert "does not let this user do it (401)" in said(Bmc(machine.access(fingerprint)).identity)


def test_nobody_follows_to_another_host(machine: Machine, fingerprint: str) -> None:
    machine.faults = {"redirects"}
    assert "points elsewhere" in said(Bmc(machine.access(fingerprint)).identity)
    machine.faults = set()
    page = {"Members": [{"@odata.id": "https://127.0.0.9/x"}, {"@odata.id": "//127.0.0.9/x"}, {"@odata.id": "@127.0.0.9/x"}]}
    machine.answer_with = lambda path: json.dumps(page).encode() if path == "Systems" else None
    assert "has 0 systems" in said(Bmc(machine.access(fingerprint)).identity)


def test_a_page_without_end_is_not_taken(machine: Machine, fingerprint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redfish, "_LARGEST", 1000)
    machine.answer_with = lambda path: b" " * 1001 if path == "Systems" else None
    assert "sends more than" in said(Bmc(machine.access(fingerprint)).identity)


def test_one_that_says_nothing_is_not_waited_for_without_end(machine: Machine, fingerprint: str) -> None:
    assert "did not answer within" in said(lambda: Bmc(machine.access(fingerprint))._within(0.01, lambda: time.sleep(5)), SilentError)


def test_a_session_that_is_over_is_begun_anew(machine: Machine, fingerprint: str) -> None:
    with Bmc(machine.access(fingerprint)) as device:
        device.identity()
        machine.sessions.clear()
        assert device.identity().serial == "SN0001"
    assert machine.sessions == {}


@pytest.mark.parametrize("less", [b'{"Links": {}}', b'{"Links": {}, "Links": {}}'])
def test_a_root_that_says_less_without_a_session_is_asked_again(machine: Machine, fingerprint: str, less: bytes) -> None:
    roots = [less]
    machine.answer_with = lambda path: roots.pop() if roots and not path else None
    with Bmc(machine.access(fingerprint)) as device:
        assert device.identity().serial == "SN0001"
    assert roots == []


def test_the_root_is_looked_at_once(machine: Machine, fingerprint: str) -> None:
    with Bmc(machine.access(fingerprint)) as device:
        device.identity()
        device.tasks()
    assert [path for _method, path in machine.requests if path.strip("/") == ROOT.strip("/")] == [f"{ROOT}/"]


def test_authorities_that_can_not_be_read_are_said(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    assert "none.pem can't be read (No such file or directory); name their file in" in said(Bmc(machine.access()).identity)
    assert machine.requests == []


def test_the_library_writes_nothing_to_a_log(machine: Machine, fingerprint: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), Bmc(machine.access(fingerprint)) as device:
        device.identity()
    assert [record for record in caplog.records if record.name.startswith("redfish")] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Members", "@odata.id", "Id", "Version"]), inner),
    max_leaves=6,
)
GOAL = Goal("BIOS", "9.9", (), "host_reset", Minutes())


class Talking(Bmc):
    """A BMC whose pages are given, without a network."""

    def __init__(self, pages: dict[str, Any]) -> None:
        super().__init__(Access("https://bmc1", "root", PASSWORD))
        self.pages = pages
        self.told: list[Any] = []

    def _begin(self) -> None:
        """There is nobody to log in to."""

    def _send(self, method: str, address: str, body: Any, *_more: Any) -> tuple[int, bytes, str]:
        if method == "POST":
            self.told.append(body)
        path = address.removeprefix(ROOT).strip("/")
        return (200, json.dumps(self.pages[path]).encode(), "") if path in self.pages else (404, b"", "")


MACHINE = Machine()
MACHINE.begin_task()
ALL = MACHINE._pages()
PLACES = sorted(ALL)
KEYS = sorted({"", *(key for page in ALL.values() for key in page)})


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), key=st.sampled_from(KEYS), value=JSON)
def test_whatever_it_answers_is_never_a_traceback_nor_new(place: str, key: str, value: Any) -> None:
    pages = {**ALL, place: {**ALL[place], key: value} if key else value}
    device = Talking(pages)
    verdict = Verdict.UNKNOWN
    for ask in (
        lambda: look(device, DeviceIdentity("SN0001", "R750"), GOAL, FastClock()).verdict,
        device.tasks,
        lambda: device.restart("host_reset"),
        lambda: device.restart("bmc_reset"),
        lambda: device.push(Path(__file__), GOAL, False),
    ):
        with contextlib.suppress(DeviceError):
            found = ask()
            verdict = found if isinstance(found, Verdict) else verdict
    assert verdict is not Verdict.NEW


def with_tasks(count: int, running: int) -> dict[str, Any]:
    """The pages of a device with so many tasks that are over, but for one."""
    names = [str(number) for number in range(count)]
    task = {"@odata.type": "#Task.v1_4_3.Task", "TaskState": "Completed", "Messages": []}
    listed = {"Members": [{"@odata.id": f"{ROOT}/TaskService/Tasks/{name}"} for name in names]}
    pages = {**ALL, "TaskService/Tasks": listed, **{f"TaskService/Tasks/{name}": task for name in names}}
    return {**pages, f"TaskService/Tasks/{running}": {**task, "TaskState": "Running"}}


@pytest.mark.parametrize(("count", "running"), [(200, 0), (200, 100), (200, 199), (900, 0), (900, 899)])
def test_a_task_that_runs_is_found_wherever_a_device_lists_it(count: int, running: int) -> None:
    device = Talking(with_tasks(count, running))
    assert [task.address for task in device.tasks() if task.runs] == [f"{ROOT}/TaskService/Tasks/{running}"]
    assert len(device.tasks()) <= 256


def test_what_a_task_says_is_shown_without_the_password() -> None:
    pages = with_tasks(1, 0)
    pages["TaskService/Tasks/0"]["Messages"] = [{"Message": f"https://root:{PASSWORD}@10.0.0.1/x can't be read"}, {"Message": 5}, 7]
    (task,) = Talking(pages).tasks()
    assert "can't be read" in task.words
    assert PASSWORD not in task.words


@pytest.mark.parametrize("reset", [True, False])
def test_a_version_is_found_when_the_entries_have_moved(reset: bool) -> None:
    """Numbered entries have other numbers after an update; it may be that a device has begun anew by itself."""
    place = "UpdateService/FirmwareInventory"
    names = ("BMC", "BIOS")
    pages = {**ALL, place: {"Members": [{"@odata.id": f"{ROOT}/{place}/{number}"} for number in range(2)]}}
    pages |= {f"{place}/{number}": {"Id": name, "Version": f"{name} 1"} for number, name in enumerate(names)}
    device = Talking(pages)
    assert device.versions("BIOS") == ("BIOS 1",)
    if reset:
        device.pages["Systems/1/Actions/ComputerSystem.Reset"] = {}
        device.restart("host_reset")
        assert device._seen == {}
    device.pages |= {f"{place}/{number}": {"Id": name, "Version": f"{name} 2"} for number, name in enumerate(reversed(names))}
    assert device.versions("BIOS") == ("BIOS 2",)


def test_a_list_whose_next_page_is_itself_has_an_end() -> None:
    again = {"Members": [], "Members@odata.nextLink": f"{ROOT}/Systems"}
    assert "has 0 systems" in said(Talking({**ALL, "Systems": again}).identity)


def test_what_a_reset_may_be_is_looked_up_where_the_service_says_it() -> None:
    action = {"target": f"{ROOT}/reset", "@Redfish.ActionInfo": f"{ROOT}/info"}
    system = {**ALL["Systems/1"], "Actions": {"#ComputerSystem.Reset": action}}
    pages = {**ALL, "Systems/1": system, "reset": {}}
    info = {"Parameters": [{"Name": "ResetType", "AllowableValues": ["ForceRestart", "PowerCycle"]}]}
    for how, kind in (("host_reset", "ForceRestart"), ("power_cycle", "PowerCycle")):
        device = Talking({**pages, "info": info})
        device.restart(how)
        assert device.told == [{"ResetType": kind}]
    assert "can't do a power cycle; it offers On" in said(
        lambda: Talking({**pages, "info": {"Parameters": [{"Name": "ResetType", "AllowableValues": ["On"]}]}}).restart("power_cycle")
    )
    off = Talking(
        {
            **pages,
            "Systems/1": {**system, "PowerState": "Off"},
            "info": {"Parameters": [{**info["Parameters"][0], "AllowableValues": ["On"]}]},
        }
    )
    off.restart("host_reset")
    assert off.told == [{"ResetType": "On"}]


@pytest.mark.parametrize("nonsense", [b"", b"<html>", b"[]", b"{", b'{"a": 1, "a": 2}', b"\xff", b"[" * 10_000])
def test_what_is_no_page_is_said_to_be_none(machine: Machine, fingerprint: str, nonsense: bytes) -> None:
    machine.answer_with = lambda path: nonsense if path == "Systems/1" else None
    with Bmc(machine.access(fingerprint)) as device:
        if nonsense:
            assert "answers /redfish/v1/Systems/1 with what is no page of Redfish" in said(device.identity)
        else:
            assert device.identity() == DeviceIdentity("", "")
