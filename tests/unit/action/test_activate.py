# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both halves of a host's step together, without Ansible in between: what the host answers, what it is brought, what is journalled."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.action import activate as activate_action
from ansible_collections.tidegate.release.plugins.action import backout as backout_action
from ansible_collections.tidegate.release.plugins.action import confirm as confirm_action
from ansible_collections.tidegate.release.plugins.module_utils.activation import activate, back_out, confirm
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError, Texts
from ansible_collections.tidegate.release.plugins.module_utils.repair import Lacking, Supplies
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import switch
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.host_answer import Answer, parse_answer
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from bed import Host, Package, package
from waiting import wait_until

# The previous release has a file of its own, of which nothing else on the host is a copy.
ONE, TWO = package("1.0", {"own": b"only in 1.0"}), package("2.0")


class Journal:
    """Of one host: its state before the step, and what was written after it."""

    def __init__(self, state: HostState) -> None:
        self.target = SimpleNamespace(state=state, previous_digest=ONE.digest, wave=1, detail="")
        self.state, self.detail = state, ""
        self.alone = ""

    def went_back(self, _run: Any, _host: str, detail: str, _now: Any) -> None:
        self.alone = detail

    def activating(self, *_arguments: Any) -> Any:
        return self.target

    confirming = backing_out = activating

    def activated(self, _run: Any, _host: str, state: HostState, detail: str, _now: Any) -> None:
        self.state, self.detail = state, detail

    backed_out = activated


class Desk:
    """A controller with all packages, and a host."""

    def __init__(self, host: Host, *packages: Package, confirm_minutes: float = 0) -> None:
        self.host = host
        self.packages = {one.digest: one for one in packages}
        self.orders: list[str] = []
        self.deployment: Any = SimpleNamespace(digest=TWO.digest, rollout=Rollout(stable=0, confirm_minutes=confirm_minutes), epoch=None)
        self.resets: list[str] = []

    def step(self, module: Any, journal: Journal) -> dict[str, Any]:
        action: Any = module.ActionModule.__new__(module.ActionModule)
        action._run, action._host, action.options = None, "one", {"settings": {}}
        action._connection = SimpleNamespace(reset=lambda: self.resets.append(action.step), transport="local")
        action.call = lambda _deployment, pack=b"", **arguments: self.call(arguments.pop("operation", action.step), pack, **arguments)
        action.shipment = lambda _deployment, digest: SimpleNamespace(
            documents=lambda: self.packages[digest].documents, pack=lambda need: self.pack(digest, need)
        )
        return dict(action.visit(journal, self.deployment))

    def pack(self, digest: str, need: list[str]) -> Path:
        path = self.host.root.with_name("pack")
        path.write_bytes(self.packages[digest].pack(need))
        return path

    def call(self, operation: str, pack: bytes, previous: str, documents: Any = None, *, supply: bool = False, **others: Any) -> Answer:
        self.orders.append(operation)
        self.host.confirm_within, self.host.unknown = others.get("confirm_within", 0), others.get("unknown", False)
        brought = io.BytesIO(pack) if pack else None
        order = self.host.order_with(Supplies(Texts(*documents) if documents else None, brought, supply))
        home = self.host.home
        try:
            with home.locked(0):
                answer = {"activate": activate, "confirm": confirm, "backout": back_out}[operation](home, TWO.digest, previous, order)
        except Lacking as lacking:
            answer = lacking.answer
        except HostError as error:
            answer = {"failed": True, "state": "refused", "msg": str(error)}
        return parse_answer(operation, {**answer, "clock": 1})


@pytest.fixture
def desk(host: Host) -> Desk:
    """2.0 came up in place of 1.0 and did not last; 1.0 is damaged meanwhile."""
    host.deploy(ONE)
    host.stage(TWO)
    host.start(TWO, ONE)
    (host.home.state / "running").unlink()
    (host.home.releases / ONE.id / "tree/own").write_text("somebody's own")
    return Desk(host, ONE, TWO)


