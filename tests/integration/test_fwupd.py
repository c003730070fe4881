# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of firmware through a real fwupd on each host: the same steps, journal and verdict as by Redfish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import Minutes
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
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
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.update import RefusedError, Update, look
from documents import simple_manifest, write_document
from fleet import Fleet
from fwupd_host import LACKS, MODEL, WEBCAM, FwupdHost, cabinet
from waiting import wait_until

pytestmark = pytest.mark.skipif(bool(LACKS), reason=LACKS)

# 1.2.2 is what the webcam has whenever fwupd begins.
GOAL = Goal(WEBCAM, "1.2.5", ("1.2.2",), "immediate", Minutes(20, 0.1, 0.1))
REBOOT = replace(GOAL, takes_effect="host_reset", minutes=Minutes(20, 0.2, 0.6))
ACTIVATION = replace(GOAL, takes_effect="activation", version="1.2.3")


@dataclass
class Webcams:
    """Three hosts with a webcam each, a library and a CMDB."""

    fleet: Fleet
    hosts: dict[str, FwupdHost]

    @property
    def versions(self) -> list[str]:
        return [host.version for host in self.hosts.values()]

    def archive(self, version: str, before: list[str], becomes: str = "", **image: Any) -> str:
        folder = self.fleet.path / "releases" / f"webcam-{version}"
        cabinet(folder / "images", version, becomes)
        (folder / "README.md").write_text("# webcam\n")
        entry = {"component": WEBCAM, "models": [MODEL], "image": "webcam.cab", "version": version, "from": before, "back_to": before}
        entry |= {"takes_effect": "immediate", "minutes": {"transfer": 2, "silence": 0.05, "restart": 0.1}, **image}
        said = {"name": "webcam", "version": version, "summary": "Webcam", "payload": "images", "health": ..., "kind": "firmware"}
        write_document(folder / "release.yml", simple_manifest(**said, firmware=[entry]))
        return read_release(folder).archive(create_library(self.fleet.environment["TIDEGATE_DSL"]).repository("webcam")).digest

    def rfc(self, number: str, version: str, digest: str) -> dict[str, str]:
        release = {"name": "webcam", "version": version, "digest": digest}
        return {"tidegate_rfc": str(self.fleet.rfc(number, version, digest, release=release))}

    def play(self, verb: str, what: Mapping[str, Any]) -> tuple[int, str]:
        done = self.fleet.play(f"tidegate.release.{verb}", {**what, **({"tidegate_reason": "a test"} if verb == "backout" else {})})
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webcams]:
    fleet = Fleet(tmp_path_factory.mktemp("webcams"))
    try:
        fleet.up()
        with Cmdb.open(fleet.environment["TIDEGATE_CMDB"]) as cmdb:
            own = {name: {"serial": f"SN-{name}", "model": MODEL} for name in fleet.hosts}
            cis = cmdb.cis()
            cmdb.put_cis([{**ci, "attributes": {**ci["attributes"], **own[str(ci["name"])]}} for ci in cis], "test")
        webcams = Webcams(fleet, {name: FwupdHost(fleet.path / "lab", name) for name in fleet.hosts})
        webcams.archive("1.2.2", ["1.2.1"])
        yield webcams
    finally:
        fleet.down()


@pytest.fixture
def webcams(built: Webcams) -> Webcams:
    for host in built.hosts.values():
        host.start()
    return built


# -- one host, without Ansible -----------------------------------------------


class KilledError(BaseException):
    """The controller is gone."""


class QuickClock:
    """Six seconds of it are a minute."""

    def monotonic(self) -> float:
        return time.monotonic() * 10

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds / 10)


class Journal:
    """What was noted; at ``kill`` the controller dies, with that step written down or, when not ``written``, right before."""

    def __init__(self, kill: str = "", written: bool = True) -> None:
        self.noted: list[Noted] = []
        self.kill, self.written = kill, written

    def __call__(self, step: UpdateStep, about: Mapping[str, Any]) -> None:
        dies, self.kill = step == self.kill, "" if step == self.kill else self.kill
        if not dies or self.written:
            self.noted.append(Noted(step, about))
        if dies:
            raise KilledError

    @property
    def steps(self) -> list[str]:
        return [one.step for one in self.noted]


@pytest.fixture
def host(built: Webcams) -> FwupdHost:
    return built.hosts["web1"]


Run = Callable[..., UpdateOutcome]


