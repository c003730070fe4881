# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that no step can bring back is brought back by a person, whose word stands in journal and CMDB until a deployment comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import DONE_BY_HAND
from ansible_collections.tidegate.release.plugins.plugin_utils.report.attention import troubled_hosts
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import WaveJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest
from documents import write_document
from seals import KEYS, pem

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HERE = Holder.this_run()
HOSTS = ["web1", "web2", "web3", "web4"]
PROCEED = GateDecision("proceed", "because")
OUTCOMES = {"web1": (HostState.ACTIVE, ""), "web2": (HostState.STUCK, "its check failed"), "web3": (HostState.LOST, "it broke off")}


@dataclass
class Bed:
    """A held deployment of hello 2.0, with a stuck host that had 1.0, a lost one that had nothing, and one that it did not come to."""

    journal: WaveJournal
    cmdb_url: str
    path: Path

    def backout(self, *hosts: str, key: str | None = "carl", reason: str = "its disk was swapped", write: bool = True) -> dict[str, Any]:
        signer = KEYS[key] if key else None
        request = RunRequest(
            str(self.path / "rfc.yml"),
            Reach(HOSTS[:2] if "web2" not in hosts else [host for host in HOSTS if host not in hosts]),
            write,
            lambda: "",
        )
        return order_backout(
            request,
            cmdb_url=self.cmdb_url,
            policy_path=str(self.path / "policy.yml"),
            reason=reason,
            now=NOW,
            by_hand=hosts,
            signer=signer,
        )

    @property
    def run(self) -> Run:
        deployment = self.journal.latest("CHG0001")
        assert deployment is not None
        return deployment.run

    @property
    def state(self) -> DeploymentState:
        return self.journal.deployment(self.run.deployment).state

    def states(self) -> dict[str, str]:
        return {target.host: str(target.state) for target in self.journal.targets(self.run.deployment)}

    def history(self) -> list[Any]:
        table = schema().history
        with self.journal.cmdb.read() as connection:
            return list(connection.execute(sa.select(table).where(table.c.event == "done by hand").order_by(table.c.seq)))


@pytest.fixture
def bed(cmdb_url: str, tmp_path: Path) -> Iterator[Bed]:
    (tmp_path / "rfc.yml").write_text("schema: 1\nnumber: CHG0001\n")
    people = {"carl": {"roles": ["release-manager"], "keys": [{"public": pem(KEYS["carl"])}]}}
    write_document(tmp_path / "policy.yml", {"schema": 1, "people": people})
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": host, "class": "server"} for host in HOSTS], actor="test")
        with cmdb.begin() as connection:
            rows = [{"ci": host, "release": "hello", "version": "1.0", "digest": OLD} for host in ("web1", "web2")]
            cmdb.record_installations(connection, rows, actor="test", at=NOW)
        journal = WaveJournal(cmdb)
        package = {"name": "hello", "version": "2.0", "digest": NEW}
        run = journal.begin("CHG0001", package, [["web1", "web2", "web3"], ["web4"]], Rollout(role="app", tree=False), HERE, NOW)
        journal.stage_all(run, NOW)
        journal.decide_staging(run, PROCEED, NOW)
        journal.begin_wave(run, HOSTS[:3], True, NOW)
        journal.end_wave(run, OUTCOMES, ["web1"], {}, NOW)
        journal.hold(run, "somebody has to look", NOW)
        yield Bed(journal, cmdb_url, tmp_path)


def test_hosts_are_recorded_as_back_by_the_signed_word_of_a_person(bed: Bed) -> None:
    said = bed.backout("web2", "web3")
    assert "CHG0001: hello 2.0 is recorded as undone by hand on web2, web3; " in said["msg"]
    assert "is being backed out of 1 host: web1" in said["msg"]
    assert "bring into service by hand what it took out of that: web2, web3" in said["msg"]
    assert bed.states() == {"web1": "active", "web2": "backed_out", "web3": "backed_out", "web4": "staged"}
    cmdb = bed.journal.cmdb
    assert {row["ci"]: row["version"] for row in cmdb.installations()} == {"web1": "1.0", "web2": "1.0"}
    word = {"release": "hello", "since": NOW.isoformat(timespec="seconds"), "by": "carl", "reason": "its disk was swapped"}
    assert cmdb.done_by_hand() == [{"ci": "web2", "version": "1.0", **word}, {"ci": "web3", "version": None, **word}]
    (two, three) = bed.history()
    assert (two.ci, two.actor, two.data["version"], two.data["drained"]) == ("web2", "carl", "1.0", True)
    sealed = open_envelope(two.data["envelope"].encode())
    assert sealed.statement.type == DONE_BY_HAND
    assert sealed.statement.predicate["to"] == {"version": "1.0", "digest": OLD}
    assert sealed.statement.predicate["release"] == {"name": "hello", "version": "2.0", "digest": NEW}
    assert sealed.signed_by(KEYS["carl"].public_key)
    assert open_envelope(three.data["envelope"].encode()).statement.predicate["to"] is None
    # What is left is for the role, and when that is done nothing is owed any more.
    assert bed.journal.batches("CHG0001", "backout-by-role") == [["web1"]]
    bed.journal.begin_back_out(bed.run, ["web1"], False, NOW)
    bed.journal.end_wave(bed.run, {"web1": (HostState.BACKED_OUT, "")}, [], {}, NOW)
    assert bed.journal.conclude(bed.run, NOW).state is DeploymentState.BACKED_OUT
    assert [row["ci"] for row in cmdb.done_by_hand()] == ["web2", "web3"]
    with cmdb.read() as connection:
        (sentence,) = troubled_hosts(connection)
    assert "web2, web3 (CHG0001, hello 2.0: brought back by hand, says carl: its disk was swapped)" in sentence
    assert bed.backout("web2", "web3")["changed"] is False


