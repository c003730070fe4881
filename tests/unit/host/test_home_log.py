# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A log that became long goes on in a new file, and nobody can tell from what it says."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import home_log, release_home
from ansible_collections.tidegate.release.plugins.module_utils.home_log import History, HomeLog
from ansible_collections.tidegate.release.plugins.module_utils.release_files import read_file
from ansible_collections.tidegate.release.plugins.module_utils.release_record import Release
from bed import Host, package
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

IDS = ["a", "b", "c", None]
KINDS = ["staged", "activating", "started", "active", "failed", "restored", "backed_out", "repair", "removed", "summary", "else"]
EVENTS = st.builds(
    lambda kind, release_id, more: json.dumps({"event": kind, "id": release_id, **more}).encode() + b"\n",
    st.sampled_from(KINDS),
    st.sampled_from(IDS),
    st.sampled_from([{}, {"passed": [0, 2]}, {"passed": None}, {"passed": "x"}]),
)
LINES = st.lists(EVENTS | st.sampled_from([b"[]\n", b"\n", b'{"event": 5, "id": "a"}\n', b"\xff\n"]), max_size=25)


def release(release_id: str) -> Release:
    return Release(release_id, "hello", "1.0", "", {}, [], Path())


def answers(log: HomeLog) -> list[Any]:
    """All that anybody asks of a log."""
    asked = [None if name is None else release(name) for name in IDS]
    passed = [log.passed_before(name) for name in IDS if name]
    return [*map(log.at_rest, asked), *passed, log.good(), list(log.history().order)]


