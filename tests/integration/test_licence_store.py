# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seats are taken with a deployment, all or none, and are free again with it; on every database a CMDB can be in."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import remove, reserve, save, taken_seats
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Entitlement
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.usage import survey
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.write_off import write_off_host

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
END = NOW + timedelta(hours=4)
ME = Holder("ann", "machine", 4711, 99, "feedbeef")
PROCEED, BACK_OUT = (GateDecision(word, "because") for word in ("proceed", "back_out"))  # type: ignore[arg-type]


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": f"web{number}"} for number in range(1, 5)], actor="test")
        yield opened
        assert verify_cmdb(opened, []).findings == [], "the history comes to what is there"


@pytest.fixture
def journal(cmdb: Cmdb) -> Journal:
    return Journal(cmdb)


def enter(cmdb: Cmdb, seats: int, name: str = "A", product: str = "acme", until: datetime | None = None, write: bool = True) -> None:
    with cmdb.begin() as connection:
        save(connection, Entitlement(name, product, seats, valid_until=until), "test", NOW, write)


def begin(journal: Journal, rfc: str, *hosts: str, product: str | None = "acme", version: str = "1.0", release: str = "hello") -> Run:
    package = {"name": release, "version": version, "digest": f"sha256:{version}"}

    def also(connection: sa.Connection, deployment_id: int) -> None:
        reserve(connection, deployment_id, product, release, hosts, (NOW, END))

    return journal.begin(rfc, package, [hosts], Rollout(), ME, NOW, also)


def stage(journal: Journal, run: Run, *failing: str, live: str | None = None) -> None:
    for target in journal.targets(run.deployment):
        if target.host in failing:
            journal.stage_failed(run, target.host, "no room", NOW)
        else:
            journal.staged(run, target.host, {"version": live, "digest": f"sha256:{live}"} if live else None, NOW)
    journal.decide_staging(run, PROCEED, NOW)


def activate(journal: Journal, run: Run, *failing: str, decision: GateDecision = PROCEED) -> None:
    for target in journal.targets(run.deployment):
        if target.state is HostState.STAGED:
            journal.activating(run, target.host, NOW)
            journal.activated(run, target.host, HostState.STARTED, "", NOW)
            journal.activated(run, target.host, HostState.FAILED if target.host in failing else HostState.ACTIVE, "", NOW)
    journal.decide_wave(run, 1, decision, NOW)


def back_out(journal: Journal, run: Run) -> None:
    for batch in journal.batches(journal.deployment(run.deployment).rfc, "backout"):
        for host in batch:
            journal.backing_out(run, host, NOW)
            journal.backed_out(run, host, HostState.BACKED_OUT, "", NOW)
    journal.conclude(run, NOW)


def seats(cmdb: Cmdb) -> list[str]:
    with cmdb.read() as connection:
        return [
            f"{one.seat.entitlement} {one.seat.ci} {one.seat.release} {one.state}"
            for one in sorted(taken_seats(connection), key=lambda one: (one.seat.ci, one.seat.release, one.seat.entitlement))
        ]


def test_seats_are_reserved_with_the_plan_and_used_with_the_installation(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 2)
    run = begin(journal, "CHG1", "web1", "web2")
    assert seats(cmdb) == ["A web1 hello reserved", "A web2 hello reserved"]
    stage(journal, run)
    activate(journal, run)
    assert seats(cmdb) == ["A web1 hello used", "A web2 hello used"]
    assert [(one["used"], one["reserved"], one["free"]) for one in survey(cmdb, "acme", NOW)] == [(2, 0, 0)]
    assert survey(cmdb, "bolt", NOW) == []
    back_out_run = journal.take_over(run.deployment, ME, NOW)
    journal.order_backout(back_out_run, "a person said so", NOW)
    back_out(journal, back_out_run)
    assert seats(cmdb) == []


def test_too_few_seats_change_nothing_at_all(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 1)
    with pytest.raises(ConflictError, match=r"2 more seats of acme are needed and 1 are free .*, 1 too few; enter an entitlement"):
        begin(journal, "CHG1", "web1", "web2")
    assert seats(cmdb) == []
    assert journal.latest("CHG1") is None
    begin(journal, "CHG2", "web1")


def test_a_term_that_ends_in_the_window_is_refused(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 9, until=END - timedelta(seconds=1))
    with pytest.raises(ConflictError, match="A, with 9, is valid until 2026-03-01T15:59:59"):
        begin(journal, "CHG1", "web1")
    enter(cmdb, 9, until=END)
    begin(journal, "CHG1", "web1")


def test_of_two_deployments_that_race_for_the_last_seat_one_wins(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 1)

    def attempt(number: int) -> str:
        try:
            begin(journal, f"CHG{number}", f"web{number}")
        except ConflictError as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(attempt, range(1, 5)), reverse=True)
    assert said[0] == "won"
    assert all("1 too few" in refusal for refusal in said[1:])
    assert len(seats(cmdb)) == 1


def test_a_cancelled_deployment_gives_its_seats_back(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 1)
    run = begin(journal, "CHG1", "web1")
    journal.order_backout(run, "no more", NOW)
    assert seats(cmdb) == []


