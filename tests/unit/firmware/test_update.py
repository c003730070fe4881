# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a device is what is read from it, whatever goes wrong on the way, and nothing is installed twice."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import Minutes
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware import redfish
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import (
    DeviceError,
    DeviceIdentity,
    Goal,
    Noted,
    SilentError,
    UpdateOutcome,
    UpdateStep,
    Verdict,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.redfish import Bmc
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.update import RefusedError, Update, look
from bmc import Bmc as Machine
from bmc import FastClock, image, serve
from registry import make_certificate

UNIT = DeviceIdentity("SN0001", "R750", "A-0001")
LONG = Minutes(30, 30, 30)  # which are never over in a test
SHORT = Minutes(30, 0.3, 0.3)  # of which those that pass when something does not come are over soon
BIOS = Goal("BIOS", "2.5.0", ("2.4.0", "2.3.0"), "host_reset", LONG)
GOALS = {"BIOS": BIOS, "BMC": replace(BIOS, component="BMC", version="6.11.0", before=("6.10.0",), takes_effect="bmc_reset")}
GOALS["NIC.1"] = replace(BIOS, component="NIC.1", version="22.1", before=("22.0.6",), takes_effect="immediate")


class KilledError(BaseException):
    """The controller is gone."""


class Journal:
    """What was noted; at ``kill`` the controller dies, with that step written down or, when not ``written``, right before."""

    def __init__(self, kill: str = "", written: bool = True) -> None:
        self.noted: list[Noted] = []
        self.kill, self.written = kill, written
        self.before: Callable[[UpdateStep], None] = lambda _step: None

    def __call__(self, step: UpdateStep, about: Mapping[str, Any]) -> None:
        self.before(step)
        if step == self.kill and not self.written:
            self.kill = ""
            raise KilledError
        self.noted.append(Noted(step, about))
        if step == self.kill:
            self.kill = ""
            raise KilledError

    @property
    def steps(self) -> list[str]:
        return [one.step for one in self.noted]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[1]))


@pytest.fixture
def machine(certificate: tuple[Path, Path]) -> Iterator[Machine]:
    with serve(Machine(seconds=0.03), *certificate) as machine:
        yield machine


@pytest.fixture
def run(machine: Machine, tmp_path: Path) -> Callable[..., UpdateOutcome]:
    def run(goal: Goal = BIOS, journal: Journal | None = None, unit: DeviceIdentity = UNIT, data: bytes | None = None) -> UpdateOutcome:
        file = tmp_path / "image.bin"
        file.write_bytes(image(goal.component, goal.version) if data is None else data)
        journal = journal or Journal()
        with Bmc(machine.access()) as device:
            return Update(device, unit, goal, lambda: file, list(journal.noted), journal, FastClock()).run()

    return run


Run = Callable[..., UpdateOutcome]


@pytest.mark.parametrize("name", GOALS)
def test_a_component_gets_the_version_and_each_step_is_noted_before_it(machine: Machine, run: Run, name: str) -> None:
    journal, goal = Journal(), GOALS[name]
    state: list[tuple[str, str, int]] = []
    journal.before = lambda step: state.append((step, machine.components[name].version, len(machine.flashed)))
    outcome = run(goal, journal)
    assert (outcome.verdict, outcome.read, outcome.good, outcome.begun) == (Verdict.NEW, (goal.version,), True, True)
    # A BMC begins anew by itself, and is back with the version when it is looked at.
    left_out = {"BIOS": (), "BMC": (UpdateStep.RESTART, UpdateStep.RETURN), "NIC.1": (UpdateStep.RESTART,)}[name]
    assert journal.steps == [step for step in UpdateStep if step not in left_out]
    assert state[2] == (UpdateStep.STAGE, goal.before[0], 0)
    assert machine.sessions == {}  # closed
    assert machine.resets == {"BIOS": ["host"], "BMC": ["bmc"], "NIC.1": []}[name]
    again = Journal()
    outcome = run(goal, again)
    assert (outcome.good, outcome.begun, machine.flashed) == (True, False, [goal.version])
    assert UpdateStep.STAGE not in again.steps


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        *((fault, "BIOS") for fault in ("doubles", "busy", "ignores_time", "location_only", "body_only", "says_200", "says_204")),
        *(("says_204", name) for name in ("BMC", "NIC.1")),
        ("plain_push", "NIC.1"),
    ],
)
def test_what_devices_do_in_their_own_way_is_no_failure(machine: Machine, run: Run, fault: str, name: str) -> None:
    machine.faults = {fault}
    outcome = run(GOALS[name])
    assert (outcome.good, outcome.read) == (True, (GOALS[name].version,)), outcome
    assert machine.flashed == [GOALS[name].version]


