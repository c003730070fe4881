# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from ansible_collections.tidegate.release.plugins.plugin_utils import activity
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import engine, upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history, append_journal
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.past import past_of
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, NotFoundError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb
from cmdb_workers import put_one, upgrade_cmdb
from effort import cpu_seconds

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def _refusal(url: str, create: bool = False) -> str:
    """What opening says; it has to be one sentence."""
    with pytest.raises(TidegateError) as caught:
        Cmdb.open(url, create=create)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_migrations_and_schema_agree(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb, cmdb.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema().metadata) == []


def test_head_is_the_newest_migration() -> None:
    directory = Path(upgrade.__file__).parent / "migrations"
    assert ScriptDirectory(str(directory)).get_current_head() == upgrade.HEAD


def test_opening_a_current_cmdb_does_not_import_alembic(cmdb_url: str) -> None:
    Cmdb.open(cmdb_url, create=True)
    code = f"import sys; from {Cmdb.__module__} import Cmdb; Cmdb.open({cmdb_url!r}); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_cmdb_is_made_only_when_asked(cmdb_url: str) -> None:
    with pytest.raises(NotFoundError, match="cmdb_ci makes one"):
        Cmdb.open(cmdb_url)
    Cmdb.open(cmdb_url, create=True)
    with Cmdb.open(cmdb_url) as cmdb:
        assert cmdb.cis() == []


