# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source of ansible-rulebook, called as that calls it: each event is told once, whatever ends in between."""

from __future__ import annotations

import asyncio
import json
import logging
import runpy
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import store
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.report import events
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import register_change, withdraw
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from documents import loaded_rfc
from postgresql import running_postgresql
from waiting import wait_until

SOURCE = Path(store.__file__).parents[3] / "extensions" / "eda" / "plugins" / "event_source" / "cmdb.py"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PACKAGE = {"name": "hello", "version": "1.0", "digest": "sha256:" + "a" * 64}


class Rulebook:
    """Runs the source in a thread, as ansible-rulebook does in its process; what it was told is in ``events``."""

    def __init__(self, url: str, position: Path, /, **more: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self._args = {"cmdb": url, "position": str(position), "interval": 0.05, **more}
        self._file = position
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Rulebook:
        self._thread.start()
        assert self._begun.wait(30)
        wait_until(lambda: self.error or self._file.exists())
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]

    async def put(self, event: Mapping[str, Any]) -> None:
        json.dumps(event)  # plain data
        assert event.keys() == {"tidegate"}
        self.events.append(event["tidegate"])

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(runpy.run_path(str(SOURCE))["main"](self, self._args))
        self._begun.set()
        try:
            await self._task
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.error = error


def _refusal(url: str, position: Path, /, **more: Any) -> str:
    """What the source says when it ends by itself; it has to be one sentence."""
    with Rulebook(url, position, **more) as rulebook:
        wait_until(lambda: rulebook.error)
    assert isinstance(rulebook.error, TidegateError), rulebook.error
    assert "\n" not in str(rulebook.error)
    assert rulebook.events == []
    return str(rulebook.error)


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with _made(cmdb_url) as cmdb:
        yield cmdb


@contextmanager
def _made(url: str) -> Iterator[Cmdb]:
    with Cmdb.open(url, create=True) as cmdb:
        cmdb.put_cis([{"name": "web1"}, {"name": "web2"}], "test")
        yield cmdb


# Where nothing differs between the databases.
@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "cmdb.sqlite")


@pytest.fixture
def in_file(url: str) -> Iterator[Cmdb]:
    with _made(url) as cmdb:
        yield cmdb


def _say(connection: sa.Connection, number: str, event: str = "rfc approved", **data: Any) -> None:
    about = {"rfc": number, "release": "hello", "version": "1.0", "role": "change-manager", "complete": True, **data}
    append_history(connection, [{"at": datetime.now(UTC), "actor": "carl", "event": event, "data": about}])


def _approve(cmdb: Cmdb, number: str, **data: Any) -> None:
    with cmdb.begin() as connection:
        _say(connection, number, **data)


def _deploy(cmdb: Cmdb, number: str, reason: str = "web1 is not healthy", now: datetime = NOW) -> None:
    """A deployment that its gate holds after the first wave."""
    journal = Journal(cmdb)
    run = journal.begin(number, PACKAGE, [["web1"], ["web2"]], Rollout(canary=Share(1, False), steps=(100,)), Holder.this_run(), now)
    for host in ("web1", "web2"):
        journal.staged(run, host, None, now)
    journal.decide_staging(run, GateDecision("proceed", "both are staged"), now)
    journal.decide_wave(run, 1, GateDecision("hold", reason), now)


def test_each_event_is_told_once_also_by_one_that_is_started_again(cmdb: Cmdb, cmdb_url: str, tmp_path: Path) -> None:
    position = tmp_path / "position"
    _approve(cmdb, "CHG0001")
    with Rulebook(cmdb_url, position) as rulebook:
        _approve(cmdb, "CHG0002", complete=False)
        wait_until(lambda: rulebook.events)
        with cmdb.begin() as connection:
            register_change(connection, loaded_rfc(number="CHG0003"), ["web1"], NOW)
        with cmdb.begin() as connection:  # which says nothing new
            register_change(connection, replace(loaded_rfc(number="CHG0003"), state=-1), ["web1"], NOW)
        save_audit(cmdb, 2, 2, [], "test", NOW)
        save_audit(cmdb, 2, 2, [{"host": "web2"}, {"host": "web2"}, {"host": "{{ evil }}"}], "test", NOW)
        wait_until(lambda: len(rulebook.events) == 3)
    told = rulebook.events
    assert [(one["event"], one["rfc"], one["state"]) for one in told] == [
        ("rfc_approved", "CHG0002", "approved"),
        ("rfc_entered", "CHG0003", "Scheduled"),
        ("drift", "", ""),
    ]
    assert told[0]["complete"] is False
    assert told[0]["sentence"] == "carl approved CHG0002 (hello 1.0) as change-manager"
    assert told[2]["hosts"] == ["web2"]

    _deploy(cmdb, "CHG0002")  # when nobody listens
    with Rulebook(cmdb_url, position) as again:
        wait_until(lambda: len(again.events) == 4)
        _approve(cmdb, "CHG0004")
        wait_until(lambda: len(again.events) == 5)
    assert [(one["event"], one["state"], one["wave"]) for one in again.events] == [
        ("deployment", "staging", 0),
        ("deployment", "activating", 0),
        ("gate_decided", "hold", 1),
        ("deployment", "held", 0),
        ("rfc_approved", "approved", 0),
    ]
    held = again.events[3]
    assert (held["rfc"], held["release"], held["version"]) == ("CHG0002", "hello", "1.0")
    assert held["deployment"].startswith("CHG0002#")
    assert held["sentence"] == f"{held['deployment']} (hello 1.0) is held: web1 is not healthy"
    assert len({*rulebook.ids(), *again.ids()}) == 8


