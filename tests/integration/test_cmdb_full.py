# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL that is full or restarts for a moment is asked again; one that stays so, or says no, is named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import engine
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, LostConnectionError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb
from postgresql import PostgreSql, running_postgresql

FEW = 8


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSql]:
    with running_postgresql(f"-c max_connections={FEW} -c superuser_reserved_connections=0") as server:
        yield server


@pytest.fixture
def url(server: PostgreSql, monkeypatch: pytest.MonkeyPatch) -> str:
    """A CMDB on it, for which these tests have all the time that a busy machine needs."""
    url = server.database()
    Cmdb.open(url, create=True)
    monkeypatch.setattr(engine, "PATIENCE", 300)
    monkeypatch.setattr(engine, "ABSENCE", 300)
    return url


@pytest.fixture
def asked_again(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set as soon as somebody waits before asking again."""
    event = threading.Event()
    sleep = engine.time.sleep

    def wait(seconds: float) -> None:
        event.set()
        sleep(seconds)

    monkeypatch.setattr(engine.time, "sleep", wait)
    return event


def _fill(stack: ExitStack, url: str) -> None:
    """Take every connection."""
    plain = url.replace("+psycopg", "")
    while True:
        try:
            stack.enter_context(psycopg.connect(plain))
        except psycopg.OperationalError:
            return


@pytest.mark.thorough
def test_two_hundred_at_once_all_have_their_turn(server: PostgreSql, url: str) -> None:
    together = threading.Barrier(200)

    def write_and_read(number: int) -> bool:
        together.wait()
        with Cmdb.open(url) as cmdb:
            cmdb.put_cis([{"name": f"web{number}"}], "test")
            return any(ci["name"] == f"web{number}" for ci in cmdb.cis())

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(write_and_read, range(200))) == [True] * 200
    assert "too many clients" in server.log
    with Cmdb.open(url) as cmdb:
        assert len(cmdb.cis()) == 200


@pytest.mark.parametrize("ask", [lambda cmdb: cmdb.cis(), lambda cmdb: cmdb.put_cis([{"name": "web1"}], "test")], ids=["read", "write"])
def test_a_full_server_is_asked_until_somebody_leaves(url: str, ask: Callable[[Cmdb], Any], asked_again: threading.Event) -> None:
    with Cmdb.open(url) as cmdb, ThreadPoolExecutor(1) as pool, ExitStack() as others:
        _fill(others, url)
        asked = pool.submit(ask, cmdb)
        assert asked_again.wait(60)
        others.close()
        asked.result(60)


def test_a_server_that_stays_full_is_named_with_what_was_tried(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cmdb.open(url) as cmdb, ExitStack() as others:
        _fill(others, url)
        monkeypatch.setattr(engine, "PATIENCE", 1)
        with pytest.raises(ConflictError, match=r"took nobody in for 1 s, tried \d+ times: .*too many clients.*max_connections") as caught:
            cmdb.cis()
        assert "\n" not in str(caught.value)


def test_a_table_that_somebody_has_to_himself_is_not_waited_for_without_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cmdb.open(url) as cmdb, psycopg.connect(url.replace("+psycopg", "")) as other:
        other.execute("LOCK TABLE ci IN ACCESS EXCLUSIVE MODE")
        monkeypatch.setattr(engine, "PATIENCE", 1)
        with pytest.raises(ConflictError, match=r"has been writing to the CMDB .* for more than 1 s"):
            cmdb.cis()


def test_a_restart_between_transactions_is_not_noticed(server: PostgreSql, url: str, asked_again: threading.Event) -> None:
    with Cmdb.open(url) as cmdb, ThreadPoolExecutor(2) as pool:
        cmdb.put_cis([{"name": "web1"}], "test")
        server.stop("fast")
        asked = [pool.submit(cmdb.cis), pool.submit(cmdb.put_cis, [{"name": "web2"}], "test")]
        assert asked_again.wait(60)
        server.start()
        asked[1].result(60)
        assert {"web1"} <= {ci["name"] for ci in asked[0].result(60)}


def test_a_writer_that_waits_for_its_turn_survives_a_restart(server: PostgreSql, url: str, asked_again: threading.Event) -> None:
    plain = url.replace("+psycopg", "")
    with Cmdb.open(url) as cmdb, ThreadPoolExecutor(1) as pool:
        with psycopg.connect(plain, autocommit=True) as other:
            other.execute(f"SELECT pg_advisory_lock({engine._ADVISORY_LOCK})")
            asked = pool.submit(cmdb.put_cis, [{"name": "web1"}], "test")
            while not other.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall():
                assert not asked.done(), asked.result()
            server.stop("fast")
            assert asked_again.wait(60)
            server.start()
        asked.result(60)
        assert [ci["name"] for ci in cmdb.cis()] == ["web1"]


def test_a_transaction_that_was_cut_off_is_there_whole_or_not_at_all(server: PostgreSql, url: str) -> None:
    def cut_off(cmdb: Cmdb) -> None:
        with cmdb.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
            server.stop("immediate")
            server.start()
            connection.exec_driver_sql("SELECT 1")

    with Cmdb.open(url) as cmdb:
        said = r"went away in the middle of a transaction .*; nothing was written: .* run the same command again"
        with pytest.raises(LostConnectionError, match=said) as caught:
            cut_off(cmdb)
        assert "\n" not in str(caught.value)
        assert cmdb.cis() == []
        Cmdb.open(url)


@dataclass
class Line:
    """The connection to a server, which is cut as often as a test says: before something is written, or when that is to be kept."""

    url: str
    cuts: list[str]
    attempts: int = 0

    def listen(self, stack: ExitStack) -> None:
        source = engine.engine(engine.DatabaseAddress.parse(self.url))
        for event, listener in (("commit", self.at_commit), ("before_cursor_execute", self.at_statement)):
            sa.event.listen(source, event, listener)
            stack.callback(sa.event.remove, source, event, listener)

    def at_statement(self, connection: sa.Connection, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("INSERT INTO history"):
            self.attempts += 1
            if self.cuts[:1] == ["before"]:
                self.cut(connection)

    def at_commit(self, connection: sa.Connection) -> None:
        if not connection.get_execution_options().get(engine.WRITES):
            return
        if self.cuts[:1] == ["unheard"]:  # the server has kept it, and its answer does not come through
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("COMMIT")
            raw.execute("BEGIN")
            self.cut(connection)
        elif self.cuts[:1] == ["unkept"]:
            self.cut(connection)

    def cut(self, connection: sa.Connection) -> None:
        self.cuts.pop(0)
        raw: Any = connection.connection.driver_connection
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 60000)", [raw.info.backend_pid])


WRITES: dict[str, tuple[Callable[[Cmdb], Any], Callable[[Cmdb], bool]]] = {
    "put": (lambda cmdb: cmdb.put_cis([{"name": "new", "revision": 0}], "test"), lambda cmdb: bool(cmdb.cis(["new"]))),
    "remove": (lambda cmdb: cmdb.remove_cis(["old"], "test"), lambda cmdb: not cmdb.cis(["old"])),
    "relate": (lambda cmdb: cmdb.relate([("web1", "web2", "uses")], "test"), lambda cmdb: len(cmdb.relations()) == 2),
    "unrelate": (lambda cmdb: cmdb.unrelate([("web2", "web1", "uses")], "test"), lambda cmdb: cmdb.relations() == []),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("cut", "attempts"), [("before", 2), ("unkept", 2), ("unheard", 1)])
def test_what_may_be_done_twice_is_done_once_more_unless_it_is_there(url: str, write: str, cut: str, attempts: int) -> None:
    does, done = WRITES[write]
    with Cmdb.open(url) as cmdb, ExitStack() as stack:
        cmdb.put_cis([{"name": name} for name in ("web1", "web2", "old")], "test")
        cmdb.relate([("web2", "web1", "uses")], "test")
        before = verify_cmdb(cmdb, []).lines["history"]
        line = Line(url, [cut])
        line.listen(stack)
        assert does(cmdb)
        assert (line.attempts, line.cuts, done(cmdb)) == (attempts, [], True)
        found = verify_cmdb(cmdb, [])
        assert (found.findings, found.lines["history"]) == ([], before + 1)


@pytest.mark.parametrize(
    ("cuts", "said", "may_be_written"),
    [
        (["before", "before"], "in the middle of a transaction .*; nothing was written", False),
        (["unkept", "unkept"], "in the middle of a transaction .*; nothing was written", False),
        (["unkept", "before"], "in the middle of a transaction .*; nothing was written", False),
    ],
)
def test_it_is_tried_twice_and_no_more(url: str, cuts: list[str], said: str, may_be_written: bool) -> None:
    with Cmdb.open(url) as cmdb, ExitStack() as stack:
        line = Line(url, cuts)
        line.listen(stack)
        with pytest.raises(LostConnectionError, match=said) as caught:
            cmdb.put_cis([{"name": "web1"}], "test")
        assert (caught.value.may_be_written, line.attempts, cmdb.cis()) == (may_be_written, 2, [])


@pytest.mark.parametrize("kept", [True, False])
def test_that_it_can_not_be_known_is_said_when_the_server_stays_away(
    server: PostgreSql, url: str, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    class Stops(Line):
        def cut(self, connection: sa.Connection) -> None:
            self.cuts.pop(0)
            server.stop("immediate")

    with Cmdb.open(url) as cmdb, ExitStack() as stack:
        line = Stops(url, ["unheard" if kept else "unkept"])
        line.listen(stack)
        monkeypatch.setattr(engine, "ABSENCE", 0.1)
        try:
            with pytest.raises(LostConnectionError, match=r"whether it has all of that or nothing can't be known: .* run the same command"):
                cmdb.put_cis([{"name": "web1"}], "test")
        finally:
            server.start()
        assert [ci["name"] for ci in cmdb.cis()] == (["web1"] if kept else [])
        assert cmdb.put_cis([{"name": "web1"}], "test").unchanged == (["web1"] if kept else [])


@pytest.mark.parametrize(("cut", "may_be_written"), [("before", False), ("unheard", True), ("unkept", True)])
def test_what_may_not_be_done_twice_is_not(url: str, cut: str, may_be_written: bool) -> None:
    def append(cmdb: Cmdb) -> None:
        with cmdb.begin() as connection:
            append_history(connection, [{"at": datetime.now(UTC), "actor": "test", "event": "noted", "data": {}}])

    with Cmdb.open(url) as cmdb, ExitStack() as stack:
        line = Line(url, [cut])
        line.listen(stack)
        with pytest.raises(LostConnectionError, match="can't be known" if may_be_written else "nothing was written"):
            append(cmdb)
        assert (line.attempts, verify_cmdb(cmdb, []).lines["history"]) == (1, int(cut == "unheard"))


def test_what_is_not_there_is_not_waited_for_long(server: PostgreSql, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ABSENCE", 1)
    missing = url.replace(str(server.home), "/nowhere")
    with pytest.raises(TidegateError, match=r"can't be reached, tried \d+ times in \d+ s: .*No such file.*; check its address") as first:
        Cmdb.open(missing)
    attempts, begin = [], engine._begin
    monkeypatch.setattr(engine, "_begin", lambda *given: (attempts.append(1), begin(*given))[1])
    with pytest.raises(TidegateError) as again:
        Cmdb.open(missing)
    assert (str(again.value), len(attempts)) == (str(first.value), 1), "a process that waited for it once does not again"


@pytest.mark.parametrize(
    ("wrong", "what"),
    [(("cmdb@", "nobody@"), "nobody"), (("/cmdb", "/other"), "other"), (("?host=", "?host=host.invalid,"), "host.invalid")],
)
def test_what_says_no_is_not_asked_again(url: str, wrong: tuple[str, str], what: str, asked_again: threading.Event) -> None:
    if what == "host.invalid":
        url = "postgresql+psycopg://cmdb@host.invalid/cmdb"
    with pytest.raises(TidegateError, match=f"can't be used: .*{what}"):
        Cmdb.open(url.replace(*wrong))
    assert not asked_again.is_set()
