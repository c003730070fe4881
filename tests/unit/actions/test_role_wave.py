# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to hosts that could not be taken out of service."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_wave import Outcomes, RoleWave
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Target
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.role_play import HostVerdict, PlayPart, Role
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import Begun

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
