# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed at every kind of write to the journal, and the same command finishes the job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet

KILLED = Path(__file__).parent / "kill" / "killed.py"
BROKEN = {
    "hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["bin/start"], "timeout": 20}},
    "health": [{"name": "never", "tcp": {"host": "${address}", "port": 1}, "timeout": 1}],
}

# event, host, when, whom, whether the release is broken
POINTS = [
    ("planned", "", "before", "group", False),
    ("planned", "", "0.01", "group", False),
    ("staged", "web2", "before", "group", False),
    ("staged", "web1", "0.01", "main", False),
    ("staging_decided", "", "before", "group", False),
    ("staging_decided", "", "0.01", "group", False),
    ("activating", "web1", "before", "group", False),
    ("activating", "web1", "0.3", "group", False),
    ("activating", "web2", "0.3", "main", False),
    ("activating", "web3", "0.6", "group", False),
    ("started", "web2", "before", "group", False),
    ("started", "web3", "0.2", "group", False),
    ("active", "web2", "before", "group", False),
    ("decided", "", "before", "group", False),
    ("decided", "", "0.01", "group", False),
    ("failed", "web1", "before", "group", True),
    ("decided", "", "before", "group", True),
    ("decided", "", "0.01", "main", True),
    ("backing_out", "web1", "before", "group", True),
    ("backing_out", "web1", "0.3", "group", True),
    ("backed_out", "web1", "before", "group", True),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet on which 1.0 is live; each test goes on from what the one before left."""
    fleet = Fleet(tmp_path_factory.mktemp("resume"))
    try:
        fleet.up()
        first = fleet.deploy("CHG1000", "1.0")
        assert first.returncode == 0, first.stdout
        yield fleet
    finally:
        fleet.down()


@pytest.mark.parametrize(("event", "host", "when", "whom", "broken"), POINTS)
def test_the_same_command_finishes_what_a_killed_one_began(
    running: Fleet, request: pytest.FixtureRequest, event: str, host: str, when: str, whom: str, broken: bool
) -> None:
    before = running.served()
    assert None not in before.values()
    number = 1001 + POINTS.index((event, host, when, whom, broken))
    version = f"{number}.0"
    rfc = running.rfc(f"CHG{number}", version, running.archive(version, **(BROKEN if broken else {})))
    command = running.command("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    killed = subprocess.run(
        [sys.executable, str(KILLED), event, host, when, whom, *command],
        env=running.environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert killed.returncode == 0, killed.stdout

    again = running.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    if broken:
        assert again.returncode != 0
        assert "was backed out" in again.stdout, again.stdout
        assert running.served() == before
    else:
        assert again.returncode == 0, again.stdout
        assert running.served() == dict.fromkeys(running.hosts, version)
    assert running.installed() == running.served()
    assert running.rows("select count(*) from lock") == [(0,)]


def test_nothing_on_the_hosts_differs_from_the_cmdb_after_all_that(running: Fleet) -> None:
    audit = running.play("tidegate.release.audit")
    assert audit.returncode == 0, audit.stdout
