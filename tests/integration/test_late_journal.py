# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Early-life support and late hosts, by all that a deployment does on the controller: clearance, journal, gates and verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import save, taken_seats
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Entitlement
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import overlapping
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc, open_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import standing
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import WaveStart
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.conclude import conclude
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import decide_staging_gate, decide_wave_gate, make_wave_check
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.late import joined_since, late_differences
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.preview import host_sentence, preview, preview_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.write_off import end_write_offs, write_off_host
from documents import open_rfc, policy_of, simple_manifest, write_document

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOSTS = ["web1", "web2", "web3", "web4"]
OLD = "sha256:" + "a" * 64
ROLLOUT = {"stable": 0, "canary": 1, "steps": [100], "budget": {"wave": 2, "total": 2}}
DOWN, SICK = "unreachable: no route to host", "answers: connection refused"


class Desk:
    """Some hosts, and one RFC that is deployed to them again and again, at moments that the test says."""

    def __init__(self, path: Path, cmdb_url: str, hosts: Sequence[str] = HOSTS) -> None:
        self.path, self.cmdb_url, self.dsl, self.now = path, cmdb_url, str(path / "dsl"), NOW
        self.hosts_there = [*hosts, "web5"]
        self.library = create_library(self.dsl)
        with Cmdb.open(cmdb_url, create=True) as cmdb:
            cmdb.put_cis([{"name": host, "class": "server"} for host in hosts], "test")
        self.policy = path / "policy.yml"
        self.write_policy()
        self.written = self.write_rfc("CHG0001", "2.0")

    def write_policy(self, **rollout: Any) -> None:
        write_document(self.policy, policy_of(approvals={"normal": 0}, rollout=ROLLOUT | rollout))

    def write_rfc(self, number: str, version: str, **changes: Any) -> str:
        release = self.path / version
        if not release.exists():
            (release / "payload").mkdir(parents=True)
            (release / "payload" / "version").write_text(version)
            (release / "README.md").write_text("# hello\n")
            write_document(release / "release.yml", simple_manifest(version=version, licensed_product="prod"))
            archive(release, self.library.repository("hello"))
        digest = self.library.repository("hello").resolve("hello", version)
        span = {"start_date": (NOW - DAY).isoformat(), "end_date": (NOW + 30 * DAY).isoformat()}
        return str(write_document(self.path / f"{number}.yml", open_rfc(number, version, str(digest), NOW, **span, **changes)))

    # -- what the plays of deploy do -------------------------------------------

    def plan(self, rfc: str = "", write: bool = True, hosts: Collection[str] = ()) -> dict[str, Any]:
        with self.sources() as sources:
            return plan(sources, RunRequest(rfc or self.written, Reach(hosts or self.hosts_there), write, lambda: ""))

    def sources(self) -> Sources:
        return Sources(self.dsl, self.cmdb_url, str(self.policy), self.now)

    def stage(self, down: Collection[str] = (), rfc: str = "CHG0001") -> list[str]:
        """Stage all but those that are ``down``; return who was visited."""
        with Cmdb.open(self.cmdb_url) as cmdb:
            journal = Journal(cmdb)
            deployment = self.deployment(journal, rfc)
            hosts = [host for batch in journal.batches(rfc, "stage") for host in batch]
            for host in hosts:
                if host in down:
                    journal.stage_failed(deployment.run, host, DOWN, self.now)
                else:
                    journal.staged(deployment.run, host, {"version": "1.0", "digest": OLD}, self.now)
            return hosts

    def activate(self, sick: Mapping[str, HostState] | None = None, rfc: str = "CHG0001") -> list[str]:
        """Activate the next batch, but for those that are ``sick``; return who was visited."""
        with Cmdb.open(self.cmdb_url) as cmdb:
            journal = Journal(cmdb)
            run = self.deployment(journal, rfc).run
            batches = journal.batches(rfc, "activate")
            for host in batches[0]:
                journal.activating(run, host, self.now)
                state = (sick or {}).get(host, HostState.ACTIVE)
                if state is HostState.ACTIVE:
                    journal.activated(run, host, HostState.STARTED, "", self.now)
                journal.activated(run, host, state, "" if state is HostState.ACTIVE else SICK, self.now)
            return batches[0]

    def gate(self, after: str = "wave", rfc: str = "CHG0001") -> str:
        decide = decide_staging_gate if after == "staging" else decide_wave_gate
        with self.sources() as sources:
            journal = Journal(sources.cmdb())
            run, change = self.deployment(journal, rfc).run, open_change(str(self.path / f"{rfc}.yml"))
            decided = decide(journal, run, change, make_wave_check(sources), lambda *_: [], self.now)
            return f"{decided['decision']}: {decided['reason']}"

    def conclude(self, wanted: str = "completed", rfc: str = "CHG0001", failed: bool = False) -> str:
        with Cmdb.open(self.cmdb_url) as cmdb:
            journal = Journal(cmdb)
            run, change = self.deployment(journal, rfc).run, open_change(str(self.path / f"{rfc}.yml"))
            ended = conclude(journal, run, change, wanted, lambda *_: [], lambda *_: [], self.now)
            assert ended["failed"] is failed, ended["msg"]
            return f"{ended['state']}: {ended['msg']}"

    def deploy(
        self, down: Collection[str] = (), sick: Mapping[str, HostState] | None = None, rfc: str = "CHG0001", failed: bool = False
    ) -> str:
        """The whole playbook."""
        self.plan(str(self.path / f"{rfc}.yml"))
        self.stage(down, rfc)
        if self.state(rfc) == "staging":
            self.gate("staging", rfc)
        while self.state(rfc) == "activating" and self.batches("activate", rfc):
            self.activate(sick, rfc)
            if not self.gate("wave", rfc).startswith("proceed"):
                break
        return self.conclude(rfc=rfc, failed=failed)

    def order_backout(self, write: bool = True) -> None:
        request = RunRequest(self.written, Reach(HOSTS), write, lambda: "")
        order_backout(request, cmdb_url=self.cmdb_url, policy_path=str(self.policy), reason="it is slow", now=self.now)

    # -- what came of it -------------------------------------------------------

    @staticmethod
    def deployment(journal: Journal, rfc: str = "CHG0001") -> Deployment:
        found = journal.latest(rfc)
        assert found is not None
        return found

    def batches(self, step: str, rfc: str = "CHG0001") -> list[list[str]]:
        with Cmdb.open(self.cmdb_url) as cmdb:
            return Journal(cmdb).batches(rfc, step)

    def state(self, rfc: str = "CHG0001") -> str:
        with Cmdb.open(self.cmdb_url) as cmdb:
            return str(self.deployment(Journal(cmdb), rfc).state)

    def hosts(self, rfc: str = "CHG0001") -> dict[str, str]:
        with Cmdb.open(self.cmdb_url) as cmdb:
            journal = Journal(cmdb)
            return {target.host: str(target.state) for target in journal.targets(self.deployment(journal, rfc).id)}

    def locked(self, rfc: str = "CHG0001") -> set[str]:
        with Cmdb.open(self.cmdb_url) as cmdb:
            journal = Journal(cmdb)
            return journal.locked(self.deployment(journal, rfc).id)

    def installed(self) -> dict[str, str]:
        with Cmdb.open(self.cmdb_url) as cmdb:
            return {row["ci"]: row["version"] for row in cmdb.installations()}

    def register(self, rfc: str = "CHG0001") -> tuple[int, str]:
        with Cmdb.open(self.cmdb_url) as cmdb, cmdb.read() as connection:
            change = schema().change
            row = connection.execute(change.select().where(change.c.number == rfc)).one()
            return row.state, row.close_code