@pytest.fixture
def run(host: FwupdHost, tmp_path: Path) -> Run:
    def run(goal: Goal, journal: Journal | None = None, becomes: str = "", serial: str = "", back: bool = False) -> UpdateOutcome:
        journal, unit = journal or Journal(), DeviceIdentity(serial or host.serial, MODEL)
        file = cabinet(tmp_path / goal.version, goal.version, becomes)
        return Update(host.device(), unit, goal, lambda: file, list(journal.noted), journal, QuickClock(), back=back).run()

    return run


def test_a_part_gets_the_version_and_goes_back_to_what_it_had(host: FwupdHost, run: Run) -> None:
    host.start()
    journal = Journal()
    outcome = run(GOAL, journal)
    assert (outcome.good, outcome.begun, host.version) == (True, True, "1.2.5")
    assert journal.steps == ["identify", "precheck", "stage", "activate", "return", "read", "health", "over"]
    again = run(GOAL)
    assert (again.good, again.begun, len(host.installs)) == (True, False, 1)
    # Down only when that is a back-out.
    down = replace(GOAL, version="1.2.2", before=("1.2.5",))
    outcome = run(down)
    assert (outcome.verdict, outcome.settled, host.version) == (Verdict.OLD, True, "1.2.5")
    assert "Specified firmware is older than installed '1.2.2 < 1.2.5'" in outcome.detail
    assert run(down, back=True).good
    assert host.version == "1.2.2"
    assert ["--allow-older" in argv for argv in host.installs] == [False, False, True]
    assert not any("--force" in argv for argv in host.told)


@pytest.mark.parametrize(
    ("settings", "goal", "verdict", "settled", "words"),
    [
        (
            "NeedsReboot=true",
            GOAL,
            Verdict.OLD,
            False,
            "it runs {} 1.2.2, not 1.2.5; part {part} is Pending (needs-reboot), so that may change",
        ),
        ("NeedsReboot=true", ACTIVATION, Verdict.OLD, False, "no part of it waits to be activated"),
        ("NeedsActivation=true", GOAL, Verdict.OLD, False, "is Pending (needs-activation), so that may change yet"),
        ("NeedsActivation=true", replace(ACTIVATION, version="1.2.5"), Verdict.OTHER, True, "it runs {} 1.2.3, not 1.2.5"),
        ("WriteSupported=false", GOAL, Verdict.OLD, True, "device was not in supported mode; it runs {} 1.2.2, not 1.2.5"),
    ],
)
def test_what_fwupd_says_of_an_update_decides_nothing(
    host: FwupdHost, run: Run, settings: str, goal: Goal, verdict: Verdict, settled: bool, words: str
) -> None:
    host.start(settings)
    journal = Journal()
    outcome = run(goal, journal)
    assert (outcome.verdict, outcome.settled, outcome.good) == (verdict, settled, False), outcome
    assert words.format(WEBCAM, part="08d460be0f1f9f128413f816022a6439e0078018") in outcome.detail
    assert (UpdateStep.OVER in journal.steps) is settled


def test_an_image_that_is_another_version_than_the_release_says_is_found(host: FwupdHost, run: Run) -> None:
    host.start()
    outcome = run(GOAL, becomes="1.2.7")
    assert (outcome.verdict, outcome.detail) == (Verdict.OTHER, f"it runs {WEBCAM} 1.2.7, not 1.2.5")


def test_a_host_begins_anew_when_its_part_needs_that_and_a_part_is_activated(host: FwupdHost, run: Run) -> None:
    host.start("NeedsReboot=true")
    journal = Journal()
    assert run(REBOOT, journal).good
    assert journal.steps == [*UpdateStep]
    assert (host.version, host.reboots, len(host.installs)) == ("1.2.5", 1, 1)
    host.start("NeedsActivation=true")
    assert run(ACTIVATION).good
    assert (host.version, host.reboots) == ("1.2.3", 0)
    # One that forgets what it was given, and one that does not begin anew.
    host.start("NeedsReboot=true")
    host.file("/etc/forgets")
    outcome = run(REBOOT)
    assert (outcome.verdict, outcome.settled) == (Verdict.OLD, True), outcome
    host.start("NeedsReboot=true")
    host.file("/etc/no-reboot")
    outcome = run(replace(REBOOT, minutes=GOAL.minutes))
    assert (outcome.verdict, outcome.settled) == (Verdict.OLD, False), outcome


