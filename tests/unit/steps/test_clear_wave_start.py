# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was true when an RFC was cleared is looked at again before each wave, and a wave does not start when it is not true any more."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import engine
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.approval import APPROVED
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import remember_sight
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import KINDS, Statement, purl
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc, open_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import clear as clear_step
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import (
    Clearing,
    Wave,
    WaveStart,
    check_wave_start,
    clear,
    refuse_commands,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import decide_staging_gate, make_wave_check
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.retire import Retirement, restore, retire
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources, matter_of, retirement_of
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import make_notifier
from documents import STRICT, policy_of, simple_manifest, write_document
from homes import HELLO, NOW, Homes
from releases import replace_list
from seals import KEYS, pem

PEOPLE = {
    "rita": {"roles": ["release-manager"], "keys": [{"public": pem(KEYS["rita"])}]},
    "dora": {"roles": ["tester"], "keys": [{"public": pem(KEYS["dora"])}]},
}
HOSTS = ("web1", "web2", "db1")
PROCEED = GateDecision("proceed", "because")


class Rollout:
    """A deployment of hello under way, to hosts that had nothing of it."""

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        self.rfc = homes.path / "rfc.yml"
        self.policy = homes.path / "policy.yml"
        with Cmdb.open(str(homes.cmdb)) as cmdb:
            cmdb.put_cis([{"name": "web2", "class": "server", "site": "ams"}], "test")
        self.write(release={"name": "hello", "version": "1.0", "digest": homes.digest})
        self.permit()

    def write(self, **changes: Any) -> None:
        document = {"scope": "[?class=='server']", **changes}
        if self.rfc.exists():
            document = {**yaml.safe_load(self.rfc.read_text()), **changes}
        self.homes.write("rfc", **document)

    def permit(self, **policy: Any) -> None:
        self.homes.write("policy", **{"approvals": ..., "people": PEOPLE, **policy})

    def sources(self, minutes: int = 0) -> Sources:
        return Sources(str(self.homes.dsl), str(self.homes.cmdb), str(self.policy), NOW + timedelta(minutes=minutes))

    def check(self, *hosts: str, done: tuple[str, ...] = (), minutes: int = 0) -> WaveStart:
        wave = Wave(hosts or ("web1",), frozenset(done))
        with self.sources(minutes) as sources:
            return check_wave_start(sources, load_rfc(str(self.rfc)), wave)

    def stopped(self, *hosts: str, done: tuple[str, ...] = (), minutes: int = 0) -> str:
        return self.check(*hosts, done=done, minutes=minutes).stop

    def sign(self, who: str, kind: str, digest: str | None = None, **said: Any) -> None:
        statement = Statement(purl("hello", "1.0"), digest or self.homes.digest, KINDS[kind], said)
        attach(OciLayout.open(self.homes.dsl), self.homes.digest, sign(statement, KEYS[who], NOW))

    def clear(self) -> Clearing:
        with self.sources() as sources:
            return clear(sources, str(self.rfc))

    def approve(self, who: str) -> None:
        clearing = self.clear()
        assert clearing.rfc
        statement = matter_of(clearing.rfc, clearing.cis).statement("release-manager", APPROVED, "")
        attach(OciLayout.open(self.homes.dsl), self.homes.digest, sign(statement, KEYS[who], NOW))

    def plan(self) -> Run:
        with self.sources() as sources:
            done = plan(sources, RunRequest(str(self.rfc), Reach(HOSTS), write=True, interrupted=lambda: ""))
        assert done["changed"]
        with Cmdb.open(str(self.homes.cmdb)) as cmdb:
            return Journal(cmdb).driven_by(load_rfc(str(self.rfc)).number, Holder.this_run()).run

    def archive(self, version: str, **manifest: Any) -> str:
        folder = self.homes.path / version
        shutil.copytree(HELLO, folder)
        path = folder / "release.yml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"version": version, **manifest}))
        return archive(folder, OciLayout.open(self.homes.dsl)).digest

    def install(self, version: str, digest: str, *hosts: str) -> None:
        rows = [{"ci": host, "release": "hello", "version": version, "digest": digest} for host in hosts]
        with Cmdb.open(str(self.homes.cmdb)) as cmdb, cmdb.begin() as connection:
            cmdb.record_installations(connection, rows, "test", NOW)


@pytest.fixture
def rollout(homes: Homes) -> Rollout:
    return Rollout(homes)


def calendar(path: Path, summary: str, site: str, end: int, start: int = -60) -> None:
    """One event, from and until so many minutes from now."""
    begins = NOW + timedelta(minutes=start)
    event = f"UID:1\nSUMMARY:{summary}\nDTSTART:{begins:%Y%m%dT%H%M%SZ}\nDURATION:PT{end - start}M\nLOCATION:{site}"
    path.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\n{event}\nEND:VEVENT\nEND:VCALENDAR\n")


def test_a_wave_does_not_start_when_what_people_signed_has_vanished(rollout: Rollout) -> None:
    rollout.sign("dora", "opinion", score=1, blocking=True)
    opened = rollout.check("web1")
    assert opened.stop == ""  # this policy asks for no opinion, another may
    assert remember_sight(lambda: Cmdb.open(str(rollout.homes.cmdb)), opened.sight, NOW) == []
    home = OciLayout.open(rollout.homes.dsl)
    listed = home.referrers(rollout.homes.digest)
    replace_list(home, rollout.homes.digest, [])
    assert f"the library lacks what was seen in it before, hello 1.0: opinion (blocking) {listed[0].digest}" in rollout.stopped("web1")
    replace_list(home, rollout.homes.digest, listed)
    assert rollout.stopped("web1") == ""


@pytest.mark.parametrize("rule", STRICT)
def test_a_deployment_goes_back_whatever_the_policy_asks_by_now(rollout: Rollout, rule: str) -> None:
    run = rollout.plan()
    with Cmdb.open(str(rollout.homes.cmdb)) as cmdb:
        journal = Journal(cmdb)
        for host in ("db1", "web1", "web2"):
            journal.staged(run, host, None, NOW)
        journal.decide_staging(run, PROCEED, NOW)
        write_document(rollout.policy, policy_of(people=PEOPLE) | STRICT[rule])
        request = RunRequest(str(rollout.rfc), Reach(HOSTS), write=True, interrupted=lambda: "")
        done = order_backout(request, cmdb_url=str(rollout.homes.cmdb), policy_path=str(rollout.policy), reason="x", now=NOW)
        assert done["changed"]
        assert journal.deployment(run.deployment).state in (DeploymentState.BACKING_OUT, DeploymentState.CANCELLED)


def test_a_wave_may_start_when_nothing_has_changed(rollout: Rollout) -> None:
    assert rollout.stopped("web1", "web2") == ""
    assert rollout.stopped("db1", done=("web1", "web2")) == ""


def test_a_wave_has_to_end_before_the_window_of_the_rfc_does(rollout: Rollout) -> None:
    rollout.write(end_date=(NOW + timedelta(minutes=5)).isoformat())
    assert rollout.stopped() == ""
    assert "it may take 5 minutes, and there is no more time" in rollout.stopped(minutes=1)
    assert " is over" in rollout.stopped(minutes=6)


def test_a_wave_is_as_long_as_its_bake_too(rollout: Rollout) -> None:
    bake = {"minutes": 10, "metrics": [{"name": "errors", "query": "x", "good": "< 1"}]}
    rollout.permit(rollout={"bake": bake}, prometheus={"address": {"environment": "PROMETHEUS_URL"}})
    rollout.write(end_date=(NOW + timedelta(minutes=20)).isoformat())
    assert rollout.stopped(minutes=5) == ""
    assert "it may take 15 minutes, and there is no more time" in rollout.stopped(minutes=6)


def test_what_is_open_is_open_until_the_first_of_its_windows_closes_or_a_freeze_begins(rollout: Rollout) -> None:
    ends = {minutes: NOW + timedelta(minutes=minutes) for minutes in (30, 40, 50, 60)}
    rollout.write(end_date=ends[60].isoformat())
    assert rollout.check("web1").until == ends[60]
    rollout.permit(calendars={"windows": ["windows.ics"], "freezes": ["freezes.ics"]})
    calendar(rollout.homes.path / "windows.ics", "night", "ams", 50)
    calendar(rollout.homes.path / "freezes.ics", "sale", "ams", 200, start=40)
    assert replace(rollout.check("web1"), sight=None) == WaveStart("", ends[40])
    assert rollout.clear().until == ends[40]
    calendar(rollout.homes.path / "freezes.ics", "sale", "fra", 200, start=40)
    assert replace(rollout.check("web1"), sight=None) == WaveStart("", ends[50])
    calendar(rollout.homes.path / "windows.ics", "night", "lon", 50)
    assert rollout.check("web1").stop


def test_a_freeze_and_a_window_are_those_of_the_sites_of_the_wave(rollout: Rollout) -> None:
    rollout.permit(calendars={"freezes": ["freezes.ics"]})
    calendar(rollout.homes.path / "freezes.ics", "sale", "fra", 4)
    assert rollout.stopped("web1") == ""
    assert "frozen by 'sale' (freezes.ics) at fra" in rollout.stopped("db1")
    rollout.permit(calendars={"windows": ["windows.ics"]})
    calendar(rollout.homes.path / "windows.ics", "night", "fra", 5)
    assert rollout.stopped("db1") == ""
    calendar(rollout.homes.path / "windows.ics", "night", "ams", 4)
    assert "wave 1 of 1 (ams) can't be done between" in rollout.stopped("web1")


def test_a_control_of_the_policy_s_own_over_time_or_evidence_stops_the_next_wave(rollout: Rollout) -> None:
    """One over the CMDB does not: there the rollout itself is what has changed."""
    early = {"name": "early", "that": ["rfc.risk == 3", "now.hour < 23"], "reason": "It is late."}
    clean = {"name": "clean", "that": "evidence | rejectattr('predicate.result', 'equalto', 'clean') | list == []", "reason": "No."}
    fresh = {"name": "fresh", "that": "cmdb.cis | map(attribute='installations') | select | list == []", "reason": "It is there."}
    rollout.permit(controls=[early, clean, fresh], trust={"scan": {"role": "tester"}})
    rollout.sign("dora", "scan", result="clean")
    rollout.install("1.0", rollout.homes.digest, "web1")
    assert rollout.stopped() == ""
    assert rollout.stopped(minutes=60) == "It is late.; not so: now.hour < 23"
    rollout.sign("rita", "scan", result="clean")
    rollout.permit(controls=[clean | {"that": "evidence | length == 2"}], trust={"scan": {"role": "tester"}})
    assert "No.; not so" in rollout.stopped()
    rollout.permit(controls=[early | {"that": "nothing.at.all and now"}])
    assert "'nothing' is undefined" in rollout.stopped()


def test_a_user_who_objects_to_what_is_live_already_stops_the_next_wave(rollout: Rollout) -> None:
    rollout.permit(opinions={"tester": {"quorum": 1, "minimum": 3}})
    rollout.sign("dora", "opinion", role="tester", score=5, blocking=False, functionality="", usability="")
    assert rollout.stopped() == ""
    rollout.sign("dora", "opinion", role="tester", score=1, blocking=True, functionality="It loses orders.", usability="")
    assert rollout.stopped() == "blocked by dora (tester)"


def test_a_verification_that_fails_meanwhile_stops_the_next_wave(rollout: Rollout) -> None:
    rollout.permit(trust={"test-result": {"role": "tester", "threshold": 1}})
    assert "0 of 1" in rollout.stopped()
    rollout.sign("dora", "test-result", result="PASSED", passedTests=["it answers"])
    assert rollout.stopped() == ""
    rollout.sign("dora", "test-result", result="FAILED", failedTests=["it answers"])
    assert "dora signed that it failed" in rollout.stopped()


def test_a_scan_that_finds_something_meanwhile_stops_the_next_wave(rollout: Rollout) -> None:
    rollout.permit(trust={"scan": {"role": "tester", "threshold": 1}})
    rollout.sign("dora", "scan", result="clean")
    assert rollout.stopped() == ""
    rollout.sign("dora", "scan", result="infected")
    assert rollout.stopped() == "dora signed that it is infected"


def test_a_key_that_is_revoked_meanwhile_stops_the_next_wave(rollout: Rollout) -> None:
    trust = {"package": {"role": "release-manager", "threshold": 1}}
    rollout.permit(trust=trust)
    rollout.sign("rita", "package", purl="pkg:generic/hello@1.0")
    assert rollout.stopped() == ""
    revoked = {"public": pem(KEYS["rita"]), "revoked": (NOW - timedelta(days=1)).isoformat()}
    rollout.permit(trust=trust, people={**PEOPLE, "rita": {"roles": ["release-manager"], "keys": [revoked]}})
    assert "0 of 1 with the role release-manager signed the package" in rollout.stopped()


def test_an_approval_is_of_the_cis_that_were_planned_whatever_the_rollout_does_to_the_scope(rollout: Rollout) -> None:
    """Here the scope selects what has nothing yet, which are fewer from wave to wave."""
    rollout.permit(approvals={"normal": {"release-manager": 1}})
    rollout.write(scope="[?class=='server' && installations.hello==`null`]", requested_by="olga")
    rollout.approve("rita")
    run = rollout.plan()
    with Cmdb.open(str(rollout.homes.cmdb)) as cmdb:
        journal = Journal(cmdb)
        first, *others = [target.host for target in journal.targets(run.deployment)]
        for host in HOSTS:
            journal.staged(run, host, None, NOW)
        journal.decide_staging(run, PROCEED, NOW)
        journal.activating(run, first, NOW)
        journal.activated(run, first, HostState.STARTED, "", NOW)
        journal.activated(run, first, HostState.ACTIVE, "", NOW)
        assert rollout.stopped(*others, done=(first,)) == ""
        journal.decide_wave(run, 1, PROCEED, NOW)
        assert [row["ci"] for row in cmdb.installations()] == [first]
        cmdb.put_cis([{"name": "web9", "class": "server"}], "test")  # which is selected now, and is not in the plan
        assert rollout.stopped(*others, done=(first,)) == ""
        assert rollout.plan().deployment == run.deployment
        with cmdb.read() as connection:
            assert connection.exec_driver_sql("select open_until from deployment").scalar_one().startswith("2027-03-02 01:00"), (
                "its window's end"
            )
        assert {target.host for target in journal.targets(run.deployment)} == set(HOSTS)
        rollout.write(scope="[?name=='web9']")  # and then it is not what was planned
        assert [ci["name"] for ci in rollout.clear().cis] == ["web9"]
        assert "0 of 1 approvals by the release-manager" in rollout.stopped(*others, done=(first,))


def test_an_old_consumer_does_not_meet_a_new_provider_because_a_host_failed(rollout: Rollout) -> None:
    """web1 depends on db1, which got the release before it, or should have."""
    with Cmdb.open(str(rollout.homes.cmdb)) as cmdb:
        cmdb.relate([("web1", "db1", "depends_on")], "test")
    needs_itself = {"requires": [{"release": "hello", "versions": ">=2"}]}
    digest = rollout.archive("2.0", **needs_itself)
    rollout.install("1.0", rollout.homes.digest, "web1", "web2", "db1")
    rollout.write(release={"name": "hello", "version": "2.0", "digest": digest})
    assert rollout.stopped("db1") == ""
    assert rollout.stopped("web1", done=("db1",)) == ""
    assert rollout.stopped("web2") == ""  # which depends on nothing
    assert "web1: hello 2.0 requires release hello >=2, db1 has 1.0" in rollout.stopped("web1")
    assert "web1: it gets the release with or before db1 by the plan" in rollout.stopped("web1", "db1")


def test_a_release_that_is_a_role_alone_leaves_no_tree_of_the_one_before(rollout: Rollout) -> None:
    folder = rollout.homes.path / "alone"
    (folder / "ansible" / "app" / "tasks").mkdir(parents=True)
    for name in ("activate", "check", "back_out"):
        write_document(folder / "ansible" / "app" / "tasks" / f"{name}.yml", [{"ansible.builtin.debug": {"msg": name}}])
    (folder / "README.md").write_text("# hello\n")
    ansible = {"role": "ansible/app", "steps": ["activate", "check"], "on_first": "back_out", "atomic": False}
    write_document(folder / "release.yml", simple_manifest(version="2.0", payload=..., health=..., ansible=ansible))
    digest = archive(folder, OciLayout.open(rollout.homes.dsl)).digest
    rollout.write(release={"name": "hello", "version": "2.0", "digest": digest})
    assert rollout.stopped("web1") == ""
    rollout.install("1.0", rollout.homes.digest, "web1")
    assert "web1: hello 2.0 has no payload, so the tree of 1.0 would stay live on it" in rollout.stopped("web1")


def test_a_release_that_is_retired_meanwhile_stops_the_next_wave(rollout: Rollout) -> None:
    change = Retirement("hello", "1.0", rollout.homes.digest, "it loses orders", "rita", NOW)
    with Cmdb.open(str(rollout.homes.cmdb)) as cmdb:
        retire(cmdb, change, write=True)
        assert rollout.stopped() == "hello 1.0 was retired on 2027-03-01 by rita because: it loses orders"
        restore(cmdb, change, write=True)
        assert rollout.stopped() == ""


def test_a_freeze_for_a_site_that_nobody_has_is_one_for_all(rollout: Rollout) -> None:
    rollout.permit(calendars={"freezes": ["freezes.ics"]})
    calendar(rollout.homes.path / "freezes.ics", "sale", "Amsterdam", 9)
    (found,) = (control for control in rollout.clear().clearance.controls if control.name == "freeze")
    said = "freezes.ics has the LOCATION 'Amsterdam', which no site in the CMDB is called, so its freezes count for every site"
    assert found.result == "fail"
    assert found.reason.startswith("frozen by 'sale' (freezes.ics) from")
    assert found.reason.endswith(f"\n{said}")
    assert said in rollout.stopped()
    calendar(rollout.homes.path / "freezes.ics", "sale", "LON", 9)
    with Cmdb.open(str(rollout.homes.cmdb)) as cmdb:
        cmdb.put_cis([{"name": "web9", "class": "router", "site": "lon"}], "test")
    (found,) = (control for control in rollout.clear().clearance.controls if control.name == "freeze")
    assert found.reason == "nothing is frozen until all may be done"


def test_what_can_not_be_read_stops_the_next_wave(rollout: Rollout) -> None:
    rollout.permit(colour="red")
    assert rollout.stopped().count("policy.yml:") == rollout.stopped().count("colour is not a key of the policy") == 1
    rollout.permit()
    shutil.move(rollout.homes.dsl, rollout.homes.path / "elsewhere")
    assert rollout.stopped().count("there is no DSL at ") == 1
    shutil.move(rollout.homes.path / "elsewhere", rollout.homes.dsl)
    rollout.homes.cmdb.unlink()
    assert rollout.stopped().count("there is no CMDB at ") == 1


def test_no_command_of_an_rfc_runs_when_its_package_can_not_be_read(rollout: Rollout) -> None:
    rollout.permit(approvals={"normal": {"release-manager": 1}}, objectives={"commands": True})
    rollout.write(objectives=[{"name": "backed up", "command": ["true"], "timeout": 5}], requested_by="olga")
    rollout.approve("rita")
    rfc = load_rfc(str(rollout.rfc))
    with rollout.sources() as sources:
        refuse_commands(sources, rfc, HOSTS)
    shutil.rmtree(rollout.homes.dsl)
    with rollout.sources() as sources, pytest.raises(TidegateError, match="there is no DSL"):
        refuse_commands(sources, rfc, HOSTS)


# -- one look ----------------------------------------------------------------


OPENED: dict[str, Counter[str]] = {}  # by the path of a policy


def _count(event: str, given: tuple[Any, ...]) -> None:
    if event == "open" and str(given[0]) in OPENED:
        OPENED[str(given[0])]["policy.yml"] += 1


sys.addaudithook(_count)  # whatever opens it; there is no way to take a hook away again


@pytest.fixture
def opened(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the library, the CMDB and the policy are opened, whoever does it, and how many moments of the CMDB are looked at."""
    counts: Counter[str] = Counter()
    OPENED[str(rollout.policy)] = counts

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*given, **named)

        return count

    monkeypatch.setattr(OciLayout, "open", counting("OciLayout.open", OciLayout.open))
    monkeypatch.setattr(Cmdb, "open", counting("Cmdb.open", Cmdb.open))
    monkeypatch.setattr(engine, "reading", counting("moments", engine.reading))
    return counts


ONCE = {"OciLayout.open": 1, "policy.yml": 1, "Cmdb.open": 1}
EVERYTHING: dict[str, Any] = {
    "trust": {"scan": {"role": "tester"}},
    "calendars": {"freezes": ["freezes.ics"]},
    "communication": {"channels": {"chat": {"environment": "CHAT"}}, "tell": {"cleared": ["chat"], "start": ["chat"]}},
    "controls": [{"name": "own", "that": "now and evidence == [] or cmdb.cis | length == 3", "reason": "no"}],
}


@pytest.fixture
def strict(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> Rollout:
    """A deployment that every source is asked about."""
    monkeypatch.setenv("CHAT", "json://127.0.0.1:9")
    rollout.permit(**EVERYTHING)
    calendar(rollout.homes.path / "freezes.ics", "sale", "lon", 9)
    with Cmdb.open(str(rollout.homes.cmdb)) as cmdb:
        cmdb.put_cis([{"name": "web9", "class": "router", "site": "lon"}], "test")
    rollout.sign("dora", "scan", result="clean")
    return rollout


def test_a_clearance_opens_each_source_once_and_looks_at_one_moment(strict: Rollout, opened: Counter[str]) -> None:
    clearing = strict.clear()
    assert clearing.clearance.granted, clearing.clearance.text()
    assert opened == {**ONCE, "moments": 2}  # one of them when it was opened


def test_a_check_before_a_wave_opens_each_source_once_and_looks_at_one_moment(strict: Rollout, opened: Counter[str]) -> None:
    assert strict.stopped("web1") == ""
    assert opened == {**ONCE, "moments": 2}


def test_a_source_that_can_not_be_opened_is_tried_once(strict: Rollout, opened: Counter[str]) -> None:
    strict.homes.cmdb.unlink()
    shutil.rmtree(strict.homes.dsl)
    strict.policy.write_text("{")
    opened.clear()
    assert not strict.clear().clearance.granted
    assert opened == ONCE


def test_a_plan_and_a_gate_open_each_source_once(strict: Rollout, opened: Counter[str]) -> None:
    with strict.sources() as sources:
        planned = plan(sources, RunRequest(str(strict.rfc), Reach(HOSTS), write=True, interrupted=lambda: ""), KEYS["rita"])
        assert "the channel chat was not told of cleared" in str(planned["warnings"])
    del opened["moments"]
    assert opened == ONCE
    with Cmdb.open(str(strict.homes.cmdb)) as cmdb:
        run = Journal(cmdb).driven_by(load_rfc(str(strict.rfc)).number, Holder.this_run()).run
        for host in HOSTS:
            Journal(cmdb).staged(run, host, None, NOW)
    opened.clear()
    with strict.sources() as sources:
        journal, change, tell = Journal(sources.cmdb()), open_change(str(strict.rfc)), make_notifier(sources.policy)
        decided = decide_staging_gate(journal, run, change, make_wave_check(sources), tell, NOW)
        assert "the channel chat was not told of start" in str(decided["warnings"])
    assert decided["decision"] == "proceed", decided
    del opened["moments"]
    assert opened == ONCE


def test_what_happens_while_a_clearance_looks_is_for_the_next_one(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(cmdb: Cmdb, rfc: Rfc) -> str:
        with Cmdb.open(str(rollout.homes.cmdb)) as other:
            retire(other, Retirement("hello", "1.0", rollout.homes.digest, "it loses orders", "rita", NOW), write=True)
        return retirement_of(cmdb, rfc)

    with monkeypatch.context() as patched:
        patched.setattr(clear_step, "retirement_of", late)
        assert rollout.clear().clearance.granted
    assert "it loses orders" in rollout.clear().clearance.text()


def test_nothing_that_is_written_waits_for_the_look_before_it(strict: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file without a write-ahead log, as on a network's file system, a writer waits for every reader."""
    monkeypatch.setattr(engine, "PATIENCE", 0.1)
    with contextlib.closing(sqlite3.connect(strict.homes.cmdb)) as raw:
        assert raw.execute("pragma journal_mode = delete").fetchone() == ("delete",)
    assert strict.plan()
