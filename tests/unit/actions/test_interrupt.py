# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first signal leaves its mark and ends nothing, the second one does what it would have done; what is ignored stays ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import interrupt
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import hold_on_signals, interrupted

interrupt._BOUNCE = float(sys.argv[1])
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored
if sys.argv[2] == "ansible":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(f"Ansible's own {number}"))
elif sys.argv[2] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
hold_on_signals()
hold_on_signals()
assert interrupted() == ""
for name in sys.argv[3:]:
    child = os.fork()  # a worker sees what its parent was told
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.05)
print(interrupted())
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_is_marked_and_ends_nothing(name: str) -> None:
    ended = run("0", "ansible", name)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"interrupted by {name} (")
    assert "hosts under way are waited for" in ended.stderr


@pytest.mark.parametrize("names", [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGINT"), ("SIGHUP", "SIGINT")])
def test_the_second_signal_does_what_ansible_would_have_done(names: tuple[str, str]) -> None:
    ended = run("0", "ansible", *names)
    assert f"Ansible's own {getattr(signal, names[1]).value}" in ended.stderr
    assert ended.returncode == 1
    assert run("0", "default", "SIGTERM", "SIGTERM").returncode == -signal.SIGTERM


def test_one_signal_that_comes_twice_is_one() -> None:
    """As timeout(1) sends it: to the process, and to its group."""
    assert run("60", "ansible", "SIGTERM", "SIGTERM", "SIGINT").returncode == 0


def test_a_terminal_that_closes_twice_ends_nothing_and_nohup_is_not_held_at_all() -> None:
    assert run("0", "ansible", "SIGHUP", "SIGHUP").stdout.startswith("interrupted by SIGHUP (")
    assert run("0", "nohup", "SIGHUP").stdout == "\n"


READERLESS = """
import sys
from ansible.utils.display import Display
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import hold_on_signals, interrupted

hold_on_signals()
hold_on_signals()
sys.stdin.readline()  # until the reader is gone
for line in range(3):
    Display().display("x" * 100_000)
print(interrupted(), file=sys.stderr)
"""


def test_output_that_nobody_reads_any_more_is_marked_and_ends_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READERLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stderr.read() == "nobody reads what it says any more\n"
    assert process.returncode == 0


def test_a_worker_catches_nothing(tmp_path: Path) -> None:
    program = tmp_path / "worker.py"
    program.write_text(
        "import multiprocessing, signal\n"
        "from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import hold_on_signals\n"
        "def work():\n"
        "    before = signal.getsignal(signal.SIGTERM)\n"
        "    hold_on_signals()\n"
        "    raise SystemExit(signal.getsignal(signal.SIGTERM) is not before)\n"
        "if __name__ == '__main__':\n"
        "    worker = multiprocessing.get_context('fork').Process(target=work)\n"
        "    worker.start()\n"
        "    worker.join()\n"
        "    raise SystemExit(worker.exitcode)\n"
    )
    assert subprocess.run([sys.executable, str(program)], check=False, env=dict(os.environ)).returncode == 0