@pytest.fixture
def desk(tmp_path: Path, cmdb_url: str) -> Desk:
    return with_seats(Desk(tmp_path, cmdb_url))


def with_seats(desk: Desk) -> Desk:
    with Cmdb.open(desk.cmdb_url) as cmdb, cmdb.begin() as connection:
        save(connection, Entitlement("hello", "prod", 20), "test", NOW, write=True)
    return desk


IMPLEMENT, REVIEW = -1, 0
UNTIL = "2026-03-08 12:00 UTC"


def test_nineteen_of_twenty_hosts_become_twenty(tmp_path: Path, cmdb_url: str) -> None:
    hosts = [f"h{number:02}" for number in range(1, 21)]
    desk = with_seats(Desk(tmp_path, cmdb_url, hosts))
    desk.write_policy(canary=2, steps=[50, 100])
    assert desk.deploy(down=["h05"]).startswith(f"supporting: CHG0001: hello 2.0 is live on 19 of 20 hosts; h05 is late ({DOWN}); ")
    assert desk.hosts() == {**dict.fromkeys(hosts, "active"), "h05": "stage_failed"}
    assert "h05" not in desk.installed()
    desk.plan()
    assert desk.batches("stage") == [["h05"]]
    assert desk.deploy() == "completed: CHG0001: hello 2.0 is live on 20 of 20 hosts."
    assert desk.hosts() == dict.fromkeys(hosts, "active")
    assert desk.installed() == dict.fromkeys(hosts, "2.0")


