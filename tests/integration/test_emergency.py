# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An emergency change: a shorter path, and a debt that shows everywhere and blocks what is no emergency until it is settled."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.debts import Debt, debts
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.settle import Settlement, settle_debt
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.write_off import write_off_host
from documents import EXAMPLES, policy_of, write_document
from fleet import Fleet
from office import Office
from schemas import assert_schema

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host, and a policy under which an emergency owes two things, one of them at once, to be approved by fewer people."""
    fleet = Fleet(tmp_path_factory.mktemp("emergency"), count=1)
    fleet.policy |= {"approvals": {"normal": 2, "emergency": 1}, "emergency": {"review": 0, "drill": 30}}
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


def report(fleet: Fleet) -> dict[str, list[str]]:
    done = fleet.play("tidegate.release.report", {"tidegate_report": str(fleet.path / "report")})
    assert done.returncode == 0, done.stdout
    report = dict(json.loads((fleet.path / "report" / "report.json").read_text()))
    assert_schema("report", report)
    return report


def settle(fleet: Fleet, *options: str, number: str = "CHG0001", duty: str = "review", note: str = "minutes 12") -> str:
    variables = {"tidegate_number": number, "tidegate_duty": duty, "tidegate_note": note}
    done = fleet.play("tidegate.release.settle", variables, *options, inventory="localhost,")
    assert "Traceback" not in done.stdout
    return " ".join(done.stdout.split())


def clear(fleet: Fleet, rfc: Path) -> subprocess.CompletedProcess[str]:
    return fleet.play("tidegate.release.clear", {"tidegate_rfc": str(rfc)}, inventory="localhost,")


def test_an_emergency_owes_its_paperwork_until_it_is_settled(fleet: Fleet) -> None:
    assert report(fleet)["debts"] == []
    done = fleet.deploy("CHG0001", "1.0")
    assert done.returncode != 0
    assert "approvals: 1 of 2 approvals" in done.stdout
    digest = fleet.archive("1.0")
    shorter = fleet.rfc("CHG0001", "1.0", digest, type="emergency")
    done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(shorter)})
    assert done.returncode == 0, done.stdout

    # It is told in the report, on the page of the report, and in each clearance of the same release.
    owed = report(fleet)
    assert [(debt["rfc"], debt["duty"]) for debt in owed["debts"]] == [("CHG0001", "review"), ("CHG0001", "drill")]  # type: ignore[index]
    assert [sentence.split(" 20")[0] for sentence in owed["attention"]] == [
        "CHG0001 (hello 1.0) owes review since",
        "CHG0001 (hello 1.0) owes drill until",
    ]
    assert "(hello 1.0) owes review since" in (fleet.path / "report" / "index.html").read_text()
    twice = [{"approver": name, "role": "cab", "state": "approved", "decided_at": "2026-01-01T00:00:00Z"} for name in ("carl", "dora")]
    second = fleet.archive("1.1")
    normal = fleet.rfc("CHG0002", "1.1", second, approvals=twice)
    refused = clear(fleet, normal)
    assert refused.returncode != 0
    assert "CHG0002 is not cleared: debts: CHG0001 (hello 1.0) owes review since" in refused.stdout
    assert clear(fleet, fleet.rfc("CHG0003", "1.1", second, type="emergency")).returncode == 0

    # Only what is owed can be settled, with a word about it; check mode settles nothing.
    assert "CHG0001 does not owe 'nothing'; it owes review, drill" in settle(fleet, duty="nothing")
    assert "CHG0002 does not owe 'review'; it owes nothing" in settle(fleet, number="CHG0002")
    assert "nothing is said about what was done" in settle(fleet, note=" ")
    assert "changed=1" in settle(fleet, "--check")
    assert clear(fleet, normal).returncode != 0
    assert "changed=1" in settle(fleet)
    assert "changed=0" in settle(fleet)
    assert clear(fleet, normal).returncode == 0
    assert [debt["duty"] for debt in report(fleet)["debts"]] == ["drill"]  # type: ignore[index]
    assert fleet.rows("select event, data from history where event = 'debt settled'")[0][1].count("minutes 12") == 1


@pytest.mark.thorough
def test_an_emergency_that_was_cancelled_owes_nothing(fleet: Fleet) -> None:
    rfc = fleet.rfc("CHG0004", "1.1", fleet.archive("1.1"), type="emergency")
    assert fleet.play("tidegate.release.stage", {"tidegate_rfc": str(rfc)}).returncode == 0
    assert "CHG0004" in {debt["rfc"] for debt in report(fleet)["debts"]}  # type: ignore[index]
    assert fleet.play("tidegate.release.backout", {"tidegate_rfc": str(rfc)}).returncode == 0
    assert fleet.state("CHG0004") == "cancelled"
    assert "CHG0004" not in {debt["rfc"] for debt in report(fleet)["debts"]}  # type: ignore[index]


def test_where_the_policy_names_people_a_debt_is_settled_with_a_signature(fleet: Fleet) -> None:
    key, stranger = fleet.path / "rita.pem", fleet.path / "other.pem"
    for path in (key, stranger):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)], check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True).stdout
    fleet.write_policy(**fleet.policy, people={"rita": {"roles": ["change-manager"], "keys": [{"public": public}]}})
    assert "is settled with a signature; give the key of one of them" in settle(fleet, duty="drill")
    assert "the policy gives this key to nobody" in settle(fleet, "-e", f"tidegate_key={stranger}", duty="drill")
    done = settle(fleet, "-e", f"tidegate_key={key}", duty="drill")
    assert "owed drill, settled by rita" in done
    play = fleet.path / "look.yml"
    play.write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "tasks": [
                        {"tidegate.release.attestation_info": {"name": "hello", "version": "1.0"}, "register": "found"},
                        {"ansible.builtin.assert": {"that": ["found.evidence | map(attribute='kind') | list == ['settlement']"]}},
                    ],
                }
            ]
        )
    )
    looked = fleet.play(str(play))
    assert looked.returncode == 0, looked.stdout


class Desk:
    """The homes of an office, whose plans are made without a playbook; nothing is asked of its changes."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.cmdb_url = str(office.path / "cmdb.sqlite")
        self.policy = office.path / "policy.yml"
        write_document(self.policy, policy_of(approvals={"normal": 0, "emergency": 0}))

    def plan(self) -> None:
        with Sources(str(self.office.path / "dsl"), self.cmdb_url, str(self.policy), datetime.now(UTC)) as sources:
            plan(sources, self.request("web1", "web2"))

    def give_up(self) -> None:
        order_backout(self.request("web1"), cmdb_url=self.cmdb_url, policy_path=str(self.policy), reason="no", now=datetime.now(UTC))

    def request(self, *inventory: str) -> RunRequest:
        return RunRequest(str(self.office.path / "rfc.yml"), Reach(inventory), write=True, interrupted=lambda: "")

    def owed(self) -> list[Debt]:
        with Cmdb.open(self.cmdb_url) as cmdb:
            return debts(cmdb)

    def settle(self) -> None:
        library = create_library(str(self.office.path / "dsl")).repository("hello")
        with Cmdb.open(self.cmdb_url) as cmdb:
            settlement = Settlement("CHG0030001", "review", "done")
            settle_debt(cmdb, library, load_policy(self.policy), settlement, None, datetime.now(UTC), write=True)


