# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No step reads all that ever was: a database explains every statement that a deployment sends, on a CMDB that is years old."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aged_cmdb import NOW, Age, build_aged, host_name
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import would_reserve
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.debts import debts
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import forward_schedule
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import standing
from bare_rollout import HOSTS, Team, live
from effort import sqlite_steps

LARGE = frozenset({"deployment_host", "journal", "change_ci", "history", "seat"})  # rows by the million, after years
GROWING = LARGE | {"deployment", "wave", "change", "debt"}  # with every deployment, to thousands of rows
AGE = Age(deployments=300, hosts=50, seats=4000)


class Scans:
    """What the database says, of each statement that is sent while this listens, about how it does it.

    ``found``: by statement the ``tables`` that it reads from one end to the other. ``settings``: what PostgreSQL is to assume.
    """

    def __init__(self, tables: frozenset[str], settings: str = "") -> None:
        self.found: dict[str, set[str]] = {}
        self.statements = 0
        self._tables, self._settings = tables, settings

    @contextmanager
    def listening(self) -> Iterator[None]:
        sa.event.listen(sa.Engine, "before_cursor_execute", self._explain)
        try:
            yield
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", self._explain)

    def _explain(self, connection: sa.Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if not re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement) or "sqlite_master" in statement or "pg_catalog" in statement:
            return
        self.statements += 1
        given = parameters[0] if many else parameters
        with closing(connection.connection.cursor()) as cursor:
            if connection.dialect.name == "sqlite":
                cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given)
                tables = {found[1] for row in cursor.fetchall() if (found := re.match(r"SCAN (\w+)", row[3]))}
            else:
                if self._settings:
                    cursor.execute(f"SET LOCAL {self._settings}")
                cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", given)
                tables = {table for (document,) in cursor.fetchall() for table in _scanned(document[0]["Plan"])}
                cursor.execute("RESET ALL")
        scanned = {re.sub(r"_\d+$", "", table) for table in tables} & self._tables
        if scanned:
            self.found[" ".join(statement.split())] = scanned


def _scanned(node: dict[str, Any], limited: bool = False) -> Iterator[str]:
    """The tables of which PostgreSQL goes through all rows, also along an index; of large ones, if it may have to before it finds one."""
    kind, table, condition = node["Node Type"], node.get("Relation Name", ""), node.get("Index Cond", "")
    along = kind in ("Index Scan", "Index Only Scan") and (not condition or condition.endswith("IS NOT NULL)"))
    if kind == "Seq Scan" or (along and (not limited or ("Filter" in node and table in LARGE))):
        yield table
    for child in node.get("Plans", ()):
        yield from _scanned(child, limited=kind == "Limit")


