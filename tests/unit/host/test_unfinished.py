# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interrupted run has left running on a host is waited for, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.processes import start_time
from ansible_collections.tidegate.release.plugins.module_utils.unfinished import wait_for_unfinished
from bed import Host
from orders import give_order

READS_STDIN = [sys.executable]  # as Ansible starts a module by a pipe


def _module(mark: str, command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "TIDEGATE_RUN": mark})
    while mark.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes():
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("mark", "command", "waited"),
    [
        pytest.param("CHG1#1:5", READS_STDIN, True, id="a module of an earlier run"),
        pytest.param("CHG1#1:5", [sys.executable, "-c", "import time; time.sleep(60)", "AnsiballZ_command.py"], True, id="by a file"),
        pytest.param("CHG1#1:5", ["sh", "-c", "sleep 60; true", "/root/.ansible/tmp/ansible-tmp-1-2-3/mend.sh"], True, id="a script"),
        pytest.param("CHG1#1:7", READS_STDIN, False, id="this run's own"),
        pytest.param("CHG1#1:9", READS_STDIN, False, id="a later run's"),
        pytest.param("CHG1#2:5", READS_STDIN, False, id="of another deployment"),
        pytest.param("CHG1#1:x", READS_STDIN, False, id="of nobody"),
        pytest.param("CHG1#1:5", ["sleep", "60"], False, id="a service that a module has started"),
        pytest.param("CHG1#1:5", ["cat"], False, id="one without arguments"),
    ],
)
def test_modules_of_an_earlier_run_are_waited_for(mark: str, command: list[str], waited: bool) -> None:
    with _module(mark, command) as process:
        try:
            assert (process.pid in wait_for_unfinished("CHG1#1:7", 0.2)) == waited
        finally:
            process.kill()


def test_it_goes_on_as_soon_as_they_have_ended(host: Host) -> None:
    with _module("CHG1#1:5", READS_STDIN) as process:
        threading.Timer(0.5, process.kill).start()
        order = {"operation": "wait", "root": str(host.root), "deployment": "CHG1#1", "token": 7, "mark": "CHG1#1:7", "patience": 60}
        answer = give_order(order)
        assert not start_time(process.pid)
    assert (answer["state"], answer["detail"]) == ("quiet", "")
    assert not host.home.path.exists()  # nothing is left on a host that has no tree


def test_what_does_not_end_is_named(host: Host) -> None:
    with _module("CHG1#1:5", READS_STDIN) as process:
        order = {"operation": "wait", "root": str(host.root), "deployment": "CHG1#1", "token": 7, "mark": "CHG1#1:7", "patience": 0}
        answer = give_order(order)
        process.kill()
    assert answer["state"] == "busy"
    assert f"the processes {process.pid} of an interrupted run still run" in answer["detail"]
