# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All machines of a wave in one worker: each is asked as its own host says, and what goes wrong with one is not the others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.tidegate.release.plugins.action import devices
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError

HOSTS = ["srv1", "srv2", "srv3"]
USER, PASSWORD = "tidegate_redfish_user", "tidegate_redfish_password"
OWN = {host: {USER: f"user-{host}", PASSWORD: f"secret-{host}"} for host in HOSTS}


class Unreadable(dict[str, Any]):
    """The variables of a host, of which one can't be evaluated."""

    def __getitem__(self, name: str) -> Any:
        raise AnsibleError("no vault secret opens it")


class Wave:
    """A wave of machines, and who was visited as whom."""

    def __init__(self) -> None:
        self.visited: dict[str, tuple[str, str]] = {}
        self.stop = ""
        self.steps: list[str] = []
        self.up: list[str] = []

    def run(
        self,
        variables: Mapping[str, Mapping[str, Any]],
        ways: Mapping[str, str] = dict.fromkeys(HOSTS, "https://bmc"),
        firmware: bool = True,
        become: Callable[[str], str] = lambda _host: "started",
        stable: float = 30,
        **given: str,
    ) -> dict[str, Any]:
        wave = self

        class Action(devices.ActionModule):
            def _switch_device(self, _journal: Any, _deployment: Any) -> dict[str, Any]:
                wave.steps.append(self._host)
                wave.visited[self._host] = (self.options["redfish_user"], self.options["redfish_password"])
                state = become(self._host)
                return self.outcome({"changed": True}, state, "" if state == "started" else "it is broken", 1)

        action: Any = object.__new__(Action)
        # As the task's own host has them, whom the variables of a play come before.
        own = {name.removeprefix("tidegate_"): value for name, value in variables["srv1"].items()}
        action.options = {"step": "activate", "redfish_user": None, "redfish_password": None, **own, **given}
        action._task_vars = {"ansible_play_batch": HOSTS, "inventory_hostname": "srv1", "hostvars": variables}
        action._task, action._run, action._host = SimpleNamespace(args={}), SimpleNamespace(deployment=1), "srv1"
        journal: Any = SimpleNamespace(targets=lambda _number: [SimpleNamespace(host=host, state="started") for host in self.up])
        cis = [{"name": host, "attributes": {"redfish": ways[host]} if host in ways else {}} for host in HOSTS]
        action._cmdb = SimpleNamespace(cis=lambda _names: cis)
        deployment: Any = SimpleNamespace(label="CHG1#1", rollout=SimpleNamespace(firmware=firmware, stable=stable))
        return dict(action.visit(journal, deployment))


@pytest.fixture
def wave(monkeypatch: pytest.MonkeyPatch) -> Wave:
    made = Wave()
    monkeypatch.setattr(devices, "interrupted", lambda: made.stop)
    journal = SimpleNamespace(target=lambda _run, _host: SimpleNamespace(state="activating"))
    monkeypatch.setattr(devices, "SharedFirmwareJournal", lambda _cmdb: journal)
    return made


def test_each_bmc_is_asked_as_its_own_host_says(wave: Wave) -> None:
    found = wave.run(OWN)
    assert wave.visited == {host: (f"user-{host}", f"secret-{host}") for host in HOSTS}
    assert found == {"changed": True, "hosts": {host: {"state": "started", "detail": ""} for host in HOSTS}, "settled": False}


def test_what_need_not_stay_well_for_any_time_is_looked_at_again_at_once(wave: Wave) -> None:
    def become(host: str) -> str:
        if host == "srv1":
            return "failed"
        return "started" if wave.steps.count(host) == 1 else "lost" if host == "srv3" else "active"

    found = wave.run(OWN, become=become, stable=0)
    assert sorted(wave.steps) == ["srv1", "srv2", "srv2", "srv3", "srv3"]
    assert {host: one["state"] for host, one in found["hosts"].items()} == {"srv1": "failed", "srv2": "active", "srv3": "lost"}
    assert (found["settled"], found["changed"]) == (True, True)


