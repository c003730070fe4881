# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long work says every ten seconds what it is at, quick work nothing, and of many processes one speaks. The clock is the test's own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import activity
from ansible_collections.tidegate.release.plugins.plugin_utils.activity import Board, Heartbeat, elapsed, listed, note, noted, waiting
from ansible_collections.tidegate.release.plugins.plugin_utils.files import locked


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Steps that share a board; their hearts beat when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.said = Clock(), list[str]()
        self.board = Board(folder / "board")

    def step(self, name: str, host: str = "") -> Heartbeat:
        return Heartbeat(name, self.said.append, self.board, host, 10.0, self.clock)

    def pass_time(self, seconds: int, *hearts: Heartbeat) -> None:
        for _second in range(seconds):
            self.clock.now += 1.0
            for heart in hearts:
                heart.beat()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    note("")
    return Work(tmp_path)


def test_work_of_35_seconds_speaks_three_times_and_work_of_nine_never(work: Work) -> None:
    work.pass_time(9, work.step("clear"))
    assert work.said == []
    work.clock.now += 100
    verify = work.step("verify")
    note("making 3 lab hosts")
    work.pass_time(15, verify)
    note("reading files", 1200, 6800)
    work.pass_time(20, verify)
    assert work.said == [
        "verify: making 3 lab hosts, 10 s",
        "verify: reading files, 1,200 of 6,800, 20 s",
        "verify: reading files, 1,200 of 6,800, 30 s",
    ]


def test_work_that_has_noted_nothing_is_still_at_work(work: Work) -> None:
    work.pass_time(10, work.step("audit"))
    assert work.said == ["audit: still at work, 10 s"]


def test_of_many_hosts_one_speaks_for_all_that_are_under_way(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [f"web{number}" for number in range(1, 8)]
    process = iter(range(1, 100))
    monkeypatch.setattr(activity.os, "getpid", lambda: next(process))
    hearts = [work.step("stage", host) for host in hosts]
    work.pass_time(12, *hearts)
    assert work.said == ["stage: web1 web2 web3 web4 web5 and 2 more under way, 10 s"]
    for heart in hearts[:6]:
        heart.end()
    work.pass_time(8, hearts[6])
    assert work.said[1:] == ["stage: web7 under way, 20 s"]


def test_a_host_that_begins_late_is_not_spoken_of_before_its_time(work: Work) -> None:
    first = work.step("stage", "web1")
    work.pass_time(10, first)
    first.end()
    work.said.clear()
    work.clock.now += 100
    work.pass_time(9, work.step("stage", "web2"))
    assert work.said == []


def test_the_heart_beats_beside_the_work_and_stops_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_LOOK", 0.01)
    spoken = threading.Event()
    clock = Clock()
    with Heartbeat("archive", lambda _line: spoken.set(), Board(tmp_path), every=1.0, clock=clock) as heart:
        clock.now += 2
        assert spoken.wait(30)
    assert not heart._thread.is_alive()
    with pytest.raises(ValueError, match="broken"), Heartbeat("archive", print, Board(tmp_path)) as heart:
        raise ValueError("broken")
    assert not heart._thread.is_alive()


def test_a_board_that_can_not_be_written_to_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(activity, "_LOOK", 0.01)
    looked = threading.Event()
    clock = Clock()

    def claim(board: Board, *_times: float) -> bool:
        looked.set()
        raise NotADirectoryError(board.folder)

    monkeypatch.setattr(Board, "claim", claim)
    with Heartbeat("archive", print, Board(tmp_path / "file"), every=1.0, clock=clock) as heart:
        assert looked.wait(30)
        assert heart._thread.is_alive()


def test_items_are_counted_as_they_are_asked_for(work: Work) -> None:
    heart = work.step("dsl_verify")
    work.clock.now += 10
    for item in noted("reading blobs", ["a", "b", "c"], 3):
        if item == "b":
            heart.beat()
    assert work.said == ["dsl_verify: reading blobs, 1 of 3, 10 s"]


def test_what_is_waited_for_is_said_while_it_is_waited_for(work: Work) -> None:
    heart = work.step("plan")
    note("looking at the scope")
    with waiting("the CMDB"):
        work.pass_time(10, heart)
    work.pass_time(10, heart)
    assert work.said == ["plan: waiting for the CMDB, 10 s", "plan: looking at the scope, 20 s"]


def test_a_file_that_another_process_has_locked_is_said_to_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[list[str]] = []
    monkeypatch.setattr("fcntl.flock", lambda *_lock: waited.append([*activity._waits]))
    with locked(tmp_path / ".lock"):
        assert activity._waits == []
    assert waited == [[f"{tmp_path}, which another process has locked"]]


@pytest.mark.parametrize(("seconds", "words"), [(9.9, "9 s"), (60, "1 min 0 s"), (215, "3 min 35 s"), (7500, "2 h 5 min")])
def test_times_are_written_as_people_say_them(seconds: float, words: str) -> None:
    assert elapsed(seconds) == words


def test_lists_of_hosts_end() -> None:
    assert listed(["a", "b"]) == "a b"
    assert listed("abcdefg") == "a b c d e and 2 more"
