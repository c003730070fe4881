# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under any callback each thing is said once, in a log with its time, and never into a document that a program reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import output
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import AUDIENCE, announce, say_last, stamped

TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in a log, of nobody's callback in particular."""
    for name, value in {"terminal": False, "callback": False, "live": False, "ending": False}.items():
        monkeypatch.setattr(AUDIENCE, name, value)
    monkeypatch.setattr(output._C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    monkeypatch.setattr(output, "interrupted", lambda: "")
    monkeypatch.setattr(output, "next_commands", lambda undo: ("To go on:   this",) if undo else ())


def test_a_log_has_the_time_and_a_terminal_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(TIME + " wave 1 of 4", stamped("wave 1 of 4"))
    monkeypatch.setattr(AUDIENCE, "terminal", True)
    assert stamped("wave 1 of 4") == "wave 1 of 4"


@pytest.mark.parametrize(("runner", "terminal"), [({}, True), ({"AWX_ISOLATED_DATA_DIR": "/runner"}, False)])
def test_what_ansible_runner_takes_for_a_terminal_ends_in_a_log(
    runner: dict[str, str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWX_ISOLATED_DATA_DIR", raising=False)
    for name, value in runner.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.isatty", lambda _descriptor: True)
    assert output.is_terminal() is terminal


@pytest.mark.parametrize(
    ("callback", "where"), [("default", "out"), ("awx_display", "out"), ("json", "err"), ("ansible.posix.jsonl", "err")]
)
def test_a_sentence_does_not_spoil_a_document(
    callback: str, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output._C, "DEFAULT_STDOUT_CALLBACK", callback)
    announce("the plan\nin two lines")
    said = capsys.readouterr()
    assert re.fullmatch(TIME + " the plan\nin two lines\n", getattr(said, where))
    assert said.out + said.err == getattr(said, where)


def test_what_our_callback_shows_is_not_said_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(AUDIENCE, "callback", True)
    monkeypatch.setattr(AUDIENCE, "ending", True)
    monkeypatch.setattr(output, "interrupted", lambda: "interrupted by SIGINT")
    announce("the plan")
    say_last("the verdict")
    output._say_verdict()
    assert capsys.readouterr().out == ""


def test_the_verdict_is_said_when_the_run_ends_or_at_once_where_nobody_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_last("it is live")
    assert capsys.readouterr().out.endswith("it is live\n")
    monkeypatch.setattr(AUDIENCE, "ending", True)
    say_last("it is live")
    assert capsys.readouterr().out == ""
    output._say_verdict()
    assert capsys.readouterr().out.endswith("it is live\n")


def test_a_run_that_was_ended_at_once_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    output._say_verdict()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(output, "interrupted", lambda: "interrupted by SIGINT")
    output._say_verdict()
    said = capsys.readouterr().out
    assert "was interrupted by SIGINT and came to no verdict" in said
    assert said.endswith("To go on:   this\n")


def test_a_run_goes_on_when_nobody_reads_what_it_says_any_more() -> None:
    # Ansible's thread for results ends at the first error of that kind, and its other one then waits for it for ever.
    program = (
        "import sys; from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import Display, prepare_main as begin\n"
        "begin(); begin(); say = Display().display; say('one'); sys.stdin.readline()\n"
        "for _ in range(9): say('more'); say('more', stderr=True)\n"
        "sys.exit(7)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        process.stdin.close()
        assert process.wait() == 7
