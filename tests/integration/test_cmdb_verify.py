# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cmdb_verify finds of what went around Tidegate, on both databases."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import past
import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history, append_journal, heads
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.links import Head
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.past import past_of
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import record_sets
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import set_model
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units, save_rules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import save
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Entitlement
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_sets import digest_of
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import SeenHeads, Verified, verify_cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.journal_archive import archive_journal
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.retire import ReleaseState, Retirement, enter_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    """Four lines of history about two CIs, the third is an update; four of a journal."""
    with Cmdb.open(cmdb_url, create=True) as made:
        made.put_cis([{"name": "web1", "attributes": {"ansible_host": "192.0.2.1"}}, {"name": "web2"}], "test")
        made.put_cis([{"name": "web1", "site": "ams"}], "test")
        made.relate([("web1", "web2", "runs_on")], "test")
        with made.begin() as connection:
            connection.execute(sa.insert(schema().deployment), _deployment())
            for event in ("planned", "staging", "activating", "completed"):
                append_journal(connection, [{"deployment_id": 1, "at": NOW, "event": event, "data": {"from": event}}])
        yield made


def _deployment(number: int = 1) -> dict[str, Any]:
    return {
        "id": number, "rfc": f"CHG{number}", "release": "hello", "version": "1", "digest": "sha256:1", "state": "completed", "options": {},
        "holder": "me", "token": number, "created": NOW, "finished": NOW,
    }  # fmt: skip


def _by_hand(cmdb: Cmdb, *statements: str) -> None:
    """What the database's owner does: away with what refuses it, the change, and all as it was."""
    with cmdb.begin() as connection:
        if connection.dialect.name == "sqlite":
            made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
            for name, _sql in made:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for statement in statements:
            connection.exec_driver_sql(statement)
        if connection.dialect.name == "sqlite":
            for _name, sql in made:
                connection.exec_driver_sql(sql)
        else:
            connection.exec_driver_sql("SET session_replication_role = origin")


def _said(found: Verified) -> list[tuple[str, str, int, str]]:
    assert found.count == len(found.findings)
    return [(one.kind, one.table, one.line, one.ci) for one in found.findings]


def _end(table: str, seq: int, sha256: str) -> str:
    return f"UPDATE chain SET seq = {seq}, sha256 = '{sha256}' WHERE name = '{table}'"  # noqa: S608 - the test's own


def _insert(table: str, seq: int, sha256: str = "none") -> str:
    columns, values = "seq, at, event, data, sha256", f"{seq}, '{NOW:%F %T}.000000', 'x', '{{}}', '{sha256}'"
    if table == "history":
        return f"INSERT INTO history (actor, {columns}) VALUES ('me', {values})"  # noqa: S608 - the test's own
    return f"INSERT INTO journal (deployment_id, {columns}) VALUES (1, {values})"  # noqa: S608 - the test's own


def test_what_tidegate_wrote_is_whole(cmdb: Cmdb) -> None:
    found = verify_cmdb(cmdb, [])
    assert (_said(found), found.lines, found.cis) == ([], {"history": 4, "journal": 4}, 2)
    assert {table: head.seq for table, head in found.heads.items()} == {"history": 4, "journal": 4}


