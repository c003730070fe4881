# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts that are not reached anew in time go back by themselves; each test goes on from the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import HEALTH, Fleet
from kills import kill_at
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

SECONDS = 25  # a busy machine has to be quicker
GUARDED = {
    "canary": 3,
    "steps": [100],
    "budget": {"wave": 1, "total": 1},
    "on_failure": "hold",
    "confirm_minutes": SECONDS / 60,
}
QUICK = {
    "hooks": {"stop": {"command": ["bin/stop"], "timeout": 3}, "start": {"command": ["bin/start"], "timeout": 4}},
    "health": [{**HEALTH, "timeout": 4}],
}
# What a release does that changes how its host is reached: those that are connected notice nothing.
CUT = """#!/bin/sh
set -eu
[ "$(hostname)" != web2 ] || kill -STOP $(pgrep -f 'sshd.*listener')
exec bin/start
"""
MEND = """#!/bin/sh
kill -CONT $(pgrep -f 'sshd.*listener')
exec bin/stop
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("guard"), policy={"rollout": GUARDED})
    try:
        fleet.up()
        first = fleet.deploy("CHG7500", "7500.0", **QUICK)
        assert first.returncode == 0, first.stdout
        yield fleet
    finally:
        fleet.down()


def guards(fleet: Fleet) -> list[str]:
    """The hosts that have a guard."""
    return [host for host in fleet.hosts if fleet.run_on(host, "ls /opt/tidegate/hello").split().count("guard")]


def prepare(fleet: Fleet, number: int, scripts: dict[str, str], **changes: Any) -> str:
    folder = fleet.release(f"{number}.0", **{**QUICK, **changes})
    for name, text in scripts.items():
        (folder / "payload" / "bin" / name).write_text(text)
        (folder / "payload" / "bin" / name).chmod(0o755)
    return str(fleet.rfc(f"CHG{number}", f"{number}.0", fleet.archive_folder(folder)))


def play(fleet: Fleet, rfc: str, name: str = "deploy", succeeds: bool = True) -> str:
    done = fleet.play(f"tidegate.release.{name}", {"tidegate_rfc": rfc})
    assert (done.returncode == 0) is succeeds, done.stdout
    assert "Traceback" not in done.stdout
    return " ".join(done.stdout.split())


def test_hosts_that_are_reached_anew_have_the_release_and_no_guard(running: Fleet) -> None:
    assert running.state("CHG7500") == "completed"
    assert guards(running) == []


@pytest.mark.parametrize("number", [7501, pytest.param(7504, id="together")])
def test_a_release_that_cuts_its_host_off_comes_back_alone_and_never_ends_well(running: Fleet, number: int) -> None:
    if number == 7504:
        running.write_policy(rollout={**GUARDED, "together": {"skew_milliseconds": 5000, "lead_seconds": 8}})
    hooks = {"start": {"command": ["bin/cut"], "timeout": 4}, "stop": {"command": ["bin/mend"], "timeout": 3}}
    rfc = prepare(running, number, {"cut": CUT, "mend": MEND}, hooks=hooks)
    said = play(running, rfc, succeeds=False)
    assert running.host_states(f"CHG{number}") == {"web1": "active", "web2": "lost", "web3": "active"}, said
    reason = "1 host in wave 1 of 1 could not be reached anew to confirm the release, for which there is no budget"
    assert reason in said
    ((detail,),) = running.rows("select detail from deployment_host where host = 'web2' and state = 'lost'")
    assert detail.endswith("if it has the release, it goes back by itself unless somebody reaches it in time to confirm that")
    wait_until(lambda: running.served()["web2"] == "7500.0")
    said = play(running, rfc, succeeds=False)
    assert "it went back by itself at 20" in said, said
    assert reason in said
    assert running.host_states(f"CHG{number}") == {"web1": "active", "web2": "failed", "web3": "active"}
    assert running.state(f"CHG{number}") == "held"
    assert running.installed()["web2"] == "7500.0"
    play(running, rfc, "backout")
    running.write_policy(rollout=GUARDED)
    assert set(running.served().values()) == {"7500.0"}


@pytest.mark.thorough
def test_hosts_whose_controller_died_go_back_and_the_same_command_says_so(running: Fleet) -> None:
    rfc = prepare(running, 7502, {})
    deploy = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    kill_at(running, "started", deploy, "web3", "0.5")  # of web1 it is rehearsed before
    wait_until(lambda: set(running.served().values()) == {"7500.0"} and guards(running) == [])
    states = set(running.host_states("CHG7502").values())
    assert states & {"started", "activating"}
    kill_at(running, "went_back", deploy)
    said = play(running, rfc, succeeds=False)
    assert "it went back by itself at 20" in said
    assert running.state("CHG7502") == "held"
    # A person has seen it, and has it tried again.
    play(running, rfc)
    assert set(running.served().values()) == {"7502.0"}
    assert guards(running) == []


def test_what_takes_longer_to_come_up_than_there_is_time_is_not_cleared(running: Fleet) -> None:
    said = play(running, prepare(running, 7503, {}, health=[{**HEALTH, "timeout": 30}]), succeeds=False)
    assert f"hosts would go back by themselves {SECONDS} seconds after they were switched, and hello 7503.0 may take 37 to show" in said
    assert running.state("CHG7503") is None
