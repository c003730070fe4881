# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed at every kind of write to the journal, and the same command finishes the job."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from fleet import Fleet
from kills import kill_at
from waiting import wait_until

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
# Of the deployment and its waves, where no host is meant.
MORE = [
    ("staging", "-", "before", "group", False),
    ("activating", "-", "before", "group", False),
    ("opened", "-", "before", "group", False),
    ("completed", "-", "before", "group", False),
    ("completed", "-", "0.01", "group", False),
    ("backing_out", "-", "before", "group", True),
    ("backed_out", "-", "before", "group", True),
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


@pytest.mark.parametrize(
    ("event", "host", "when", "whom", "broken"), [*POINTS, *(pytest.param(*point, marks=pytest.mark.thorough) for point in MORE)]
)
def test_the_same_command_finishes_what_a_killed_one_began(
    running: Fleet, request: pytest.FixtureRequest, event: str, host: str, when: str, whom: str, broken: bool
) -> None:
    before = running.served()
    assert None not in before.values()
    number = 1001 + [*POINTS, *MORE].index((event, host, when, whom, broken))
    version = f"{number}.0"
    rfc = running.rfc(f"CHG{number}", version, running.archive(version, **(BROKEN if broken else {})))
    kill_at(running, event, running.command("tidegate.release.deploy", {"tidegate_rfc": str(rfc)}), host, when, whom)
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


@pytest.mark.thorough
def test_a_release_that_leaves_hosts_between_two_is_owed_until_they_can_go_back(running: Fleet) -> None:
    """The release before does not start where the new one has been. The controller is killed when each of that is to be written."""
    running.write_policy(rollout={"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}})
    stop = {"command": ["bin/stop"], "timeout": 10}
    start = {"command": ["sh", "-c", 'test ! -e "$TIDEGATE_STATE/new" && exec bin/start'], "timeout": 20}
    first = running.deploy("CHG1100", "1100.0", hooks={"stop": stop, "start": start})
    assert first.returncode == 0, first.stdout
    ruins = {"command": ["sh", "-c", 'touch "$TIDEGATE_STATE/new"; exit 1'], "timeout": 20}
    rfc = running.rfc("CHG1101", "1101.0", running.archive("1101.0", hooks={"stop": stop, "start": ruins}))
    variables = {"tidegate_rfc": str(rfc)}
    deploy = running.command("tidegate.release.deploy", variables)
    for event in ("stuck", "owed"):
        kill_at(running, event, deploy)
    again = running.play("tidegate.release.deploy", variables)
    assert again.returncode != 0
    assert running.host_states("CHG1101")["web1"] == "owed", again.stdout
    running.run_on("web1", "rm /opt/tidegate/hello/state/new")
    back = running.play("tidegate.release.backout", variables)
    assert back.returncode == 0, back.stdout
    assert running.state("CHG1101") == "backed_out"
    assert running.served() == running.installed() == dict.fromkeys(running.hosts, "1100.0")


@pytest.mark.thorough
def test_a_deployment_that_changed_nothing_is_cancelled_although_that_was_interrupted(running: Fleet) -> None:
    before = running.served()
    variables = {"tidegate_rfc": str(running.rfc("CHG1102", "1102.0", running.archive("1102.0")))}
    assert running.play("tidegate.release.stage", variables).returncode == 0
    kill_at(running, "cancelled", running.command("tidegate.release.backout", variables))
    done = running.play("tidegate.release.backout", variables)
    assert done.returncode == 0, done.stdout
    assert (running.state("CHG1102"), running.served()) == ("cancelled", before)
    assert running.rows("select count(*) from lock") == [(0,)]


def test_nothing_on_the_hosts_differs_from_the_cmdb_after_all_that(running: Fleet) -> None:
    audit = running.play("tidegate.release.audit")
    assert audit.returncode == 0, audit.stdout


SLOW = {
    "hooks": {
        "stop": {"command": ["bin/stop"], "timeout": 10},
        "start": {"command": ["sh", "-c", "sleep 3; exec bin/start"], "timeout": 20},
    }
}


@pytest.mark.parametrize(("number", "step", "event"), [(signal.SIGINT, "deploy", "activating"), (signal.SIGTERM, "backout", "backing_out")])
def test_an_interrupted_run_waits_for_the_host_that_is_under_way_and_starts_no_other(
    running: Fleet, number: signal.Signals, step: str, event: str
) -> None:
    """As a terminal does it, to the whole process group; with one fork, so that hosts of the same wave are still to come."""
    rfc = f"CHG{2000 + number}"
    version = f"{2000 + number}.0"
    variables = {"tidegate_rfc": str(running.rfc(rfc, version, running.archive(version, **SLOW)))}
    before = running.served()
    running.write_policy(rollout={"canary": 2, "steps": [100], "budget": {"wave": 0, "total": 0}})
    if step == "backout":
        assert running.play("tidegate.release.deploy", variables).returncode == 0
    output = running.path / "output"
    with output.open("wb") as stream:
        run = subprocess.Popen(
            running.command(f"tidegate.release.{step}", variables),
            env={**running.environment, "ANSIBLE_FORKS": "1"},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        wait_until(lambda: event in running.host_states(rfc).values())
        os.killpg(run.pid, number)
        assert run.wait(60) not in (0, -number)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    said = " ".join(output.read_text().split())
    assert "no further host is started; hosts under way are waited for" in said
    assert f"interrupted by {number.name} (" in said
    assert running.rows(f"select lease_until from deployment where rfc = '{rfc}'") == [(None,)]  # noqa: S608 - a test's own RFC number
    states = sorted(running.host_states(rfc).values())
    if step == "deploy":
        assert (states, running.state(rfc)) == (["staged", "staged", "started"], "held")
        assert list(running.served().values()).count(version) == 1
        assert "Run deploy again to go on, or backout to undo it." in said
    else:
        assert (states, running.state(rfc)) == (["active", "active", "backed_out"], "backing_out")
        assert f"It was interrupted by {number.name}" in said
        assert "run the same command again." in said
    again = running.play(f"tidegate.release.{step}", variables)
    assert again.returncode == 0, again.stdout
    assert running.served() == (dict.fromkeys(running.hosts, version) if step == "deploy" else before)


def test_of_two_who_press_at_once_one_drives_and_the_other_reads_who(running: Fleet) -> None:
    version = "3000.0"
    variables = {"tidegate_rfc": str(running.rfc("CHG3000", version, running.archive(version)))}
    both = [
        subprocess.Popen(
            running.command("tidegate.release.deploy", variables),
            env=running.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _one in range(2)
    ]
    ended = {run.returncode: output for run, output in [(run, run.communicate(timeout=120)[0]) for run in both]}
    assert ended.keys() == {0, 2}, ended
    assert "CHG3000" in ended[2]
    assert "is being driven by" in " ".join(ended[2].split())
    for word in ("locked", "Traceback", "IntegrityError", "is already"):
        assert word not in ended[2]
    assert running.served() == dict.fromkeys(running.hosts, version)