@pytest.mark.parametrize("table", ["history", "journal"])
@pytest.mark.parametrize(
    ("statements", "kind", "line"),
    [
        (["UPDATE {0} SET event = 'x' WHERE seq = 2"], "edited", 2),
        (["UPDATE {0} SET at = '2026-03-01 11:59:59.000001' WHERE seq = 2"], "edited", 2),
        (["UPDATE {0} SET event = 'x' WHERE seq = 4"], "edited", 4),
        (["DELETE FROM {0} WHERE seq = 2"], "removed", 2),
        (["DELETE FROM {0} WHERE seq < 3"], "removed", 1),
        (["DELETE FROM {0} WHERE seq > 2"], "truncated", 3),
        (["DELETE FROM {0}"], "truncated", 1),
        (["{insert:5}"], "inserted", 5),
        (["{insert:5:feed}"], "inserted", 5),
        (["DELETE FROM {0} WHERE seq = 3", "{insert:3:feed}"], "edited", 3),
        (["DELETE FROM {0} WHERE seq = 4", "UPDATE chain SET seq = 3 WHERE name = '{0}'"], "edited", 3),
        (["DELETE FROM chain WHERE name = '{0}'"], "removed", 0),
    ],
)
def test_the_first_line_is_named_that_is_not_what_was_written(cmdb: Cmdb, table: str, statements: list[str], kind: str, line: int) -> None:
    inserts = {"{insert:5}": _insert(table, 5), "{insert:5:feed}": _insert(table, 5, "feed"), "{insert:3:feed}": _insert(table, 3, "feed")}
    _by_hand(cmdb, *(inserts.get(one) or one.format(table) for one in statements))
    found = [one for one in _said(verify_cmdb(cmdb, [])) if one[0] != "row"]
    assert found[0] == (kind, table, line, "")


def test_after_a_line_that_something_else_wrote_tidegate_goes_on_and_that_line_alone_is_named(cmdb: Cmdb) -> None:
    for sha256 in ("none", "feed"):
        seq = verify_cmdb(cmdb, []).lines["history"] + 1
        _by_hand(cmdb, _insert("history", seq, sha256))
        cmdb.put_cis([{"name": f"web{seq}"}], "test")
    assert _said(verify_cmdb(cmdb, [])) == [("inserted", "history", 5, ""), ("inserted", "history", 7, "")]


@pytest.mark.parametrize(
    ("statement", "ci", "words"),
    [
        ("UPDATE ci SET attributes = '{\"ansible_host\": \"192.0.2.3\"}' WHERE name = 'web1'", "web1", "'192.0.2.3' in the CMDB"),
        ("UPDATE ci SET site = 'fra' WHERE name = 'web1'", "web1", "site of web1 is 'fra'"),
        ("DELETE FROM relation", "web1", "relation web1 runs_on web2 is in the history"),
        ("DELETE FROM ci WHERE name = 'web2'", "web1", "the relation"),
        ("UPDATE ci SET name = 'web9' WHERE name = 'web2'", "web1", "the relation"),
    ],
)
def test_a_row_that_was_changed_by_sql_is_named(cmdb: Cmdb, statement: str, ci: str, words: str) -> None:
    with cmdb.begin() as connection:
        connection.exec_driver_sql(statement)
    finding = verify_cmdb(cmdb, []).findings[0]
    assert (finding.kind, finding.ci) == ("row", ci)
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("statement", "ci", "words"),
    [
        ('UPDATE host_set SET entries = \'{"nginx": "2"}\'', "web1", "entries of the record of packages of web1"),
        ("UPDATE host_set SET sha256 = 'feed'", "web1", "sha256 of the record of packages of web1 is 'feed'"),
        ("UPDATE host_set SET actor = 'mallory'", "web1", "actor of the record of packages of web1 is 'mallory'"),
        ("DELETE FROM host_set", "web1", "the record of packages of web1 is in the history, and not"),
        ("UPDATE ci_model SET document = '{}'", "", "document of the model of CIs"),
        ("DELETE FROM ci_model", "", "the model of CIs is in the history, and not"),
        ("UPDATE entitlement SET seats = 9", "", "seats of the entitlement acme is 9"),
        ("UPDATE entitlement SET valid_until = '2099-03-01 12:00:00.000000'", "", "valid_until of the entitlement acme"),
        ("UPDATE stock_rule SET target = 9", "", "target of the stock rule for R750 in ams is 9"),
        ("UPDATE asset SET serial = 'S9'", "", "serial of the unit A1 is 'S9'"),
        ("UPDATE asset SET ci_id = 2", "", "ci of the unit A1 is 'web2'"),
        ("DELETE FROM release_status", "", "what became of hello 0.9 is in the history, and not"),
        ("UPDATE release_status SET digest = 'sha256:2'", "", "digest of what became of hello 0.9"),
    ],
)
def test_a_record_that_was_changed_by_sql_is_named(cmdb: Cmdb, statement: str, ci: str, words: str) -> None:
    with cmdb.begin() as connection:
        record_sets(connection, "web1", {"packages": (digest_of({"nginx": "1"}), {"nginx": "1"})}, "carl", "as it was", NOW)
        set_model(connection, {"classes": {"kiln": {"host": True}}}, "carl", NOW, {})
        local = NOW.astimezone(timezone(timedelta(hours=2)))
        save(connection, Entitlement("acme", "acme", 5, None, local, "order 7"), "carl", NOW, True)
        save_rules(connection, [StockRule("R750", "ams", 1, 3, 1, "Contoso", ("R740",))], "carl", NOW, True)
        orders = [MoveOrder("receive", "A1", "Contoso", "S1", "R750", stockroom="ams"), MoveOrder("install", "A1", ci="web1")]
        move_units(connection, orders, "carl", NOW, True)
        enter_status(connection, Retirement("hello", "0.9", "sha256:1", "it leaks", "rita", NOW), ReleaseState.RETIRED)
    assert _said(verify_cmdb(cmdb, [])) == []
    with cmdb.begin() as connection:
        connection.exec_driver_sql(statement)
    finding = verify_cmdb(cmdb, []).findings[0]
    assert (finding.kind, finding.ci) == ("row", ci)
    assert words in finding.sentence


