# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was rehearsed is what the lab's journal says: all of it deployed, all of it backed out, and what was there before is there again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_change import DataStatement, last_attempt
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_journal import DataJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import WaveJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.verify import rehearsed, unbuilt
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.outcome import Rehearsal
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.play import Played
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.scene import RFC, Scene

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HELLO = ("hello", "1.0", OLD)
PROCEED = GateDecision("proceed", "because")
LATER = (NOW + timedelta(minutes=1)).timestamp()


class Stage:
    """A lab of two hosts with the former release, whose journal is written as a scenario would have it written."""

    def __init__(self, path: Path, cmdb: Cmdb) -> None:
        self.scene = Scene(path, {"web1": frozenset([HELLO]), "web2": frozenset([HELLO])}, ())
        self.journal, self.cmdb = Journal(cmdb), cmdb

    def deploy(self, *hosts: str, failed: tuple[str, ...] = (), digest: str = NEW, rfc: str = RFC) -> Run:
        rollout = Rollout(canary=Share(1), steps=(100,), wave_budget=Share(9), total_budget=Share(9))
        package = {"name": "hello", "version": "2.0", "digest": digest}
        run = self.journal.begin(rfc, package, [hosts], rollout, Holder.this_run(), NOW)
        for host in hosts:
            self.journal.staged(run, host, {"version": "1.0", "digest": OLD}, NOW)
        self.journal.decide_staging(run, PROCEED, NOW)
        for host in hosts:
            self.journal.activating(run, host, NOW)
            self.journal.activated(run, host, HostState.STARTED, "", NOW)
            self.journal.activated(run, host, HostState.FAILED if host in failed else HostState.ACTIVE, "", NOW)
        self.journal.decide_wave(run, 1, PROCEED, NOW)
        self.journal.conclude(run, NOW)
        return run

    def back_out(self, run: Run, *hosts: str, state: HostState = HostState.BACKED_OUT) -> None:
        self.journal.order_backout(run, "rehearsal", NOW)
        for host in hosts:
            self.journal.backing_out(run, host, NOW)
            self.journal.backed_out(run, host, state, "", NOW)
        self.journal.conclude(run, NOW)

    def seen(self, *passed_at: float) -> Rehearsal:
        return rehearsed(self.scene, passed_at)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": name, "class": "server"} for name in ("web1", "web2")], "test")
        with cmdb.begin() as connection:
            rows = [{"ci": name, "release": "hello", "version": "1.0", "digest": OLD} for name in ("web1", "web2")]
            cmdb.record_installations(connection, rows, "test", NOW)
        yield Stage(tmp_path, cmdb)


def test_a_rehearsal_that_went_there_and_back_counts_the_tests_after_it(stage: Stage) -> None:
    stage.back_out(stage.deploy("web1", "web2"), "web1", "web2")
    seen = stage.seen(NOW.timestamp() - 60, LATER, LATER + 1)
    assert seen == Rehearsal(NEW, True, True, 2, (OLD,), "rehearsal")