@pytest.fixture
def desk(office: Office) -> Desk:
    return Desk(office)


def test_a_change_that_becomes_an_emergency_on_its_way_owes_what_one_does(desk: Desk) -> None:
    desk.plan()
    assert desk.owed() == []
    desk.office.edit(type="emergency")
    desk.plan()
    (debt,) = desk.owed()
    assert (debt.rfc, debt.duty, debt.version) == ("CHG0030001", "review", "1.0")
    desk.plan()  # once
    desk.office.edit(type="normal")  # and for good
    desk.plan()
    assert desk.owed() == [debt]


def test_an_emergency_that_begins_anew_owes_everything_anew(desk: Desk) -> None:
    desk.office.edit(type="emergency")
    desk.plan()
    (first,) = desk.owed()
    desk.give_up()
    assert desk.owed() == []
    folder = desk.office.path / "second"
    manifest = yaml.safe_load((EXAMPLES / "hello" / "release.yml").read_text()) | {"name": "bye", "version": "2.0"}
    subprocess.run(["cp", "-r", str(EXAMPLES / "hello"), str(folder)], check=True)
    (folder / "release.yml").write_text(yaml.safe_dump(manifest))
    digest = archive(folder, create_library(str(desk.office.path / "dsl")).repository("bye")).digest
    desk.office.edit(release={"name": "bye", "version": "2.0", "digest": digest})
    desk.plan()
    (second,) = desk.owed()
    assert (second.release, second.version, second.digest, second.settled) == ("bye", "2.0", digest, None)
    assert second.incurred > first.incurred


def test_a_deployment_whose_open_wave_has_no_host_left_does_not_go_on_without_one(desk: Desk) -> None:
    """Nothing would have shown whether the release is good; and no play has a host that the gate could be asked after."""
    now = datetime.now(UTC)
    with Cmdb.open(desk.cmdb_url) as cmdb:
        cmdb.put_cis([{"name": "web2", "class": "server", "site": "ams"}], "test")
        desk.plan()
        journal = Journal(cmdb)
        deployment = journal.latest("CHG0030001")
        assert deployment is not None
        run = journal.take_over(deployment.id, Holder.this_run(), now)
        for host in ("web1", "web2"):
            journal.staged(run, host, None, now)
        journal.decide_staging(run, GateDecision("proceed", ""), now)
        journal.activating(run, "web1", now)
        write_off_host(cmdb, load_policy(desk.policy), "web1", "its disk died", None, now, write=True)
    with pytest.raises(ConflictError, match=r"every host of wave 1 of CHG0030001#1 is written off .* back the deployment out"):
        desk.plan()
    desk.give_up()
    with Cmdb.open(desk.cmdb_url) as cmdb:
        run = Journal(cmdb).take_over(deployment.id, Holder.this_run(), now)
        assert Journal(cmdb).conclude(run, now).state is DeploymentState.BACKED_OUT


def test_what_is_owed_afterwards_is_not_settled_before(desk: Desk) -> None:
    desk.office.edit(type="emergency")
    desk.plan()
    with pytest.raises(ConflictError, match="has not changed a host yet"):
        desk.settle()
    with Cmdb.open(desk.cmdb_url) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql("update deployment set started = created")
    desk.settle()
    assert [debt.settled is not None for debt in desk.owed()] == [True]