def test_a_flipped_bit_of_an_address_is_named_whatever_it_makes_of_the_rest(tmp_path: Path) -> None:
    path, other = tmp_path / "cmdb.sqlite", str(tmp_path / "flipped.sqlite")
    with Cmdb.open(str(path), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "attributes": {"ansible_host": "192.0.2.77"}}], "test")
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    kinds: dict[int, set[str]] = {}
    for place in (place for place in range(len(content)) if content[place : place + 10] == b"192.0.2.77"):
        for offset, bit in ((9, 1), (9, 128), (10, 1), (-1, 64), (-4, 2)):  # another digit, no text, no JSON, other JSON
            flipped = bytearray(content)
            flipped[place + offset] ^= bit
            Path(other).write_bytes(flipped)
            with Cmdb.open(other) as cmdb:
                found = verify_cmdb(cmdb, [])
            assert found.findings[0].ci == "web1" or found.findings[0].line == 1
            kinds.setdefault(place, set()).update(one.kind for one in found.findings)
    assert sorted(map(sorted, kinds.values())) == [["edited", "row"], ["row"]]  # of the history and of the row


@pytest.mark.parametrize("change", ["gone", "off", "other", "more"])
def test_a_trigger_that_is_not_as_it_was_made_is_named(cmdb: Cmdb, change: str) -> None:
    with cmdb.begin() as connection:
        light = connection.dialect.name == "sqlite"
        name, on = ("history_refuses_update", "") if light else ("history_append_only", " ON history")
        if change == "gone" or (light and change in ("off", "other")):
            connection.exec_driver_sql(f"DROP TRIGGER {name}{on}")
        if change in ("off", "other") and light:
            connection.exec_driver_sql(f"CREATE TRIGGER {name} BEFORE UPDATE ON history WHEN 0 BEGIN SELECT RAISE(ABORT, 'no'); END")
        if change == "off" and not light:
            connection.exec_driver_sql(f"ALTER TABLE history DISABLE TRIGGER {name}")
        if change == "other" and not light:
            connection.exec_driver_sql(
                "CREATE OR REPLACE FUNCTION history_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
            )
        if change == "more" and light:
            name = "more"
            connection.exec_driver_sql("CREATE TRIGGER more BEFORE INSERT ON history BEGIN SELECT RAISE(IGNORE); END")
        if change == "more" and not light:
            name = "more"
            connection.exec_driver_sql("CREATE TRIGGER more BEFORE INSERT ON history FOR EACH ROW EXECUTE FUNCTION history_append_only()")
    (finding,) = verify_cmdb(cmdb, []).findings
    assert finding.kind == "trigger"
    assert f"the trigger {name} " in finding.sentence