def test_tasks_and_sessions_that_are_gone_after_a_reset_are_no_failure(machine: Machine, run: Run) -> None:
    machine.faults = {"forgets"}
    assert run(GOALS["BMC"]).good
    assert machine.flashed == ["6.11.0"]


@pytest.mark.parametrize(
    ("fault", "name", "verdict", "settled", "words"),
    [
        ("critical", "BIOS", Verdict.OLD, True, "came to nothing (The job made no progress"),
        ("lies", "BIOS", Verdict.OLD, True, "it runs BIOS 2.4.0, not 2.5.0"),
        ("lies", "NIC.1", Verdict.OLD, True, "it runs NIC.1 22.0.6, not 22.1"),
        ("other_version", "BIOS", Verdict.OTHER, True, "it runs BIOS 2.5.0-beta, not 2.5.0"),
        ("no_boot", "BIOS", Verdict.NEW, True, "its host is On, and got to SystemHardwareInitializationComplete"),
        ("mute", "BMC", Verdict.UNKNOWN, False, "can't be reached"),
    ],
)
def test_a_failure_is_what_was_read(machine: Machine, run: Run, fault: str, name: str, verdict: Verdict, settled: bool, words: str) -> None:
    machine.faults = {fault}
    outcome = run(replace(GOALS[name], minutes=Minutes(0.5, 0.3, 0.3) if fault == "mute" else SHORT))
    assert (outcome.verdict, outcome.settled, outcome.good) == (verdict, settled, False)
    assert words in outcome.detail


def test_a_task_that_runs_for_good_is_left_alone_and_not_over(machine: Machine, run: Run) -> None:
    machine.faults = {"stuck"}
    outcome = run(replace(BIOS, minutes=Minutes(0.3, 0.3, 0.3)))
    assert (outcome.verdict, outcome.settled) == (Verdict.OLD, False)
    assert "still Running" in outcome.detail
    assert machine.resets == []  # it may be writing


def test_a_device_that_does_not_boot_by_itself_is_not_reset_while_it_boots(machine: Machine, run: Run) -> None:
    """The power was gone between activate and restart."""
    journal = Journal()
    journal.before = lambda step: machine.reset("host") if step == UpdateStep.ACTIVATE and time.sleep(0.2) is None else None
    assert run(BIOS, journal).good
    assert machine.resets == ["host"]  # not once more
    assert UpdateStep.RESTART not in journal.steps


def test_an_image_that_the_device_refuses_changes_nothing(machine: Machine, run: Run) -> None:
    outcome = run(BIOS, data=image("BIOS", "2.5.0", ("R640",)))
    assert (outcome.verdict, machine.flashed, machine.resets) == (Verdict.OLD, [], [])
    assert "the image is for BIOS of R640" in outcome.detail


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"serial": "SN0002"}, "serial number is SN0002, and the recorded one is SN0001"),
        ({"model": "R640"}, "model is R640"),
        ({"tag": "A-0002"}, "asset tag is A-0002"),
        ({"serial": ""}, "serial number is not said"),
    ],
)
def test_another_device_than_the_recorded_one_gets_nothing(machine: Machine, run: Run, changes: dict[str, str], words: str) -> None:
    for name, value in changes.items():
        setattr(machine, name, value)
    with pytest.raises(RefusedError, match="it is not the recorded device") as error:
        run()
    assert words in str(error.value)
    assert machine.tasks == {}


