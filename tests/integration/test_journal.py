# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from ansible import constants
from ansible_collections.tidegate.release.plugins.plugin_utils.clearing import Opening, Wave
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, NotFoundError, StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.gating import decide_wave_gate
from ansible_collections.tidegate.release.plugins.plugin_utils.planning import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import enter
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc, load_rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import open_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import LEASE, Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PACKAGE = {"name": "hello", "version": "2.0", "digest": NEW}
ELSEWHERE = Holder("ann", "other-machine", 4711, 99, "feedbeef")
PROCEED, BACK_OUT, HOLD = (GateDecision(word, "because") for word in ("proceed", "back_out", "hold"))  # type: ignore[arg-type]
ROLLOUT = Rollout(canary=Share(10, True), steps=(50, 100), order_by="site")


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": f"web{number}", "class": "server"} for number in range(1, 5)], actor="test")
        yield opened


@pytest.fixture
def journal(cmdb: Cmdb) -> Journal:
    return Journal(cmdb)


def begin(journal: Journal, rfc: str = "CHG0001", waves: tuple[tuple[str, ...], ...] = (("web1",), ("web2", "web3"))) -> Run:
    return journal.begin(rfc, PACKAGE, waves, ROLLOUT, ELSEWHERE, NOW)


def stage_all(journal: Journal, run: Run) -> None:
    for target in journal.targets(run.deployment):
        journal.staged(run, target.host, {"version": "1.0", "digest": OLD}, NOW)
    journal.decide_staging(run, PROCEED, NOW)


def activate(journal: Journal, run: Run, host: str, state: HostState = HostState.ACTIVE) -> None:
    journal.activating(run, host, NOW)
    journal.activated(run, host, state, "", NOW)


def test_a_rollout_comes_back_as_it_was_written(journal: Journal) -> None:
    run = begin(journal)
    assert journal.deployment(run.deployment).rollout == ROLLOUT


def test_a_second_deployment_on_a_locked_ci_is_refused_and_names_the_holder(journal: Journal, cmdb: Cmdb) -> None:
    begin(journal)
    with pytest.raises(ConflictError, match=r"web3.*CHG0001#1.*ann@other-machine"):
        begin(journal, "CHG0002", (("web3", "web4"),))
    assert journal.latest("CHG0002") is None
    begin(journal, "CHG0003", (("web4",),))


def test_of_two_who_begin_an_rfc_at_once_one_drives_and_the_other_reads_who(cmdb_url: str, cmdb: Cmdb) -> None:
    ready = threading.Barrier(2)

    def press(number: int) -> Run | str:
        with Cmdb.open(cmdb_url) as own:
            ready.wait(30)
            try:
                return Journal(own).begin("CHG0001", PACKAGE, (("web1", "web2"),), ROLLOUT, replace(ELSEWHERE, pid=number), NOW)
            except ConflictError as error:
                return str(error)

    with ThreadPoolExecutor(2) as pool:
        one, other = sorted(pool.map(press, (1, 2)), key=lambda result: isinstance(result, str))
    assert isinstance(one, Run)
    assert re.fullmatch(
        r"CHG0001#1 is being driven by ann@other-machine \(pid [12], .*\); wait for it to end, or until its lease ends at .*", str(other)
    )
    assert len(Journal(cmdb).targets(one.deployment)) == 2