def naive(lines: list[bytes]) -> list[Any]:
    """The same, from all lines at once, as the promises have it."""
    events = [HomeLog._event(line.strip()) for line in lines if line.strip()]
    readable = [event for event in events if event]
    result: list[Any] = []
    for wanted in IDS:
        said = [e for e in events if e is None or e["event"] in home_log._SWITCHES or (e["event"], e["id"]) == ("repair", wanted)]
        last = said[-1] if said else {"event": "started", "id": None}
        result.append(last is not None and last["event"] in ("started", "active", "restored") and last["id"] == wanted)
    for name in IDS[:3]:
        passed = None
        for event in readable:
            if (event["event"], event["id"]) == ("restored", None):
                passed = None
            elif (event["event"], event["id"]) == ("activating", name) and passed is None:
                passed = event.get("passed")
        result.append(passed if isinstance(passed, list) else None)
    good: list[Any] = []
    for event in readable:
        if event["event"] in ("active", "restored", "activating", "failed", "backed_out", "removed"):
            good = [other for other in good if other != event["id"]] + [event["id"]] * (event["event"] in ("active", "restored"))
    spoken = {event["id"]: number for number, event in enumerate(readable) if event["id"]}
    order = sorted((name for name, number in spoken.items() if readable[number]["event"] != "removed"), key=lambda name: spoken[name])
    return [*result, good, order]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs are long from a kilobyte on."""
    monkeypatch.setattr(home_log, "LIMIT", 1000)


@given(lines=LINES)
def test_what_a_log_says_is_what_its_lines_say(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    # The first line of a file may be a summary; this log has none.
    lines = [b'{"event": "else", "id": null}\n', *lines]
    log = HomeLog(tmp_path_factory.mktemp("log"))
    (log.path / "log.jsonl").write_bytes(b"".join(lines))
    assert answers(log) == naive(lines)


@given(parts=st.lists(LINES, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_in_many_files_says_what_one_in_one_file_does(
    tmp_path_factory: pytest.TempPathFactory, short: None, parts: list[list[bytes]]
) -> None:
    rolled, whole = HomeLog(tmp_path_factory.mktemp("rolled")), HomeLog(tmp_path_factory.mktemp("whole"))
    padding = json.dumps({"event": "else", "id": None, "why": "x" * 1000}).encode() + b"\n"
    for lines in parts:
        for log in (rolled, whole):
            with (log.path / "log.jsonl").open("ab") as stream:
                stream.write(padding + b"".join(lines))
        rolled.roll()
        assert answers(rolled) == answers(whole)
    assert len(list(rolled.path.iterdir())) == len(parts) + 1
    assert (rolled.path / "log.jsonl").stat().st_size < 600
    kept = b"".join((rolled.path / f"log.jsonl.{number}").read_bytes() for number in range(1, len(parts) + 1))
    assert b"".join(line for line in kept.splitlines(keepends=True) if b'"history"' not in line) == (whole.path / "log.jsonl").read_bytes()


def long_log(path: Path, size: int = 2000) -> HomeLog:
    log = HomeLog(path)
    log.append("activating", "a", passed=[1])
    log.append("active", "a")
    while (path / "log.jsonl").stat().st_size < size:
        log.append("repair", "b", files=["x"] * 10)
    return log


FUNCTIONS = ("open", "fsync", "link", "replace")


@pytest.mark.parametrize("step", range(1, 9))
def test_a_step_that_is_killed_while_the_log_goes_on_leaves_what_it_says(tmp_path: Path, short: None, step: int) -> None:
    log = long_log(tmp_path)
    before = answers(log)
    for _time in range(3):  # also when it happens again and again
        child = os.fork()
        if child == 0:
            _die_at(step)
            log.roll()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        assert answers(log) == before
    log.append("removed", "c")
    log.roll()
    assert answers(log) == before
    assert (tmp_path / "log.jsonl").stat().st_size < 1000
    assert not (tmp_path / ".log.new").exists()
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("log.jsonl.")]) == 1


def _die_at(step: int) -> None:
    """Have this process killed before its so-many-th call that a disk notices."""
    left = step

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in FUNCTIONS:
        setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_log_that_can_not_go_on_elsewhere_goes_on_as_it_is(
    tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    log = long_log(tmp_path)
    text, before = (tmp_path / "log.jsonl").read_bytes(), answers(log)
    real = getattr(os, name)

    def fails(path: Any, *arguments: Any, **options: Any) -> Any:
        if name == "open" and not str(path).endswith(".new"):
            return real(path, *arguments, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, name, fails)
    log.roll()
    monkeypatch.undo()
    assert (tmp_path / "log.jsonl").read_bytes() == text
    assert answers(log) == before
    log.append("removed", "c")
    assert answers(log) == before


def test_a_log_with_a_torn_line_goes_on_when_its_end_is_known(tmp_path: Path, short: None) -> None:
    log = long_log(tmp_path)
    with (tmp_path / "log.jsonl").open("ab") as stream:
        stream.write(b'{"event": "backed_')
    before = answers(log)
    assert before[0]
    log.roll()
    assert not list(tmp_path.glob("log.jsonl.*"))
    assert answers(log) == before
    log.append("staged", "c")
    uncertain = answers(log)
    assert not any(uncertain[:4])  # the line that can't be read may have been about a switch
    log.roll()
    assert list(tmp_path.glob("log.jsonl.*"))
    assert answers(log) == uncertain


@pytest.mark.parametrize(
    "harm",
    [
        *({"switched": 1}, {"last": ["active"]}, {"last": [1, "a"]}, {"last": ["active", 1]}, {"last": "active"}, {"good": {"a": 1}}),
        *({"good": [1]}, {"repaired": None}, {"order": [["a"]]}, {"passed": []}, {"more": 1}),
    ],
)
def test_a_summary_that_is_none_is_a_line_that_can_not_be_read(tmp_path: Path, short: None, harm: dict[str, Any]) -> None:
    log = long_log(tmp_path)
    log.roll()
    assert log.at_rest(release("a"))
    line = json.loads((tmp_path / "log.jsonl").read_bytes())
    line["history"].update(harm)
    (tmp_path / "log.jsonl").write_bytes(json.dumps(line).encode() + b"\n")
    assert not any(log.at_rest(None if name is None else release(name)) for name in IDS)
    assert log.good() == []


def test_a_summary_counts_at_the_beginning_of_a_file_alone(tmp_path: Path) -> None:
    log = HomeLog(tmp_path)
    history = History()
    history.add({"event": "active", "id": "b"})
    log.append("active", "a")
    log.append("summary", None, history=history.summary())
    assert log.good() == ["a"]
    assert log.at_rest(release("a"))


def test_a_step_reads_no_more_of_a_log_of_twelve_megabytes_than_of_a_short_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = package("1.0"), package("2.0")
    host.deploy(one)
    log = host.home.path / "log.jsonl"
    lines = log.read_bytes()
    log.write_bytes(lines * (12_000_000 // len(lines)))
    host.stage(two)  # the first step after an upgrade of the collection, perhaps
    read: list[int] = []

    def counting(path: Path, at_most: int) -> Any:
        text = read_file(path, at_most)
        if path == log:
            read.append(len(text or b""))
        return text

    monkeypatch.setattr(home_log, "read_file", counting)
    assert host.activate(two, one)["state"] == "active"
    assert host.home.stable() == two.id
    assert 0 < sum(read) <= 5 * home_log.LIMIT
    assert host.home.strangers() == []


def test_what_a_host_did_is_in_its_log_after_years(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upgrades and ways back, with a log that goes on in a new file every other step, end as they do without."""
    monkeypatch.setattr(home_log, "LIMIT", 1200)
    releases = [package(f"{number}.0") for number in range(1, 5)]
    host.deploy(releases[0])
    for before, after in pairwise(releases):
        host.stage(after)
        assert host.activate(after, before)["state"] == "active"
        assert host.home.stable() == after.id
        assert host.back_out(after, before)["state"] == "backed_out"
        assert host.home.stable() == before.id
        host.stage(after)
        assert host.activate(after, before)["state"] == "active"
    assert len(list(host.home.path.glob("log.jsonl.*"))) > 3
    assert host.home.strangers() == []
    assert release_home.PART.fullmatch("log.jsonl.12")
