# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL that is full or restarts for a moment is asked again; one that stays so, or says no, is named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import engine
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
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
        with pytest.raises(TidegateError, match=r"went away in the middle of a transaction .* run the same command again") as caught:
            cut_off(cmdb)
        assert "\n" not in str(caught.value)
        assert cmdb.cis() == []
        Cmdb.open(url)


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