def test_what_is_not_recorded_is_not_compared_but_the_serial_number_has_to_be(run: Run) -> None:
    assert run(unit=DeviceIdentity("SN0001", "")).good
    with pytest.raises(RefusedError, match="the recorded one is not known"):
        run(unit=DeviceIdentity("", "R750"))


def test_a_version_that_it_can_not_be_installed_from_is_refused(machine: Machine, run: Run) -> None:
    machine.components["BIOS"].version = "2.4.0a"
    with pytest.raises(RefusedError, match=r"it runs BIOS 2\.4\.0a, and 2\.5\.0 is only for 2\.3\.0 and 2\.4\.0"):
        run()
    del machine.components["BIOS"]
    with pytest.raises(RefusedError, match="it runs BIOS no version"):
        run()
    assert machine.tasks == {}


@pytest.mark.parametrize("state", ["Running", "Pending"])
def test_a_device_at_which_somebody_else_is_at_work_gets_nothing(machine: Machine, run: Run, state: str) -> None:
    machine.begin_task(state=state)
    with pytest.raises(RefusedError, match=f"Tasks/1 is {state}"):
        run()
    machine.components["BIOS"].version = "2.5.0"  # what runs there may take that away again
    with pytest.raises(RefusedError):
        run()
    assert len(machine.tasks) == 1


def test_a_device_that_is_not_well_before_gets_nothing_but_the_way_back(machine: Machine, run: Run, tmp_path: Path) -> None:
    machine.health = "Critical"
    with pytest.raises(RefusedError, match="before anything was done to it, it says that its health is Critical"):
        run()
    assert machine.tasks == {}
    file = tmp_path / "image.bin"
    file.write_bytes(image("BIOS", "2.5.0"))
    with Bmc(machine.access()) as device:
        outcome = Update(device, UNIT, replace(BIOS, minutes=SHORT), lambda: file, [], Journal(), FastClock(), back=True).run()
    assert outcome.verdict is Verdict.NEW


KILLS = [("BIOS", step, written) for step in UpdateStep if step is not UpdateStep.OVER for written in (True, False)]
KILLS += [(name, step, True) for name in ("BMC", "NIC.1") for step in (UpdateStep.STAGE, UpdateStep.ACTIVATE, UpdateStep.READ)]


@pytest.mark.parametrize(("name", "step", "written"), KILLS)
def test_a_killed_controller_goes_on_and_installs_nothing_twice(
    machine: Machine, run: Run, name: str, step: UpdateStep, written: bool
) -> None:
    # Whether it was told to restart nobody knows then, so it is waited for first.
    goal = replace(GOALS[name], minutes=SHORT) if step is UpdateStep.RESTART else GOALS[name]
    journal = Journal(step, written)
    with pytest.raises(KilledError):
        run(goal, journal)
    outcome = run(goal, journal)
    assert (outcome.good, outcome.read) == (True, (goal.version,)), outcome
    assert machine.flashed == [goal.version]
    assert [one["TaskState"] for one in machine.tasks.values()] == ["Completed"]
    assert journal.steps[-1] == UpdateStep.OVER