def test_processes_that_create_at_once_all_succeed(cmdb_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=put_one, args=(cmdb_url, number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    with Cmdb.open(cmdb_url) as cmdb:
        assert [ci["name"] for ci in cmdb.cis()] == [f"web{number}" for number in range(6)]


def test_a_new_file_leaves_nothing_beside_it_and_is_in_wal_mode(tmp_path: Path) -> None:
    put_one(str(tmp_path / "cmdb.sqlite"), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["cmdb.sqlite"]
    with sqlite3.connect(tmp_path / "cmdb.sqlite") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_is_not_a_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at as one " * 50)
    before = path.read_bytes()
    assert "is not a CMDB" in _refusal(str(path), create=True)
    assert path.read_bytes() == before


def test_an_empty_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "cmdb.sqlite"
    path.touch()
    assert "is empty, not a CMDB" in _refusal(str(path), create=True)
    assert path.stat().st_size == 0


def test_a_directory_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "no") in _refusal(str(tmp_path / "no" / "cmdb.sqlite"), create=True)
    assert "can't be used" in _refusal(str(tmp_path))


def test_another_programs_database_is_refused_and_kept(cmdb_url: str) -> None:
    address = engine.DatabaseAddress.parse(cmdb_url)
    if address.path:
        address.path.touch()
    with engine.writing(address, engine.engine(address)) as connection:
        connection.exec_driver_sql("CREATE TABLE invoice (id INTEGER)")
    assert "not a Tidegate CMDB" in _refusal(cmdb_url, create=True)
    with engine.reading(address, engine.engine(address)) as connection:
        assert sa.inspect(connection).get_table_names() == ["invoice"]


def test_a_database_with_foreign_migrations_is_refused(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'ae1027a6acf'")
    assert "not a Tidegate CMDB" in _refusal(cmdb_url)


def test_a_cmdb_newer_than_the_code_is_refused(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    assert "upgrade the collection" in _refusal(cmdb_url, create=True)


def _older(url: str, monkeypatch: pytest.MonkeyPatch, revision: str = "0003") -> None:
    """Make a CMDB as an older version of the collection made it, with one CI in it."""
    with monkeypatch.context() as patched:
        patched.setattr(upgrade, "HEAD", revision)
        Cmdb.open(url, create=True)
    address = engine.DatabaseAddress.parse(url)
    with engine.writing(address, engine.engine(address)) as connection:  # this code's statements are for the newest tables
        moment = f"'{NOW:%F %T}.000000'"
        connection.exec_driver_sql(
            f"INSERT INTO ci (name, attributes, created, updated) VALUES ('web1', '{{}}', {moment}, {moment})"  # noqa: S608 - ours
        )
        for _time in range(2):
            said = '{"after": {"class": null, "site": null, "environment": null, "attributes": {}}}'
            connection.exec_driver_sql(
                f"INSERT INTO history (at, actor, ci, event, data) VALUES ({moment}, 'me', 'web1', 'created', '{said}')"  # noqa: S608 - ours
            )


def _stored(url: str) -> object:
    """All that a database is, for a comparison: a file's bytes, or a server's revision and tables."""
    address = engine.DatabaseAddress.parse(url)
    if address.path:
        return {path.name: path.read_bytes() for path in address.path.parent.iterdir()}
    with engine.reading(address, engine.engine(address)) as connection:
        tables = sorted(sa.inspect(connection).get_table_names())
        return tables, connection.exec_driver_sql("SELECT version_num FROM alembic_version").all() if tables else None


@pytest.mark.parametrize("create", [True, False])
def test_opening_an_older_cmdb_changes_nothing_and_names_the_verb(cmdb_url: str, monkeypatch: pytest.MonkeyPatch, create: bool) -> None:
    _older(cmdb_url, monkeypatch)
    before = _stored(cmdb_url)
    said = _refusal(cmdb_url, create=create)
    assert "is of revision 0003" in said
    assert "tidegate.release.cmdb_upgrade" in said
    assert _stored(cmdb_url) == before


@pytest.mark.parametrize("revision", [f"{number:04}" for number in range(1, int(upgrade.HEAD))])
def test_an_upgrade_keeps_what_is_there_and_says_from_where_to_where(cmdb_url: str, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    _older(cmdb_url, monkeypatch, revision)
    before = _stored(cmdb_url)
    would = upgrade.upgrade(cmdb_url, NOW, dry_run=True)
    assert (would.before, would.after) == (revision, upgrade.HEAD)
    assert _stored(cmdb_url) == before
    assert upgrade.upgrade(cmdb_url, NOW) == would
    with Cmdb.open(cmdb_url) as cmdb, cmdb.read() as connection:
        assert [ci["name"] for ci in cmdb.cis()] == ["web1"]
        assert compare_metadata(MigrationContext.configure(connection), schema().metadata) == []
    after = _stored(cmdb_url)
    assert upgrade.upgrade(cmdb_url, NOW).before == upgrade.HEAD
    assert _stored(cmdb_url) == after


@pytest.mark.parametrize("dry_run", [True, False])
def test_there_is_no_upgrade_of_what_is_no_cmdb_or_newer(cmdb_url: str, dry_run: bool) -> None:
    before = _stored(cmdb_url)
    with pytest.raises(NotFoundError, match="there is no CMDB"):
        upgrade.upgrade(cmdb_url, NOW, dry_run=dry_run)
    assert _stored(cmdb_url) == before
    with Cmdb.open(cmdb_url, create=True) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(TidegateError, match="upgrade the collection"):
        upgrade.upgrade(cmdb_url, NOW, dry_run=dry_run)


def test_no_upgrade_takes_the_cmdb_away_from_who_drives_a_deployment(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _older(cmdb_url, monkeypatch, "0005")
    address = engine.DatabaseAddress.parse(cmdb_url)
    with engine.writing(address, engine.engine(address)) as connection:
        connection.execute(sa.insert(schema().deployment), _deployment() | {"lease_until": NOW + timedelta(minutes=1)})
    before = _stored(cmdb_url)
    for dry_run in (True, False):
        with pytest.raises(ConflictError, match="CHG1 is being driven by me"):
            upgrade.upgrade(cmdb_url, NOW, dry_run=dry_run)
    assert _stored(cmdb_url) == before
    assert upgrade.upgrade(cmdb_url, NOW + timedelta(minutes=2)).after == upgrade.HEAD


def test_processes_that_upgrade_at_once_all_succeed(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _older(cmdb_url, monkeypatch)
    processes = [multiprocessing.get_context("spawn").Process(target=upgrade_cmdb, args=(cmdb_url,)) for _process in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    with Cmdb.open(cmdb_url) as cmdb:
        assert [ci["name"] for ci in cmdb.cis()] == ["web1"]


def test_a_server_that_does_not_answer_is_named_without_the_password(tmp_path: Path) -> None:
    said = _refusal(f"postgresql://me:hunter2@/cmdb?host={tmp_path}", create=True)
    assert "can't be reached" in said
    assert "hunter2" not in said


def test_a_role_that_may_only_read_is_told_so_when_it_writes(postgresql: Callable[[], str]) -> None:
    url = postgresql()
    with Cmdb.open(url, create=True) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE reader LOGIN")
        connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    with Cmdb.open(url.replace("cmdb@", "reader@")) as cmdb:
        assert cmdb.cis() == []
        with pytest.raises(TidegateError, match="permission denied"):
            cmdb.put_cis([{"name": "web1"}], "test")


def test_an_upgrade_chains_what_it_finds_and_says_so(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _older(cmdb_url, monkeypatch, "0018")
    upgrade.upgrade(cmdb_url, NOW)
    with Cmdb.open(cmdb_url) as cmdb:
        cmdb.put_cis([{"name": "web2"}], "test")
        found = verify_cmdb(cmdb, [])
        assert (found.findings, found.lines) == ([], {"history": 4, "journal": 0})
        (chained,) = found.chained
        assert chained["history"]["lines"] == chained["history"]["seq"] == 2
        for sql in ("UPDATE history SET event = 'x'", "DELETE FROM history"):
            with pytest.raises(sa.exc.IntegrityError, match="append-only"), cmdb.begin() as connection:
                connection.exec_driver_sql(sql)


def _statements_of(page: str) -> list[str]:
    """The SQL of a page of the documentation."""
    blocks = re.findall(r"```sql\n(.*?)```", (Path(__file__).parents[2] / "docs" / page).read_text(), re.DOTALL)
    return [statement for block in blocks for statement in block.split(";\n") if statement.strip()]


def test_the_roles_of_the_page_can_do_what_it_says_and_no_more(postgresql: Callable[[], str]) -> None:
    url = postgresql()
    with Cmdb.open(url, create=True) as cmdb:
        cmdb.put_cis([{"name": "web1"}], "test")
        with cmdb.begin() as connection:
            for statement in _statements_of("history.md"):
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("CREATE ROLE rita LOGIN IN ROLE tidegate_reader")
            connection.exec_driver_sql("CREATE ROLE walt LOGIN IN ROLE tidegate_writer")
            connection.exec_driver_sql("CREATE TABLE of_later (id INTEGER)")  # as an upgrade makes one
    with Cmdb.open(url.replace("cmdb@", "rita@")) as cmdb:
        assert [ci["name"] for ci in cmdb.query()] == ["web1"]
        assert build_report(cmdb, NOW).overview["counts"]["hosts"] == 1
        assert verify_cmdb(cmdb, []).findings == []
        with cmdb.read() as connection:
            assert past_of(connection, datetime.now(UTC), datetime.now(UTC)).query_rows() == cmdb.query()
            connection.exec_driver_sql("SELECT * FROM of_later")
            for table in schema().chain.metadata.sorted_tables:
                connection.execute(sa.select(table).limit(1))
        with pytest.raises(TidegateError, match="permission denied"):
            cmdb.put_cis([{"name": "web2"}], "rita")
    with Cmdb.open(url.replace("cmdb@", "walt@")) as cmdb:
        cmdb.put_cis([{"name": "web2", "relations": [{"kind": "uses", "target": "web1"}]}], "walt")
        with cmdb.begin() as connection:
            connection.execute(sa.insert(schema().deployment), _deployment())
            append_journal(connection, [{"at": NOW, "deployment_id": 1, "event": "planned", "data": {}}])
        for sql in (
            *("UPDATE history SET event = 'x'", "DELETE FROM history", "TRUNCATE history", "UPDATE journal SET event = 'x'"),
            *(
                "DROP TRIGGER history_append_only ON history",
                "ALTER TABLE history DISABLE TRIGGER ALL",
                "UPDATE alembic_version SET version_num = '1'",
            ),
        ):
            with pytest.raises(TidegateError, match=r"permission denied|must be owner"), cmdb.begin() as connection:
                connection.exec_driver_sql(sql)
        assert verify_cmdb(cmdb, []).findings == []


@pytest.mark.parametrize("table", ["history", "journal"])
def test_what_is_append_only_can_only_be_appended_to(cmdb_url: str, table: str) -> None:
    replace = "INSERT OR REPLACE INTO {0} SELECT * FROM {0}" if engine.DatabaseAddress.parse(cmdb_url).path else "TRUNCATE {0}"
    tables = schema()
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        with cmdb.begin() as connection:
            append_history(connection, [{"at": NOW, "actor": "me", "event": "created", "data": {}}])
            connection.execute(sa.insert(tables.deployment), _deployment())
            append_journal(connection, [{"at": NOW, "deployment_id": 1, "event": "planned", "data": {}}])
        for sql in ("UPDATE {0} SET event = 'x'", "DELETE FROM {0}", replace):
            with pytest.raises(sa.exc.IntegrityError, match="append-only"), cmdb.begin() as connection:
                connection.exec_driver_sql(sql.format(table))
        with cmdb.read() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(tables.metadata.tables[table])) == 1


def test_moments_are_aware_and_come_back_in_utc(cmdb_url: str) -> None:
    tables = schema()
    zone = timezone(timedelta(hours=5, minutes=30))
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        with cmdb.begin() as connection:
            connection.execute(sa.insert(tables.deployment), _deployment() | {"created": NOW.astimezone(zone)})
        with cmdb.read() as connection:
            created = connection.scalar(sa.select(tables.deployment.c.created))
            assert created == NOW
            assert created.utcoffset() == timedelta(0)
            later = sa.select(tables.deployment.c.id).where(tables.deployment.c.created > (NOW - timedelta(seconds=1)).astimezone(zone))
            assert connection.scalar(later) == 1
        with pytest.raises(sa.exc.StatementError, match="no time zone"), cmdb.begin() as connection:
            connection.execute(sa.insert(tables.deployment), _deployment() | {"created": NOW.replace(tzinfo=None)})


def test_a_reader_sees_one_moment_while_others_write(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb, cmdb.read() as connection:
        assert cmdb.cis(connection=connection) == []
        cmdb.put_cis([{"name": "web1"}], "test")
        assert cmdb.cis(connection=connection) == []
        assert len(cmdb.cis()) == 1


def test_whatever_is_asked_of_a_cmdb_at_one_moment_is_of_that_moment(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "site": "ams"}], "test")
        with cmdb.at_one_moment() as then:
            assert then.sites() == ["ams"]
            cmdb.put_cis([{"name": "web2", "site": "fra"}], "test")  # which has to wait for nobody
            assert [ci["name"] for ci in then.query()] == ["web1"]
            with then.read() as connection:
                assert [ci["name"] for ci in then.cis(connection=connection)] == ["web1"]
            with pytest.raises(StateError, match="nothing is written to a CMDB as it is at one moment"):
                then.put_cis([{"name": "web3"}], "test")
        assert cmdb.sites() == ["ams", "fra"]


def test_a_question_that_can_not_be_answered_leaves_the_others_of_its_moment_theirs(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "site": "ams"}], "test")
        with cmdb.at_one_moment() as then:
            with pytest.raises(TidegateError, match="can't be used"), then.read() as connection:
                connection.exec_driver_sql("select * from no_such_table")
            assert then.sites() == ["ams"]


def test_a_server_that_goes_away_in_the_middle_of_a_moment_is_said_to_each_question(postgresql: Callable[[], str]) -> None:
    with Cmdb.open(postgresql(), create=True) as cmdb:
        with cmdb.at_one_moment() as then:
            with then.read() as connection:
                number = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
            with cmdb.begin() as connection:
                connection.exec_driver_sql(f"select pg_terminate_backend({number})")
            for _question in range(2):
                with pytest.raises(TidegateError, match="went away"):
                    then.sites()
        assert cmdb.sites() == []


def test_an_exception_undoes_the_transaction(cmdb_url: str) -> None:
    def half(cmdb: Cmdb) -> None:
        with cmdb.begin() as connection:
            append_history(connection, [{"at": NOW, "actor": "me", "event": "created", "data": {}}])
            raise RuntimeError

    with Cmdb.open(cmdb_url, create=True) as cmdb:
        with pytest.raises(RuntimeError):
            half(cmdb)
        assert cmdb.marker() == ""


def test_foreign_keys_hold(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb, pytest.raises(sa.exc.IntegrityError), cmdb.begin() as connection:
        connection.execute(sa.insert(schema().lock), {"ci": "nobody", "deployment_id": 1})


def _add_ten(url: str) -> None:
    table = schema().deployment
    with Cmdb.open(url) as cmdb:
        for _time in range(10):
            with cmdb.begin() as connection:
                token = connection.scalar(sa.select(table.c.token))
                time.sleep(0.002)
                connection.execute(sa.update(table).values(token=token + 1))


def test_writers_take_turns_so_that_no_update_is_lost(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        with cmdb.begin() as connection:
            connection.execute(sa.insert(schema().deployment), _deployment())
        # forked after the parent opened it, as Ansible's workers are
        processes = [multiprocessing.get_context("fork").Process(target=_add_ten, args=(cmdb_url,)) for _process in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        with cmdb.read() as connection:
            assert connection.scalar(sa.select(schema().deployment.c.token)) == 31


class Waits(list[str]):
    """What is waited for, and ``all`` that ever was."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def append(self, what: str) -> None:
        super().append(what)
        self.all.append(what)


def test_a_writer_that_waits_too_long_says_so(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 1)
    waits = Waits()
    monkeypatch.setattr(activity, "_waits", waits)
    said = pytest.raises(ConflictError, match=r"has been writing to the CMDB .* for more than 1 s")
    with Cmdb.open(cmdb_url, create=True) as cmdb, Cmdb.open(cmdb_url) as other, cmdb.begin():
        waits.all.clear()
        with said, other.begin():
            pass
    assert len(waits.all) == 2
    assert re.fullmatch("the CMDB .*, which others write to", waits.all[0]), "what is waited for"
    assert re.fullmatch(r".*, who writes to the CMDB .*", waits.all[1]), "and for whom"
    assert not waits, "and then no more"


def _write_until(url: str, ready: Any, done: Any) -> None:
    with Cmdb.open(url) as cmdb, cmdb.begin():
        ready.set()
        done.wait(60)


@pytest.mark.parametrize("mode", ["wal", "delete", "postgresql"])
def test_a_writer_says_for_whom_it_waits(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    url = request.getfixturevalue("postgresql")() if mode == "postgresql" else str(tmp_path / "cmdb.sqlite")
    with Cmdb.open(url, create=True):
        pass
    if mode == "delete":  # as on a network's file system, where there can be no log
        with contextlib.closing(sqlite3.connect(url)) as raw:
            raw.execute("PRAGMA journal_mode = DELETE")
    fork = multiprocessing.get_context("fork")
    ready, done = fork.Event(), fork.Event()
    other = fork.Process(target=_write_until, args=(url, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        monkeypatch.setattr(engine, "PATIENCE", 1)
        waits = Waits()
        monkeypatch.setattr(activity, "_waits", waits)
        whom = (
            rf"tidegate \S+@\S+ {os.getpid()} \(user cmdb, session \d+\)" if mode == "postgresql" else rf"process {other.pid} of \S+ \(.*\)"
        )
        with Cmdb.open(url) as cmdb, pytest.raises(ConflictError, match=f"^{whom} has been writing to the CMDB"), cmdb.begin():
            pass
        assert re.fullmatch(f"{whom}, who writes to the CMDB .*", waits.all[-1])
    finally:
        done.set()
        other.join(60)


def test_opening_a_current_file_costs_little_of_what_making_it_does(tmp_path: Path) -> None:
    url = str(tmp_path / "cmdb.sqlite")
    made = cpu_seconds(lambda: Cmdb.open(url, create=True), 1)
    assert cpu_seconds(lambda: Cmdb.open(url)) < made / 5


def _deployment() -> dict[str, object]:
    return {
        "rfc": "CHG1", "release": "hello", "version": "1", "digest": "sha256:1", "state": "planned", "options": {},
        "holder": "me", "token": 1, "created": NOW,
    }  # fmt: skip


@pytest.mark.parametrize("create", [True, False])
def test_a_path_that_can_not_even_be_looked_at_is_said(tmp_path: Path, create: bool) -> None:
    # A name that is too long stands for a directory that may not be entered: root may enter any.
    with pytest.raises(TidegateError, match="File name too long"):
        Cmdb.open(str(tmp_path / ("x" * 300)), create=create)
