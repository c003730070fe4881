# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of data: what is about to be done to them is written first, and nothing is begun again that nobody knows the end of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import DATA
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_change import DataStatement, last_attempt
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_journal import DataJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DataState, DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import conclude, gate
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import WaveStart
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from documents import write_document
from seals import KEYS, pem

if TYPE_CHECKING:
    from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import Change

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NEW, NEWER = "sha256:" + "b" * 64, "sha256:" + "c" * 64
ANN, BOB = Holder("ann", "other-machine", 4711, 99, "feedbeef"), Holder("bob", "other-machine", 4712, 99, "feedbeef")
PROCEED, BACK_OUT = GateDecision("proceed", "because"), GateDecision("back_out", "it is bad")
HOSTS = ("db1", "web1")
Begin = Callable[..., Run]


@pytest.fixture
def journal(cmdb_url: str) -> Iterator[DataJournal]:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": host, "class": "server"} for host in [*HOSTS, "web2"]], actor="test")
        yield DataJournal(cmdb)


@pytest.fixture
def begin(journal: DataJournal) -> Begin:
    def begin(
        number: str = "CHG0001", digest: str = NEW, hosts: tuple[str, ...] = HOSTS, *, staged: bool = True, **rollout: bool | str
    ) -> Run:
        options = Rollout(**{"role": "app", "tree": False, "data_host": "db1", **rollout})  # type: ignore[arg-type]
        waves = [[host] for host in hosts]
        run = journal.begin(number, {"name": "shop", "version": "2.0", "digest": digest}, waves, options, ANN, NOW)
        if staged:
            journal.stage_all(run, NOW)
            journal.decide_staging(run, PROCEED, NOW)
        return run

    return begin


def data(journal: DataJournal, run: Run) -> DataState:
    return journal.deployment(run.deployment).data


def state(journal: DataJournal, run: Run) -> DeploymentState:
    return journal.deployment(run.deployment).state


def events(journal: DataJournal, run: Run) -> list[str]:
    return [entry.event for entry in journal.data_log(run.deployment)]


def migrate(journal: DataJournal, run: Run, problem: str = "", *, begun: bool = True) -> None:
    journal.begin_migrate(run, NOW)
    journal.end_data(run, problem, begun, NOW)


def activate(journal: DataJournal, run: Run, number: int, host: str, outcome: HostState = HostState.ACTIVE) -> None:
    journal.begin_wave(run, [host], False, NOW)
    journal.end_wave(run, {host: (outcome, "")}, [], {}, NOW)
    if outcome is HostState.ACTIVE:
        journal.decide_wave(run, number, PROCEED, NOW)


def bring_back(journal: DataJournal, run: Run, host: str, outcome: HostState = HostState.BACKED_OUT) -> None:
    journal.begin_back_out(run, [host], False, NOW)
    journal.end_wave(run, {host: (outcome, "")}, [], {}, NOW)


def number(journal: DataJournal, run: Run) -> int:
    return last_attempt(journal.data_log(run.deployment))


def say(journal: DataJournal, run: Run, what: str, *, holder: Holder = BOB, backout: bool = False, later: int = 0) -> Run:
    """Take the deployment over and say how the data are after the last attempt; ``later``: of an attempt by so many numbers off."""
    said = replace(DataStatement.parse(f"{what}:{number(journal, run) + later}", "I looked", backout), by="carl")
    return journal.take_over(run.deployment, holder, NOW, ordered=True, said=said)


def locked(journal: DataJournal, run: Run) -> list[str]:
    return sorted(journal.locked(run.deployment))