class SilentOnce:
    """A device that says nothing to one call: to the one of that number, after it has heard it or before."""

    def __init__(self, device: Bmc, number: int, heard: bool) -> None:
        self._device, self._number, self._heard = device, number, heard
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._device, name)
        if not callable(method):
            return method

        def call(*args: Any) -> Any:
            self.calls.append(name)
            silent = len(self.calls) == self._number
            answer = method(*args) if self._heard or not silent else None
            if silent:
                raise SilentError("nothing came back")
            return answer

        return call


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("name", GOALS)
def test_a_device_that_falls_silent_between_any_two_questions_is_asked_again(
    certificate: tuple[Path, Path], tmp_path: Path, name: str, heard: bool
) -> None:
    # A restart that it has not heard is given up after these minutes; then it is read that it runs the version before.
    goal = replace(GOALS[name], minutes=SHORT)
    file = tmp_path / "image.bin"
    file.write_bytes(image(goal.component, goal.version))
    for number in range(1, 100):
        with serve(Machine(seconds=0.01), *certificate, patience=0.01) as machine, Bmc(machine.access()) as bmc:
            device = SilentOnce(bmc, number, heard)
            outcome = None
            with contextlib.suppress(DeviceError):  # as long as it was given nothing
                outcome = Update(device, UNIT, goal, lambda: file, [], Journal(), FastClock()).run()
            if "push" not in device.calls:
                assert (outcome, machine.flashed) == (None, [])
                continue
            lost = not heard and device.calls[number - 1 : number] == ["restart"]
            assert outcome, device.calls
            assert outcome.verdict is (Verdict.OLD if lost else Verdict.NEW), (outcome, device.calls)
            assert machine.flashed == [goal.version]
            if len(device.calls) < number:
                return
    pytest.fail("it asks without end")


def test_a_task_of_a_killed_run_is_waited_for(machine: Machine, run: Run) -> None:
    journal = Journal(UpdateStep.ACTIVATE, written=False)
    machine.seconds = 0.4
    with pytest.raises(KilledError):
        run(BIOS, journal)
    assert machine.flashed == []  # it is under way
    assert run(BIOS, journal).good
    assert machine.flashed == ["2.5.0"]
    assert len(machine.tasks) == 1


def test_whoever_goes_on_looks_whether_it_is_the_device(machine: Machine, run: Run) -> None:
    journal = Journal(UpdateStep.RESTART)
    with pytest.raises(KilledError):
        run(BIOS, journal)
    machine.serial = "SN0002"
    outcome = run(BIOS, journal)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "it is not the recorded device" in outcome.detail
    assert machine.resets == []


def test_what_is_read_in_the_end_is_read_from_the_same_device(machine: Machine, run: Run) -> None:
    journal = Journal()
    journal.before = lambda step: setattr(machine, "serial", "SN0002") if step == UpdateStep.READ else None
    outcome = run(replace(BIOS, minutes=SHORT), journal)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "it is not the recorded device" in outcome.detail


def test_an_update_that_is_over_is_begun_anew(machine: Machine, run: Run) -> None:
    journal = Journal()
    machine.faults = {"critical"}
    assert run(BIOS, journal).verdict is Verdict.OLD
    machine.faults = set()
    assert run(BIOS, journal).good


BACK = replace(BIOS, version="2.4.0", before=("2.5.0",))


def test_the_way_down_is_the_same(machine: Machine, run: Run) -> None:
    journal = Journal()
    assert run(BIOS, journal).good
    assert run(BACK, journal).good
    assert machine.flashed == ["2.5.0", "2.4.0"]
    assert run(BACK, journal).begun is False


@pytest.mark.parametrize("step", [UpdateStep.STAGE, UpdateStep.ACTIVATE, UpdateStep.RESTART, UpdateStep.RETURN])
@pytest.mark.parametrize("written", [True, False], ids=["noted", "not-noted"])
def test_the_way_down_begins_where_a_killed_update_ended(machine: Machine, run: Run, step: UpdateStep, written: bool) -> None:
    """What waits for a restart would be there at any time later: the old version is not the end of it."""
    journal = Journal(step, written)
    with pytest.raises(KilledError):
        run(BIOS, journal)
    outcome = run(BACK, journal)
    assert (outcome.good, outcome.settled) == (True, True), outcome
    assert machine.components["BIOS"].version == "2.4.0"
    assert machine.components["BIOS"].pending == ""
    machine.reset("host")
    assert machine.components["BIOS"].version == "2.4.0"