def test_what_waits_for_a_restart_is_known_when_fwupd_has_begun_anew_meanwhile(host: FwupdHost, run: Run) -> None:
    host.start("NeedsReboot=true")
    assert not run(GOAL).settled
    host.sh(f"/root/start-fwupd {host.serial} '{MODEL}'")
    assert "needs-reboot" not in host.sh("fwupdmgr --json get-devices")
    (task,) = host.device().tasks()
    assert (task.waits, task.words) == (True, "needs-reboot")
    with pytest.raises(RefusedError, match=r"it is at something already, part \w+ is Pending \(needs-reboot\); wait for that"):
        run(GOAL)
    assert len(host.installs) == 1
    host.sh("shutdown -r now")
    wait_until(lambda: host.sh("fwupdmgr --json get-devices | grep -c 1.2.5").strip() == "1", 20)
    assert host.device().tasks() == ()


# What has all steps at each of them, and the others where they differ; and what was done without that its end is noted.
KILLS = [(REBOOT, step, True) for step in UpdateStep]
KILLS += [(REBOOT, UpdateStep.ACTIVATE, False), (REBOOT, UpdateStep.RETURN, False)]
KILLS += [(ACTIVATION, UpdateStep.RESTART, True), (ACTIVATION, UpdateStep.RETURN, False)]
KILLS += [(GOAL, UpdateStep.STAGE, True), (GOAL, UpdateStep.ACTIVATE, False)]
SETTINGS = {"host_reset": ["NeedsReboot=true"], "activation": ["NeedsActivation=true"], "immediate": []}


@pytest.mark.parametrize(("goal", "step", "written"), KILLS)
def test_whoever_goes_on_after_a_killed_run_installs_nothing_twice(
    host: FwupdHost, run: Run, goal: Goal, step: UpdateStep, written: bool
) -> None:
    goal = replace(goal, minutes=replace(goal.minutes, silence=2))  # on a busy machine fwupd takes long to come
    host.start(*SETTINGS[goal.takes_effect])
    journal = Journal(step, written)
    with pytest.raises(KilledError):
        run(goal, journal)
    outcome = run(goal, journal)
    assert outcome.good, outcome
    assert (host.version, len(host.installs)) == (goal.version, 1)


def test_nothing_is_given_to_another_machine_nor_in_a_way_that_can_not_be(host: FwupdHost, run: Run) -> None:
    host.start()
    with pytest.raises(RefusedError, match="its serial number is SN-web1, and the recorded one is SN-9"):
        run(GOAL, serial="SN-9")
    with pytest.raises(RefusedError, match="takes effect by bmc_reset, which can't be done by fwupd; it can have activation"):
        run(replace(GOAL, takes_effect="bmc_reset"))
    with pytest.raises(DeviceError, match="BIOS is no GUID, by which fwupd on the host knows a part"):
        run(replace(GOAL, component="BIOS"))
    with pytest.raises(RefusedError, match="it runs 94dafde8-0000-5325-8317-75df3d0f403a no version"):
        run(replace(GOAL, component="94dafde8-0000-5325-8317-75df3d0f403a"))
    host.file("/sys/class/dmi/id/product_serial", "To Be Filled By O.E.M.\n")
    with pytest.raises(DeviceError, match=r"the host says 'To Be Filled By O\.E\.M\.' for its serial number, so nobody knows"):
        run(GOAL, serial="To Be Filled By O.E.M.")
    host.sh("rm /sys/class/dmi/id/product_serial")
    with pytest.raises(DeviceError, match="the host does not say its serial number"):
        run(GOAL)
    assert host.installs == []
    host.sh("kill $(cat /run/fwupd.pid)")
    with pytest.raises(SilentError, match=r"fwupd on the host does not answer \(.+\); look at fwupdmgr get-devices there"):
        look(host.device(), DeviceIdentity(host.serial, MODEL), GOAL, QuickClock())


# -- playbooks on three hosts -----------------------------------------------