@pytest.mark.parametrize("sooner", [False, True])
def test_a_line_whose_number_was_taken_first_is_told_though_it_is_committed_later(
    cmdb: Cmdb, cmdb_url: str, tmp_path: Path, sooner: bool
) -> None:
    with Rulebook(cmdb_url, tmp_path / "position") as rulebook:
        other = threading.Thread(target=_approve, args=(cmdb, "CHG0002"))
        with cmdb.begin() as connection:
            _say(connection, "CHG0001")
            other.start()
            other.join(1)
            if not other.is_alive():  # it did not wait for its turn
                wait_until(lambda: rulebook.events)
            if sooner:
                connection.rollback()
        other.join()
        wait_until(lambda: [one["rfc"] for one in rulebook.events] == (["CHG0002"] if sooner else ["CHG0001", "CHG0002"]), 10)


def test_many_are_told_though_few_are_read_at_once(in_file: Cmdb, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_AT_ONCE", 2)
    with Rulebook(url, tmp_path / "position"):
        pass
    for _time in range(7):
        save_audit(in_file, 1, 1, [], "test", NOW)  # nothing to be told
    for number in range(3):
        _approve(in_file, f"CHG000{number}")
    _deploy(in_file, "CHG0001")
    with Rulebook(url, tmp_path / "position", interval=3600) as rulebook:
        wait_until(lambda: len(rulebook.events) == 7)
    assert len(set(rulebook.ids())) == 7


_KILLED = """
import asyncio, os, runpy, sys
class Queue:
    async def put(self, event):
        if sys.argv[4] == "full":
            os.kill(os.getpid(), 9)
        print(event["tidegate"]["id"], flush=True)
        if sys.argv[4] == "taken":
            os.kill(os.getpid(), 9)
asyncio.run(runpy.run_path(sys.argv[1])["main"](Queue(), {"cmdb": sys.argv[2], "position": sys.argv[3]}))
"""


def test_what_was_not_taken_when_it_was_killed_is_told_later_and_what_just_was_again(in_file: Cmdb, url: str, tmp_path: Path) -> None:
    position = tmp_path / "position"
    with Rulebook(url, position):
        pass
    _approve(in_file, "CHG0001")
    _approve(in_file, "CHG0002")
    ids = []
    for when in ("full", "taken"):
        command = [sys.executable, "-c", _KILLED, str(SOURCE), url, str(position), when]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == -9, done.stderr
        ids.append(done.stdout.split())
    with Rulebook(url, position) as rulebook:
        wait_until(lambda: len(rulebook.events) == 2)
    assert ids == [[], rulebook.ids()[:1]]


def test_feedback_is_waited_for_before_the_position_is_written(in_file: Cmdb, url: str, tmp_path: Path) -> None:
    position, feedback = tmp_path / "position", asyncio.Queue[Any]()
    with Rulebook(url, position, feedback=True, eda_feedback_queue=feedback) as rulebook:
        _approve(in_file, "CHG0001")
        _approve(in_file, "CHG0002")
        wait_until(lambda: rulebook.events)
        before = position.read_text()
        assert len(rulebook.events) == 1
        rulebook._loop.call_soon_threadsafe(feedback.put_nowait, rulebook.events[0])
        wait_until(lambda: len(rulebook.events) == 2)
        assert position.read_text() != before
    with Rulebook(url, position) as again:
        wait_until(lambda: again.events)
    assert again.ids() == rulebook.ids()[1:]


@contextmanager
def _silent(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the source logs."""
    said: list[str] = []
    with caplog.at_level(logging.WARNING):
        yield said
    said += [record.getMessage() for record in caplog.records if record.name == "tidegate.release.cmdb"]


def test_a_server_that_restarts_is_awaited_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_postgresql() as server:
        url = server.database()
        with Cmdb.open(url, create=True) as cmdb:
            cmdb.put_cis([{"name": "web1"}], "test")
            # It is told of what is written, and would not look for an hour.
            with Rulebook(url, tmp_path / "position", interval=3600) as rulebook, _silent(caplog) as said:
                _approve(cmdb, "CHG0001")
                wait_until(lambda: rulebook.events)
                server.stop()
                wait_until(lambda: "until then no event is told" in caplog.text)
                threading.Event().wait(2)  # in which it tries again, and says nothing of it
                server.start()
                wait_until(lambda: any("is there again" in record.getMessage() for record in caplog.records))
                _approve(cmdb, "CHG0002")
                wait_until(lambda: len(rulebook.events) == 2)
            # One that begins while the server is away, as after a reboot of both, waits for it too.
            server.stop()
            with Rulebook(url, tmp_path / "position", interval=3600) as another:
                wait_until(lambda: caplog.text.count("until then no event is told") == 2)
                server.start()
                _approve(cmdb, "CHG0003")
                wait_until(lambda: another.events)
    assert len([line for line in said if "until then no event is told, and none is lost" in line]) == 1
    assert [one["rfc"] for one in (*rulebook.events, *another.events)] == ["CHG0001", "CHG0002", "CHG0003"]


def test_a_position_is_that_of_one_rulebook(in_file: Cmdb, url: str, tmp_path: Path) -> None:
    with Rulebook(url, tmp_path / "position") as rulebook:
        assert "is that of another rulebook, which runs" in _refusal(url, tmp_path / "position")
        _approve(in_file, "CHG0001")
        wait_until(lambda: rulebook.events)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("rfc entered", {"rfc": "CHG0001", "state": []}),
        ("rfc approved", []),
        ("audited", {"count": 1, "differences": ["web1"]}),
        ("audited", {"count": "1"}),
    ],
)
def test_a_line_that_is_none_of_ours_is_named_and_stops_nothing(
    in_file: Cmdb, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, event: str, data: Any
) -> None:
    with Rulebook(url, tmp_path / "position") as rulebook:
        with in_file.begin() as connection:
            append_history(connection, [{"at": NOW, "actor": "somebody", "event": event, "data": data}])
        _approve(in_file, "CHG0002")
        wait_until(lambda: rulebook.events)
    assert [one["rfc"] for one in rulebook.events] == ["CHG0002"]
    assert "is not told, for it is none of Tidegate's" in caplog.text


def test_hosts_that_are_known_of_are_no_drift(in_file: Cmdb, url: str, tmp_path: Path) -> None:
    with Rulebook(url, tmp_path / "position") as rulebook:
        known = [{"host": host, "kind": kind} for host, kind in (("web7", "written_off"), ("web8", "late"), ("web9", "by_hand"))]
        save_audit(in_file, 10, 9, known, "test", NOW)
        save_audit(in_file, 9, 10, [*known, {"host": "web1", "kind": "changed_files"}], "test", NOW)
        wait_until(lambda: rulebook.events)
    assert [(one["hosts"], one["sentence"]) for one in rulebook.events] == [
        (["web1"], "an audit of 9 of 10 hosts found 1 difference, first on web1")
    ]


def test_what_is_withdrawn_is_told(in_file: Cmdb, url: str, tmp_path: Path) -> None:
    with Rulebook(url, tmp_path / "position") as rulebook:
        with in_file.begin() as connection:
            register_change(connection, loaded_rfc(number="CHG0003"), ["web1"], NOW)
        for _again in range(2):  # the second says nothing new
            with in_file.begin() as connection:
                withdraw(connection, ["CHG0003"], NOW)
        _approve(in_file, "CHG0004")
        wait_until(lambda: len(rulebook.events) == 3)
    assert [(one["rfc"], one["state"]) for one in rulebook.events] == [
        ("CHG0003", "Scheduled"),
        ("CHG0003", "Canceled"),
        ("CHG0004", "approved"),
    ]


def test_the_journal_is_read_from_the_position_on(in_file: Cmdb) -> None:
    statements: list[tuple[str, Any]] = []
    with in_file.read() as connection:
        position = events.FeedPosition(journal=events.Mark(1, NOW.isoformat()))
        sa.event.listen(connection, "before_cursor_execute", lambda *said: statements.append((said[2], said[3])))
        events._lines_of_journal(connection, position)
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statements[0][0]}", statements[0][1]).all()
    assert any("INTEGER PRIMARY KEY (rowid>?)" in row[-1] and "SEARCH journal" in row[-1] for row in plan), plan


@pytest.mark.parametrize("content", ['{"history": {"seq": 1', "", "[]", '{"history": {"seq": "x", "at": ""}, "journal": {}}'])
def test_a_position_that_is_cut_is_refused(in_file: Cmdb, url: str, tmp_path: Path, content: str) -> None:
    position = tmp_path / "position"
    position.write_text(content)
    assert "is no position in a CMDB; restore it, or remove it" in _refusal(url, position)
    assert position.read_text() == content


def test_the_position_in_another_cmdb_is_refused_and_one_from_before_a_restore(tmp_path: Path) -> None:
    position, paths = tmp_path / "position", [str(tmp_path / name) for name in ("one.sqlite", "other.sqlite")]
    for path in paths:
        with Cmdb.open(path, create=True) as cmdb:
            cmdb.put_cis([{"name": "web1"}], "test")
    backup = Path(paths[0]).read_bytes()
    with Cmdb.open(paths[0]) as cmdb, Rulebook(paths[0], position) as rulebook:
        _approve(cmdb, "CHG0001")
        wait_until(lambda: rulebook.events)
    for path in paths:
        Path(paths[0]).write_bytes(backup)
        assert "the position is one in another CMDB, or in this one before it was restored from a backup" in _refusal(path, position)


def test_lines_are_told_that_get_the_numbers_of_archived_ones(cmdb: Cmdb, cmdb_url: str, tmp_path: Path) -> None:
    position, t = tmp_path / "position", schema()
    with Rulebook(cmdb_url, position) as rulebook:
        _deploy(cmdb, "CHG0001")
        wait_until(lambda: len(rulebook.events) == 4)
    with cmdb.begin() as connection:
        later = NOW + timedelta(days=500)
        note = {"deployment_id": 1, "file": "journal-1-1", "sha256": "", "at": later, "actor": "test", "reason": "test"}
        connection.execute(sa.insert(t.journal_archive), note)
        connection.execute(sa.delete(t.lock))
        connection.execute(sa.delete(t.journal))
        append_history(connection, [{"at": later, "actor": "test", "event": "journal archived", "data": {}}])
    _deploy(cmdb, "CHG0002", now=later + timedelta(hours=1))
    with Rulebook(cmdb_url, position) as again:
        wait_until(lambda: len(again.events) == 4)
    assert {one["rfc"] for one in again.events} == {"CHG0002"}


def test_what_people_wrote_is_no_template_and_names_that_are_none_are_not_told(
    in_file: Cmdb, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _silent(caplog) as said, Rulebook(url, tmp_path / "position") as rulebook:
        for number in ("CHG0001; reboot", "../CHG0001", "{{ x }}", "", "CHG0001\n"):
            _approve(in_file, number)
        _approve(in_file, "CHG0001", release="{{ x }}")
        _approve(in_file, "CHG0002", role="{{ lookup('pipe', 'id') }}{% x %}{# {{{")
        _deploy(in_file, "CHG0003", reason="{{{{ lookup('pipe', 'id') }}}}\n{%- x -%}")
        wait_until(lambda: len(rulebook.events) == 5)
    assert {one["rfc"] for one in rulebook.events} == {"CHG0002", "CHG0003"}
    assert len([line for line in said if "is not told, for its" in line]) == 6
    for one in rulebook.events:
        assert not any(mark in json.dumps(one["sentence"]) for mark in ("{{", "{%", "{#", "}}", "%}", "#}", "\\n"))
    assert all("lookup('pipe', 'id')" in one["sentence"] for one in rulebook.events if one["state"] in ("approved", "held"))


def test_it_only_reads_and_migrates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cmdb.sqlite"
    with Cmdb.open(str(path), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1"}], "test")
    with Rulebook(str(path), tmp_path / "position") as rulebook:
        _approve(cmdb, "CHG0001")
        wait_until(lambda: rulebook.events)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.execute("UPDATE alembic_version SET version_num = '0017'")
    raw.close()
    before = path.read_bytes()
    assert "is of revision 0017 and this collection needs" in _refusal(str(path), tmp_path / "position")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"cmdb": ""}, "no CMDB is given"),
        ({"cmdb": "nowhere.sqlite"}, "there is no CMDB at nowhere.sqlite"),
        ({"position": ""}, "no position is given"),
        ({"interval": "often"}, "interval is 'often'; give a number of seconds"),
        ({"interval": 0}, "interval is 0; give"),
        ({"postion": "x"}, "has no postion; its options are"),
    ],
)
def test_what_it_is_given_wrong_is_said_in_a_sentence(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], sentence: str
) -> None:
    monkeypatch.delenv("TIDEGATE_CMDB", raising=False)
    Cmdb.open(url, create=True)
    assert sentence in _refusal(url, tmp_path / "position", **more)


def test_a_position_that_can_not_be_written_ends_it(url: str, tmp_path: Path) -> None:
    Cmdb.open(url, create=True)
    assert "can't be written (No such file or directory)" in _refusal(url, tmp_path / "nowhere" / "position")