def test_hosts_that_could_not_be_staged_or_activated_keep_no_seat(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 3)
    run = begin(journal, "CHG1", "web1", "web2", "web3")
    stage(journal, run, "web1")
    activate(journal, run, "web2")
    assert seats(cmdb) == ["A web3 hello used"]


def test_a_back_out_that_waits_for_a_host_keeps_no_seat_for_others_and_none_for_one_that_is_written_off(
    cmdb: Cmdb, journal: Journal
) -> None:
    enter(cmdb, 3)
    run = begin(journal, "CHG1", "web1")
    stage(journal, run)
    activate(journal, run)
    package = {"name": "bye", "version": "1.0", "digest": "sha256:1.0"}
    waves = [["web2"], ["web3"]]

    def also(connection: sa.Connection, deployment_id: int) -> None:
        reserve(connection, deployment_id, "acme", "bye", ["web2", "web3"], (NOW, END))

    run = journal.begin("CHG2", package, waves, Rollout(), ME, NOW, also)
    stage(journal, run)
    journal.activating(run, "web2", NOW)
    journal.activated(run, "web2", HostState.LOST, "", NOW)
    journal.decide_wave(run, 1, BACK_OUT, NOW)
    assert seats(cmdb) == ["A web1 hello used", "A web2 bye reserved"]
    journal.release_lease(run, NOW)
    for host, given in (("web2", 1), ("web1", 1), ("web4", 0)):
        assert write_off_host(cmdb, load_policy(None), host, "its disk died", None, NOW, write=True).seats == given
    assert seats(cmdb) == []


def test_a_back_out_of_an_upgrade_keeps_the_seats_of_the_release_before(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 2)
    first = begin(journal, "CHG1", "web1")
    stage(journal, first)
    activate(journal, first)
    second = begin(journal, "CHG2", "web1", "web2", version="2.0")
    stage(journal, second, live="1.0")
    activate(journal, second, decision=BACK_OUT)
    assert seats(cmdb) == ["A web1 hello used", "A web2 hello used"]
    back_out(journal, second)
    assert seats(cmdb) == ["A web1 hello used"]


def test_a_seat_that_the_next_version_does_not_use_is_free_once_that_is_live_and_not_before(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 2)
    enter(cmdb, 2, name="B", product="bolt")
    first = begin(journal, "CHG1", "web1", "web2")
    stage(journal, first)
    activate(journal, first)
    undone = begin(journal, "CHG2", "web1", version="2.0", product="bolt")
    assert seats(cmdb) == ["A web1 hello used", "B web1 hello reserved", "A web2 hello used"]
    journal.order_backout(undone, "no more", NOW)
    assert seats(cmdb) == ["A web1 hello used", "A web2 hello used"]
    done = begin(journal, "CHG3", "web1", "web2", version="2.0", product="bolt")
    stage(journal, done, live="1.0")
    activate(journal, done, "web2")
    assert seats(cmdb) == ["B web1 hello used", "A web2 hello used"]
    free = begin(journal, "CHG4", "web1", version="3.0", product=None)
    stage(journal, free, live="2.0")
    activate(journal, free)
    assert seats(cmdb) == ["A web2 hello used"]


def test_an_entitlement_keeps_what_is_taken_of_it(cmdb: Cmdb, journal: Journal) -> None:
    enter(cmdb, 2)
    begin(journal, "CHG1", "web1", "web2")
    with pytest.raises(ConflictError, match="2 seats of A are taken, so it can't have 1"):
        enter(cmdb, 1)
    with pytest.raises(ConflictError, match="it stays one for acme"):
        enter(cmdb, 2, product="bolt")
    with cmdb.begin() as connection, pytest.raises(ConflictError, match=r"2 seats of A are taken \(web1, web2\)"):
        remove(connection, "A", "test", NOW, write=True)
    enter(cmdb, 3)
    with cmdb.begin() as connection:
        assert remove(connection, "B", "test", NOW, write=True) is None


def test_entering_is_remembered_once_and_a_dry_run_enters_nothing(cmdb: Cmdb) -> None:
    enter(cmdb, 2, write=False)
    assert survey(cmdb, None, NOW) == []
    enter(cmdb, 2)
    enter(cmdb, 2)
    enter(cmdb, 3)
    with cmdb.begin() as connection:
        remove(connection, "A", "test", NOW, write=True)
        history = schema().history
        events = connection.scalars(sa.select(history.c.event).where(history.c.event.like("entitlement%")).order_by(history.c.seq)).all()
    assert events == ["entitlement entered", "entitlement changed", "entitlement removed"]


@pytest.mark.parametrize(
    "entitlement",
    [
        Entitlement("", "acme", 1),
        Entitlement("A\n", "acme", 1),
        Entitlement("A" * 101, "acme", 1),
        Entitlement("A", "Acme", 1),
        Entitlement("A", "a" * 65, 1),
        Entitlement("A", "acme", -1),
        Entitlement("A", "acme", 2**31),
        Entitlement("A", "acme", 1, valid_from=NOW, valid_until=NOW),
    ],
)
def test_an_entitlement_that_makes_no_sense_is_refused(cmdb: Cmdb, entitlement: Entitlement) -> None:
    with cmdb.begin() as connection, pytest.raises(TidegateError):
        save(connection, entitlement, "test", NOW, write=True)