def test_a_host_that_was_down_gets_the_release_when_it_is_there_again(desk: Desk) -> None:
    said = desk.deploy(down=["web4"])
    assert said == (
        f"supporting: CHG0001: hello 2.0 is live on 3 of 4 hosts; web4 is late ({DOWN}); deploy again brings it in until {UNTIL}."
    )
    assert (desk.locked(), desk.register()) == (set(), (IMPLEMENT, ""))
    desk.now += DAY
    planned = desk.plan()
    assert planned["msg"] == "CHG0001#1 is live, and brings hello 2.0 to 1 host late, in 1 wave: web4"
    assert (desk.state(), desk.locked(), desk.hosts()["web4"]) == ("staging", {"web4"}, "planned")
    assert desk.stage() == ["web4"]
    assert desk.gate("staging") == "proceed: 1 host staged late"
    assert desk.activate() == ["web4"]
    assert desk.gate() == "proceed: 1 host in wave 3 of 3 active"
    assert desk.conclude() == "completed: CHG0001: hello 2.0 is live on 4 of 4 hosts."
    assert desk.installed() == dict.fromkeys(HOSTS, "2.0")
    assert desk.register() == (REVIEW, "successful")


def test_who_is_down_again_stays_late_and_holds_nothing_until_nobody_is_brought_in_any_more(desk: Desk) -> None:
    desk.deploy(down=["web4"], sick={"web3": HostState.FAILED})
    desk.now += DAY
    assert desk.deploy(down=["web3", "web4"]) == (
        f"supporting: CHG0001: hello 2.0 is live on 2 of 4 hosts; web3 is late ({DOWN}), web4 is late ({DOWN}); "
        f"deploy again brings them in until {UNTIL}."
    )
    assert desk.locked() == set()
    assert desk.deploy(down=["web4"]).startswith("supporting: CHG0001: hello 2.0 is live on 3 of 4 hosts; web4 is late")
    desk.now = NOW + 7 * DAY
    assert desk.plan()["msg"] == "CHG0001#1 is live; its support is over, and no host is to be changed"
    assert desk.conclude() == (
        "completed: CHG0001: hello 2.0 is live on 3 of 4 hosts; web4 is stage_failed; "
        f"web4 is late ({DOWN}) for good, for late hosts were brought in until {UNTIL}."
    )
    assert desk.register() == (REVIEW, "successful_issues")
    assert desk.plan()["msg"] == "CHG0001#1 is already completed; nothing to do"


def test_a_policy_without_support_completes_as_soon_as_the_last_wave_is_decided(desk: Desk) -> None:
    desk.write_policy(support={"late_days": 0})
    assert desk.deploy(down=["web4"]) == "completed: CHG0001: hello 2.0 is live on 3 of 4 hosts; web4 is stage_failed."


def test_early_life_support_keeps_the_change_in_implement_until_its_hours_are_over(desk: Desk) -> None:
    desk.write_policy(support={"hours": 24})
    assert desk.deploy() == "supporting: CHG0001: hello 2.0 is live on 4 of 4 hosts; its early-life support is until 2026-03-02 12:00 UTC."
    assert (desk.locked(), desk.register()) == (set(), (IMPLEMENT, ""))
    write_document(Path(desk.written), yaml.safe_load(Path(desk.written).read_text()) | {"state": -1})
    assert "no host is to be changed" in desk.plan()["msg"]
    assert desk.conclude().startswith("supporting: ")
    desk.now += DAY
    desk.plan()
    assert desk.conclude() == "completed: CHG0001: hello 2.0 is live on 4 of 4 hosts."
    assert desk.register() == (REVIEW, "successful")


def test_a_late_canary_that_fails_ends_the_round_and_takes_nothing_back(desk: Desk) -> None:
    desk.deploy(down=["web3", "web4"])
    desk.now += DAY
    assert [len(wave) for wave in desk.plan()["waves"]] == [1, 1]
    assert (desk.stage(), desk.gate("staging")) == (["web3", "web4"], "proceed: 2 of 2 hosts staged late")
    assert desk.activate({"web3": HostState.FAILED}) == ["web3"]
    assert desk.gate() == (
        f"hold: none of 1 host in wave 3 of 4 runs the release; where the release is live it stays, and what is left stays late "
        f"(web3: {SICK})"
    )
    assert desk.state() == "supporting"
    assert desk.batches("activate") == []
    said = desk.conclude()
    assert f"web3 is late ({SICK}), web4 is late (it was not tried, for wave 3 before it failed)" in said
    assert (desk.hosts(), desk.locked()) == (
        {"web1": "active", "web2": "active", "web3": "failed", "web4": "stage_failed"},
        set(),
    )
    assert desk.deploy().startswith("completed: CHG0001: hello 2.0 is live on 4 of 4 hosts")


