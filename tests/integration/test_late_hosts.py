# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody is left behind: a lab host that is away while a release is deployed gets it when it is back; each test goes on from the last."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fleet import Fleet
from kills import kill_at

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

BUDGET = {"canary": 1, "steps": [100], "budget": {"wave": 1, "total": 1}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("late"), policy={"rollout": BUDGET})
    try:
        fleet.up()
        first = fleet.deploy("CHG7000", "7000.0")
        assert first.returncode == 0, first.stdout
        assert fleet.state("CHG7000") == "completed"
        yield fleet
    finally:
        fleet.down()


def prepare(fleet: Fleet, number: int) -> str:
    return str(fleet.rfc(f"CHG{number}", f"{number}.0", fleet.archive(f"{number}.0")))


def play(fleet: Fleet, rfc: str, name: str = "deploy", succeeds: bool = True) -> str:
    done = fleet.play(f"tidegate.release.{name}", {"tidegate_rfc": rfc})
    assert (done.returncode == 0) is succeeds, done.stdout
    assert "Traceback" not in done.stdout
    return " ".join(done.stdout.split())


def test_a_host_that_was_away_gets_the_release_when_it_is_back_although_the_controller_was_killed(running: Fleet) -> None:
    rfc, lab = prepare(running, 7001), running.own_lab
    lab.cut("web3")
    try:
        said = play(running, rfc)
    finally:
        lab.mend("web3")
    assert "is live on 2 of 3 hosts; web3 is late (" in said
    assert "deploy again brings it in until" in said
    assert (running.state("CHG7001"), running.served()["web3"]) == ("supporting", "7000.0")
    assert running.rows("select count(*) from lock") == [(0,)]
    # It is named, and it is no fault: the CMDB says what it runs.
    assert "web3: it is late: hello 7001.0 did not get there" in play(running, rfc, "audit")

    command = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    for event, when in (("late_round", "0.01"), ("activating", "0.01")):
        kill_at(running, event, command, "web3" if event == "activating" else "", when)
        assert running.rows("select ci from lock") == [("web3",)]
    assert "is live on 3 of 3 hosts." in play(running, rfc)
    assert running.state("CHG7001") == "completed"
    assert running.served() == running.installed() == dict.fromkeys(running.hosts, "7001.0")
    assert running.rows("select count(*) from lock") == [(0,)]
    assert "is already completed" in play(running, rfc)
    assert "is late" not in play(running, rfc, "audit")


@pytest.mark.thorough
def test_a_controller_that_dies_when_a_host_is_late_leaves_it_late(running: Fleet) -> None:
    rfc, lab = prepare(running, 7005), running.own_lab
    command = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    lab.cut("web3")
    try:
        for event in ("stage_failed", "supporting"):
            kill_at(running, event, command)
        assert "is live on 2 of 3 hosts; web3 is late (" in play(running, rfc)
    finally:
        lab.mend("web3")
    assert "is live on 3 of 3 hosts." in play(running, rfc)
    assert running.served() == running.installed() == dict.fromkeys(running.hosts, "7005.0")


@pytest.mark.thorough
def test_a_late_host_that_fails_again_takes_nothing_back_and_a_later_release_ends_its_support(running: Fleet) -> None:
    rfc, before = prepare(running, 7002), running.served()["web3"]
    running.run_on("web3", "echo 7002.0 > /etc/hello-broken")
    assert "is live on 2 of 3 hosts; web3 is late (" in play(running, rfc)
    said = play(running, rfc)
    assert "where the release is live it stays, and what is left stays late" in said
    assert "is live on 2 of 3 hosts; web3 is late (" in said
    assert running.state("CHG7002") == "supporting"
    assert running.served() == {"web1": "7002.0", "web2": "7002.0", "web3": before}
    assert running.installed() == running.served()
    running.run_on("web3", "rm /etc/hello-broken")

    later = prepare(running, 7003)
    assert "is live on 3 of 3 hosts." in play(running, later)
    assert running.state("CHG7002") == "completed"
    assert "later deployment than CHG7002#" in play(running, rfc, succeeds=False)
    assert running.served() == running.installed() == dict.fromkeys(running.hosts, "7003.0")


def test_a_back_out_in_support_takes_the_release_back_from_those_who_have_it(running: Fleet) -> None:
    before = running.served()
    rfc, lab = prepare(running, 7004), running.own_lab
    lab.cut("web3")
    try:
        play(running, rfc)
        play(running, rfc)  # it is away still, and stays late
        assert running.state("CHG7004") == "supporting"
        play(running, rfc, "backout")
    finally:
        lab.mend("web3")
    assert running.state("CHG7004") == "backed_out"
    assert running.served() == running.installed() == before
