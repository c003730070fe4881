# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller counts as dead only when that can be known: where it can't, its lease decides."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout import holder as module
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder

SAY = (
    "import time; from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder; "
    "print(Holder.this_run(), flush=True); time.sleep(60)"
)


@pytest.fixture
def controller() -> Iterator[tuple[Holder, subprocess.Popen[str]]]:
    """A controller that lives, and its process."""
    with subprocess.Popen([sys.executable, "-c", SAY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = Holder.parse(process.stdout.readline().strip())
        assert found
        yield found, process
        process.kill()


def test_a_controller_is_dead_from_when_its_process_has_ended(controller: tuple[Holder, subprocess.Popen[str]]) -> None:
    holder, process = controller
    assert not holder.is_dead()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_dead()  # though nobody has collected it yet
    process.wait()
    assert holder.is_dead()


def test_a_later_process_with_its_number_is_another(controller: tuple[Holder, subprocess.Popen[str]]) -> None:
    holder, _process = controller
    assert replace(holder, started=holder.started + 1).is_dead()


@pytest.mark.parametrize(
    "change",
    [
        {"machine": "other-machine"},
        {"boot": "feedbeef"},
        {"boot": "unknown"},
        {"namespace": "4026539999"},
        {"namespace": "unknown"},
        {"started": 0},
    ],
)
def test_one_that_can_not_be_seen_from_here_is_not_known_to_be_dead(change: dict[str, Any]) -> None:
    gone = replace(Holder.this_run(), pid=2**22 + 1, started=1)
    assert gone.is_dead()
    assert not replace(gone, **change).is_dead()


def test_one_that_proc_does_not_show_is_not_known_to_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where /proc is mounted with hidepid, and the process is somebody else's."""
    monkeypatch.setattr(module, "_started", lambda _pid: None)

    def forbidden(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert not replace(Holder.this_run(), started=1).is_dead()


def test_where_proc_is_of_another_namespace_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert Holder.this_run().namespace == "unknown"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AWX_HOST": "https://awx.example", "JOB_ID": "4711"}, "(job 4711 of AWX, pid "),
        ({"AWX_HOST": "https://awx.example", "JOB_ID": "4711) "}, "(pid "),
        ({"AWX_HOST": "https://awx.example"}, "(pid "),
        ({"JOB_ID": "4711"}, "(pid "),  # of something else
    ],
)
def test_a_job_of_awx_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str) -> None:
    for name in ("AWX_HOST", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    here = Holder.this_run()
    assert said in str(here)
    assert Holder.parse(str(here)) == here


def test_a_name_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "Ann (ops) Lee")
    here = Holder.this_run()
    assert here.user == "Ann_(ops)_Lee"
    assert Holder.parse(str(here)) == here


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(module.getpass, "getuser", nameless)
    assert Holder.this_run().user == f"uid{os.getuid()}"


@pytest.mark.parametrize(
    "text", ["", "me", "ann@host (pid 1, started 2, boot feedbeef)", "ann@host (pid x, started 2, boot b, processes 1)"]
)
def test_another_text_is_no_name(text: str) -> None:
    assert Holder.parse(text) is None


def test_a_run_within_a_run_is_the_outer_one_if_it_really_descends_from_it(controller: tuple[Holder, subprocess.Popen[str]]) -> None:
    def said(driver: int) -> int:
        line = subprocess.run(
            [sys.executable, "-c", SAY.replace("time.sleep(60)", "0")],
            env={**os.environ, "TIDEGATE_DRIVER": str(driver)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found = Holder.parse(line.strip())
        assert found
        return found.pid

    _holder, stranger = controller
    assert said(os.getpid()) == os.getpid()
    assert said(stranger.pid) not in (os.getpid(), stranger.pid)