@pytest.fixture(scope="module")
def aged_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CMDB, and one with ten times as much that is over."""
    folder = tmp_path_factory.mktemp("aged")
    paths = folder / "young.sqlite", folder / "old.sqlite"
    for path, age in zip(paths, (replace(AGE, deployments=AGE.deployments // 10, seats=AGE.seats // 10), AGE), strict=True):
        build_aged(str(path), age)
    return paths


@pytest.fixture
def aged_file(aged_files: tuple[Path, Path]) -> Path:
    return aged_files[1]


def _sqlite(aged_file: Path, tmp_path: Path, *statements: str) -> str:
    copy = tmp_path / "cmdb.sqlite"
    shutil.copy(aged_file, copy)
    with Cmdb.open(str(copy)) as cmdb, cmdb.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    return str(copy)


def _scans(team: Team, scans: Scans) -> dict[str, set[str]]:
    with scans.listening():
        live(team, 1)
    assert scans.statements > 100
    return scans.found


# What is asked of an aged CMDB, and by how much more that may be for the database when ten times as much is over.
ASKED: dict[str, tuple[float, Callable[[Cmdb], object]]] = {
    "opening": (1.0, lambda _cmdb: None),
    "staging a host": (1.2, lambda cmdb: standing(cmdb, HOSTS[0], "app05")),
    "staging a host anew": (1.2, lambda cmdb: standing(cmdb, HOSTS[0], "hello")),
    "the schedule": (1.1, lambda cmdb: forward_schedule(cmdb, NOW)),
    "seats": (1.1, lambda cmdb: _in_one_read(cmdb, lambda reader: would_reserve(reader, "prod0", "app05", HOSTS, (NOW, NOW)))),
    "the report": (1.1, lambda cmdb: build_report(cmdb, NOW)),
    "what a change owes": (1.1, lambda cmdb: debts(cmdb, rfc="CHG0000007")),
}


def _in_one_read(cmdb: Cmdb, ask: Callable[[sa.Connection], object]) -> object:
    with cmdb.read() as reader:
        return ask(reader)


@pytest.mark.parametrize("asked", ASKED)
def test_a_question_costs_the_database_the_same_at_any_age(aged_files: tuple[Path, Path], asked: str) -> None:
    at_most, ask = ASKED[asked]
    steps = []
    for path in aged_files:
        with sqlite_steps() as counted, Cmdb.open(str(path)) as cmdb:
            ask(cmdb)
        steps.append(counted[0])
    assert steps[1] <= steps[0] * at_most, steps


def test_a_host_costs_the_database_the_same_whatever_its_release_did_elsewhere(tmp_path: Path) -> None:
    """As where each host has a change of its own."""
    steps = []
    for deployments in (40, 400):
        url = str(tmp_path / f"{deployments}.sqlite")
        build_aged(url, Age(deployments, cis=300, hosts=1, releases=1, planned=0))
        with sqlite_steps() as counted, Cmdb.open(url) as cmdb:
            assert standing(cmdb, host_name(1), "app00").installed
            assert standing(cmdb, host_name(2), "app00").fresh
        steps.append(counted[0])
    assert steps[1] <= steps[0] * 1.1, steps


def test_a_deployment_costs_the_database_the_same_at_any_age(aged_files: tuple[Path, Path], tmp_path: Path) -> None:
    steps = []
    for path in aged_files:
        folder = tmp_path / path.stem
        folder.mkdir()
        team = Team(folder, _sqlite(path, folder))
        with sqlite_steps() as counted:
            live(team, 1)
        steps.append(counted[0])
    assert steps[1] <= steps[0] * 1.1, steps


def test_sqlite_goes_through_no_table_that_grows(aged_file: Path, tmp_path: Path) -> None:
    assert _scans(Team(tmp_path, _sqlite(aged_file, tmp_path)), Scans(GROWING)) == {}


def test_sqlite_goes_through_no_large_table_when_it_has_counted_them(aged_file: Path, tmp_path: Path) -> None:
    """Of some tables it then knows that it had them empty; a small one it may go through."""
    assert _scans(Team(tmp_path, _sqlite(aged_file, tmp_path, "ANALYZE")), Scans(LARGE)) == {}


def test_a_table_that_is_gone_through_is_seen(aged_file: Path, tmp_path: Path) -> None:
    url = _sqlite(aged_file, tmp_path, "DROP INDEX ix_journal_deployment_id_seq", "DROP INDEX ix_seat_deployment_id")
    assert set().union(*_scans(Team(tmp_path, url), Scans(GROWING)).values()) == {"journal", "seat"}


@pytest.mark.thorough
def test_postgresql_goes_through_no_table_that_grows(postgresql: Callable[[], str], tmp_path: Path) -> None:
    """As it plans with rows enough and counted: no large one. Where it would go through a small one, it would not if that were large."""
    url = postgresql()
    build_aged(url, AGE)
    with Cmdb.open(url) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    as_it_is, as_if_large = Scans(LARGE), Scans(GROWING, "enable_seqscan = off")
    with as_it_is.listening():
        assert _scans(Team(tmp_path, url), as_if_large) == {}
    assert as_it_is.found == {}