def test_no_host_changes_before_the_data_are_migrated_and_they_are_migrated_once(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    assert journal.batches("CHG0001", "migrate") == [["db1"]]
    with pytest.raises(StateError, match="the data of CHG0001#1 are not migrated, so no host may change yet"):
        journal.begin_wave(run, ["db1"], False, NOW)
    with pytest.raises(StateError, match="the data of CHG0001#1 are not migrated, so no host may change yet"):
        journal.activating(run, "db1", NOW)
    journal.begin_migrate(run, NOW)
    assert (data(journal, run), events(journal, run)) == (DataState.MIGRATING, ["migrating"])
    assert journal.batches("CHG0001", "migrate") == []
    for again in (journal.begin_migrate, lambda run, now: journal.begin_wave(run, ["db1"], False, now)):
        with pytest.raises(StateError):
            again(run, NOW)
    journal.end_data(run, "", True, NOW)
    assert (data(journal, run), events(journal, run)) == (DataState.MIGRATED, ["migrating", "migrated"])
    with pytest.raises(StateError, match="is migrated and can't become migrating"):
        journal.begin_migrate(run, NOW)
    activate(journal, run, 1, "db1")
    activate(journal, run, 2, "web1")
    assert state(journal, run) is DeploymentState.COMPLETED


@pytest.mark.parametrize(
    ("failed", "why"),
    [(False, "is staging, not activating"), (True, "db1, on which data are to be migrated, is stage failed")],
)
def test_data_are_migrated_on_a_host_that_has_the_release(journal: DataJournal, begin: Begin, failed: bool, why: str) -> None:
    run = begin(staged=False)
    if failed:
        journal.stage_failed(run, "db1", "no room", NOW)
        journal.staged(run, "web1", None, NOW)
        journal.decide_staging(run, PROCEED, NOW)
    with pytest.raises(StateError, match=why):
        journal.begin_migrate(run, NOW)
    assert events(journal, run) == []


def test_staging_goes_on_until_the_host_to_migrate_on_has_the_release(journal: DataJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else may fail: behind that gate nothing is staged any more, so data could never be migrated."""
    for name, found in (("check_start", WaveStart("")), ("move_to_implement", ""), ("sync_change_record", [])):
        monkeypatch.setattr(gate, name, lambda *_, found=found: found)
    rollout = Rollout(role="app", data_host="db1", wave_budget=Share(1), total_budget=Share(1))
    run = journal.begin("CHG0001", {"name": "shop", "version": "2.0", "digest": NEW}, [list(HOSTS)], rollout, ANN, NOW)
    journal.stage_failed(run, "db1", "no room", NOW)
    journal.staged(run, "web1", None, NOW)
    change = cast("Change", None)  # nothing asks it, for the plan is as it was cleared
    held = gate.decide_staging_gate(journal, run, change, lambda *_: WaveStart(""), lambda *_: [], NOW)
    assert held["reason"] == "db1, on which data are to be migrated, is stage failed (db1: no room)"
    run = journal.take_over(run.deployment, BOB, NOW, ordered=True)
    assert journal.batches("CHG0001", "stage") == [["db1"]]
    journal.staged(run, "db1", None, NOW)
    assert gate.decide_staging_gate(journal, run, change, lambda *_: WaveStart(""), lambda *_: [], NOW)["decision"] == "proceed"
    migrate(journal, run)


def test_a_run_that_was_superseded_writes_nothing_about_data(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    journal.begin_migrate(run, NOW)
    journal.take_over(run.deployment, BOB, NOW, ordered=True)
    with pytest.raises(ConflictError, match="another controller has taken"):
        journal.end_data(run, "", True, NOW)
    assert data(journal, run) is DataState.MIGRATING


def test_who_finds_data_that_were_about_to_be_migrated_holds_until_a_person_has_said_how_they_are(
    journal: DataJournal, begin: Begin
) -> None:
    run = begin()
    journal.begin_migrate(run, NOW)
    for _time in range(2):  # however often it is run
        run = journal.take_over(run.deployment, BOB, NOW, ordered=True)
        deployment = journal.deployment(run.deployment)
        assert deployment.state is DeploymentState.HELD
        assert "migrate on db1 was interrupted" in deployment.reason
        assert f"tidegate_data=migrated:{number(journal, run)} if" in deployment.reason
        assert journal.batches("CHG0001", "migrate") == journal.batches("CHG0001", "activate-by-role") == []
        assert locked(journal, run) == ["db1"]  # which it may have changed
    with pytest.raises(StateError, match="is about attempt "):
        say(journal, run, "as_before", later=1)
    first = number(journal, run)
    run = say(journal, run, "as_before")
    assert (state(journal, run), data(journal, run)) == (DeploymentState.ACTIVATING, DataState.NOT_MIGRATED)
    last = journal.data_log(run.deployment)[-1]
    assert (last.event, last.data["reason"], last.data["by"]) == ("not_migrated", "I looked", "carl")
    # It runs once more, and what was said then is not taken for what is now.
    journal.begin_migrate(run, NOW)
    with pytest.raises(StateError, match=f"about attempt {first}, but the last one .* was number {number(journal, run)}"):
        say(journal, run, "as_before", holder=ANN, later=first - number(journal, run))
    run = say(journal, run, "migrated", holder=ANN)
    assert (state(journal, run), data(journal, run)) == (DeploymentState.ACTIVATING, DataState.MIGRATED)
    activate(journal, run, 1, "db1")


def test_what_failed_is_held_and_what_was_not_begun_may_be_begun_again(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    migrate(journal, run, "it was not reached", begun=False)
    assert (state(journal, run), data(journal, run)) == (DeploymentState.HELD, DataState.NOT_MIGRATED)
    assert journal.deployment(run.deployment).reason == "no data were migrated: it was not reached"
    run = journal.take_over(run.deployment, BOB, NOW, ordered=True)
    migrate(journal, run, "the task 'x' failed")
    deployment = journal.deployment(run.deployment)
    assert (deployment.state, deployment.data) == (DeploymentState.HELD, DataState.MIGRATING)
    assert "migrate on db1 failed (the task 'x' failed)" in deployment.reason
    assert events(journal, run) == ["migrating", "not_migrated", "migrating", "migrate_failed"]
    assert [(one.label, "failed" in why) for one, why in journal.unknown_data(NOW)] == []  # somebody has it in hand
    journal.release_lease(run, NOW)
    assert [(one.label, "failed" in why) for one, why in journal.unknown_data(NOW)] == [("CHG0001#1", True)]


def test_data_are_reversed_after_the_last_host_is_back_and_until_then_all_is_locked(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    migrate(journal, run)
    activate(journal, run, 1, "db1")
    activate(journal, run, 2, "web1", HostState.FAILED)
    journal.decide_wave(run, 2, BACK_OUT, NOW)
    assert journal.batches("CHG0001", "reverse") == []
    bring_back(journal, run, "web1")
    bring_back(journal, run, "db1", HostState.OWED)
    with pytest.raises(StateError, match="db1 still have to go back before its data"):
        journal.begin_reverse(run, NOW)
    journal.conclude(run, NOW)
    assert locked(journal, run) == list(HOSTS)
    bring_back(journal, run, "db1")
    assert journal.batches("CHG0001", "reverse") == [["db1"]]
    assert journal.conclude(run, NOW).state is DeploymentState.BACKING_OUT
    assert locked(journal, run) == list(HOSTS)
    journal.begin_reverse(run, NOW)
    assert journal.batches("CHG0001", "reverse") == []
    assert journal.conclude(run, NOW).state is DeploymentState.BACKING_OUT
    journal.end_data(run, "", True, NOW)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKED_OUT
    assert events(journal, run) == ["migrating", "migrated", "reversing", "reversed"]
    assert locked(journal, run) == []


def test_a_reverse_that_was_interrupted_is_not_run_again_by_itself(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    migrate(journal, run)
    journal.order_backout(run, "because", NOW)
    journal.begin_reverse(run, NOW)
    run = journal.take_over(run.deployment, BOB, NOW, ordered=True)
    assert (state(journal, run), data(journal, run)) == (DeploymentState.BACKING_OUT, DataState.REVERSING)
    assert journal.batches("CHG0001", "reverse") == []
    with pytest.raises(StateError):
        journal.begin_reverse(run, NOW)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKING_OUT
    run = say(journal, run, "migrated")
    assert journal.batches("CHG0001", "reverse") == [["db1"]]
    journal.begin_reverse(run, NOW)
    journal.end_data(run, "it failed", True, NOW)
    run = say(journal, run, "as_before", holder=ANN)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKED_OUT
    assert data(journal, run) is DataState.REVERSED


@pytest.mark.parametrize("completed", [True, False])
def test_behind_the_point_of_no_return_nothing_backs_out_but_by_what_a_person_says(
    journal: DataJournal, begin: Begin, completed: bool
) -> None:
    run = begin(no_return=True)
    migrate(journal, run)
    activate(journal, run, 1, "db1")
    if completed:
        activate(journal, run, 2, "web1")
    else:
        activate(journal, run, 2, "web1", HostState.FAILED)
        with pytest.raises(StateError, match="past its point of no return"):
            journal.decide_wave(run, 2, BACK_OUT, NOW)
    with pytest.raises(StateError, match="past its point of no return"):
        journal.order_backout(run, "because", NOW)
    assert state(journal, run) is (DeploymentState.COMPLETED if completed else DeploymentState.ACTIVATING)
    run = say(journal, run, "kept", backout=True)
    assert journal.order_backout(run, "because", NOW) is DeploymentState.BACKING_OUT
    assert journal.batches("CHG0001", "reverse") == []
    for host in HOSTS:
        bring_back(journal, run, host)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKED_OUT
    assert events(journal, run) == ["migrating", "migrated", "kept"]


def test_before_the_point_of_no_return_a_release_is_cancelled_like_any_other(journal: DataJournal, begin: Begin) -> None:
    run = begin(no_return=True)
    journal.hold(run, "because", NOW)
    assert journal.order_backout(run, "because", NOW) is DeploymentState.CANCELLED
    run = begin("CHG0002")
    migrate(journal, run)
    journal.hold(run, "because", NOW)
    assert journal.order_backout(run, "because", NOW) is DeploymentState.BACKING_OUT, "no host has it, but the data are migrated"


def test_data_that_a_later_release_may_need_are_not_reversed(journal: DataJournal, begin: Begin) -> None:
    run = begin(hosts=("db1", "web1", "web2"))
    migrate(journal, run)
    activate(journal, run, 1, "db1")
    journal.hold(run, "because", NOW)  # so what it has not touched is free
    other = begin("CHG0002", NEWER, ["web1"], data_host="")
    run = journal.take_over(run.deployment, BOB, NOW, ordered=True)
    journal.order_backout(run, "because", NOW)
    bring_back(journal, run, "db1")
    with pytest.raises(StateError, match="web1 is locked by CHG0002, which may need the data as they are"):
        journal.begin_reverse(run, NOW)
    activate(journal, other, 1, "web1")
    with pytest.raises(StateError, match=r"web1 was changed by CHG0002#2 since, .* or -e tidegate_data=kept:\d+ if"):
        journal.begin_reverse(run, NOW)
    assert "web1 was changed by CHG0002#2 since" in journal.reverse_barrier(journal.deployment(run.deployment))
    assert journal.conclude(run, NOW).state is DeploymentState.BACKING_OUT


@pytest.mark.parametrize("undone", [True, False])
def test_data_that_a_later_release_has_changed_for_good_are_not_reversed(journal: DataJournal, begin: Begin, undone: bool) -> None:
    run = begin()
    migrate(journal, run)
    for number, host in enumerate(HOSTS, 1):
        activate(journal, run, number, host)
    assert journal.later_change(journal.deployment(run.deployment)) == ""
    contract = begin("CHG0002", NEWER)
    migrate(journal, contract)
    contract = say(journal, contract, "as_before" if undone else "kept", backout=True)
    journal.order_backout(contract, "because", NOW)
    assert journal.conclude(contract, NOW).finished is not None
    later = journal.later_change(journal.deployment(run.deployment))
    assert ("CHG0002#2 has changed the data since" in later) is not undone
    run = journal.take_over(run.deployment, BOB, NOW, ordered=True)
    journal.order_backout(run, "because", NOW)
    for host in HOSTS:
        bring_back(journal, run, host)
    if not undone:
        with pytest.raises(StateError, match="CHG0002#2 has changed the data since"):
            journal.begin_reverse(run, NOW)
        run = say(journal, run, "kept", backout=True)
    else:
        journal.begin_reverse(run, NOW)
        journal.end_data(run, "", True, NOW)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKED_OUT


def test_data_of_a_host_that_will_not_come_back_are_for_a_person_to_say(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    migrate(journal, run)
    journal.order_backout(run, "because", NOW)
    with journal.cmdb.begin() as connection:
        journal.write_off(connection, "db1", "it burnt", ANN, NOW, True)
    with pytest.raises(StateError, match=r"db1 is written off; back out with -e tidegate_data=as_before:\d+, or -e tidegate_data=kept:\d+"):
        journal.begin_reverse(run, NOW)


def test_nobody_goes_for_data_to_a_host_that_a_person_has_brought_back(
    journal: DataJournal, begin: Begin, cmdb_url: str, tmp_path: Path
) -> None:
    (tmp_path / "rfc.yml").write_text("schema: 1\nnumber: CHG0001\n")
    run = begin()
    migrate(journal, run)
    activate(journal, run, 1, "db1", HostState.STUCK)

    def order(*by_hand: str, said: str = "", inventory: Iterable[str] = ()) -> str:
        about = DataStatement.parse(f"{said}:{number(journal, run)}", "I looked", True) if said else None
        request = RunRequest(str(tmp_path / "rfc.yml"), Reach(inventory), True, lambda: "", take_over=True, said=about)
        return str(order_backout(request, cmdb_url=cmdb_url, policy_path=None, reason="why", now=NOW, by_hand=by_hand)["msg"])

    said = order("db1")
    assert said.endswith("; CHG0001: shop 2.0 is being backed out: then its data are to be brought back by hand, as db1 was")
    run = journal.deployment(run.deployment).run
    with pytest.raises(StateError, match=r"db1 was brought back by hand, so no step goes there .* with -e tidegate_data=as_before:"):
        journal.begin_reverse(run, NOW)
    assert journal.conclude(run, NOW).state is DeploymentState.BACKING_OUT
    left = conclude._data_left(journal, journal.deployment(run.deployment))
    assert left.startswith("its data are still migrated: db1 was brought back by hand")
    with Sources(str(tmp_path / "dsl"), cmdb_url, None, NOW) as sources:
        plan(sources, RunRequest(str(tmp_path / "rfc.yml"), Reach(()), True, lambda: "", take_over=True))  # it needs no host any more
    assert order(said="as_before") == "CHG0001: shop 2.0 is being backed out: its data are as before"
    assert journal.conclude(journal.deployment(run.deployment).run, NOW).state is DeploymentState.BACKED_OUT


@pytest.mark.parametrize("what", ["as_before", "kept"])
def test_who_was_killed_before_hosts_were_sent_back_is_told_to_send_them(journal: DataJournal, begin: Begin, what: str) -> None:
    run = begin()
    migrate(journal, run)
    run = say(journal, run, what, backout=True)
    with pytest.raises(StateError, match="so it only goes back; run backout again"):
        journal.begin_wave(run, ["db1"], False, NOW)
    assert journal.order_backout(run, "because", NOW) in (DeploymentState.BACKING_OUT, DeploymentState.CANCELLED)


def test_what_keeps_data_from_being_reversed_now_is_said_before_what_did_once(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    migrate(journal, run)
    journal.order_backout(run, "because", NOW)
    journal.begin_reverse(run, NOW)
    journal.end_data(run, "it was not reached", False, NOW)
    assert conclude._data_left(journal, journal.deployment(run.deployment)) == "its data are still migrated: it was not reached"
    with journal.cmdb.begin() as connection:
        journal.write_off(connection, "db1", "it burnt", ANN, NOW, True)
    left = conclude._data_left(journal, journal.deployment(run.deployment))
    assert left.startswith("its data are still migrated: db1 is written off; back out with -e tidegate_data=as_before:")


def test_a_report_says_what_was_done_to_data_who_said_how_they_are_and_what_is_left(journal: DataJournal, begin: Begin) -> None:
    run = begin()
    journal.begin_migrate(run, NOW)
    run = say(journal, run, "migrated")
    journal.order_backout(run, "because", NOW)
    journal.begin_reverse(run, NOW)
    journal.end_data(run, "the task 'x' failed", True, NOW)
    report = build_report(journal.cmdb, NOW)
    (page,) = report.deployments.values()
    assert [(one["event"], one["reason"], one["detail"]) for one in page["data_changes"]] == [
        ("migrating", "", ""),
        ("migrated", "I looked", ""),
        ("reversing", "", ""),
        ("reverse_failed", "", "the task 'x' failed"),
    ]
    left = "its data could not be reversed, and it is not known how they are (on db1: the task 'x' failed)."
    assert f"CHG0001, shop 2.0: {left}" in report.overview["attention"]
    shown = render_deployment(page)
    assert "migrated on db1, as said by carl: I looked" in shown
    assert "reverse failed on db1: the task &#39;x&#39; failed" in shown


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (None, "the policy names people, so that the data of CHG0001#1 are as before is said with a signature"),
        ("mallory", "the policy gives this key to nobody"),
        ("carl", ""),
    ],
)
@pytest.mark.parametrize("verb", ["deploy", "backout"])
def test_how_data_are_is_said_by_a_person_whom_the_policy_names(
    journal: DataJournal, begin: Begin, cmdb_url: str, tmp_path: Path, verb: str, key: str | None, why: str
) -> None:
    rfc, policy = tmp_path / "rfc.yml", tmp_path / "policy.yml"
    rfc.write_text("schema: 1\nnumber: CHG0001\n")
    people = {"carl": {"roles": ["release-manager"], "keys": [{"public": pem(KEYS["carl"])}]}}
    write_document(policy, {"schema": 1, "people": people})
    run = begin()
    migrate(journal, run)
    journal.order_backout(run, "because", NOW)
    journal.begin_reverse(run, NOW)
    said = DataStatement.parse(f"as_before:{number(journal, run)}", "I looked", verb == "backout")
    request = RunRequest(str(rfc), Reach(HOSTS), True, lambda: "", take_over=True, said=said)
    signer = KEYS[key] if key else None

    def do() -> None:
        if verb == "backout":
            order_backout(request, cmdb_url=cmdb_url, policy_path=str(policy), reason="x", now=NOW, signer=signer)
        else:
            with Sources(str(tmp_path / "dsl"), cmdb_url, str(policy), NOW) as sources:
                plan(sources, request, signer)

    if why:
        with pytest.raises(TidegateError, match=why):
            do()
        assert data(journal, run) is DataState.REVERSING
        return
    do()
    last = journal.data_log(run.deployment)[-1]
    assert (last.event, last.data["by"]) == ("reversed", "carl")
    sealed = open_envelope(last.data["envelope"].encode())
    assert sealed.signed_by(KEYS["carl"].public_key)
    assert (sealed.statement.type, sealed.statement.predicate["host"]) == (DATA, "db1")
    assert {sealed.statement.predicate[one] for one in ("deployment", "said", "reason")} == {"CHG0001#1", "as_before", "I looked"}