def test_a_deployment_that_goes_forward_can_be_held_at_any_time(journal: Journal) -> None:
    run = begin(journal)
    assert journal.hold(run, "interrupted by SIGINT", NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.HELD
    assert not journal.hold(run, "again", NOW)
    assert journal.deployment(run.deployment).reason == "interrupted by SIGINT"
    run = journal.take_over(run.deployment, ELSEWHERE, NOW)
    stage_all(journal, run)
    activate(journal, run, "web1")
    assert journal.hold(run, "interrupted by SIGTERM", NOW)
    run = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.ACTIVATING
    journal.order_backout(run, "because", NOW)
    assert not journal.hold(run, "interrupted by SIGINT", NOW)


def test_an_interrupted_run_begins_nothing(journal: Journal, cmdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(journal)
    rfc = tmp_path / "rfc.yml"
    rfc.write_text("schema: 1\nnumber: CHG0001\n")
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    (tmp_path / "tidegate-interrupted").write_text("interrupted by SIGINT (ann@here)")
    later = NOW + 2 * LEASE
    with pytest.raises(StateError, match=r"interrupted by SIGINT \(ann@here\) before anything was begun, so nothing was changed"):
        order_backout(rfc_path=str(rfc), cmdb_url=cmdb_url, policy_path=None, reason="x", now=later, write=True)
    after = journal.deployment(run.deployment)
    assert (after.state, after.token) == (DeploymentState.STAGING, run.token)
    assert not order_backout(rfc_path=str(rfc), cmdb_url=cmdb_url, policy_path=None, reason="x", now=later, write=False).get("failed")


def test_a_ci_that_the_cmdb_does_not_have_is_not_locked(journal: Journal) -> None:
    with pytest.raises(ConflictError, match="changed in the CMDB"):
        begin(journal, waves=(("web1", "nobody"),))
    assert journal.latest("CHG0001") is None


def test_a_wave_is_closed_until_its_gate_opens_it(journal: Journal) -> None:
    run = begin(journal)
    with pytest.raises(StateError, match="not open"):
        journal.activating(run, "web1", NOW)
    stage_all(journal, run)
    with pytest.raises(StateError, match=r"wave 2 .* is not open"):
        journal.activating(run, "web2", NOW)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    activate(journal, run, "web2")


def test_a_controller_that_slept_over_its_lease_changes_no_host_before_all_is_cleared_again(journal: Journal) -> None:
    """Its wave was opened in a window that may be long over."""
    run = begin(journal)
    stage_all(journal, run)
    late = NOW + LEASE + timedelta(seconds=1)
    for _turn in range(2):  # to have tried renews nothing
        with pytest.raises(StateError, match=r"its lease ended for CHG0001#1 at 2026-03-01T12:10:00\+00:00; run deploy again"):
            journal.activating(run, "web1", late)
    assert journal.targets(run.deployment)[0].state is HostState.STAGED
    run = journal.take_over(run.deployment, ELSEWHERE, late)  # which deploy does when it has cleared the change
    journal.activating(run, "web1", late)
    journal.activated(run, "web1", HostState.ACTIVE, "", late + 3 * LEASE)  # what a host did is journalled however long it took
    journal.decide_wave(run, 1, PROCEED, late + 3 * LEASE)
    journal.activating(run, "web2", late + 3 * LEASE)


def test_a_host_outside_the_plan_is_refused(journal: Journal) -> None:
    run = begin(journal)
    stage_all(journal, run)
    with pytest.raises(NotFoundError, match="web4"):
        journal.activating(run, "web4", NOW)


def test_a_host_that_comes_to_its_turn_too_late_stays_as_it_is_until_all_is_cleared_again(journal: Journal) -> None:
    """A wave may take longer than anybody thought."""
    run = begin(journal, waves=(("web1", "web2"), ("web3",)))
    for host in ("web1", "web2", "web3"):
        journal.staged(run, host, None, NOW)
    closes = NOW + timedelta(minutes=8)
    journal.decide_staging(run, PROCEED, NOW, closes)
    activate(journal, run, "web1")
    with pytest.raises(
        StateError, match=r"its window closed or a freeze began for CHG0001#1 at 2026-03-01T12:08:00\+00:00; run deploy again"
    ):
        journal.activating(run, "web2", closes)
    assert [target.state for target in journal.targets(run.deployment)] == [HostState.ACTIVE, HostState.STAGED, HostState.STAGED]
    journal.decide_wave(run, 1, HOLD, closes, closes)
    run = journal.take_over(run.deployment, ELSEWHERE, closes + timedelta(hours=20), closes + timedelta(hours=21))
    journal.activating(run, "web2", closes + timedelta(hours=20))


def test_completing_releases_the_locks_and_records_the_installations(journal: Journal, cmdb: Cmdb) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    assert [row["ci"] for row in cmdb.installations()] == ["web1"]
    activate(journal, run, "web2")
    activate(journal, run, "web3", HostState.FAILED)
    journal.decide_wave(run, 2, PROCEED, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.COMPLETED
    assert [(row["ci"], row["version"]) for row in cmdb.installations()] == [("web1", "2.0"), ("web2", "2.0")]
    begin(journal, "CHG0002")


def test_a_gate_is_decided_once(journal: Journal) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    with pytest.raises(ConflictError, match="already decided"):
        journal.decide_wave(run, 1, BACK_OUT, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.ACTIVATING


def test_backing_out_visits_every_touched_host_in_reverse_wave_order(journal: Journal, cmdb: Cmdb) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    activate(journal, run, "web2", HostState.LOST)
    journal.decide_wave(run, 2, BACK_OUT, NOW)
    assert journal.batches("CHG0001", "activate") == []
    assert journal.batches("CHG0001", "backout") == [["web2"], ["web1"]]

    journal.backing_out(run, "web2", NOW)
    journal.backed_out(run, "web2", HostState.OWED, "unreachable", NOW)
    assert journal.backing_out(run, "web1", NOW).previous_digest == OLD
    journal.backed_out(run, "web1", HostState.BACKED_OUT, "", NOW)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKING_OUT
    assert journal.batches("CHG0001", "backout") == [["web2"]]
    with pytest.raises(ConflictError, match="locked"):
        begin(journal, "CHG0002")

    journal.backing_out(run, "web2", NOW)
    journal.backed_out(run, "web2", HostState.BACKED_OUT, "", NOW)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKED_OUT
    assert {(row["ci"], row["version"]) for row in cmdb.installations()} == {("web1", "1.0"), ("web2", "1.0")}
    begin(journal, "CHG0002")


def test_an_unopened_wave_is_not_backed_out(journal: Journal) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1", HostState.FAILED)
    journal.decide_wave(run, 1, BACK_OUT, NOW)
    assert journal.batches("CHG0001", "backout") == [["web1"]]


def test_a_hold_leaves_the_wave_open_and_a_later_run_asks_its_gate_again(journal: Journal) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, HOLD, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.HELD
    assert journal.batches("CHG0001", "activate") == []
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.batches("CHG0001", "activate") == [["web1"], ["web2", "web3"]]
    activate(journal, again, "web1")
    journal.decide_wave(again, 1, PROCEED, NOW)
    assert journal.batches("CHG0001", "activate") == [["web2", "web3"]]


def test_a_living_controller_elsewhere_is_not_taken_over_before_its_lease_ends(journal: Journal) -> None:
    run = begin(journal)
    other = Holder("bob", "third-machine", 1, 1, "cafecafe")
    with pytest.raises(ConflictError, match="ann@other-machine"):
        journal.take_over(run.deployment, other, NOW + LEASE - timedelta(seconds=1))
    assert journal.take_over(run.deployment, other, NOW + LEASE + timedelta(seconds=1)).token > run.token


def test_a_dead_controller_on_this_machine_is_taken_over_at_once(journal: Journal) -> None:
    here = Holder.this_run()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    dead = Holder(here.user, here.machine, child, here.started + 1, here.boot)
    run = journal.begin("CHG0001", PACKAGE, (("web1",),), ROLLOUT, dead, NOW)
    assert journal.take_over(run.deployment, ELSEWHERE, NOW).token > run.token


def test_this_process_is_seen_as_alive() -> None:
    here = Holder.this_run()
    assert not here.is_dead()
    assert Holder.parse(str(here)) == here


def test_a_controller_that_was_superseded_can_not_write(journal: Journal) -> None:
    old = begin(journal)
    stage_all(journal, old)
    new = journal.take_over(old.deployment, ELSEWHERE, NOW)
    for write in (
        lambda: journal.activating(old, "web1", NOW),
        lambda: journal.decide_wave(old, 1, PROCEED, NOW),
        lambda: journal.order_backout(old, "x", NOW),
        lambda: journal.conclude(old, NOW),
    ):
        with pytest.raises(ConflictError, match="taken"):
            write()
    activate(journal, new, "web1")


def test_a_written_event_can_not_be_changed(journal: Journal, cmdb: Cmdb) -> None:
    begin(journal)
    for statement in ("update journal set event = 'x'", "delete from journal"):
        with pytest.raises(Exception, match="append-only"), cmdb.begin() as connection:
            connection.exec_driver_sql(statement)


def test_a_wave_without_a_staged_host_is_passed_over(journal: Journal) -> None:
    run = begin(journal, waves=(("web1",), ("web2",), ("web3",)))
    journal.stage_failed(run, "web2", "disk full", NOW)
    journal.staged(run, "web1", None, NOW)
    journal.staged(run, "web3", None, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    assert journal.batches("CHG0001", "activate") == [["web1"], ["web3"]]
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    activate(journal, run, "web3")
    journal.decide_wave(run, 3, PROCEED, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.COMPLETED


def test_a_release_that_was_live_before_is_what_a_back_out_returns_to(journal: Journal) -> None:
    run = begin(journal)
    journal.staged(run, "web1", {"version": "2.0", "digest": NEW}, NOW)
    assert journal.targets(run.deployment)[0].previous_digest == NEW


def test_a_deployment_that_touched_nothing_is_cancelled_by_a_back_out(journal: Journal) -> None:
    run = begin(journal)
    assert journal.order_backout(run, "changed our mind", NOW) is DeploymentState.CANCELLED
    begin(journal, "CHG0002")


def test_a_completed_deployment_is_backed_out_unless_a_later_one_followed(journal: Journal) -> None:
    first = begin(journal, waves=(("web1",),))
    stage_all(journal, first)
    activate(journal, first, "web1")
    journal.decide_wave(first, 1, PROCEED, NOW)
    later = journal.begin("CHG0002", {**PACKAGE, "version": "3.0", "digest": "sha256:" + "c" * 64}, (("web1",),), ROLLOUT, ELSEWHERE, NOW)
    stage_all(journal, later)
    activate(journal, later, "web1")
    journal.decide_wave(later, 1, PROCEED, NOW)

    again = journal.take_over(first.deployment, ELSEWHERE, NOW)
    with pytest.raises(ConflictError, match="later"):
        journal.order_backout(again, "too late", NOW)
    again = journal.take_over(later.deployment, ELSEWHERE, NOW)
    assert journal.order_backout(again, "users complain", NOW) is DeploymentState.BACKING_OUT
    assert journal.batches("CHG0002", "backout") == [["web1"]]


def test_a_completed_deployment_can_be_backed_out_again_once_the_later_one_was(journal: Journal) -> None:
    run = begin(journal, waves=(("web1",),))
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    later = journal.begin("CHG0002", {**PACKAGE, "version": "3.0", "digest": "sha256:" + "c" * 64}, (("web1",),), ROLLOUT, ELSEWHERE, NOW)
    journal.staged(later, "web1", {"version": "2.0", "digest": NEW}, NOW)
    journal.decide_staging(later, PROCEED, NOW)
    activate(journal, later, "web1")
    journal.decide_wave(later, 1, PROCEED, NOW)
    with pytest.raises(ConflictError, match=r"web1 runs hello 3\.0 by a later deployment"):
        journal.refuse_superseded(run.deployment)
    journal.order_backout(later, "no good", NOW)
    journal.backing_out(later, "web1", NOW)
    journal.backed_out(later, "web1", HostState.BACKED_OUT, "", NOW)
    journal.conclude(later, NOW)
    journal.refuse_superseded(run.deployment)
    assert journal.order_backout(run, "neither is this one", NOW) is DeploymentState.BACKING_OUT


def test_a_host_goes_back_only_when_the_deployment_does(journal: Journal) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1")
    with pytest.raises(StateError, match="is activating, not backing out, so web1 stays as it is"):
        journal.backing_out(run, "web1", NOW)
    assert journal.targets(run.deployment)[0].state is HostState.ACTIVE


def test_backing_a_completed_deployment_out_takes_its_locks_again(journal: Journal) -> None:
    run = begin(journal, waves=(("web1",),))
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    other = journal.begin("CHG0002", {**PACKAGE, "name": "other"}, (("web1",),), ROLLOUT, ELSEWHERE, NOW)
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    with pytest.raises(ConflictError, match="locked by CHG0002"):
        journal.order_backout(again, "users complain", NOW)
    journal.order_backout(other, "not now", NOW)
    journal.order_backout(again, "users complain", NOW)
    with pytest.raises(ConflictError, match="locked by CHG0001"):
        begin(journal, "CHG0003", (("web1",),))


def test_the_journal_refuses_what_the_state_machines_do_not_know(journal: Journal) -> None:
    run = begin(journal)
    with pytest.raises(StateError, match="web1 is planned and can't become active"):
        journal.activated(run, "web1", HostState.ACTIVE, "", NOW)
    stage_all(journal, run)
    with pytest.raises(StateError, match="is activating and can't become activating"):
        journal.decide_staging(run, PROCEED, NOW)
    assert {target.state for target in journal.targets(run.deployment)} == {HostState.STAGED}
    assert [row for row in journal.waves(run.deployment) if row[1] == "open"] == [(1, "open", None)]


def test_tokens_rise_with_the_clock_so_that_a_cmdb_made_anew_is_not_taken_for_an_old_one(journal: Journal) -> None:
    first = begin(journal)
    assert first.token >= NOW.timestamp() * 1000
    assert journal.take_over(first.deployment, ELSEWHERE, NOW).token > first.token


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ({}, "proceed", "1 host in wave 1 of 2 active"),
        ({"release": {"name": "hello", "version": "2.0", "digest": OLD}}, "hold", "could not be found out"),
        ({"number": "CHG0002"}, "hold", "could not be found out"),
        ({"colour": "red"}, "hold", "could not be found out"),
        ({"on_hold": True}, "hold", "the RFC is on hold"),
        ({"state": 4}, "hold", "the RFC is Canceled"),
        ({"stop": "it snows"}, "hold", "it snows"),
        ({"short_description": "something else"}, "hold", "the RFC was edited since it was cleared"),
        ({"entered": False}, "hold", "the RFC was edited since it was cleared"),  # or nobody knows how it was cleared
    ],
)
def test_a_gate_asks_the_rfc_of_this_deployment_and_no_other(
    journal: Journal, tmp_path: Path, changes: dict[str, object], decision: str, reason: str
) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1")
    document = {
        "schema": 1,
        "number": "CHG0001",
        "type": "normal",
        "state": -2,
        "risk": 3,
        "impact": 3,
        "short_description": "hello 2.0",
        "requested_by": "rita",
        "start_date": (NOW - timedelta(hours=1)).isoformat(),
        "end_date": (NOW + timedelta(hours=1)).isoformat(),
        "backout_plan": "Back to the release before.",
        "test_plan": "Health checks.",
        "release": {"name": "hello", "version": "2.0", "digest": NEW},
        "scope": "[?class=='server']",
        "approvals": [],
    }
    path = tmp_path / "rfc.yml"
    path.write_text(yaml.safe_dump(document))
    if changes.get("entered", True):
        with journal.cmdb.begin() as connection:
            enter(connection, load_rfc(path), ("web1", "web2", "web3"), NOW)
    path.write_text(yaml.safe_dump(document | {key: value for key, value in changes.items() if key not in ("stop", "entered")}))

    def opens(rfc: Rfc, wave: Wave) -> Opening:
        assert (rfc.number, wave) == ("CHG0001", Wave(("web2", "web3"), frozenset({"web1"})))
        return Opening(str(changes.get("stop", "")), NOW + timedelta(minutes=9))

    decided = decide_wave_gate(journal, run, open_change(str(path)), opens, lambda *_: [], NOW)
    assert (decided["decision"], reason in decided["reason"]) == (decision, True), decided["reason"]
    if decision == "proceed":
        with pytest.raises(StateError, match=r"its window closed or a freeze began for CHG0001#1 at 2026-03-01T12:09:00"):
            journal.activating(run, "web2", NOW + timedelta(minutes=9))


def test_a_deployment_with_a_lost_host_waits_and_visits_only_that_host_again(journal: Journal) -> None:
    run = begin(journal, waves=(("web1",), ("web2", "web3")))
    stage_all(journal, run)
    activate(journal, run, "web1", HostState.LOST)
    journal.decide_wave(run, 1, PROCEED, NOW)
    activate(journal, run, "web2")
    activate(journal, run, "web3", HostState.FAILED)
    journal.decide_wave(run, 2, PROCEED, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.HELD
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.batches("CHG0001", "activate") == [["web1"]]
    with pytest.raises(StateError, match="not open"):
        journal.activating(again, "web2", NOW)
    activate(journal, again, "web1")
    journal.decide_lost(again, PROCEED, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.COMPLETED
