# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from ansible import constants
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, NotFoundError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import register_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc, open_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.moves import LEASE
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.rehearsal import rehearse
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import standing
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Wave, WaveStart
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.conclude import conclude, foresee
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import decide_staging_gate, decide_wave_gate
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.write_off import WrittenOff, end_write_offs, write_off_host
from documents import open_rfc, write_document

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PACKAGE = {"name": "hello", "version": "2.0", "digest": NEW}
ELSEWHERE = Holder("ann", "other-machine", 4711, 99, "feedbeef")
PROCEED, BACK_OUT, HOLD = (GateDecision(word, "because") for word in ("proceed", "back_out", "hold"))  # type: ignore[arg-type]
POLICY = load_policy(None)
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
    if state is HostState.ACTIVE:
        journal.activated(run, host, HostState.STARTED, "", NOW)
    journal.activated(run, host, state, "", NOW)


def test_a_rollout_comes_back_as_it_was_written(journal: Journal) -> None:
    run = begin(journal)
    assert journal.deployment(run.deployment).rollout == ROLLOUT


@pytest.mark.parametrize("step", ["stage", "activate", "backout"])
def test_a_rehearsed_step_leaves_nothing_but_what_workers_need_not_compile(
    journal: Journal, cmdb: Cmdb, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = begin(journal)
    if step != "stage":
        stage_all(journal, run)
    if step == "backout":
        activate(journal, run, "web1", HostState.STARTED)
        journal.order_backout(run, "because", NOW)

    def rows() -> list[list[Any]]:
        tables = schema()
        with cmdb.read() as connection:
            found = (tables.deployment, tables.deployment_host, tables.wave, tables.journal, tables.lock)
            return [list(connection.execute(sa.select(table))) for table in found]

    before = rows()
    rehearse(cmdb, journal.deployment(run.deployment), step, "web1", NOW)
    assert rows() == before

    compiled: list[str] = []
    compiler = sa.sql.compiler.SQLCompiler.__init__

    def counting(*args: Any, **options: Any) -> None:
        compiler(*args, **options)
        compiled.append(str(args[0]))

    monkeypatch.setattr(sa.sql.compiler.SQLCompiler, "__init__", counting)
    if step == "stage":
        standing(cmdb, "web1", "hello")
        journal.staged(run, "web1", None, NOW)
    elif step == "activate":
        activate(journal, run, "web1", HostState.STARTED)
        assert journal.confirming(run, "web1", NOW + timedelta(seconds=ROLLOUT.stable)) is not None
    else:
        journal.backing_out(run, "web1", NOW)
        journal.backed_out(run, "web1", HostState.BACKED_OUT, "", NOW)
    assert compiled == []
    assert rows() != before


def test_a_rehearsal_of_what_the_journal_refuses_is_of_no_consequence(journal: Journal, cmdb: Cmdb) -> None:
    run = begin(journal)
    rehearse(cmdb, journal.deployment(run.deployment), "activate", "web1", NOW)
    assert {target.state for target in journal.targets(run.deployment)} == {HostState.PLANNED}
    stage_all(journal, run)


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
    assert re.fullmatch(r"CHG0001#1 is being driven by ann@other-machine \(pid [12], .*\), which has just begun it; .*", str(other))
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
    request = RunRequest(str(rfc), Reach(()), write=True, interrupted=interrupted)
    with pytest.raises(StateError, match=r"interrupted by SIGINT \(ann@here\) before anything was begun, so nothing was changed"):
        order_backout(request, cmdb_url=cmdb_url, policy_path=None, reason="x", now=later)
    after = journal.deployment(run.deployment)
    assert (after.state, after.token) == (DeploymentState.STAGING, run.token)
    foreseen = order_backout(replace(request, write=False), cmdb_url=cmdb_url, policy_path=None, reason="x", now=later)
    assert not foreseen.get("failed")


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
    journal.activated(run, "web1", HostState.STARTED, "", late + 3 * LEASE)  # what a host did is journalled however long it took
    journal.activated(run, "web1", HostState.ACTIVE, "", late + 3 * LEASE)
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
    assert journal.locked(run.deployment) == {"web2"}

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
    dead = Holder(here.user, here.machine, child, here.started + 1, here.boot, here.namespace)
    run = journal.begin("CHG0001", PACKAGE, (("web1",),), ROLLOUT, dead, NOW)
    assert journal.take_over(run.deployment, ELSEWHERE, NOW).token > run.token


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
def test_a_living_controller_in_a_container_is_not_taken_over_before_its_lease_ends(journal: Journal) -> None:
    say = "import time; from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder; "
    say += "print(Holder.this_run(), flush=True); time.sleep(60)"
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", say]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as container:
        assert container.stdout
        try:
            there = Holder.parse(container.stdout.readline().strip())
            assert there
            assert there.pid == 1
            run = journal.begin("CHG0001", PACKAGE, (("web1",),), ROLLOUT, there, NOW)  # here its number is another's
            with pytest.raises(ConflictError, match="is being driven by"):
                journal.take_over(run.deployment, Holder.this_run(), NOW)
        finally:
            container.kill()
    assert journal.take_over(run.deployment, Holder.this_run(), NOW + LEASE + timedelta(seconds=1)).token > run.token


def test_a_controller_whose_name_can_not_be_read_is_not_taken_over_before_its_lease_ends(journal: Journal, cmdb: Cmdb) -> None:
    run = begin(journal)
    with cmdb.begin() as connection:
        connection.execute(sa.text("update deployment set holder = 'somebody'"))
    with pytest.raises(ConflictError, match="is being driven by somebody"):
        journal.take_over(run.deployment, Holder.this_run(), NOW)
    assert journal.take_over(run.deployment, Holder.this_run(), NOW + LEASE + timedelta(seconds=1)).token > run.token


def test_a_person_may_say_that_a_controller_is_gone_and_the_journal_says_so(journal: Journal) -> None:
    run = begin(journal)
    here = Holder.this_run()
    with pytest.raises(ConflictError, match="tidegate_take_over=true"):
        journal.refuse_driven(run.deployment, here, NOW)
    assert journal.take_over(run.deployment, here, NOW, ordered=True).token > run.token
    (event,) = [event for event in journal.events(run.deployment) if event.event == "taken_over"]
    assert event.data == {"holder": str(here), "from": str(ELSEWHERE), "ordered": True}
    journal.refuse_driven(run.deployment, here, NOW)
    with pytest.raises(ConflictError, match="another controller has taken"):
        journal.staged(run, "web1", None, NOW)


def test_of_two_that_begin_one_rfc_at_once_the_second_learns_who_drives_it(journal: Journal) -> None:
    begin(journal)
    for hosts in ("web1", "web4"):
        with pytest.raises(ConflictError, match=r"CHG0001#1 is being driven by ann@other-machine"):
            begin(journal, waves=((hosts,),))


def test_only_the_controller_that_drives_a_deployment_finds_its_right_there(journal: Journal) -> None:
    with pytest.raises(NotFoundError, match="CHG0001 has no deployment"):
        journal.driven_by("CHG0001", ELSEWHERE)
    run = begin(journal)
    assert journal.driven_by("CHG0001", ELSEWHERE).run == run
    with pytest.raises(ConflictError, match=r"this run does not drive it, ann@other-machine .* did last; run deploy"):
        journal.driven_by("CHG0001", Holder.this_run())
    later = journal.take_over(run.deployment, Holder.this_run(), NOW, ordered=True)
    assert journal.driven_by("CHG0001", Holder.this_run()).run == later
    with pytest.raises(ConflictError, match="this run does not drive it"):
        journal.driven_by("CHG0001", ELSEWHERE)


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
    with pytest.raises(ConflictError, match=r"the gate after staging of CHG0001#\d+ was already decided"):
        journal.decide_staging(run, PROCEED, NOW)
    assert {target.state for target in journal.targets(run.deployment)} == {HostState.STAGED}
    assert [row for row in journal.waves(run.deployment) if row[1] == "open"] == [(1, "open", None)]


def test_tokens_rise_with_the_clock_so_that_a_cmdb_made_anew_is_not_taken_for_an_old_one(journal: Journal) -> None:
    first = begin(journal)
    assert first.token >= NOW.timestamp() * 1000
    assert journal.take_over(first.deployment, ELSEWHERE, NOW).token > first.token


def write_rfc(journal: Journal, tmp_path: Path, entered: bool = True, number: str = "CHG0001") -> tuple[Path, dict[str, object]]:
    """The RFC of the deployment that :func:`begin` begins; the register has it as cleared if it is ``entered``."""
    document: dict[str, object] = open_rfc(number, "2.0", NEW, NOW, start_date=(NOW - timedelta(hours=1)).isoformat(), approvals=[])
    path = write_document(tmp_path / "rfc.yml", document)
    if entered:
        with journal.cmdb.begin() as connection:
            register_change(connection, load_rfc(path), ("web1", "web2", "web3"), NOW)
    return path, document


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
    path, document = write_rfc(journal, tmp_path, entered=bool(changes.get("entered", True)))
    path.write_text(yaml.safe_dump(document | {key: value for key, value in changes.items() if key not in ("stop", "entered")}))

    def opens(rfc: Rfc, wave: Wave) -> WaveStart:
        assert (rfc.number, wave) == ("CHG0001", Wave(("web2", "web3"), frozenset({"web1"})))
        return WaveStart(str(changes.get("stop", "")), NOW + timedelta(minutes=9))

    decided = decide_wave_gate(journal, run, open_change(str(path)), opens, lambda *_: [], NOW)
    assert (decided["decision"], reason in decided["reason"]) == (decision, True), decided["reason"]
    if decision == "proceed":
        with pytest.raises(StateError, match=r"its window closed or a freeze began for CHG0001#1 at 2026-03-01T12:09:00"):
            journal.activating(run, "web2", NOW + timedelta(minutes=9))


def test_a_gate_asks_no_more_of_many_hosts_than_of_one_when_all_is_well(
    cmdb: Cmdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question for each host makes gates of small waves slow in large deployments."""
    asked: list[str] = []

    def reason(host: str) -> str:
        asked.append(host)
        return "Ansible would know"

    def opens(_rfc: Rfc, _wave: Wave) -> WaveStart:
        return WaveStart("")

    def transactions(number: str, hosts: tuple[str, ...]) -> int:
        journal, transactions = Journal(cmdb), []
        read = cmdb.read
        monkeypatch.setattr(cmdb, "read", lambda: transactions.append("read") or read())
        run = begin(journal, number, (hosts,))
        path, _document = write_rfc(journal, tmp_path, number=number)
        for host in hosts:
            journal.staged(run, host, None, NOW)
        transactions.clear()
        decided = decide_staging_gate(journal, run, open_change(str(path)), opens, lambda *_: [], NOW, "", reason)
        assert decided["decision"] == "proceed"
        for host in hosts:
            activate(journal, run, host)
        decided = decide_wave_gate(journal, run, open_change(str(path)), opens, lambda *_: [], NOW, "", reason)
        assert decided["decision"] == "proceed"
        monkeypatch.undo()
        return len(transactions)

    assert transactions("CHG0001", ("web1",)) == transactions("CHG0002", ("web2", "web3", "web4"))
    assert asked == []


def test_a_release_is_not_active_before_it_was_looked_at_again(journal: Journal) -> None:
    run = begin(journal, waves=(("web1", "web2"), ("web3",)))
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.activating(run, "web2", NOW)
    with pytest.raises(StateError, match="web2 is activating and can't become active"):
        journal.activated(run, "web2", HostState.ACTIVE, "", NOW)
    activate(journal, run, "web2", HostState.STARTED)
    early, due = NOW + timedelta(seconds=ROLLOUT.stable - 1), NOW + timedelta(seconds=ROLLOUT.stable)
    with pytest.raises(StateError, match=r"healthy on web2 for 10 s and came up at 2026-03-01T12:00:00\+00:00; run deploy again"):
        journal.confirming(run, "web2", early)
    assert journal.confirming(run, "web1", due) is None  # it was
    found = journal.confirming(run, "web2", due)
    assert found is not None
    assert (found.host, found.since, found.previous_digest) == ("web2", NOW, OLD)
    journal.decide_wave(run, 1, HOLD, NOW)
    with pytest.raises(StateError, match="is held, not activating, so web2 is not looked at again"):
        journal.confirming(run, "web2", due)


def test_a_wave_of_which_a_host_was_not_looked_at_again_holds(journal: Journal, tmp_path: Path) -> None:
    run = begin(journal, waves=(("web1", "web2"), ("web3",)))
    stage_all(journal, run)
    activate(journal, run, "web1")
    activate(journal, run, "web2", HostState.STARTED)

    def opens(rfc: Rfc, _wave: Wave) -> WaveStart:
        return WaveStart("")

    decided = decide_wave_gate(journal, run, open_change(str(tmp_path / "none.yml")), opens, lambda *_: [], NOW)
    assert decided["decision"] == "hold"
    assert "1 of 2 hosts in wave 1 of 2 not done" in decided["reason"]
    assert "web2" not in {row["ci"] for row in journal.cmdb.installations()}
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.batches("CHG0001", "activate") == [["web1", "web2"], ["web3"]]
    journal.activating(again, "web2", NOW)


def test_a_host_that_was_lost_and_came_up_is_visited_again_when_the_controller_died_before_it_looked(journal: Journal) -> None:
    run = begin(journal, waves=(("web1",), ("web2", "web3")))
    stage_all(journal, run)
    activate(journal, run, "web1", HostState.LOST)
    journal.decide_wave(run, 1, PROCEED, NOW)
    activate(journal, run, "web2")
    activate(journal, run, "web3")
    journal.decide_wave(run, 2, PROCEED, NOW)
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    activate(journal, again, "web1", HostState.STARTED)
    third = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.batches("CHG0001", "activate") == [["web1"]]
    activate(journal, third, "web1")
    journal.decide_lost(third, PROCEED, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.COMPLETED


def test_a_release_that_came_up_is_backed_out_like_any_other(journal: Journal) -> None:
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1", HostState.STARTED)
    assert journal.order_backout(run, "by hand", NOW) is DeploymentState.BACKING_OUT
    assert journal.batches("CHG0001", "backout") == [["web1"]]


def test_why_a_host_went_back_stays_with_it(journal: Journal) -> None:
    run = begin(journal)
    stage_all(journal, run)
    journal.activating(run, "web1", NOW)
    journal.activated(run, "web1", HostState.FAILED, "it broke\nlog says:\n  out of cheese", NOW)
    journal.decide_wave(run, 1, BACK_OUT, NOW)
    journal.backing_out(run, "web1", NOW)
    journal.backed_out(run, "web1", HostState.BACKED_OUT, "", NOW)
    target = journal.targets(run.deployment)[0]
    assert target.detail == "it broke\nlog says:\n  out of cheese"
    assert target.summary == "it broke [...] out of cheese"


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


# -- hosts that never come back ------------------------------------------------


def later(journal: Journal, rfc: str, *hosts: str, live: tuple[str, str] = ("2.0", NEW)) -> Run:
    """Another deployment of the same release, complete on its hosts."""
    package = {**PACKAGE, "version": "3.0", "digest": "sha256:" + "c" * 64}
    run = journal.begin(rfc, package, (hosts,), ROLLOUT, ELSEWHERE, NOW)
    for host in hosts:
        journal.staged(run, host, {"version": live[0], "digest": live[1]}, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    for host in hosts:
        activate(journal, run, host)
    journal.decide_wave(run, 1, PROCEED, NOW)
    return run


def go_back(journal: Journal, run: Run, host: str, state: HostState = HostState.BACKED_OUT) -> None:
    journal.backing_out(run, host, NOW)
    journal.backed_out(run, host, state, "", NOW)


def states_of(journal: Journal, run: Run) -> dict[str, HostState]:
    return {target.host: target.state for target in journal.targets(run.deployment)}


def put_down(journal: Journal, host: str, reason: str = "its disk died", write: bool = True) -> WrittenOff:
    return write_off_host(journal.cmdb, POLICY, host, reason, None, NOW, write)


def with_a_lost_host(journal: Journal) -> Run:
    """Held: web1 and web3 run the release, and nobody knows what web2 runs."""
    run = begin(journal)
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    activate(journal, run, "web2", HostState.LOST)
    activate(journal, run, "web3")
    journal.decide_wave(run, 2, PROCEED, NOW)
    assert journal.conclude(run, NOW).state is DeploymentState.HELD
    return run


def owing(journal: Journal) -> Run:
    """Backing out: web1 went back, web2 still has to, web3 was never touched."""
    run = begin(journal, waves=(("web1", "web2"), ("web3",)))
    stage_all(journal, run)
    activate(journal, run, "web1")
    activate(journal, run, "web2", HostState.LOST)
    journal.decide_wave(run, 1, BACK_OUT, NOW)
    assert journal.locked(run.deployment) == {"web1", "web2"}
    go_back(journal, run, "web2", HostState.OWED)
    go_back(journal, run, "web1")
    assert journal.locked(run.deployment) == {"web1", "web2"}
    assert journal.conclude(run, NOW).state is DeploymentState.BACKING_OUT
    return run


def test_a_held_deployment_that_waits_for_a_lost_host_gives_the_finished_ones_up_and_takes_them_again(journal: Journal) -> None:
    run = with_a_lost_host(journal)
    assert journal.locked(run.deployment) == {"web2"}
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.locked(run.deployment) == {"web1", "web2", "web3"}
    assert journal.batches("CHG0001", "activate") == [["web2"]]
    activate(journal, again, "web2", HostState.LOST)
    journal.decide_lost(again, PROCEED, NOW)
    assert journal.locked(run.deployment) == {"web2"}


def test_a_held_deployment_is_nobody_s_lock_and_goes_on_unless_somebody_was_faster(journal: Journal) -> None:
    run = begin(journal, waves=(("web1",), ("web2",), ("web3",)))
    journal.stage_failed(run, "web3", "it does not answer", NOW)
    for host in ("web1", "web2"):
        journal.staged(run, host, None, NOW)
    assert journal.locked(run.deployment) == {"web1", "web2", "web3"}
    journal.decide_staging(run, PROCEED, NOW)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, PROCEED, NOW)
    journal.decide_wave(run, 2, HOLD, NOW)
    assert journal.locked(run.deployment) == set()
    journal.refuse_resume(journal.deployment(run.deployment))
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.locked(run.deployment) == {"web1", "web2"}
    with pytest.raises(ConflictError, match=r"web2.*locked"):
        later(journal, "CHG0002", "web2")
    journal.decide_wave(again, 2, HOLD, NOW)
    other = begin(journal, "CHG0003", waves=(("web2",),))
    held = journal.deployment(run.deployment)
    with pytest.raises(ConflictError, match=r"web2\) are locked by CHG0003#2"):
        journal.refuse_resume(held)
    journal.staged(other, "web2", None, NOW)
    journal.decide_staging(other, PROCEED, NOW)
    activate(journal, other, "web2")
    journal.decide_wave(other, 1, PROCEED, NOW)
    with pytest.raises(ConflictError, match=r"CHG0003#2 has changed web2 since CHG0001#1 was planned, which gave the host up"):
        journal.refuse_resume(held)


def test_a_back_out_leaves_alone_what_a_later_deployment_has_changed_since(journal: Journal, cmdb: Cmdb) -> None:
    run = with_a_lost_host(journal)
    other = later(journal, "CHG0002", "web1")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.locked(run.deployment) == {"web2", "web3"}
    journal.order_backout(again, "users complain", NOW)
    assert journal.batches("CHG0001", "backout") == [["web2", "web3"]]
    with pytest.raises(StateError, match=r"web1 is not locked by CHG0001#1"):
        journal.backing_out(again, "web1", NOW)
    for host in ("web2", "web3"):
        go_back(journal, again, host)
    assert journal.conclude(again, NOW).state is DeploymentState.BACKED_OUT
    assert states_of(journal, run) == {"web1": HostState.SUPERSEDED, "web2": HostState.BACKED_OUT, "web3": HostState.BACKED_OUT}
    assert {row["ci"]: (row["version"], row["deployment_id"]) for row in cmdb.installations()} == {
        "web1": ("3.0", other.deployment),
        "web2": ("1.0", run.deployment),
        "web3": ("1.0", run.deployment),
    }


def test_a_rollout_that_goes_on_says_nothing_of_what_a_later_deployment_has_changed_since(journal: Journal, cmdb: Cmdb) -> None:
    run = with_a_lost_host(journal)
    later(journal, "CHG0002", "web1")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    activate(journal, again, "web2")
    journal.decide_lost(again, PROCEED, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.COMPLETED
    assert states_of(journal, run) == {"web1": HostState.SUPERSEDED, "web2": HostState.ACTIVE, "web3": HostState.ACTIVE}
    assert {row["ci"]: row["version"] for row in cmdb.installations()} == {"web1": "3.0", "web2": "2.0", "web3": "2.0"}


def test_what_a_later_deployment_brought_back_is_taken_back_too(journal: Journal) -> None:
    run = with_a_lost_host(journal)
    other = later(journal, "CHG0002", "web1")
    other = journal.take_over(other.deployment, ELSEWHERE, NOW)
    journal.order_backout(other, "no good", NOW)
    # While the other one is at it, this one waits.
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    journal.order_backout(again, "users complain", NOW)
    for host in ("web2", "web3"):
        go_back(journal, again, host)
    assert journal.conclude(again, NOW).state is DeploymentState.BACKING_OUT
    go_back(journal, other, "web1")
    assert journal.conclude(other, NOW).state is DeploymentState.BACKED_OUT
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.batches("CHG0001", "backout") == [["web1"]]
    go_back(journal, again, "web1")
    assert journal.conclude(again, NOW).state is DeploymentState.BACKED_OUT


def test_two_held_deployments_do_not_undo_each_others_back_out(journal: Journal) -> None:
    """What came first went back last: the other one's host is not its own any more, although its id is the higher one."""
    run = with_a_lost_host(journal)
    other = journal.begin(
        "CHG0002", {**PACKAGE, "version": "3.0", "digest": "sha256:" + "c" * 64}, (("web1",), ("web4",)), ROLLOUT, ELSEWHERE, NOW
    )
    for host in ("web1", "web4"):
        journal.staged(other, host, {"version": "2.0", "digest": NEW}, NOW)
    journal.decide_staging(other, PROCEED, NOW)
    activate(journal, other, "web1", HostState.FAILED)
    journal.decide_wave(other, 1, PROCEED, NOW)
    journal.decide_wave(other, 2, HOLD, NOW)
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    journal.order_backout(again, "users complain", NOW)
    for host in ("web2", "web3", "web1"):
        go_back(journal, again, host)
    assert journal.conclude(again, NOW).state is DeploymentState.BACKED_OUT
    other = journal.take_over(other.deployment, ELSEWHERE, NOW)
    journal.order_backout(other, "neither", NOW)
    assert journal.batches("CHG0002", "backout") == []
    assert journal.conclude(other, NOW).state is DeploymentState.BACKED_OUT
    assert states_of(journal, other)["web1"] is HostState.SUPERSEDED


def test_a_back_out_that_waits_for_one_host_gives_up_the_others_and_does_not_touch_their_record_again(journal: Journal, cmdb: Cmdb) -> None:
    run = owing(journal)
    assert journal.locked(run.deployment) == {"web2"}
    later(journal, "CHG0002", "web1", "web3", live=("1.0", OLD))
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.locked(run.deployment) == {"web2"}
    assert journal.conclude(again, NOW).state is DeploymentState.BACKING_OUT
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    go_back(journal, again, "web2")
    assert journal.conclude(again, NOW).state is DeploymentState.BACKED_OUT
    assert {row["ci"]: row["version"] for row in cmdb.installations()} == {"web1": "3.0", "web2": "1.0", "web3": "3.0"}
    assert states_of(journal, run)["web1"] is HostState.BACKED_OUT


def test_a_back_out_that_was_killed_before_its_end_still_records_what_went_back(journal: Journal, cmdb: Cmdb) -> None:
    run = begin(journal, waves=(("web1", "web2"),))
    stage_all(journal, run)
    activate(journal, run, "web1")
    activate(journal, run, "web2", HostState.LOST)
    journal.decide_wave(run, 1, BACK_OUT, NOW)
    go_back(journal, run, "web1")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    go_back(journal, again, "web2", HostState.OWED)
    journal.conclude(again, NOW)
    assert [(row["ci"], row["version"]) for row in cmdb.installations()] == [("web1", "1.0")]


def test_a_host_that_is_owed_is_written_off_and_then_nothing_is_owed(journal: Journal, cmdb: Cmdb) -> None:
    run = owing(journal)
    with pytest.raises(ConflictError, match="web2 is held by deployment"):
        cmdb.remove_cis(["web2"], "test")
    assert put_down(journal, "web2", write=False) == WrittenOff(this_user(), True, ("CHG0001#1",))
    assert states_of(journal, run)["web2"] is HostState.OWED
    assert put_down(journal, "web2") == WrittenOff(this_user(), True, ("CHG0001#1",))
    assert journal.locked(run.deployment) == set()
    assert journal.batches("CHG0001", "backout") == []
    assert not put_down(journal, "web2", "for another reason").changed
    assert cmdb.write_offs()["web2"]["reason"] == "its disk died"
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.conclude(again, NOW).state is DeploymentState.BACKED_OUT
    assert states_of(journal, run)["web2"] is HostState.WRITTEN_OFF
    assert cmdb.remove_cis(["web2"], "test") == ["web2"]


def test_a_lost_host_is_written_off_and_then_the_rollout_is_complete(journal: Journal, cmdb: Cmdb) -> None:
    run = with_a_lost_host(journal)
    put_down(journal, "web2")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.batches("CHG0001", "activate") == []
    assert journal.conclude(again, NOW).state is DeploymentState.COMPLETED
    assert {row["ci"]: row["version"] for row in cmdb.installations()} == {"web1": "2.0", "web3": "2.0"}
    begin(journal, "CHG0002")


def test_a_rollout_goes_on_without_a_host_that_was_written_off_in_the_wave_that_is_open(journal: Journal) -> None:
    run = begin(journal, waves=(("web1", "web2"), ("web3",)))
    stage_all(journal, run)
    activate(journal, run, "web1")
    activate(journal, run, "web2", HostState.LOST)
    journal.decide_wave(run, 1, HOLD, NOW)
    journal.conclude(run, NOW)
    put_down(journal, "web2")
    put_down(journal, "web3")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.batches("CHG0001", "activate") == [["web1"]]
    assert journal.undecided("CHG0001") == [["web1"], []]
    with pytest.raises(StateError, match="web2 is not locked by CHG0001#1"):
        journal.activating(again, "web2", NOW)
    activate(journal, again, "web1")
    journal.decide_wave(again, 1, PROCEED, NOW)
    assert journal.deployment(run.deployment).state is DeploymentState.COMPLETED


def test_a_host_that_was_written_off_untouched_is_no_failure_and_the_others_go_on(journal: Journal, tmp_path: Path) -> None:
    """As in a plan made now, which would leave it out; nothing may fail in this one, and nothing of the release has."""
    run = begin(journal, waves=(("web1",), ("web2", "web3")))
    path, _document = write_rfc(journal, tmp_path)

    def opens(_rfc: Rfc, _wave: Wave) -> WaveStart:
        return WaveStart("")

    def decide(gate: Callable[..., dict[str, Any]]) -> tuple[str, str]:
        found = gate(journal, journal.take_over(run.deployment, ELSEWHERE, NOW), open_change(str(path)), opens, lambda *_: [], NOW)
        return found["decision"], found["reason"]

    for host in ("web1", "web3"):
        journal.staged(run, host, {"version": "1.0", "digest": OLD}, NOW)
    journal.stage_failed(run, "web2", "unreachable", NOW)
    spent = "over the budget of 0 (web2: unreachable)"
    assert decide(decide_staging_gate) == ("hold", f"1 of 2 hosts of wave 2 in staging failed or got lost, {spent}")
    journal.release_lease(journal.take_over(run.deployment, ELSEWHERE, NOW), NOW)
    put_down(journal, "web2")
    assert decide(decide_staging_gate)[0] == "proceed"
    activate(journal, journal.take_over(run.deployment, ELSEWHERE, NOW), "web1")
    assert decide(decide_wave_gate)[0] == "proceed"
    activate(journal, journal.take_over(run.deployment, ELSEWHERE, NOW), "web3")
    assert decide(decide_wave_gate) == ("proceed", "1 host in wave 2 of 2 active")
    assert journal.deployment(run.deployment).state is DeploymentState.COMPLETED


def test_a_wave_whose_hosts_are_all_written_off_lets_nothing_begin(journal: Journal, tmp_path: Path) -> None:
    run = begin(journal, waves=(("web1",), ("web2", "web3")))
    path, _document = write_rfc(journal, tmp_path)
    for host in ("web2", "web3"):
        journal.staged(run, host, {"version": "1.0", "digest": OLD}, NOW)
    journal.release_lease(run, NOW)
    put_down(journal, "web1")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    decided = decide_staging_gate(journal, again, open_change(str(path)), lambda *_: WaveStart(""), lambda *_: [], NOW)
    assert decided["decision"] == "hold"


def test_a_host_that_was_written_off_after_it_was_touched_is_still_a_failure(journal: Journal, tmp_path: Path) -> None:
    run = begin(journal, waves=(("web1", "web2"), ("web3",)))
    stage_all(journal, run)
    activate(journal, run, "web1")
    activate(journal, run, "web2", HostState.LOST)
    journal.decide_wave(run, 1, HOLD, NOW)
    journal.conclude(run, NOW)
    put_down(journal, "web2")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    decided = decide_wave_gate(journal, again, open_change(str(tmp_path / "none.yml")), lambda *_: WaveStart(""), lambda *_: [], NOW)
    assert (decided["decision"], "1 of 2 hosts in wave 1 of 2 failed or got lost" in decided["reason"]) == ("back_out", True)


def test_staging_what_is_past_staging_changes_nothing_and_check_mode_says_so(journal: Journal, tmp_path: Path) -> None:
    run = begin(journal)
    path, _document = write_rfc(journal, tmp_path)
    stage_all(journal, run)
    activate(journal, run, "web1")
    journal.decide_wave(run, 1, HOLD, NOW)
    journal.conclude(run, NOW)
    foreseen = foresee(journal, "CHG0001", "staged", NOW)
    assert (foreseen["failed"], "would not end staged" in foreseen["msg"]) == (True, True)
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    ended = conclude(journal, again, open_change(str(path)), "staged", lambda *_: [], lambda _rfc: [], NOW)
    assert (ended["failed"], ended["state"]) == (True, "held")
    assert "is past staging" in ended["msg"]


def test_a_host_that_another_controller_may_be_changing_is_not_written_off(journal: Journal) -> None:
    run = begin(journal)
    with pytest.raises(
        ConflictError, match=r"being driven by ann@other-machine .* deploy or backout with -e tidegate_take_over=true first"
    ):
        put_down(journal, "web2")
    assert journal.cmdb.write_offs() == {}
    put_down(journal, "web4")
    journal.release_lease(run, NOW)
    put_down(journal, "web2")
    assert states_of(journal, run)["web2"] is HostState.WRITTEN_OFF


@pytest.mark.parametrize(("host", "reason", "words"), [("web1", " \n", "no reason is given"), ("web9", "gone", "has no CI web9")])
def test_nobody_is_written_off_without_a_reason_or_a_name(journal: Journal, host: str, reason: str, words: str) -> None:
    with pytest.raises(TidegateError, match=words):
        put_down(journal, host, reason)
    assert journal.cmdb.write_offs() == {}


def test_a_host_that_is_there_again_is_taken_back_where_its_deployment_stands(journal: Journal, cmdb: Cmdb) -> None:
    run = owing(journal)
    put_down(journal, "web2")
    put_down(journal, "web3")
    assert end_write_offs(cmdb, ["web1", "web2", "web3"], "it answered", "test", NOW, True) == ["web2", "web3"]
    assert end_write_offs(cmdb, ["web2"], "it answered", "test", NOW, True) == []
    assert states_of(journal, run)["web2"] is HostState.WRITTEN_OFF
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert states_of(journal, run) == {"web1": HostState.BACKED_OUT, "web2": HostState.OWED, "web3": HostState.STAGE_FAILED}
    assert journal.batches("CHG0001", "backout") == [["web2"]]
    go_back(journal, again, "web2")
    assert journal.conclude(again, NOW).state is DeploymentState.BACKED_OUT


def test_a_host_that_is_there_again_after_its_deployment_was_completed_goes_back_with_the_others(journal: Journal, cmdb: Cmdb) -> None:
    run = with_a_lost_host(journal)
    put_down(journal, "web2")
    journal.conclude(journal.take_over(run.deployment, ELSEWHERE, NOW), NOW)
    end_write_offs(cmdb, ["web2"], "it answered", "test", NOW, True)
    put_down(journal, "web3")
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    journal.order_backout(again, "users complain", NOW)
    assert journal.batches("CHG0001", "backout") == [["web2"], ["web1"]]
    assert states_of(journal, run)["web3"] is HostState.WRITTEN_OFF


def test_a_completed_deployment_is_backed_out_without_a_host_that_is_not_there_any_more(journal: Journal, cmdb: Cmdb) -> None:
    run = begin(journal, waves=(("web1", "web2"),))
    stage_all(journal, run)
    activate(journal, run, "web1")
    activate(journal, run, "web2")
    journal.decide_wave(run, 1, PROCEED, NOW)
    with pytest.raises(ConflictError, match=r"web2 has hello 2\.0 installed"):
        cmdb.remove_cis(["web2"], "test")
    put_down(journal, "web2")
    cmdb.remove_cis(["web2"], "test")
    assert [row["ci"] for row in cmdb.installations()] == ["web1"]
    again = journal.take_over(run.deployment, ELSEWHERE, NOW)
    assert journal.order_backout(again, "users complain", NOW) is DeploymentState.BACKING_OUT
    assert journal.batches("CHG0001", "backout") == [["web1"]]
    go_back(journal, again, "web1")
    assert journal.conclude(again, NOW).state is DeploymentState.BACKED_OUT
