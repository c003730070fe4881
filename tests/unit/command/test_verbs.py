# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command ends after a verb that comes to a verdict."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verdict import VARIABLE, leave_verdict
from ansible_collections.tidegate.release.plugins.plugin_utils.command import verbs
from ansible_collections.tidegate.release.plugins.plugin_utils.command.main import main

RUN = """
import sys
from ansible_collections.tidegate.release.plugins.plugin_utils.command import verbs
verbs._command = lambda verb, arguments: [sys.executable, "-c", *arguments]
sys.exit(verbs.play_for_verdict("audit", sys.argv[1:], {}))
"""


@pytest.mark.parametrize(
    ("status", "word", "expected"),
    [
        (0, "clean", 0),
        (0, "", 1),  # nobody has looked
        (0, "nonsense", 1),
        (0, "incomplete", 3),  # whatever makes nothing of a failed task
        (2, "differences", 2),
        (2, "incomplete", 3),
        (2, "clean", 1),  # something else failed
        (2, "", 1),
        (2, "nonsense", 1),
        (4, "", 4),
        (250, "", 250),
        (-15, "", 143),
    ],
)
def test_the_exit_status_is_that_of_the_verdict(status: int, word: str, expected: int) -> None:
    assert verbs.exit_status(status, word) == expected


def test_a_run_that_only_lists_needs_no_verdict() -> None:
    assert verbs.exit_status(0, "", lists=True) == 0
    assert verbs.exit_status(4, "", lists=True) == 4


def test_an_option_that_is_none_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--no-such-option"]) == 1
    assert "unrecognized arguments" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["audit", "--help"])
    assert ended.value.code == 0


def test_a_verdict_is_left_where_the_command_looks_for_it_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    leave_verdict("clean")
    done = subprocess.run([sys.executable, "-c", RUN, SAYS.format("incomplete")], check=False, cwd=tmp_path)
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []


SAYS = f"import os, sys, pathlib; pathlib.Path(os.environ['{VARIABLE}']).write_text('{{}}'); sys.exit(2)"
WAITS = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('there', flush=True); signal.pause()"


@contextmanager
def waiting(script: str) -> Iterator[subprocess.Popen[str]]:
    """A command whose run waits for a signal; nothing of it is left."""
    command = subprocess.Popen([sys.executable, "-c", RUN, script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert command.stdout is not None
        assert command.stdout.readline() == "there\n"
        yield command
    finally:
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.communicate()


def test_what_is_sent_to_the_command_is_sent_to_the_run() -> None:
    with waiting(WAITS) as command:
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == 7


def test_who_types_ctrl_c_gets_the_end_that_the_run_comes_to() -> None:
    with waiting(WAITS.replace("SIGTERM", "SIGINT")) as command:
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(30) == 7