def test_firmware_is_deployed_in_waves_with_a_reboot_and_back_and_a_swapped_webcam_gets_nothing(webcams: Webcams) -> None:
    fleet = webcams.fleet
    webcams.hosts["web1"].start("NeedsReboot=true")  # the others have it at once
    longer = {"transfer": 2, "silence": 0.5, "restart": 0.5}
    first = webcams.rfc("CHG0210001", "1.2.4", webcams.archive("1.2.4", ["1.2.2"], takes_effect="host_reset", minutes=longer))
    status, said = webcams.play("deploy", first)
    assert status == 0, said
    assert webcams.versions == ["1.2.4"] * 3
    assert [host.reboots for host in webcams.hosts.values()] == [1, 0, 0]
    assert set(fleet.installed().values()) == {"1.2.4"}
    assert fleet.rows("select distinct previous_version from deployment_host") == [("1.2.2",)]
    steps = fleet.rows("select data from journal where event = 'firmware_step' and host = 'web1' order by seq")
    names = [json.loads(data)["step"] for (data,) in steps]
    assert names == [*UpdateStep]
    assert {json.loads(data)["firmware"][WEBCAM] for (data,) in fleet.rows("select attributes from ci")} == {"1.2.4"}
    # Another webcam in the second host, and another machine under the name of the third.
    webcams.hosts["web2"].start()
    webcams.hosts["web3"].file("/sys/class/dmi/id/product_serial", "SN-9\n")
    status, said = webcams.play("audit", {})
    assert status != 0
    assert f"web2: it runs {WEBCAM} 1.2.2 where 1.2.4 is recorded" in said, said
    assert "web3: it is not the recorded unit: its serial number is SN-9" in said
    assert "2 differences" in said
    second = webcams.rfc("CHG0210002", "1.2.6", webcams.archive("1.2.6", ["1.2.4"]))
    status, said = webcams.play("deploy", second)
    assert status != 0
    assert f"it runs {WEBCAM} 1.2.2, and 1.2.6 is only for 1.2.4" in said
    assert "its serial number is SN-9, and the recorded one is SN-web3" in said
    assert webcams.versions == ["1.2.4", "1.2.2", "1.2.4"]
    webcams.hosts["web3"].file("/sys/class/dmi/id/product_serial", "SN-web3\n")
    webcams.play("backout", second)
    status, said = webcams.play("backout", first)
    assert status == 0, said
    assert webcams.versions == ["1.2.2"] * 3
    assert set(fleet.installed().values()) == {"1.2.2"}


@pytest.mark.thorough
def test_a_host_that_can_not_say_the_version_brings_the_others_back(webcams: Webcams) -> None:
    webcams.hosts["web2"].start("NeedsReboot=true")  # which fwupd calls a success
    webcams.hosts["web3"].start("NeedsActivation=true")
    rfc = webcams.rfc("CHG0210003", "1.2.7", webcams.archive("1.2.7", ["1.2.2"]))
    status, said = webcams.play("deploy", rfc)
    assert status != 0
    assert webcams.versions == ["1.2.2"] * 3
    assert webcams.fleet.host_states("CHG0210003") == {"web1": "backed_out", "web2": "owed", "web3": "owed"}
    details = dict(webcams.fleet.rows("select host, detail from deployment_host where state = 'owed'"))
    assert "something waits there for a restart" in details["web2"], details
    for name in ("web2", "web3"):
        webcams.hosts[name].start()
    status, said = webcams.play("backout", {**rfc, "tidegate_done_by_hand": ["web2", "web3"]})
    assert status == 0, said


@pytest.mark.thorough
def test_a_killed_run_is_gone_on_with_and_no_host_is_given_it_twice(webcams: Webcams) -> None:
    slow = 'case "$*" in *install*) echo "$*" >>/root/installs; sleep 2;; esac; exec /usr/bin/fwupdmgr "$@"'
    for host in webcams.hosts.values():
        host.file("/usr/local/bin/fwupdmgr", f"#!/bin/sh\n{slow}\n")
        host.sh("rm -f /root/installs")
    rfc = webcams.rfc("CHG0210004", "1.2.8", webcams.archive("1.2.8", ["1.2.2"]))
    command = webcams.fleet.command("tidegate.release.deploy", rfc)
    with subprocess.Popen(command, env=webcams.fleet.environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(lambda: webcams.hosts["web1"].sh("cat /root/installs 2>/dev/null") != "" or process.poll() is not None, 60)
        os.killpg(process.pid, signal.SIGKILL)
    assert webcams.fleet.host_states("CHG0210004")["web1"] == "activating"
    wait_until(lambda: webcams.hosts["web1"].version == "1.2.8", 20)  # what it was given goes on without us
    status, said = webcams.play("deploy", rfc)
    assert status == 0, said
    assert webcams.versions == ["1.2.8"] * 3
    given = [host.sh("cat /root/installs").splitlines() for host in webcams.hosts.values()]
    assert [len(lines) for lines in given] == [1, 1, 1], given
    assert not any("--force" in line or "--allow-older" in line for lines in given for line in lines)
    status, said = webcams.play("backout", rfc)
    assert status == 0, said
    assert webcams.versions == ["1.2.2"] * 3