def test_what_is_to_be_known_of_a_release_that_came_up_is_to_be_known_of_one_that_lasted(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    host.start(TWO, ONE)
    journal = Journal(HostState.STARTED)
    journal.target.detail = "what ran of 1.0 was ended"
    Desk(host, ONE, TWO).step(confirm_action, journal)
    assert (journal.state, journal.detail) == (HostState.ACTIVE, "what ran of 1.0 was ended")


def test_a_host_that_can_not_go_back_alone_is_brought_what_it_lacks_at_once(desk: Desk) -> None:
    journal = Journal(HostState.STARTED)
    result = desk.step(confirm_action, journal)
    assert (journal.state, desk.host.live, desk.host.running) == (HostState.FAILED, "1.0", "1.0")
    assert (desk.host.home.releases / ONE.id / "tree/own").read_bytes() == b"only in 1.0"
    assert desk.orders == ["confirm", "backout", "backout"]
    assert "did not stay well" in journal.detail
    assert "1 file was not as archived and was put right: own" in journal.detail
    assert "going back failed" not in journal.detail
    assert result["failed"]


def test_what_is_to_be_known_of_the_way_back_is_journalled(desk: Desk) -> None:
    stop = desk.host.home.releases / TWO.id / "tree/bin/stop"
    stop.write_text("#!/bin/sh\nrm -f $TIDEGATE_STATE/running\nexit 3\n")
    journal = Journal(HostState.STARTED)
    desk.step(confirm_action, journal)
    assert journal.state == HostState.FAILED
    assert "hook stop of hello 2.0: bin/stop ended with status 3; 0 processes of 2.0 had to be ended" in journal.detail


def test_a_way_back_that_fails_with_what_it_lacked_says_why_it_failed_then(desk: Desk) -> None:
    (desk.host.home.state / "running").mkdir()
    (desk.host.home.state / "running/in the way").touch()
    journal = Journal(HostState.STARTED)
    desk.step(confirm_action, journal)
    assert journal.state == HostState.STUCK
    assert "going back failed too: hello 1.0: hook start of hello 1.0" in journal.detail.splitlines()[0]
    assert "no good copy" not in journal.detail


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HostState.STAGED, HostState.FAILED),
        (HostState.FAILED, HostState.FAILED),
        (HostState.ACTIVATING, HostState.LOST),
        (HostState.STARTED, HostState.LOST),
        (HostState.ACTIVE, HostState.LOST),
        (HostState.STUCK, HostState.LOST),
        (HostState.LOST, HostState.LOST),
    ],
)
def test_a_host_that_refuses_runs_what_it_ran_only_if_no_order_reached_it_before(desk: Desk, before: HostState, after: HostState) -> None:
    journal = Journal(before)
    with desk.host.home.locked(0):  # an operation that a lost controller started is still under way
        desk.step(activate_action, journal)
    assert (journal.state, desk.orders) == (after, ["activate"])
    assert "another operation has been holding" in journal.detail


@pytest.mark.parametrize(("step", "after"), [(confirm_action, HostState.LOST), (backout_action, HostState.OWED)])
@pytest.mark.parametrize("before", [HostState.STAGED, HostState.FAILED, HostState.STARTED])
def test_a_host_that_refuses_another_step_is_lost_or_owed(desk: Desk, step: Any, before: HostState, after: HostState) -> None:
    journal = Journal(before)
    with desk.host.home.locked(0):
        desk.step(step, journal)
    assert journal.state == after


@pytest.mark.parametrize("state", [HostState.LOST, HostState.FAILED, HostState.STAGED])
def test_a_host_that_went_back_by_itself_says_so_once_and_is_then_tried_anew(host: Host, state: HostState) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    soon = Desk(host, ONE, TWO, confirm_minutes=0.4 / 60)
    soon.step(activate_action, Journal(HostState.STAGED))
    wait_until(lambda: host.events[-2:] == ["failed", "restored"])
    with host.home.locked(30):  # which the guard has until then
        journal = Journal(state)
    desk = Desk(host, ONE, TWO, confirm_minutes=1)
    desk.step(activate_action, journal)
    if state is HostState.LOST:
        assert (journal.state, host.live) == (HostState.FAILED, "1.0")
        assert journal.alone == journal.detail
        assert journal.alone.startswith("it went back by itself at 20")
    else:
        assert (journal.state, journal.alone, host.live) == (HostState.STARTED, "", "2.0")
        journal = Journal(HostState.STARTED)
        desk.step(confirm_action, journal)
        assert (journal.state, desk.resets) == (HostState.ACTIVE, ["confirm"])


def test_what_is_not_guarded_is_looked_at_over_the_connection_that_there_is(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    desk = Desk(host, ONE, TWO)
    desk.step(activate_action, Journal(HostState.STAGED))
    assert not host.home.guard.exists()
    desk.step(confirm_action, Journal(HostState.STARTED))
    assert desk.resets == []


def test_a_slice_that_is_interrupted_while_it_waits_to_take_back_begins_no_host(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    desk.deployment.epoch = 7
    monkeypatch.setattr(HostAction, "await_others", lambda *_: waited.append("for later waves"))
    monkeypatch.setattr(switch, "interrupted", lambda: "interrupted by SIGINT (ann@here)")
    result = desk.step(backout_action, Journal(HostState.STARTED))
    assert (result["skipped"], waited, desk.orders) == (True, ["for later waves"], [])
