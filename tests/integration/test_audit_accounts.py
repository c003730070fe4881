# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit of a fleet of which some can't be looked at: each of these is named, the others are compared, and its end says so."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.lab import processes
from fleet import SECOND, Fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
HOME = "/opt/tidegate"


@contextmanager
def fleet_of(path: Path, count: int) -> Iterator[Fleet]:
    """Hosts, each of which has a release."""
    fleet = Fleet(path, count=count, first=SECOND)
    try:
        fleet.up()
        first = fleet.deploy("CHG0001", "1.0")
        assert first.returncode == 0, first.stdout
        yield fleet
    finally:
        fleet.down()


@contextmanager
def broken(fleet: Fleet, cut: str, frozen: str, unreadable: str) -> Iterator[None]:
    lab = fleet.own_lab
    fleet.run_on(unreadable, f"mv {HOME} {HOME}.kept && touch {HOME}")
    lab.cut(cut)
    servers = [one.pid for one in processes.find(lab.path, frozen) if Path("/proc", str(one.pid), "comm").read_text().strip() == "sshd"]
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in servers:
            os.kill(pid, signal.SIGCONT)
        lab.mend(cut)
        fleet.run_on(unreadable, f"rm {HOME} && mv {HOME}.kept {HOME}")


def audit(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["tidegate", "audit", "-i", str(fleet.path / "cmdb.yml"), *arguments]
    done = subprocess.run(
        command, env={**fleet.environment, "ANSIBLE_TIMEOUT": "5"}, check=False, capture_output=True, text=True, timeout=300
    )
    fleet.said += done.stdout.splitlines()
    assert "Traceback" not in done.stdout + done.stderr
    return done


def last(fleet: Fleet) -> dict[str, object]:
    ((data,),) = fleet.rows("select data from history where event = 'audited' order by seq desc limit 1")
    return dict(json.loads(data))


def test_each_host_of_six_is_accounted_for_and_the_exit_status_says_how_grave_it_is(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 6) as fleet:
        results = tmp_path / "results.xml"
        clean = audit(fleet, "--audit-junit", str(results))
        assert clean.returncode == 0, clean.stdout
        assert last(fleet)["severity"] == "clean"
        fleet.run_on("web1", f"touch {HOME}/hello/current/intruder")
        differs = audit(fleet)
        assert differs.returncode == 2, differs.stdout
        assert re.search(r"web1: 1 file of hello 1\.0 .{,50}: intruder \(since 20\S+ \S+ UTC, no RFC covers it\); ", differs.stdout)
        with broken(fleet, "web2", "web3", "web4"):
            done = audit(fleet, "--audit-junit", str(results))
            checked = audit(fleet, "--check")
            plain = fleet.play("tidegate.release.audit", None, "--check")
        assert (done.returncode, checked.returncode, plain.returncode) == (3, 3, 2), done.stdout
        words = " ".join(done.stdout.split())
        assert "3 of 6 hosts were compared with the CMDB and the DSL: 4 differences" in words
        assert "web2, web3: it can't be reached, so nobody knows what it runs; bring it back" in words
        assert "web4: it can't be read, so nobody knows what it runs: /opt/tidegate can't be read" in words
        assert last(fleet)["severity"] == "incomplete"
        assert fleet.rows("select count(*) from history where event = 'audited'") == [(3,)], "check mode writes none"
        (suite,) = ElementTree.parse(results).getroot()  # noqa: S314 - our own
        verdicts = {str(case.get("name")): [inner.tag for inner in case] for case in suite}
        assert verdicts == {
            "web1": ["failure"],
            **{key: ["error"] for key in ("web2", "web3", "web4")},
            **{key: [] for key in ("web5", "web6", "the library and the stock")},
        }
        nobody = audit(fleet, "-e", "tidegate_hosts=web9")
        assert nobody.returncode == 1, nobody.stdout


def said(done: subprocess.CompletedProcess[str], status: int) -> str:
    assert done.returncode == status, done.stdout
    return " ".join(done.stdout.split())


def test_what_went_around_is_told_apart_and_settled_under_an_rfc(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 2) as fleet:
        first = fleet.rows("select i.digest from installation i limit 1")[0][0]
        second = fleet.deploy("CHG0002", "1.1")
        assert second.returncode == 0, second.stdout
        newer = fleet.rows("select i.digest from installation i limit 1")[0][0]
        # By hand: one host back to what it had before, another file of the other one.
        fleet.run_on("web1", f"cd {HOME}/hello && ln -sfn $(ls -d releases/1.0-*)/tree current")
        fleet.run_on("web2", f"echo x >>{HOME}/hello/current/version")
        words = said(audit(fleet), 2)
        assert re.search(r"web1: hello 1\.0 is live, but the CMDB says 1\.1 \(since 20\S+ \S+ UTC, no RFC covers it\)", words), words
        assert re.search(r"web2: 1 file of hello 1\.1 .{,50}: version \(since 20\S+ \S+ UTC, no RFC covers it\)", words), words

        record = fleet.rfc("CHG0003", "1.0", first, scope="[?name=='web1']")
        given = {"tidegate_rfc": str(record), "tidegate_reason": "1.1 was bad there, INC0012"}
        assert "CHG0003, as it reads, is not in the register" in said(fleet.play("tidegate.release.reconcile", given), 2)
        restore = fleet.rfc("CHG0004", "1.1", newer, scope="[?name=='web2']")
        entered = fleet.play("tidegate.release.schedule", {"tidegate_rfcs": [str(record), str(restore)]})
        assert entered.returncode == 0, entered.stdout
        assert "no RFC covers it" in said(audit(fleet), 2), "an RFC that is written afterwards covers nothing"
        assert "1 difference on web1: what is there is on record under CHG0003" in said(fleet.play("tidegate.release.reconcile", given), 0)
        assert fleet.installed() == {"web1": "1.0", "web2": "1.1"}
        ((told,),) = fleet.rows("select data from history where event = 'reconciled'")
        assert (json.loads(told)["rfc"], json.loads(told)["reason"]) == ("CHG0003", "1.1 was bad there, INC0012")

        given = {"tidegate_rfc": str(restore), "tidegate_reason": "nobody knows who that was", "tidegate_reconcile_action": "restore"}
        command = fleet.command("tidegate.release.reconcile", given)
        command[2:2] = ["tidegate.release.deploy", "tidegate.release.audit"]
        words = said(fleet.execute(command), 0)
        assert "1 difference on web2: tidegate.release.deploy with CHG0004 brings back what is on record" in words
        assert "2 of 2 hosts were compared with the CMDB and the DSL: each runs what the CMDB says and the DSL holds" in words
        assert "packages, units, cron files and listeners of " in words  # of which nobody said what there is to be
        assert "are on no record, so they were not compared; audit_baseline puts them there" in words


@pytest.mark.thorough
def test_of_twenty_hosts_seventeen_are_compared_and_three_named(tmp_path: Path) -> None:
    with fleet_of(tmp_path, 20) as fleet, broken(fleet, "web7", "web13", "web20"):
        done = audit(fleet)
        assert done.returncode == 3, done.stdout
        words = " ".join(done.stdout.split())
        assert "17 of 20 hosts were compared with the CMDB and the DSL: 3 differences" in words
        assert "web13, web7: it can't be reached" in words
        assert "web20: it can't be read" in words