def test_the_word_stands_until_another_deployment_says_what_runs_there(bed: Bed) -> None:
    bed.backout("web2", "web3")
    cmdb = bed.journal.cmdb
    number = bed.run.deployment
    with cmdb.begin() as connection:
        other = {"release": "other", "version": "1.0", "digest": NEW}
        cmdb.record_installations(connection, [{"ci": "web2", **other}], actor="test", at=NOW)
        same = {"ci": "web2", "release": "hello", "version": "1.0", "digest": OLD, "deployment_id": number}
        cmdb.record_installations(connection, [same], actor="test", at=NOW)
    assert [row["ci"] for row in cmdb.done_by_hand()] == ["web2", "web3"]
    with cmdb.begin() as connection:
        rows = [{"ci": "web3", "release": "hello", "version": None, "digest": None}]
        cmdb.record_installations(connection, [*rows, {**same, "deployment_id": None}], actor="test", at=NOW)
    # Without a deployment nobody is known to have been there.
    assert [row["ci"] for row in cmdb.done_by_hand()] == ["web2", "web3"]
    later = bed.journal.begin("CHG0002", {"name": "hello", "version": "3.0", "digest": NEW}, [["web4"]], Rollout(), HERE, NOW)
    with cmdb.begin() as connection:
        cmdb.record_installations(connection, [{**same, "deployment_id": later.deployment}], actor="test", at=NOW)
    assert [row["ci"] for row in cmdb.done_by_hand()] == ["web3"]
    assert len(bed.history()) == 2


@pytest.mark.parametrize(
    ("hosts", "changes", "error", "why"),
    [
        (["web1"], {}, StateError, "web1 is active in CHG0001#1; only a host that is stuck, lost or still to be backed out"),
        (["web4"], {}, StateError, "web4 is staged in CHG0001#1"),
        (["web2", "nobody"], {}, NotFoundError, "nobody is not part of CHG0001#1"),
        (["web2"], {"reason": "  "}, TidegateError, "no reason is given for what is said, that web2 was brought back by hand"),
        (["web2"], {"key": None}, TidegateError, "the policy names people, so that web2 was brought back by hand is said with a signature"),
        (["web2"], {"key": "mallory"}, TidegateError, "the policy gives this key to nobody"),
    ],
)
def test_nobody_can_say_so_of_a_host_that_owes_nothing_nor_without_a_reason_and_a_name(
    bed: Bed, hosts: list[str], changes: dict[str, Any], error: type[Exception], why: str
) -> None:
    before = (bed.states(), bed.state, bed.run)
    with pytest.raises(error, match=why):
        bed.backout(*hosts, **changes)
    assert (bed.states(), bed.state, bed.run) == before
    assert bed.journal.cmdb.done_by_hand() == bed.history() == []


def test_in_check_mode_it_is_said_and_not_done(bed: Bed) -> None:
    before = (bed.states(), bed.state, bed.run)
    assert "would be recorded as undone by hand on web2" in bed.backout("web2", write=False, reason="because")["msg"]
    assert (bed.states(), bed.state, bed.run) == before


def test_a_deployment_that_is_over_owes_nothing(bed: Bed) -> None:
    table = schema().deployment
    with bed.journal.cmdb.begin() as connection:
        connection.execute(table.update().values(state=DeploymentState.COMPLETED))
    with pytest.raises(StateError, match="web2 is stuck in CHG0001#1"):
        bed.backout("web2")


def test_another_deployments_host_is_not_spoken_of_and_then_nothing_is_ordered(bed: Bed) -> None:
    later = bed.journal.begin("CHG0002", {"name": "other", "version": "1.0", "digest": NEW}, [["web4"]], Rollout(), HERE, NOW)
    with bed.journal.cmdb.begin() as connection:
        connection.execute(schema().lock.update().where(schema().lock.c.ci == "web2").values(deployment_id=later.deployment))
    before = (bed.states(), bed.state, bed.run)
    with pytest.raises(StateError, match="web2 is not locked by CHG0001#1"):
        bed.backout("web2")
    assert (bed.states(), bed.state, bed.run) == before
    assert bed.journal.cmdb.done_by_hand() == bed.history() == []
