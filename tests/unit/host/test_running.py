# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live release is asked whether it runs, as a gate would ask it, and nothing is changed by that."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import running
from ansible_collections.tidegate.release.plugins.module_utils.home_log import History
from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from bed import Host, Package, package

CHECK = {"name": "is there", "command": ["sh", "-c", 'test -e "$TIDEGATE_WELL"'], "timeout": 2}
SLEEPS = {"start": {"command": ["sh", "-c", "setsid sleep 600 </dev/null >/dev/null 2>&1 &"], "timeout": 5}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_PAUSE", 0.0)


def looked(host: Host, settings: Any = None) -> dict[str, str]:
    (entry,) = release_facts(str(host.root), host.settings if settings is None else settings, running=True)
    answer: dict[str, str] = entry["running"]
    return answer


def deployed(host: Host, **config: Any) -> tuple[Package, Path]:
    well = host.root.with_name("well")
    host.settings = {"well": str(well)}
    well.touch()
    one = package(settings={"well": None}, **{"health": [CHECK], **config})
    host.stage(one)
    assert host.activate(one)["state"] == "active"
    return one, well


def test_what_passes_its_checks_runs(host: Host) -> None:
    deployed(host)
    assert looked(host) == {"down": "", "problem": ""}
    assert "running" not in release_facts(str(host.root), host.settings)[0]


def test_what_fails_a_check_does_not_run_and_no_setting_is_said(host: Host) -> None:
    _one, well = deployed(host)
    well.unlink()
    assert looked(host)["down"].startswith("health check 'is there' failed")
    assert str(well) not in str(looked(host))


def test_it_is_looked_at_twice(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    _one, well = deployed(host)
    well.unlink()
    monkeypatch.setattr(time, "sleep", lambda _seconds: well.touch())
    assert looked(host)["down"] == ""


def test_no_command_of_what_is_not_as_it_was_released_is_run(host: Host) -> None:
    one, _well = deployed(host)
    (host.tree(one) / "version").write_text("other")
    _well.unlink()
    assert looked(host)["down"] == "", "only its command would have failed"


def test_who_can_not_ask_says_so(host: Host) -> None:
    deployed(host)
    assert "hello 1.0 needs well from this host" in looked(host, {"other": 1})["problem"]
    (entry,) = release_facts(str(host.root), None, running=True)
    assert entry["running"]["problem"] == "nobody said which settings this host has"


def test_it_is_not_asked_while_somebody_is_at_work_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host)
    monkeypatch.setattr(running, "_PATIENCE", 0.1)
    lock = os.open(host.root / "hello" / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another operation has been holding" in looked(host)["problem"]
    finally:
        os.close(lock)


def test_a_look_changes_nothing_and_two_go_on_side_by_side(host: Host) -> None:
    deployed(host)
    before = subprocess.run(["find", host.root, "-printf", "%p %s %T@ %C@\n"], check=True, capture_output=True).stdout
    with running.undisturbed(host.home, 0.1):
        assert looked(host)["problem"] == ""
    assert subprocess.run(["find", host.root, "-printf", "%p %s %T@ %C@\n"], check=True, capture_output=True).stdout == before


def test_processes_that_ran_when_it_was_found_well_are_missed(host: Host) -> None:
    one, _well = deployed(host, hooks=SLEEPS)
    (known, boot) = host.home.history().runs[one.id]
    assert boot
    try:
        assert looked(host)["down"] == ""
    finally:
        for pid in known:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(running._alive({pid: moment}) for pid, moment in known.items()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert looked(host)["down"].startswith("its health checks pass, but none of its 1 processes runs any more")


def test_after_a_boot_nobody_is_missed_by_the_number_that_it_had(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _well = deployed(host)
    host.home.append("active", one.id, runs=[[999999, "1"]], boot=running._boot())
    assert looked(host)["down"] != ""
    monkeypatch.setattr(running, "_boot", lambda: "another")
    assert looked(host)["down"] == ""


@pytest.mark.parametrize("odd", [None, 7, [], [7], [["1", "2"]], [[1]], [[1, 2]], {}])
def test_a_log_that_says_something_else_of_processes_says_nothing(odd: Any) -> None:
    history = History()
    history.add({"event": "active", "id": "1.0-x", "runs": odd, "boot": "b"})
    assert history.runs == {}


def test_what_ran_is_in_the_summary_of_a_long_log() -> None:
    history = History()
    history.add({"event": "active", "id": "1.0-x", "runs": [[4, "9"], [5, "9"]], "boot": "b"})
    again = History.of_summary(history.summary())
    assert again is not None
    assert again.runs == {"1.0-x": ({4: "9", 5: "9"}, "b")}
    older = history.summary()
    del older["runs"]
    found = History.of_summary(older)
    assert found is not None
    assert found.runs == {}
    history.add({"event": "activating", "id": "2.0-x"})
    assert history.runs == {}