def test_between_two_looks_is_half_a_second(machine: Machine, tmp_path: Path) -> None:
    clock, file = FastClock(), tmp_path / "image.bin"
    machine.seconds = 0.3
    file.write_bytes(image("BIOS", "2.5.0"))
    alive: list[float] = []
    with Bmc(machine.access()) as device:
        Update(device, UNIT, BIOS, lambda: file, [], Journal(), clock, lambda: alive.append(clock.monotonic())).run()
    assert clock.waits
    assert min(clock.waits) >= 0.5
    assert len(alive) == len(clock.waits)


def test_somebody_is_at_work_while_an_image_is_sent(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take longer than the lease of a controller."""
    monkeypatch.setattr(redfish, "_ALIVE", 0.01)
    file, told = tmp_path / "image.bin", threading.Event()
    file.write_bytes(image("BIOS", "2.5.0"))

    class Slow(Bmc):
        def _send(self, method: str, address: str, body: Any, kind: str, seconds: float) -> tuple[int, bytes, str]:
            if kind and not told.wait(5):
                raise DeviceError("nobody said anything")
            return super()._send(method, address, body, kind, seconds)

    with Slow(machine.access()) as device:
        assert Update(device, UNIT, BIOS, lambda: file, [], Journal(), FastClock(), told.set).run().good

    def taken_over() -> None:
        raise ConflictError("another controller has taken it over")

    told.clear()
    machine.components["BIOS"].version = "2.4.0"
    with Slow(machine.access()) as device, pytest.raises(ConflictError):
        Update(device, UNIT, BIOS, lambda: file, [], Journal(), FastClock(), taken_over).run()


def test_somebody_is_at_work_while_a_silent_device_is_waited_for(machine: Machine) -> None:
    told: list[str] = []
    machine.faults = {"mute"}
    machine.reset("bmc")
    with Bmc(machine.access()) as device, pytest.raises(SilentError):
        look(device, UNIT, replace(BIOS, minutes=Minutes(0.3, 0.3, 0.3)), FastClock(), lambda: told.append("alive"))
    assert told


def test_a_device_is_looked_at_without_a_change(machine: Machine) -> None:
    with Bmc(machine.access()) as device:
        assert look(device, UNIT, replace(BIOS, version="2.4.0"), FastClock()).good
        assert look(device, UNIT, BIOS, FastClock()).detail == "it runs BIOS 2.4.0, not 2.5.0"
        assert look(device, replace(UNIT, serial="SN9"), BIOS, FastClock()).verdict is Verdict.UNKNOWN
        machine.health = "Critical"
        assert not look(device, UNIT, replace(BIOS, version="2.4.0"), FastClock()).good
        machine.health = "OK"
        machine.reset("bmc")  # for a moment it says nothing
        assert look(device, UNIT, replace(BIOS, version="2.4.0"), FastClock()).good
    assert {method for method, _path in machine.requests} == {"GET", "POST", "DELETE"}
    assert {path for method, path in machine.requests if method == "POST"} == {"/redfish/v1/SessionService/Sessions"}
    with pytest.raises(DeviceError):
        Bmc(replace(machine.access(), url="https://127.0.0.1:1")).identity()


def test_an_image_that_needs_no_restart_is_no_leave_to_restart_for_another(machine: Machine, run: Run) -> None:
    journal = Journal(UpdateStep.RESTART)
    with pytest.raises(KilledError):
        run(BIOS, journal)
    assert [task["TaskState"] for task in machine.tasks.values()] == ["Pending"]
    old = replace(BIOS, version="2.4.0", before=("2.5.0",), takes_effect="immediate", minutes=SHORT)
    outcome = run(old, journal)
    assert (outcome.verdict, outcome.settled, machine.resets) == (Verdict.UNKNOWN, False, [])
    assert "something waits there for a restart, and the image that it is to get needs none" in outcome.detail


def test_an_image_that_takes_effect_in_a_way_that_a_bmc_has_not_is_not_sent(machine: Machine, run: Run) -> None:
    with pytest.raises(RefusedError, match="takes effect by activation, which can't be done by Redfish"):
        run(replace(BIOS, takes_effect="activation"))
    assert machine.tasks == {}