def test_late_failures_count_on_and_over_the_budget_of_all_the_release_goes_back_everywhere(desk: Desk) -> None:
    desk.write_policy(budget={"wave": 2, "total": 1})
    desk.deploy(down=["web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        cmdb.put_cis([{"name": "web5", "class": "server"}], "test")
    approved_anew(desk)
    assert [list(wave) for wave in desk.plan()["waves"]] == [["web4"], ["web5"]]
    desk.stage(down=["web4"])
    assert desk.gate("staging") == f"proceed: 1 of 2 hosts staged late, 1 stay late (web4: {DOWN})"
    desk.activate({"web5": HostState.FAILED})
    assert desk.gate().startswith("back_out: 2 of 5 hosts in the deployment so far failed or got lost, over the budget of 1")
    assert desk.batches("backout") == [["web5"], ["web2", "web3"], ["web1"]]


def approved_anew(desk: Desk) -> None:
    """The RFC reads otherwise than when it was cleared, and people have decided on it as it is."""
    text = yaml.safe_load(Path(desk.written).read_text())
    write_document(Path(desk.written), text | {"short_description": "hello 2.0, and on what joined"})


def test_a_ci_that_joined_the_scope_is_named_and_comes_in_when_people_have_decided_on_it(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        cmdb.put_cis([{"name": "web5", "class": "server"}], "test")
        deployment = desk.deployment(Journal(cmdb))
        assert joined_since(cmdb, deployment) == ["web5"]
        nothing: dict[str, Any] = {host: [] for host in (*HOSTS, "web5")}
        live = {"name": "hello", "version": "2.0", "digest": deployment.digest}
        found = nothing | {host: [live] for host in ("web1", "web2", "web3")}
        late = {one["host"]: (one["kind"], one["detail"], one["remedy"]) for one in late_differences(cmdb, found, desk.now)}
    assert late == {
        "web4": ("late", f"it is late: hello 2.0 did not get there ({DOWN})", f"deploy CHG0001 again, which brings it in until {UNTIL}"),
        "web5": (
            "late",
            "it is late: the scope of CHG0001 selects it since hello 2.0 was planned",
            "edit CHG0001 and have it approved anew, then deploy it again, or raise another RFC",
        ),
    }
    said = desk.plan(write=False)["msg"]
    nobody = "web5 joined the scope since, which nobody has decided on: edit the RFC and have it approved anew, or raise another one"
    assert said.endswith(f"1 wave: web4; {nobody}")
    approved_anew(desk)
    assert desk.plan()["msg"].endswith("2 hosts late, in 2 waves: web4, web5; web5 joined the scope since")
    assert desk.locked() == {"web4", "web5"}
    with Cmdb.open(desk.cmdb_url) as cmdb:
        assert not standing(cmdb, "web4", "hello").fresh  # a first attempt may have left something there
        assert standing(cmdb, "web5", "hello").fresh
    desk.stage()
    desk.gate("staging")
    for host in ("web4", "web5"):
        assert desk.activate() == [host]
        desk.gate()
    assert desk.conclude() == "completed: CHG0001: hello 2.0 is live on 5 of 5 hosts."


def test_nothing_is_late_that_answers_with_the_release_or_does_not_answer_or_has_no_deployment_in_support(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        digest = desk.deployment(Journal(cmdb)).digest
        there = [{"name": "hello", "version": "2.0", "digest": digest}]
        assert late_differences(cmdb, {"web4": there}, desk.now) == []
        assert late_differences(cmdb, {}, desk.now) == []
        assert [one["remedy"] for one in late_differences(cmdb, {"web4": []}, NOW + 8 * DAY)] == ["raise another RFC"]
    desk.deploy()
    with Cmdb.open(desk.cmdb_url) as cmdb:
        assert late_differences(cmdb, {"web4": []}, desk.now) == []


def test_a_late_round_is_cleared_first_and_only_for_the_hosts_that_it_brings_in(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    text = yaml.safe_load(Path(desk.written).read_text())
    write_document(Path(desk.written), text | {"end_date": (NOW + DAY).isoformat()})
    desk.now += 2 * DAY
    with pytest.raises(TidegateError, match="is over"):
        desk.plan()
    assert (desk.state(), desk.locked()) == ("supporting", set())
    write_document(Path(desk.written), text | {"on_hold": True})
    with pytest.raises(TidegateError, match="on hold"):
        desk.plan()
    write_document(Path(desk.written), text)
    # Another change is planned for a host that has the release, and is no conflict: this one does not go there any more.
    other = desk.write_rfc("CHG0009", "3.0", scope="[?name=='web1']")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        assert overlapping(cmdb, load_rfc(other), {"web1"}) == []
    with pytest.raises(TidegateError, match="web4"):
        desk.plan(hosts=["web1", "web2", "web3"])
    assert desk.state() == "supporting"
    desk.plan()
    assert desk.locked() == {"web4"}


def test_a_late_round_locks_all_its_hosts_or_none(desk: Desk) -> None:
    desk.deploy(down=["web3", "web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        package = {"name": "other", "version": "1.0", "digest": OLD}
        rollout = load_policy(None).rollout
        Journal(cmdb).begin("CHG0007", package, [["web4"]], rollout, Holder("ann", "elsewhere", 1, 1, "feedbeef"), NOW)
    with pytest.raises(ConflictError, match=r"1 of the CIs \(web4\) are locked by CHG0007#2"):
        desk.plan()
    assert (desk.state(), desk.locked(), desk.hosts()["web3"]) == ("supporting", set(), "stage_failed")


def test_seats_of_late_hosts_are_free_in_support_and_reserved_for_a_late_round(desk: Desk) -> None:
    def seats() -> set[tuple[str, str]]:
        with Cmdb.open(desk.cmdb_url) as cmdb, cmdb.read() as connection:
            return {(held.seat.ci, str(held.state)) for held in taken_seats(connection)}

    used = {(host, "used") for host in ("web1", "web2", "web3")}
    desk.deploy(down=["web4"])
    assert seats() == used
    desk.plan()
    assert seats() == used | {("web4", "reserved")}
    desk.stage(down=["web4"])
    assert desk.gate("staging") == f"hold: none of 1 host that came late could be staged (web4: {DOWN})"
    assert (desk.state(), seats()) == ("supporting", used)
    desk.deploy()
    assert seats() == used | {("web4", "used")}


def test_a_later_release_on_its_hosts_ends_support_in_the_same_transaction(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    later = desk.write_rfc("CHG0002", "3.0", scope="[?name=='web1' || name=='web2']")
    desk.plan(later)
    assert (desk.state(), desk.state("CHG0002")) == ("completed", "staging")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        assert desk.deployment(Journal(cmdb)).reason == "CHG0002#2 brings 3.0 to web1 and 1 more, which ends its support"
    assert desk.register() == (REVIEW, "successful_issues")


def test_a_release_on_other_hosts_or_of_another_name_leaves_support_alone(desk: Desk) -> None:
    desk.write_policy(support={"hours": 1})
    Path(desk.written).unlink()
    desk.written = desk.write_rfc("CHG0001", "2.0", scope="[?name!='web4']")
    desk.deploy()
    desk.plan(desk.write_rfc("CHG0002", "3.0", scope="[?name=='web4']"))
    assert (desk.state(), desk.state("CHG0002")) == ("supporting", "staging")


def test_support_does_not_begin_where_a_later_release_began_during_a_late_round(desk: Desk) -> None:
    desk.deploy(down=["web3", "web4"])
    desk.plan()
    desk.stage(down=["web4"])
    desk.plan(desk.write_rfc("CHG0002", "3.0", scope="[?name=='web1']"))
    assert desk.state() == "staging"
    desk.gate("staging")
    desk.activate()
    desk.gate()
    said = desk.conclude()
    assert said.startswith("completed: CHG0001: hello 2.0 is live on 3 of 4 hosts; web4 is stage_failed; CHG0002#2 brings 3.0 to web1")


def test_a_late_host_that_is_written_off_is_not_waited_for_and_is_late_again_when_it_is_back(desk: Desk) -> None:
    desk.deploy(sick={"web4": HostState.FAILED})
    with Cmdb.open(desk.cmdb_url) as cmdb:
        write_off_host(cmdb, load_policy(None), "web4", "its disk died", None, NOW, True)
        assert desk.hosts()["web4"] == "written_off"
        assert desk.deployment(Journal(cmdb)).reason == ""
        end_write_offs(cmdb, ["web4"], "it answered", "test", NOW, True)
        assert desk.hosts()["web4"] == "failed"
        assert desk.deployment(Journal(cmdb)).reason.startswith("web4 is late")
        write_off_host(cmdb, load_policy(None), "web4", "its disk died", None, NOW, True)
    desk.plan()
    assert desk.conclude() == "completed: CHG0001: hello 2.0 is live on 3 of 4 hosts; web4 is written off (its disk died)."


def test_a_lost_host_that_was_written_off_is_looked_at_where_it_is_when_it_is_back(desk: Desk) -> None:
    desk.deploy(down=["web3"], sick={"web4": HostState.LOST}, failed=True)
    with Cmdb.open(desk.cmdb_url) as cmdb:
        write_off_host(cmdb, load_policy(None), "web4", "its disk died", None, NOW, True)
    desk.plan()
    assert desk.conclude().startswith("supporting: ")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        end_write_offs(cmdb, ["web4"], "it answered", "test", NOW, True)
    assert desk.hosts()["web4"] == "lost"
    # The late one first; then what got lost is known not to be known.
    assert desk.deploy(failed=True).startswith("held: CHG0001: hello 2.0 is held: it is not known what web4 run")
    assert desk.deploy() == "completed: CHG0001: hello 2.0 is live on 4 of 4 hosts."


def test_a_lost_host_alone_is_visited_without_a_wave(desk: Desk) -> None:
    desk.write_policy(support={"hours": 1})
    desk.deploy(sick={"web4": HostState.LOST}, failed=True)
    with Cmdb.open(desk.cmdb_url) as cmdb:
        write_off_host(cmdb, load_policy(None), "web4", "its disk died", None, NOW, True)
    desk.plan()
    assert desk.conclude().startswith("supporting: ")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        end_write_offs(cmdb, ["web4"], "it answered", "test", NOW, True)
    desk.plan()
    assert (desk.state(), desk.locked(), desk.batches("activate")) == ("activating", {"web4"}, [["web4"]])
    desk.activate()
    assert desk.gate().startswith("proceed")
    assert desk.conclude().startswith("supporting: CHG0001: hello 2.0 is live on 4 of 4 hosts")


def test_an_open_late_wave_whose_host_is_written_off_is_passed_over(desk: Desk) -> None:
    desk.deploy(down=["web3", "web4"])
    desk.plan()
    desk.stage()
    desk.gate("staging")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        journal.hold(desk.deployment(journal).run, "a person wants it", NOW)
        journal.release_lease(desk.deployment(journal).run, NOW)
        write_off_host(cmdb, load_policy(None), "web3", "its disk died", None, NOW, True)
    desk.plan()
    assert desk.batches("activate") == [["web4"]]
    desk.activate()
    assert desk.gate() == "proceed: 1 host in wave 4 of 4 active"
    assert desk.conclude().startswith("completed: CHG0001: hello 2.0 is live on 3 of 4 hosts; web3 is written off")


@pytest.mark.parametrize("opened", [True, False])
def test_a_late_round_whose_only_host_is_written_off_comes_to_its_end(desk: Desk, opened: bool) -> None:
    desk.deploy(down=["web4"])
    desk.plan()
    if opened:
        desk.stage()
        desk.gate("staging")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        journal.hold(desk.deployment(journal).run, "a person wants it", NOW)
        journal.release_lease(desk.deployment(journal).run, NOW)
        write_off_host(cmdb, load_policy(None), "web4", "its disk died", None, NOW, True)
    said = desk.deploy()
    assert said == "completed: CHG0001: hello 2.0 is live on 3 of 4 hosts; web4 is written off (its disk died)."


def test_a_ci_that_joined_comes_in_although_nobody_else_is_late(desk: Desk) -> None:
    desk.write_policy(support={"hours": 24})
    desk.deploy()
    with Cmdb.open(desk.cmdb_url) as cmdb:
        cmdb.put_cis([{"name": "web5", "class": "server"}], "test")
    assert "web5 joined the scope since, which nobody has decided on" in desk.plan()["msg"]
    approved_anew(desk)
    assert desk.plan()["waves"] == [["web5"]]
    assert desk.deploy().startswith("supporting: CHG0001: hello 2.0 is live on 5 of 5 hosts; its early-life support is until")


@pytest.mark.parametrize("when", ["planned", "staged", "opened", "activated"])
def test_a_late_round_that_was_interrupted_goes_on_where_it_stood(desk: Desk, when: str) -> None:
    desk.deploy(down=["web4"])
    desk.plan()
    if when != "planned":
        desk.stage()
    if when in ("opened", "activated"):
        desk.gate("staging")
    if when == "activated":
        desk.activate()
    assert desk.plan()["msg"].startswith("CHG0001#1 goes on where it stands: ")
    assert desk.deploy() == "completed: CHG0001: hello 2.0 is live on 4 of 4 hosts."


def hold(desk: Desk) -> None:
    """A person interrupts the run, which ends."""
    with Cmdb.open(desk.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        run = desk.deployment(journal).run
        journal.hold(run, "a person wants it", desk.now)
        journal.release_lease(run, desk.now)


def test_a_wave_is_asked_of_those_that_change_next_though_a_late_one_between_is_left_out(desk: Desk) -> None:
    desk.write_policy(order_by="site", canary=2, budget={"wave": 3, "total": 3})
    hosts = [f"web{number}" for number in range(1, 7)]
    with Cmdb.open(desk.cmdb_url) as cmdb:
        cmdb.put_cis([{"name": host, "class": "server", "site": "aabbcc"[number]} for number, host in enumerate(hosts)], "test")
    desk.hosts_there = hosts
    desk.deploy(down=["web2", "web4", "web6"])
    assert [list(wave) for wave in desk.plan()["waves"]] == [["web2"], ["web4"], ["web6"]]
    desk.stage(down=["web4"])
    desk.gate("staging")
    assert desk.activate() == ["web2"]
    asked = []

    def opens(_rfc: Any, wave: Any) -> WaveStart:
        asked.append(wave.hosts)
        return WaveStart("a freeze has begun")

    with Cmdb.open(desk.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        run, change = desk.deployment(journal).run, open_change(desk.written)
        assert decide_wave_gate(journal, run, change, opens, lambda *_: [], desk.now)["decision"] == "hold"
    assert (asked, desk.state()) == ([("web6",)], "held")


@pytest.mark.parametrize("when", ["planned", "staged", "held", "activated"])
def test_a_late_round_that_is_not_cleared_any_more_is_given_up_and_takes_nothing_back(desk: Desk, when: str) -> None:
    desk.deploy(down=["web3", "web4"])
    desk.plan()
    if when != "planned":
        desk.stage()
    if when in ("held", "activated"):
        desk.gate("staging")
    if when == "activated":
        desk.activate()
    if when in ("held", "activated"):
        hold(desk)
    text = yaml.safe_load(Path(desk.written).read_text())
    write_document(Path(desk.written), text | {"on_hold": True})
    with pytest.raises(TidegateError, match=r"on hold") as refused:
        desk.plan(write=False)
    assert desk.state() != "supporting"
    with pytest.raises(TidegateError, match=r"on hold") as refused:
        desk.plan()
    assert "brings in nobody any more for now, and is live where it was" in str(refused.value)
    assert (desk.state(), desk.locked()) == ("supporting", set())
    active = {"web1", "web2", *(["web3"] if when == "activated" else [])}
    assert {host for host, state in desk.hosts().items() if state == "active"} == active == set(desk.installed())
    write_document(Path(desk.written), text)
    assert desk.deploy() == "completed: CHG0001: hello 2.0 is live on 4 of 4 hosts."


def test_a_late_round_whose_host_may_be_changing_is_not_given_up(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    desk.plan()
    desk.stage()
    desk.gate("staging")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        journal.activating(desk.deployment(journal).run, "web4", desk.now)
    hold(desk)
    with Cmdb.open(desk.cmdb_url) as cmdb:
        assert not Journal(cmdb).give_up_round(1, Holder.this_run(), "because", desk.now)
    assert (desk.state(), desk.locked()) == ("held", {"web4"})


def test_a_late_round_that_another_controller_drives_is_neither_begun_nor_given_up(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    desk.plan()
    other = Holder("ann", "elsewhere", 1, 1, "feedbeef")
    with Cmdb.open(desk.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        assert not journal.give_up_round(1, other, "because", desk.now)
        with pytest.raises(ConflictError, match="is being driven by"):
            journal.begin_late(1, [["web4"]], other, desk.now)
        with pytest.raises(ConflictError, match="is staging by now, so nobody is brought in late"):
            journal.begin_late(1, [["web4"]], other, desk.now, ordered=True)
    desk.deploy(down=["web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb, pytest.raises(ConflictError, match="web1 is active in CHG0001#1 by now, not late"):
        Journal(cmdb).begin_late(1, [["web1"]], Holder.this_run(), desk.now)


def test_a_plan_shows_who_came_in_late_and_why_there(desk: Desk) -> None:
    desk.deploy(down=["web3", "web4"])
    desk.plan()
    with desk.sources() as sources:
        shown = preview(sources, desk.written)
    assert [[entry["host"] for entry in wave["hosts"]] for wave in shown["waves"]] == [["web1"], ["web2"], ["web3"], ["web4"]]
    lines = list(preview_lines(shown))
    assert lines[0] == "CHG0001#1 is staging: hello 2.0 to 4 hosts in 4 waves (1, 1, 1, 1)"
    assert "  wave 3/4: web3: nothing -> 2.0; brought in late; the canary, the first in order" in lines
    assert "web4 is in wave 4 of 4, alone: brought in late; the canary comes first, alone" in host_sentence(shown, "web4")


def test_a_late_round_goes_no_further_when_a_later_release_came_first(desk: Desk) -> None:
    desk.deploy(down=["web3", "web4"])
    desk.plan()
    desk.stage()
    desk.gate("staging")
    hold(desk)
    desk.plan(desk.write_rfc("CHG0002", "3.0", scope="[?name=='web1']"))
    with pytest.raises(ConflictError, match=r"goes no further: CHG0002#2 brings 3\.0 to web1") as refused:
        desk.plan()
    assert "is live where it was" in str(refused.value)
    assert desk.state() == "completed"


def test_a_host_that_has_the_release_and_was_taken_down_since_stands_in_no_late_ones_way(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        write_off_host(cmdb, load_policy(desk.policy), "web1", "its board is broken", None, desk.now, write=True)
        cmdb.remove_cis(["web1"], "test")
    there = ["web2", "web3", "web4"]
    assert desk.plan(hosts=there)["msg"].endswith("1 host late, in 1 wave: web4")
    assert "goes on where it stands" in desk.plan(hosts=there)["msg"]


@pytest.mark.parametrize("when", ["supporting", "planned", "opened"])
def test_a_back_out_takes_late_hosts_out_of_the_plan_and_the_others_back(desk: Desk, when: str) -> None:
    desk.deploy(down=["web4"], sick={"web3": HostState.FAILED})
    if when != "supporting":
        desk.plan()
    if when == "opened":
        desk.stage()
        desk.gate("staging")
    desk.order_backout()
    assert desk.state() == "backing_out"
    # One that failed went back by itself; it is visited as always, unless it was planned anew since.
    assert desk.batches("backout") == ([["web2", "web3"], ["web1"]] if when == "supporting" else [["web2"], ["web1"]])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        run = desk.deployment(journal).run
        for host in [host for batch in journal.batches("CHG0001", "backout") for host in batch]:
            journal.backing_out(run, host, NOW)
            journal.backed_out(run, host, HostState.BACKED_OUT, "", NOW)
    assert desk.conclude("backed_out").startswith("backed_out: ")
    assert set(desk.installed().values()) == {"1.0"}


def test_a_supporting_deployment_is_not_backed_out_while_another_has_one_of_its_hosts(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        package = {"name": "other", "version": "1.0", "digest": OLD}
        Journal(cmdb).begin("CHG0007", package, [["web1"]], load_policy(None).rollout, Holder.this_run(), NOW)
    for write in (False, True):
        with pytest.raises(ConflictError, match="locked by CHG0007"):
            desk.order_backout(write)


def test_a_report_shows_what_is_supported_and_who_is_late(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    with Cmdb.open(desk.cmdb_url) as cmdb:
        overview = build_report(cmdb, desk.now).overview
        assert Journal(cmdb).past("hello") == []
    sentence = f"CHG0001, hello 2.0 is live and supported: web4 is late ({DOWN}); deploy again brings it in until {UNTIL}."
    assert sentence in overview["attention"]
    assert overview["deployments"][0]["state"] == "supporting"
    desk.now += DAY
    desk.deploy()
    with Cmdb.open(desk.cmdb_url) as cmdb:
        assert [past.seconds for past in Journal(cmdb).past("hello")] == [0]  # and not the day of its support


def test_staging_by_itself_prepares_a_late_round_and_deploy_goes_on_with_it(desk: Desk) -> None:
    desk.deploy(down=["web4"])
    desk.plan()
    desk.stage()
    assert desk.conclude("staged").startswith("staging: ")
    assert desk.deploy() == "completed: CHG0001: hello 2.0 is live on 4 of 4 hosts."
