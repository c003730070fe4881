# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.lab import processes
from ansible_collections.tidegate.release.plugins.module_utils.lab.processes import Process
from waiting import wait_until

Started = list["subprocess.Popen[bytes]"]


@pytest.fixture
def started() -> Iterator[Started]:
    """What the test started; ended with it."""
    some: Started = []
    yield some
    for process in some:
        process.kill()
        process.wait()


def sleep(started: Started, *arguments: str, **variables: str) -> int:
    # The first write says that the program runs with its own environment, no longer as a copy of the test.
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", *arguments]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE)
    started.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


def test_what_carries_the_mark_is_found_by_host(started: Started, tmp_path: Path) -> None:
    one = sleep(started, TIDEGATE_LAB=f"{tmp_path}:one")
    two = sleep(started, TIDEGATE_STATE=f"{tmp_path}/hosts/two/root/hello/state")
    assert {process.pid: process.host for process in processes.find(tmp_path)} == {one: "one", two: "two"}
    assert [process.pid for process in processes.find(tmp_path, "one")] == [one]


def test_what_writes_its_errors_to_the_log_of_a_host_is_found(started: Started, tmp_path: Path) -> None:
    (tmp_path / "hosts" / "one").mkdir(parents=True)
    with (tmp_path / "hosts" / "one" / "log").open("wb") as log:
        started.append(subprocess.Popen(["/bin/sleep", "60"], env={}, stderr=log))
    assert [process.pid for process in processes.find(tmp_path, "one")] == [started[0].pid]
    (tmp_path / "hosts" / "one" / "log").unlink()
    assert [process.pid for process in processes.find(tmp_path, "one")] == [started[0].pid]


def test_ending_a_lab_touches_nothing_that_only_looks_like_it(started: Started, tmp_path: Path) -> None:
    mine = sleep(started, TIDEGATE_LAB=f"{tmp_path}:one")
    others = [
        sleep(started, f"TIDEGATE_LAB={tmp_path}:one", f"{tmp_path}/hosts/one/sshd_config"),
        sleep(started, TIDEGATE_LAB=f"{tmp_path}2:one"),
        sleep(started, OTHER=f"TIDEGATE_LAB={tmp_path}:one"),
        sleep(started, TIDEGATE_STATE=f"{tmp_path}/hosts2/one/"),
    ]
    assert processes.end(tmp_path)
    assert started[0].pid == mine
    assert started[0].wait(5) == -signal.SIGKILL
    assert all(processes.start_time(pid) for pid in others)
    assert not processes.end(tmp_path)


def test_a_host_is_ended_without_those_whose_names_begin_alike(started: Started, tmp_path: Path) -> None:
    sleep(started, TIDEGATE_LAB=f"{tmp_path}:web1")
    other = sleep(started, TIDEGATE_LAB=f"{tmp_path}:web10")
    processes.end(tmp_path, "web1")
    assert [process.pid for process in processes.find(tmp_path)] == [other]


def test_a_process_that_has_got_the_id_of_an_ended_one_is_spared(started: Started, tmp_path: Path) -> None:
    pid = sleep(started)
    processes.terminate([Process(pid, "1", "one", "")])
    time.sleep(0.1)
    assert processes.start_time(pid)


def test_whoever_ends_a_lab_is_spared_even_with_the_mark(tmp_path: Path) -> None:
    here = Path(processes.__file__).parents[6]
    code = (
        "from pathlib import Path; import subprocess, sys\n"
        "from ansible_collections.tidegate.release.plugins.module_utils.lab import processes\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[1], sys.argv[2], 'inner'], check=True) if len(sys.argv) == 3 "
        "else processes.end(Path(sys.argv[2]))\n"
    )
    environment = {**os.environ, "TIDEGATE_LAB": f"{tmp_path}:one", "PYTHONPATH": str(here)}
    done = subprocess.run([sys.executable, "-c", code, code, str(tmp_path)], env=environment, check=False)
    assert done.returncode == 0


def test_a_stopped_host_goes_on_where_it_was(started: Started, tmp_path: Path) -> None:
    pid = sleep(started, TIDEGATE_LAB=f"{tmp_path}:one")

    def state() -> str:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]

    processes.stop(tmp_path, "one")
    assert wait_until(lambda: state() == "T")
    processes.cont(tmp_path, "one")
    assert state() in "SRD"
    processes.stop(tmp_path, "one")
    assert processes.end(tmp_path)
