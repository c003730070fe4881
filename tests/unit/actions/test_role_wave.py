# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to hosts that could not be taken out of service, and what is waited for before anything is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.unfinished import MARK
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import role_wave
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_run import RolePlay, Seen
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_wave import Outcomes, RoleWave
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Target
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.role_play import HostVerdict, PlayPart, Role
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import Begun
from waiting import wait_until

STAGED, FAILED, ACTIVATING, ACTIVE = HostState.STAGED, HostState.FAILED, HostState.ACTIVATING, HostState.ACTIVE


class Wave(RoleWave):
    """A wave whose load balancer lets no host go: what is done to which hosts is written down, and ``drain`` fails."""

    def __init__(self, state: HostState) -> None:
        target = Target("web1", 1, state, "sha256:one", "1", "", datetime(2026, 11, 29, tzinfo=UTC))
        begun = Begun({"web1": target})
        self.restored: list[str] = []
        self._journal: Any = SimpleNamespace(begin_wave=lambda *_: begun, begin_back_out=lambda *_: begun, end_wave=self._end)
        self._deployment: Any = SimpleNamespace(rollout=SimpleNamespace(stable=0))
        self._run: Any = None
        self._what, self._tree, self._drains = "app 2", True, True
        self._role = Role("/run/app", ("drain", "restore"))
        self._did, self._resumed, self.done = {}, [], []

    def _end(self, _run: object, _outcomes: Outcomes, restored: Collection[str], *_more: object) -> None:
        self.restored = list(restored)

    def _refuse_distrusted(self) -> None:
        pass

    def _ways(self, hosts: Collection[str]) -> dict[str | None, tuple[Role | None, bool, str]]:
        assert hosts
        return {"sha256:one": (None, True, "app 1")}

    def _do(self, step: str, hosts: list[str], parts: list[PlayPart], role: Role, about: Mapping[str, str]) -> dict[str, HostVerdict]:
        assert (hosts, role, about) == (["web1"], self._role, {})
        steps = [part.step for part in parts if part.step]
        self.done.append((step, steps))
        return {"web1": HostVerdict("it is busy", part="drain of app 2") if "drain" in steps else HostVerdict()}


@pytest.mark.parametrize("state", [STAGED, FAILED])
def test_a_host_that_can_not_be_taken_out_of_service_serves_on_as_it_is(state: HostState) -> None:
    wave = Wave(state)
    assert wave.activate(["web1"]) == {"web1": (FAILED, "it is busy")}
    assert wave.done == [("activate", ["drain", "restore"]), ("restore", ["restore"])]
    assert wave.restored == ["web1"]


def test_one_that_was_interrupted_before_goes_all_the_way_back() -> None:
    wave = Wave(ACTIVATING)
    state, detail = wave.activate(["web1"])["web1"]
    assert (state, detail) == (HostState.STUCK, "it is busy; going back failed too: it is busy; it stays drained")
    assert [step for step, _steps in wave.done] == ["activate", "back_out"]
    assert wave.restored == []


def test_a_back_out_leaves_a_host_in_service_that_is_back_already() -> None:
    wave = Wave(FAILED)
    assert wave.back_out(["web1"]) == {"web1": (HostState.BACKED_OUT, "")}
    assert wave.restored == ["web1"]
    wave = Wave(ACTIVE)  # the release that is to go is there
    assert wave.back_out(["web1"]) == {"web1": (HostState.OWED, "it is busy; it stays drained")}
    assert [step for step, _steps in wave.done] == ["back_out"]


@pytest.mark.parametrize("interrupted", [True, False])
def test_nothing_begins_while_a_task_of_an_interrupted_run_is_at_work_on_this_machine(
    interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []

    def run_play(_action: object, wanted: RolePlay, *_more: object) -> Seen:
        began.append(wanted.play["name"])
        return Seen(ended="killed")

    monkeypatch.setattr(role_wave, "run_play", run_play)
    monkeypatch.setattr(role_wave, "_PATIENCE", 0)
    wave = Wave(ACTIVATING if interrupted else STAGED)
    wave._deployment.label, wave._run, wave._journal.renew = "CHG4711#1", SimpleNamespace(deployment=1, token=7), lambda *_: None
    wave._options, wave._own = {"rfc": "rfc.yml", "dsl": "dsl", "cmdb": "cmdb"}, SimpleNamespace(gather_facts=False, timeout=60)
    wave._action, wave._work, wave._treeless, wave._resumed = None, Path(), set(), ["web1"] if interrupted else []
    monkeypatch.setattr(wave, "_log", lambda: Path("a.log"))
    monkeypatch.setattr(wave, "_variables", dict)
    # As Ansible starts a module; by whichever earlier run of this deployment.
    with subprocess.Popen([sys.executable], stdin=subprocess.PIPE, env={**os.environ, MARK: "CHG4711#1:5"}) as module:
        wait_until(lambda: MARK.encode() in Path(f"/proc/{module.pid}/environ").read_bytes())
        try:
            found = RoleWave._do(wave, "activate", ["web1"], [], wave._role, {})
        finally:
            module.kill()
    problem = f"the processes {module.pid} of an interrupted run still run here"
    assert (found["web1"].problem == problem, began) == ((True, []) if interrupted else (False, ["CHG4711#1: activate of app 2"]))