def test_only_what_came_up_is_looked_at_again(wave: Wave) -> None:
    wave.up = ["srv2"]
    found = wave.run(OWN, become=lambda _host: "active", step="confirm")
    assert (wave.steps, found["settled"]) == (["srv2"], True)
    wave.up = []
    assert wave.run(OWN, step="confirm") == {"changed": False, "hosts": {}, "settled": True}


def test_no_bmc_gets_the_password_of_another_host(wave: Wave) -> None:
    wave.run({**OWN, "srv2": {}})
    assert wave.visited["srv2"] == ("", "")


def test_what_a_play_says_is_for_all(wave: Wave) -> None:
    wave.run({**OWN, "srv2": {}}, **{"redfish_user": "us", "redfish_password": "of the play"})
    assert wave.visited == dict.fromkeys(HOSTS, ("us", "of the play"))


def test_what_can_not_be_evaluated_is_said_before_anybody_is_visited(wave: Wave) -> None:
    with pytest.raises(TidegateError, match="tidegate_redfish_user of srv3 can't be evaluated"):
        wave.run({**OWN, "srv3": Unreadable(OWN["srv3"])})
    assert wave.visited == {}


def test_a_host_without_a_bmc_and_software_are_for_others(wave: Wave) -> None:
    with pytest.raises(TidegateError, match=r"srv3 has no attribute redfish; use tidegate\.release\.activate"):
        wave.run(OWN, {"srv1": "https://bmc", "srv2": "https://bmc"})
    with pytest.raises(TidegateError, match="CHG1#1 is no release of firmware"):
        wave.run(OWN, firmware=False)
    assert wave.visited == {}


def test_what_goes_wrong_with_one_is_said_and_the_others_go_on(wave: Wave) -> None:
    def become(host: str) -> str:
        if host == "srv1":
            raise ConflictError("another controller has taken over")
        return "stuck" if host == "srv2" else "started"

    found = wave.run(OWN, become=become)
    assert "failed" not in found  # which would be so for those that got there
    assert found["msg"].splitlines() == [
        "2 of 3 machines did not get there",
        "srv1: another controller has taken over",
        "srv2: it is broken",
    ]
    assert found["progress"]["more"] == found["msg"].splitlines()[1:]
    assert {host: one["state"] for host, one in found["hosts"].items()} == {"srv1": "activating", "srv2": "stuck", "srv3": "started"}


def test_machines_of_a_process_that_was_ended_are_as_the_journal_has_them(wave: Wave, monkeypatch: pytest.MonkeyPatch) -> None:
    def do_shares(parts: list[list[str]], work: Callable[[list[str]], dict[str, Any]], apart: Callable[[list[str]], Any]) -> dict[str, Any]:
        assert "cmdb" in apart(["srv2"])["srv2"]  # it has a CMDB of its own, and says why not
        return {**work(parts[0]), "srv2": "there is no such CMDB"}

    monkeypatch.setattr(devices, "shares", lambda _hosts, _processors: [["srv1"], ["srv2"], ["srv3"]])
    monkeypatch.setattr(devices, "do_shares", do_shares)
    found = wave.run(OWN)
    assert found["msg"].splitlines() == [
        "2 of 3 machines did not get there",
        "srv2: there is no such CMDB",
        "srv3: the process that went to its BMC was ended; run the same command again",
    ]
    assert {host: one["state"] for host, one in found["hosts"].items()} == dict(
        zip(HOSTS, ("started", "activating", "activating"), strict=True)
    )


def test_nobody_is_begun_with_when_somebody_has_interrupted_the_run(wave: Wave) -> None:
    wave.stop = "interrupted by SIGINT"
    assert wave.run(OWN) == {"changed": False, "hosts": {}, "settled": False, "msg": "it was not begun: interrupted by SIGINT"}
    assert wave.visited == {}