@pytest.mark.parametrize("done", ["all", "one host by something else", "one host by hand"])
def test_what_a_role_did_is_what_its_waves_have_in_the_journal(stage: Stage, done: str) -> None:
    """The role of the release brings the first host back, that of the one before the second."""
    stage.scene = replace(stage.scene, steps=("activate", "check"))
    journal = WaveJournal(stage.cmdb)
    package = {"name": "hello", "version": "2.0", "digest": NEW}
    run = journal.begin(RFC, package, [["web1", "web2"]], Rollout(role="app", tree=False), Holder.this_run(), NOW)
    journal.stage_all(run, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_wave(run, ["web1", "web2"], False, NOW)
    came = dict.fromkeys(("web1", "web2"), (HostState.ACTIVE, ""))
    forward = {host: ["activate", "check"] for host in came if host == "web1" or done != "one host by something else"}
    journal.end_wave(run, came, [], forward, NOW)
    journal.decide_wave(run, 1, PROCEED, NOW)
    journal.order_backout(run, "rehearsal", NOW)
    journal.begin_back_out(run, ["web1", "web2"], False, NOW)
    state = HostState.OWED if done == "one host by hand" else HostState.BACKED_OUT
    went = {"web1": (HostState.BACKED_OUT, ""), "web2": (state, "the task 'Remove' failed")}
    journal.end_wave(run, went, [], {"web1": ["back_out"], "web2": ["activate", "check"]}, NOW)
    if state is HostState.OWED:
        assert stage.seen(LATER).fault == "web2: the task 'Remove' failed"
        journal.done_by_hand(run, {"web2": {}}, "carl", "the scenario says so", NOW)
    journal.conclude(run, NOW)
    seen = stage.seen(LATER)
    assert (seen.deployed, seen.backed_out, seen.replaced) == (True, done != "one host by hand", (OLD,))
    assert (seen.fault == "web2 was brought back by hand") == (done == "one host by hand")
    assert seen.role is not None
    assert seen.role.forward == (() if done == "one host by something else" else ("activate", "check"))
    assert seen.role.back == (() if done == "one host by hand" else ("back_out", "activate", "check"))


@pytest.mark.parametrize(
    ("said", "no_return", "counts"), [("", False, True), ("as_before", False, False), ("kept", False, False), ("kept", True, True)]
)
def test_data_that_somebody_only_said_to_be_back_were_not_reversed(stage: Stage, said: str, no_return: bool, counts: bool) -> None:
    stage.scene = replace(stage.scene, steps=("migrate", "reverse"))
    journal, hosts = DataJournal(stage.cmdb), ["web1", "web2"]
    rollout = Rollout(wave_budget=Share(9), total_budget=Share(9), role="app", tree=False, data_host="web1", no_return=no_return)
    run = journal.begin(RFC, {"name": "hello", "version": "2.0", "digest": NEW}, [hosts], rollout, Holder.this_run(), NOW)
    journal.stage_all(run, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_migrate(run, NOW)
    journal.end_data(run, "", True, NOW)
    journal.begin_wave(run, hosts, False, NOW)
    journal.end_wave(run, dict.fromkeys(hosts, (HostState.ACTIVE, "")), [], {}, NOW)
    journal.decide_wave(run, 1, PROCEED, NOW)
    journal.conclude(run, NOW)
    if said:
        attempt = last_attempt(journal.data_log(run.deployment))
        statement = DataStatement.parse(f"{said}:{attempt}", "it is a lab", backout=True)
        run = journal.take_over(run.deployment, Holder.this_run(), NOW, said=statement)
    journal.order_backout(run, "rehearsal", NOW)
    journal.begin_back_out(run, hosts, False, NOW)
    journal.end_wave(run, dict.fromkeys(hosts, (HostState.BACKED_OUT, "")), [], {}, NOW)
    if not said:
        journal.begin_reverse(run, NOW)
        journal.end_data(run, "", True, NOW)
    journal.conclude(run, NOW)
    seen = stage.seen(LATER)
    assert (seen.deployed, seen.backed_out, seen.no_return) == (True, counts, False)
    assert ("was said, and no step of its role came to that" in seen.fault) is not counts
    assert seen.role is not None
    assert (seen.role.forward, seen.role.back) == (("migrate",), () if said else ("reverse",))


@pytest.mark.parametrize("end", ["deployed", "has a way back", "one host failed", "said", "going back", "tests before"])
def test_from_where_there_is_no_way_back_the_deployment_is_the_end(stage: Stage, end: str) -> None:
    stage.scene = replace(stage.scene, steps=("migrate",))
    journal, hosts = DataJournal(stage.cmdb), ["web1", "web2"]
    rollout = Rollout(
        wave_budget=Share(9), total_budget=Share(9), role="app", tree=True, data_host="web1", no_return=end != "has a way back"
    )
    run = journal.begin(RFC, {"name": "hello", "version": "2.0", "digest": NEW}, [hosts], rollout, Holder.this_run(), NOW)
    journal.stage_all(run, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    journal.begin_migrate(run, NOW)
    journal.end_data(run, "it failed" if end == "said" else "", True, NOW)
    if end == "said":
        attempt = last_attempt(journal.data_log(run.deployment))
        run = journal.take_over(
            run.deployment, Holder.this_run(), NOW, said=DataStatement.parse(f"migrated:{attempt}", "it is a lab", backout=False)
        )
    journal.begin_wave(run, hosts, False, NOW)
    failed = (HostState.FAILED, "it failed")
    journal.end_wave(
        run, {"web1": (HostState.ACTIVE, ""), "web2": failed if end == "one host failed" else (HostState.ACTIVE, "")}, [], {}, NOW
    )
    journal.decide_wave(run, 1, PROCEED, NOW)
    journal.conclude(run, NOW)
    if end == "going back":
        attempt = last_attempt(journal.data_log(run.deployment))
        run = journal.take_over(
            run.deployment, Holder.this_run(), NOW, said=DataStatement.parse(f"kept:{attempt}", "it is a lab", backout=True)
        )
        journal.order_backout(run, "rehearsal", NOW)
    seen = stage.seen(NOW.timestamp() - 1 if end == "tests before" else LATER)
    assert (seen.deployed, seen.backed_out) == (end != "one host failed", False)
    assert seen.no_return == (end in ("deployed", "tests before"))
    assert seen.tests == (1 if end == "deployed" else 0)
    assert seen.role is not None
    assert seen.role.forward == (() if end == "said" else ("migrate",))


def test_without_a_deployment_nothing_was_rehearsed(stage: Stage, tmp_path: Path) -> None:
    assert stage.seen(LATER) == Rehearsal("", fault="the lab's journal has no deployment of it")
    stage.deploy("web1", "web2", rfc="CHG0000002")
    assert not stage.seen(LATER).deployed
    (tmp_path / "other").mkdir()
    missing = rehearsed(Scene(tmp_path / "other", {}, ()), [LATER])
    assert not missing.deployed
    assert missing.fault


@pytest.mark.parametrize("part", ["one host", "one failed"])
def test_what_is_not_live_everywhere_is_not_deployed(stage: Stage, part: str) -> None:
    run = stage.deploy("web1") if part == "one host" else stage.deploy("web1", "web2", failed=("web2",))
    stage.back_out(run, "web1")
    seen = stage.seen(LATER)
    assert (seen.deployed, seen.backed_out, seen.tests) == (False, False, 0)


def test_what_was_not_backed_out_everywhere_is_not_backed_out(stage: Stage) -> None:
    run = stage.deploy("web1", "web2")
    assert not stage.seen(LATER).backed_out
    stage.back_out(run, "web1", "web2", state=HostState.OWED)
    seen = stage.seen(LATER)
    assert (seen.deployed, seen.backed_out, seen.tests) == (True, False, 0)


def test_what_has_something_else_than_before_is_not_backed_out(stage: Stage) -> None:
    stage.back_out(stage.deploy("web1", "web2"), "web1", "web2")
    with stage.cmdb.begin() as connection:
        row = {"ci": "web2", "release": "hello", "version": "0.9", "digest": NEW}
        stage.cmdb.record_installations(connection, [row], "test", NOW)
    seen = stage.seen(LATER)
    assert (seen.deployed, seen.backed_out) == (True, False)


def test_what_was_put_back_by_hand_is_not_backed_out(stage: Stage) -> None:
    stage.deploy("web1", "web2")
    with stage.cmdb.begin() as connection:
        rows = [{"ci": name, "release": "hello", "version": "1.0", "digest": OLD} for name in ("web1", "web2")]
        stage.cmdb.record_installations(connection, rows, "test", NOW)
    assert not stage.seen(LATER).backed_out


CONVERGED = {"event": "runner_on_failed", "event_data": {"playbook": "/srv/release/molecule/verify/converge.yml"}}


def test_a_lab_that_was_not_made_like_live_says_nothing_of_the_release(stage: Stage) -> None:
    scene = replace(stage.scene, replaced={"CHG0000002": "hello 1.0"})
    ended = Played("the scenario ended with status 1", (), "")
    assert unbuilt(scene, ended) == "what live has now could not be made in the lab (the scenario ended with status 1)"
    stage.deploy("web1", "web2", rfc="CHG0000002", failed=("web2",))
    assert "hello 1.0, which is live, could not be installed in the lab" in unbuilt(scene, ended)
    stage.deploy("web1", "web2", rfc=RFC)
    assert "hello 1.0, which is live, could not be installed in the lab" in unbuilt(scene, ended)


def test_a_release_that_the_scenario_came_to_is_what_failed(stage: Stage) -> None:
    """Whether its deployment began, or was refused."""
    scene = replace(stage.scene, replaced={"CHG0000002": "hello 1.0"})
    stage.deploy("web1", "web2", rfc="CHG0000002")
    assert unbuilt(scene, Played("ended", (), "")) != ""
    assert unbuilt(scene, Played("ended", (CONVERGED,), "")) == ""
    stage.deploy("web1", "web2", failed=("web1",))
    assert unbuilt(scene, Played("ended", (), "")) == ""


def test_which_package_it_was_is_what_the_journal_says(stage: Stage) -> None:
    other = "sha256:" + "c" * 64
    stage.back_out(stage.deploy("web1", "web2", digest=other), "web1", "web2")
    assert stage.seen(LATER).digest == other