def test_what_documents_saw_shows_that_the_end_is_missing_though_all_else_fits(cmdb: Cmdb) -> None:
    with cmdb.read() as connection:
        seen = SeenHeads("the clearance of CHG1", heads(connection))
    t = schema()
    with cmdb.read() as connection:
        before = connection.scalar(sa.select(t.history.c.sha256).where(t.history.c.seq == 3))
    _by_hand(
        cmdb,
        "DELETE FROM history WHERE seq = 4",
        _end("history", 3, str(before)),
        "DELETE FROM relation",
        "UPDATE ci SET revision = revision - 1 WHERE name = 'web1'",
    )
    assert _said(verify_cmdb(cmdb, [])) == []
    found = verify_cmdb(cmdb, [seen])
    assert _said(found) == [("truncated", "history", 4, "")]
    assert "after line 3 of 20" in found.findings[0].sentence
    assert "the clearance of CHG1 saw line 4" in found.findings[0].sentence
    cmdb.put_cis([{"name": "web3"}, {"name": "web4"}], "test")  # after the backup was brought back
    assert _said(verify_cmdb(cmdb, [seen])) == [("edited", "history", 1, "")]


def test_what_was_written_anew_is_narrowed_down_by_what_documents_saw(cmdb: Cmdb) -> None:
    def ends() -> dict[str, Head]:
        with cmdb.read() as connection:
            return heads(connection)

    seen = [SeenHeads("one", ends())]
    cmdb.put_cis([{"name": "web3"}], "test")
    cmdb.put_cis([{"name": "web4"}], "test")
    seen.append(SeenHeads("two", ends()))
    cmdb.put_cis([{"name": "web5"}], "test")
    assert _said(verify_cmdb(cmdb, seen)) == []
    t, sha256 = schema(), seen[0].heads["history"].sha256
    with cmdb.read() as connection:
        lines = [
            dict(row) for row in connection.execute(sa.select(t.history).where(t.history.c.seq > 4).order_by(t.history.c.seq)).mappings()
        ]
    _by_hand(cmdb, "DELETE FROM history WHERE seq > 4", _end("history", 4, sha256))
    with cmdb.begin() as connection:
        append_history(connection, [{**line, "actor": "mallory"} for line in lines])
    assert _said(verify_cmdb(cmdb, [])) == []
    assert _said(verify_cmdb(cmdb, seen)) == [("edited", "history", 5, "")]
    assert "lines 5 to 6" in verify_cmdb(cmdb, seen).findings[0].sentence


def test_the_chain_goes_on_over_what_was_archived(cmdb_url: str, tmp_path: Path) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": name} for name in past.HOSTS], "test")
        with cmdb.begin() as connection:
            for number in range(1, 5):
                past.history(connection, number)
        before = verify_cmdb(cmdb, [])
        with cmdb.begin() as connection:
            connection.execute(sa.update(schema().deployment).where(schema().deployment.c.id == 3).values(state="held"))
        done = archive_journal(cmdb, load_policy(None), tmp_path / "archive", "full", None, datetime.now(UTC), write=True)
        assert len(done.deployments) == 2
        after = verify_cmdb(cmdb, [SeenHeads("before", before.heads)])
        assert _said(after) == []
        assert after.lines["journal"] == before.lines["journal"]
        with cmdb.begin() as connection:
            append_journal(connection, [{"deployment_id": 3, "at": NOW, "event": "noted", "data": {}}])
        assert _said(verify_cmdb(cmdb, [SeenHeads("before", before.heads)])) == []
        (file,) = map(Path, done.files)
        file.rename(tmp_path / "elsewhere")
        (finding,) = verify_cmdb(cmdb, [SeenHeads("before", before.heads)]).findings
        assert finding.kind == "archive"
        assert str(file) in finding.sentence
        (tmp_path / "elsewhere").rename(file)
        _by_hand(cmdb, "DELETE FROM journal WHERE seq = 70")
        (finding,) = verify_cmdb(cmdb, []).findings
        assert (finding.kind, finding.line) == ("removed", 70)


