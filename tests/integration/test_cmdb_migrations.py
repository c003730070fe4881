# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CMDB of each revision, with rows in all tables, is upgraded on either database, or taken back, and as it was when that is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import engine, upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import heads
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.triggers import _definitions, trigger_faults
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import SeenHeads, verify_cmdb

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROWS = 3
REVISIONS = [f"{number:04}" for number in range(1, int(upgrade.HEAD))]
QUICK = ("0001", REVISIONS[-1])
# What a table's own rules want, where it is not a word or a 1.
SPECIAL = {
    "asset": {"state": "in_stock", "substate": "available", "stockroom": "ams", "slot": "", "ci_id": None, "deployment_id": None},
    "deployment": {"lease_until": None, "open_until": None},
}


def fill(connection: sa.Connection) -> None:
    """Some rows in each table that there is, whatever columns it has."""
    found = sa.MetaData()
    found.reflect(connection)
    for table in found.sorted_tables:
        if table.name in ("alembic_version", "chain"):
            continue
        for number in range(1, ROWS + 1):
            row = {column.name: value(column, number) for column in table.columns if not (column.nullable or column.server_default)}
            connection.execute(sa.insert(table), row | SPECIAL.get(table.name, {}))


def value(column: sa.Column[Any], number: int) -> Any:
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Integer):
        return number
    if isinstance(kind, sa.DateTime):
        return NOW.replace(tzinfo=UTC if kind.timezone else None)
    if isinstance(kind, sa.JSON):
        return {"n": number}
    return f"x{number}"


def stored(connection: sa.Connection) -> dict[str, list[Any]]:
    """Every row of every table, by its name, and what each table is like."""
    found = sa.MetaData()
    found.reflect(connection)
    tables = {table.name: sorted(repr(tuple(row)) for row in connection.execute(sa.select(table))) for table in found.sorted_tables}
    columns = sa.inspect(connection)
    return tables | {f"{name}'s": sorted(repr(one) for one in columns.get_columns(name)) for name in tables}


def structure(connection: sa.Connection) -> dict[str, Any]:
    """What a database is like, without its rows: columns, indexes and triggers."""
    look = sa.inspect(connection)
    found: dict[str, Any] = {name: rows for name, rows in stored(connection).items() if name.endswith("'s")}
    indexes = {name: sorted(map(_index, look.get_indexes(name))) for name in look.get_table_names()}
    return found | {"indexes": indexes, "triggers": _definitions(connection)}


def _index(found: Any) -> str:
    where = {name: str(value) for name, value in found.get("dialect_options", {}).items()}
    return f"{found['name']} {found['column_names']} {found['unique']} {where}"


def made(url: str, monkeypatch: pytest.MonkeyPatch, revision: str) -> engine.DatabaseAddress:
    """A CMDB as a collection made it that needed ``revision``."""
    with monkeypatch.context() as patched:
        patched.setattr(upgrade, "HEAD", revision)
        Cmdb.open(url, create=True)
    return engine.DatabaseAddress.parse(url)


def upgraded(url: str, statements: int, **how: Any) -> int:
    """Upgrade in a process that is killed at the statement of that number; how it ended."""

    def work() -> None:
        address = engine.DatabaseAddress.parse(url)
        left = statements

        def count(*_statement: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(engine.engine(address), "before_cursor_execute", count)
        sa.event.listen(engine.engine(address), "commit", count)
        upgrade.upgrade(url, NOW, **how)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(120)
    return int(process.exitcode or 0)


@pytest.mark.parametrize("revision", [one if one in QUICK else pytest.param(one, marks=pytest.mark.thorough) for one in REVISIONS])
def test_an_upgrade_that_is_killed_leaves_all_as_it_was_and_the_next_one_is_whole(
    cmdb_url: str, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    address = made(cmdb_url, monkeypatch, revision)
    with engine.writing(address, engine.engine(address)) as connection:
        fill(connection)
        before = stored(connection)
    assert upgrade.upgrade(cmdb_url, NOW, dry_run=True).before == revision  # what is imported for one is inherited
    after = at_last(address, cmdb_url, before)
    assert after["alembic_version"] == [repr((upgrade.HEAD,))]
    assert all(len(after[name]) >= len(rows) for name, rows in before.items() if not name.endswith("'s"))
    with Cmdb.open(cmdb_url) as cmdb:
        with cmdb.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), schema().metadata) == []
        assert [ci["name"] for ci in cmdb.cis()] == [f"x{number}" for number in range(1, ROWS + 1)]
        if revision < "0020":  # from then on a line that has no sha256 was written by something else
            assert [one for one in verify_cmdb(cmdb, []).findings if one.kind not in ("row", "archive")] == []