def _append_many(url: str, who: str) -> None:
    with Cmdb.open(url) as cmdb:
        for number in range(12):
            cmdb.put_cis([{"name": f"{who}-{number}"}], who)
            with cmdb.begin() as connection:
                append_journal(connection, [{"deployment_id": 1, "at": NOW, "event": "noted", "data": {"by": who}}] * 2)


def test_writers_at_once_make_one_chain(cmdb: Cmdb, cmdb_url: str) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=_append_many, args=(cmdb_url, f"w{number}")) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    found = verify_cmdb(cmdb, [])
    assert (_said(found), found.lines) == ([], {"history": 4 + 48, "journal": 4 + 96})


def test_the_past_is_what_it_was(cmdb: Cmdb) -> None:
    moments: list[tuple[datetime, list[dict[str, Any]], list[dict[str, str]]]] = []

    def step(change: Callable[[], object]) -> None:
        change()
        moments.append((datetime.now(UTC), cmdb.query(), cmdb.relations()))

    def install(version: str | None) -> None:
        with cmdb.begin() as connection:
            row = {"ci": "web2", "release": "hello", "version": version, "digest": version and f"sha256:{version}"}
            cmdb.record_installations(connection, [row], "test", datetime.now(UTC))

    def write_off() -> None:
        with cmdb.begin() as connection:
            cmdb.write_off(connection, "web2", "burnt", "carl", datetime.now(UTC), {})

    step(lambda: install("1"))
    step(lambda: install("2"))
    step(lambda: cmdb.put_cis([{"name": "web2", "relations": [{"kind": "uses", "target": "web1"}], "attributes": {"a": [1]}}], "test"))
    step(write_off)
    step(lambda: cmdb.remove_cis(["web2"], "test"))
    step(lambda: cmdb.put_cis([{"name": "web2"}], "test"))
    step(lambda: cmdb.unrelate([("web1", "web2", "runs_on")], "test"))
    with cmdb.read() as connection:
        for at, cis, relations in moments:
            found = past_of(connection, at, datetime.now(UTC))
            assert (found.query_rows(), found.relation_rows()) == (cis, relations)
        assert past_of(connection, NOW - timedelta(days=9000), datetime.now(UTC)).query_rows() == []
        with pytest.raises(TidegateError, match="not over yet"):
            past_of(connection, datetime.now(UTC) + timedelta(minutes=5), datetime.now(UTC))
    assert _said(verify_cmdb(cmdb, [])) == []


_NAMES = st.sampled_from(["a", "b", "c"])
_STEPS = st.one_of(
    st.tuples(st.just("put"), _NAMES, st.sampled_from([None, "ams", "fra"]), st.sampled_from([{}, {"x": 1}, {"x": [True, None]}])),
    st.tuples(st.just("remove"), _NAMES),
    st.tuples(st.sampled_from(["relate", "unrelate"]), _NAMES, _NAMES),
    st.tuples(st.just("install"), _NAMES, st.sampled_from(["1", "2", None])),
    st.tuples(st.just("back out"), _NAMES),
    st.tuples(st.just("write off"), _NAMES),
    st.tuples(st.just("killed"), _NAMES),
)


class _Model:
    """What a CMDB has after some steps, in the plainest form."""

    def __init__(self) -> None:
        self.cis: dict[str, tuple[str | None, dict[str, Any]]] = {}
        self.relations: set[tuple[str, str]] = set()
        self.live: dict[str, list[str]] = {}

    def take(self, cmdb: Cmdb, step: tuple[Any, ...]) -> None:
        kind, name = step[:2]
        if kind == "put":
            cmdb.put_cis([{"name": name, "site": step[2], "attributes": step[3]}], "test")
            self.cis[name] = step[2], step[3]
        elif kind == "killed":
            _killed(cmdb, name)
        elif name not in self.cis or (len(step) > 2 and kind in ("relate", "unrelate") and step[2] not in self.cis.keys() - {name}):
            return
        elif kind == "remove" and not self.live.get(name):
            cmdb.remove_cis([name], "test")
            del self.cis[name]
            self.relations = {one for one in self.relations if name not in one}
        elif kind in ("relate", "unrelate"):
            getattr(cmdb, kind)([(name, step[2], "uses")], "test")
            (self.relations.add if kind == "relate" else self.relations.discard)((name, step[2]))
        elif kind == "install":
            self._install(cmdb, name, step[2])
            self.live[name] = [*self.live.get(name, []), step[2]] if step[2] else []
        elif kind == "back out" and self.live.get(name):
            self.live[name].pop()
            self._install(cmdb, name, self.live[name][-1] if self.live[name] else None)
        elif kind == "write off" and name not in cmdb.write_offs():
            with cmdb.begin() as connection:
                cmdb.write_off(connection, name, "burnt", "carl", datetime.now(UTC), {})

    def _install(self, cmdb: Cmdb, name: str, version: str | None) -> None:
        with cmdb.begin() as connection:
            row = {"ci": name, "release": "hello", "version": version, "digest": version and f"sha256:{version}"}
            cmdb.record_installations(connection, [row], "test", datetime.now(UTC))
            cmdb.end_write_offs(connection, [name], "seen", "test", datetime.now(UTC))

    def same_as(self, found: list[dict[str, Any]], relations: list[dict[str, str]]) -> bool:
        live = {
            name: {"hello": {"version": of[-1], "digest": f"sha256:{of[-1]}"}} if (of := self.live.get(name)) else {} for name in self.cis
        }
        wanted = {name: (site, attributes, live[name]) for name, (site, attributes) in self.cis.items()}
        there = {one["name"]: (one["site"], one["attributes"], one["installations"]) for one in found}
        return (wanted, self.relations) == (there, {(one["source"], one["target"]) for one in relations})


def _killed(cmdb: Cmdb, name: str) -> None:
    """A process writes, and dies before it is done."""
    child = os.fork()
    if not child:
        with cmdb.begin() as connection:
            cmdb.put_cis([{"name": name, "site": "nowhere"}], "killed", connection=connection)
            os._exit(9)
    os.waitpid(child, 0)


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
@given(steps=st.lists(_STEPS, max_size=15))
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_history_comes_to_what_the_rows_are_whatever_happens(
    tmp_path: Path, request: pytest.FixtureRequest, server: str, steps: list[tuple[Any, ...]]
) -> None:
    url = str(tmp_path / f"{uuid.uuid4()}.sqlite") if server == "sqlite" else request.getfixturevalue("postgresql")()
    model = _Model()
    with Cmdb.open(url, create=True) as cmdb:
        for step in steps:
            model.take(cmdb, step)
            with cmdb.read() as connection:
                found = past_of(connection, datetime.now(UTC), datetime.now(UTC))
            assert model.same_as(found.query_rows(), found.relation_rows())
            assert model.same_as(cmdb.query(), cmdb.relations())
        assert _said(verify_cmdb(cmdb, [])) == []


def test_a_backup_that_was_brought_back_is_whole_and_ends_before_what_was_signed(tmp_path: Path) -> None:
    path = tmp_path / "cmdb.sqlite"
    with Cmdb.open(str(path), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1"}], "test")
    shutil.copy(path, tmp_path / "backup")
    with Cmdb.open(str(path)) as cmdb:
        cmdb.put_cis([{"name": "web2"}], "test")
        with cmdb.read() as connection:
            seen = SeenHeads("the report", heads(connection))
    with Cmdb.open(str(tmp_path / "backup")) as cmdb:
        assert _said(verify_cmdb(cmdb, [])) == []
        assert _said(verify_cmdb(cmdb, [seen])) == [("truncated", "history", 2, "")]