def at_last(address: engine.DatabaseAddress, url: str, before: dict[str, Any], **how: Any) -> dict[str, Any]:
    """What there is after an upgrade that was killed again and again, later each time, until it came to its end."""
    statements, ended = 1, -signal.SIGKILL
    while ended:
        ended = upgraded(url, statements, **how)
        assert ended in (0, -signal.SIGKILL)
        with engine.reading(address, engine.engine(address)) as connection:
            after = stored(connection)
        assert (after == before) == bool(ended)
        statements *= 2
    return after


@pytest.mark.parametrize("revision", [one if one in QUICK else pytest.param(one, marks=pytest.mark.thorough) for one in REVISIONS])
def test_a_cmdb_that_is_taken_back_is_one_of_that_revision_with_what_that_has_a_place_for(
    tmp_path: Path, cmdb_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    fresh = str(tmp_path / "fresh.sqlite") if engine.DatabaseAddress.parse(cmdb_url).path else request.getfixturevalue("postgresql")()
    older = made(fresh, monkeypatch, revision)
    with engine.reading(older, engine.engine(older)) as connection:
        wanted = structure(connection)
    address = made(cmdb_url, monkeypatch, upgrade.HEAD)
    with engine.writing(address, engine.engine(address)) as connection:
        fill(connection)
        before = stored(connection)
    if revision < "0020":
        with pytest.raises(ConflictError, match=r"has no place for .*3 host_set.* lose: true"):
            upgrade.upgrade(cmdb_url, NOW, back_to=revision)
    would = upgrade.upgrade(cmdb_url, NOW, back_to=revision, lose=True, dry_run=True)
    assert "lost: 3 message" in would.notes
    with engine.reading(address, engine.engine(address)) as connection:
        assert stored(connection) == before
    after = at_last(address, cmdb_url, before, back_to=revision, lose=True)
    with engine.reading(address, engine.engine(address)) as connection:
        assert structure(connection) == wanted
    assert after["alembic_version"] == [repr((revision,))]
    kept = after.keys() & before.keys() - {"alembic_version"}
    assert [name for name in kept if not name.endswith("'s") and len(after[name]) != len(before[name])] == []
    assert upgrade.upgrade(cmdb_url, NOW).after == upgrade.HEAD
    with Cmdb.open(cmdb_url) as cmdb, cmdb.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema().metadata) == []
        assert [*trigger_faults(connection)] == []
        assert len(cmdb.cis()) == ROWS


def test_the_way_back_and_up_again_leaves_what_documents_saw(cmdb_url: str) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": "web1"}, {"name": "web2", "site": "ams"}], "ann")
        with cmdb.read() as connection:
            seen = SeenHeads("the report", heads(connection))
    assert upgrade.upgrade(cmdb_url, NOW, back_to="0018").notes == ()
    assert upgrade.upgrade(cmdb_url, NOW, back_to="0018").after == "0018"
    with pytest.raises(TidegateError, match="is of revision 0018, so 0019 is no way back"):
        upgrade.upgrade(cmdb_url, NOW, back_to="0019")
    for wrong in ("9999", "0000", "head", "18"):
        with pytest.raises(TidegateError, match="there is no revision"):
            upgrade.upgrade(cmdb_url, NOW, back_to=wrong)
    upgrade.upgrade(cmdb_url, NOW)
    with Cmdb.open(cmdb_url) as cmdb:
        found = verify_cmdb(cmdb, [seen])
    assert (found.findings, found.lines["history"]) == ([], 3)
