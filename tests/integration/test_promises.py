# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What deployments promise, on lab hosts, as a user runs them; each test goes on from what the one before left."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from fleet import HEALTH, PORT, Fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

NUMBERS = count(2001)
NEVER = [HEALTH, {"name": "never", "tcp": {"host": "${address}", "port": 1}, "timeout": 1}]
STRICT = {"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("promises"))
    try:
        fleet.up()
        first = fleet.deploy("CHG2000", "2000.0")
        assert first.returncode == 0, first.stdout
        yield fleet
    finally:
        fleet.down()


@pytest.fixture
def running(shared: Fleet) -> Iterator[Fleet]:
    """The fleet, whole before and whole after, whatever the test did to it."""
    shared.write_policy(rollout=STRICT)
    yield shared
    assert len(set(shared.served().values())) == 1
    assert shared.installed() == shared.served()
    assert shared.rows("select count(*) from lock") == [(0,)]


class Attempt:
    """One RFC for one fresh version, and what its deployment said."""

    def __init__(self, fleet: Fleet, rfc: dict[str, Any] | None = None, **release: Any) -> None:
        self.fleet = fleet
        number = next(NUMBERS)
        self.number, self.version = f"CHG{number}", f"{number}.0"
        self.digest = fleet.archive(self.version, **release)
        self.rfc = fleet.rfc(self.number, self.version, self.digest, **(rfc or {}))

    def play(self, name: str = "deploy", *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        done = self.fleet.play(f"tidegate.release.{name}", {"tidegate_rfc": str(self.rfc), **variables}, *options)
        assert "Traceback" not in done.stdout
        return done

    def fails(self, *words: str, name: str = "deploy", options: tuple[str, ...] = ()) -> str:
        done = self.play(name, *options)
        assert done.returncode != 0, done.stdout
        said = " ".join(done.stdout.split())
        for word in words:
            assert word in said, done.stdout
        return said

    def succeeds(self, name: str = "deploy") -> str:
        done = self.play(name)
        assert done.returncode == 0, done.stdout
        return done.stdout


def ago(**delta: float) -> str:
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"release": {"name": "hello", "version": "2000.0", "digest": "sha256:" + "0" * 64}}, "the RFC names sha256:000"),
        ({"start_date": ago(hours=2), "end_date": ago(hours=1)}, "is over"),
        ({"start_date": "2026-03-01T10:00:00"}, "start_date"),
        ({"approvals": [{"approver": "rita", "role": "change-manager", "state": "approved", "decided_at": ago(hours=1)}]}, "approvals"),
        ({"backout_plan": " "}, "back-out plan"),
        ({"scope": "[?site=='mars']"}, "selects no CI"),
        ({"on_hold": True}, "on hold"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_rfc_that_is_not_cleared_changes_nothing(running: Fleet, changes: dict[str, Any], words: str) -> None:
    attempt = Attempt(running, changes)
    attempt.fails(words)
    assert running.state(attempt.number) is None


def test_a_missing_rfc_is_asked_for_in_one_sentence(running: Fleet) -> None:
    done = running.play("tidegate.release.deploy")
    assert done.returncode != 0
    assert "set tidegate_rfc or the environment variable TIDEGATE_RFC" in done.stdout


def test_a_blob_that_was_changed_on_disk_is_found_before_anything_starts(running: Fleet) -> None:
    attempt = Attempt(running)
    blob = max((running.path / "dsl" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_mtime)
    whole = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(whole[:-1] + b"?")
    attempt.fails("payload_intact", blob.name[:12])
    assert running.state(attempt.number) is None
    blob.write_bytes(whole)
    attempt.succeeds()


@pytest.mark.parametrize("kind", ["not a database", "newer"])
def test_a_cmdb_that_can_not_be_used_is_said_so(running: Fleet, tmp_path: Path, kind: str) -> None:
    attempt = Attempt(running)
    other = tmp_path / "cmdb.sqlite"
    if kind == "newer":
        shutil.copy(running.path / "cmdb.sqlite", other)
        connection = sqlite3.connect(other)
        connection.execute("update alembic_version set version_num = '9999'")
        connection.commit()
        connection.close()
    else:
        other.write_text("this is no database at all, just text\n" * 50)
    done = attempt.play("deploy", tidegate_cmdb=str(other))
    assert done.returncode != 0
    assert "newer" in done.stdout if kind == "newer" else "database" in done.stdout


def test_check_mode_tells_the_plan_and_writes_nothing(running: Fleet) -> None:
    attempt = Attempt(running)
    before = running.rows("select count(*) from journal"), running.rows("select count(*) from history")
    done = attempt.play("deploy", "--check")
    assert done.returncode == 0, done.stdout
    assert f"hello {attempt.version} to 3 hosts in 2 waves" in done.stdout
    assert (running.rows("select count(*) from journal"), running.rows("select count(*) from history")) == before
    assert running.state(attempt.number) is None


def test_a_health_check_that_hangs_costs_its_time_limit_and_not_more(running: Fleet) -> None:
    attempt = Attempt(running, health=[HEALTH, {"name": "hangs", "command": ["sleep", "600"], "timeout": 1}])
    attempt.fails("was backed out", "hangs")
    assert running.host_states(attempt.number) == {"web1": "backed_out", "web2": "staged", "web3": "staged"}


def test_a_backed_out_rfc_is_not_deployed_again(running: Fleet) -> None:
    attempt = Attempt(running, health=NEVER)
    attempt.fails("was backed out")
    attempt.fails("raise a new RFC")


def test_a_failure_in_the_last_wave_takes_finished_waves_back_in_reverse_order(running: Fleet) -> None:
    before = running.served()
    attempt = Attempt(running)
    running.run_on("web3", f"echo {attempt.version} > /etc/hello-broken")
    attempt.fails("was backed out of all 3 hosts", "broken on purpose")
    assert running.served() == before
    order = running.rows(
        "select host from journal where event = 'backed_out' and host is not null "
        "and deployment_id = (select max(id) from deployment) order by seq"
    )
    assert order[-1] == ("web1",)


def test_a_release_that_serves_once_and_dies_is_backed_out_everywhere_and_says_why(running: Fleet) -> None:
    before = running.served()
    running.write_policy(rollout={**STRICT, "canary": "100%", "stable": 30})
    settings = {"address": None, "port": PORT, "python": "python3", "lives": "0.5"}
    attempt = Attempt(running, settings=settings, stable=2, logs=["log"])
    done = attempt.play(tidegate_report=str(running.path / "report"))
    assert done.returncode != 0
    assert running.state(attempt.number) == "backed_out", done.stdout
    assert running.served() == before
    said = " ".join(done.stdout.split())
    assert "it came up and did not stay well: health check 'answers' failed" in said, done.stdout
    assert "/state/log says:" in said
    assert "out of cheese" in said
    events = [row[0] for row in running.rows("select event from journal where event in ('started', 'active', 'failed') order by seq")]
    assert events[-6:] == ["started"] * 3 + ["failed"] * 3  # one wait for all three
    ((reason,),) = running.rows(f"select reason from deployment where rfc = '{attempt.number}'")  # noqa: S608 - a test's own RFC number
    assert "\n" not in reason
    page = json.loads((running.path / "report" / "report.json").read_text())["deployments"][-1]["page"]
    assert "out of cheese" in (running.path / "report" / page).read_text().partition("<details>")[2]
    assert "watch" not in running.run_on("web1", "ls /opt/tidegate/hello")


def test_a_host_that_fails_within_the_budget_goes_back_alone(shared: Fleet) -> None:
    before = shared.served()["web3"]
    shared.write_policy(rollout={**STRICT, "budget": {"wave": 1, "total": 1}})
    attempt = Attempt(shared)
    shared.run_on("web3", f"echo {attempt.version} > /etc/hello-broken")
    assert "is live on 2 of 3 hosts; web3 is late (" in attempt.succeeds()
    assert shared.served() == {"web1": attempt.version, "web2": attempt.version, "web3": before}
    assert shared.installed() == shared.served()
    shared.write_policy(rollout=STRICT)
    Attempt(shared).succeeds()
    assert len(set(shared.served().values())) == 1


def test_a_held_deployment_keeps_its_hosts_and_goes_on_when_the_cause_is_gone(running: Fleet) -> None:
    running.write_policy(rollout={**STRICT, "on_failure": "hold"})
    attempt = Attempt(running)
    running.run_on("web2", f"echo {attempt.version} > /etc/hello-broken")
    attempt.fails("is held", "web2")
    other = Attempt(running)
    other.fails("meets it at", attempt.number)
    assert running.state(other.number) is None
    running.run_on("web2", "rm /etc/hello-broken")
    attempt.succeeds()
    assert set(running.served().values()) == {attempt.version}


@pytest.mark.thorough
def test_a_held_deployment_can_be_backed_out(running: Fleet) -> None:
    before = running.served()
    running.write_policy(rollout={**STRICT, "on_failure": "hold"})
    attempt = Attempt(running)
    running.run_on("web2", f"echo {attempt.version} > /etc/hello-broken")
    attempt.fails("is held")
    attempt.succeeds("backout")
    assert running.served() == before
    attempt.succeeds("backout")


def test_a_completed_deployment_can_be_backed_out_and_repeating_it_changes_nothing(running: Fleet) -> None:
    before = running.served()
    attempt = Attempt(running)
    attempt.succeeds()
    log = running.run_on("web1", "cat /opt/tidegate/hello/log.jsonl")
    attempt.succeeds()
    assert running.run_on("web1", "cat /opt/tidegate/hello/log.jsonl") == log
    attempt.succeeds("backout")
    assert running.served() == before
    assert running.state(attempt.number) == "backed_out"


EDIT = "cd /opt/tidegate/hello/releases/{tree} && echo 'touch /etc/edited' >>bin/start && echo edited >version && touch note"


def _tree(fleet: Fleet, host: str) -> str:
    return str(Path(fleet.run_on(host, "readlink /opt/tidegate/hello/current").strip()).parent.name + "/tree")


def test_a_back_out_returns_to_what_was_archived_and_not_to_what_became_of_it(running: Fleet) -> None:
    before, tree = running.served(), _tree(running, "web1")
    attempt = Attempt(running)
    attempt.succeeds()
    running.run_on("web1", EDIT.format(tree=tree))
    running.run_on("web2", f"rm -r /opt/tidegate/hello/releases/{Path(tree).parent}")
    (running.path / "dsl").rename(running.path / "away")
    said = attempt.fails("still owe it", "web1", "web2", name="backout")
    assert "no good copy of them: version" in said
    assert running.served()["web1"] == attempt.version
    (running.path / "away").rename(running.path / "dsl")
    said = attempt.succeeds("backout")
    assert "web1: 2 files were not as archived and were put right: bin/start, version" in " ".join(said.split())
    assert running.served() == before
    assert running.run_on("web1", f"ls /etc/edited /opt/tidegate/hello/releases/{tree}/note 2>/dev/null || true").split() == [
        f"/opt/tidegate/hello/releases/{tree}/note"
    ]
    running.run_on("web1", f"rm /opt/tidegate/hello/releases/{tree}/note")


def test_a_host_that_falls_back_does_so_to_what_was_archived(running: Fleet) -> None:
    before, tree = running.served(), _tree(running, "web1")
    attempt = Attempt(running)
    attempt.succeeds("stage")
    running.run_on("web1", f"{EDIT.format(tree=tree)} && rm note && echo {attempt.version} >/etc/hello-broken")
    attempt.fails("was backed out of the 1 host", "broken on purpose")
    assert running.served() == before
    assert running.run_on("web1", f"cat /opt/tidegate/hello/releases/{tree}/version; ls /etc/edited 2>/dev/null || true") == before["web1"]
    rows = running.rows("select data from journal where event = 'failed' and host = 'web1' order by seq desc limit 1")
    assert "were put right: bin/start, version" in rows[0][0]


def test_staging_alone_changes_nothing_that_runs_and_deploy_goes_on_from_there(running: Fleet) -> None:
    before = running.served()
    attempt = Attempt(running)
    attempt.succeeds("stage")
    assert running.served() == before
    attempt.succeeds()
    assert set(running.served().values()) == {attempt.version}


def test_what_was_only_staged_is_cancelled(running: Fleet) -> None:
    attempt = Attempt(running)
    attempt.succeeds("stage")
    attempt.succeeds("backout")
    assert running.state(attempt.number) == "cancelled"


@pytest.mark.parametrize(("left", "words"), [(8 << 20, "MiB are free; make room"), (0, "No space left on device; make room there")])
def test_a_full_disk_on_one_host_holds_before_anything_starts(running: Fleet, left: int, words: str) -> None:
    before = running.served()
    attempt = Attempt(running)
    running.run_on("web2", f"head -c $(($(df --output=avail -B1 /opt | tail -1) - {left})) /dev/zero >/opt/full")
    attempt.fails("is held", "web2", words, "make room")
    assert running.served() == before
    running.run_on("web2", "rm /opt/full")
    attempt.succeeds()


def test_a_limit_that_cuts_a_wave_is_refused_before_anything_starts(running: Fleet) -> None:
    attempt = Attempt(running)
    attempt.fails("left out by --limit (web2)", options=("--limit", "web1,web3,localhost"))
    assert running.state(attempt.number) is None
    attempt.succeeds()
    assert set(running.served().values()) == {attempt.version}


@pytest.mark.parametrize("verb", ["archive", "clear", "stage", "deploy", "backout", "audit", "report", "lab"])
def test_a_limit_without_the_controller_is_not_a_success(running: Fleet, tmp_path: Path, verb: str) -> None:
    variables = {
        "tidegate_rfc": "none.yml",
        "tidegate_release": "none",
        "tidegate_report": str(tmp_path / "out"),
        "lab_path": str(tmp_path / "lab"),
    }
    done = running.play(f"tidegate.release.{verb}", variables, "--limit", "web1")
    assert done.returncode != 0, done.stdout
    assert "--limit web1 leaves out localhost" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_a_host_that_refuses_connections_holds_staging_and_does_not_stop_the_others(running: Fleet) -> None:
    attempt = Attempt(running)
    lab = running.own_lab
    lab.cut("web2")
    attempt.fails("is held")
    assert running.host_states(attempt.number) == {"web1": "staged", "web2": "stage_failed", "web3": "staged"}
    lab.mend("web2")
    attempt.succeeds()


def test_a_host_that_is_lost_while_activating_is_owed_and_not_forgotten(running: Fleet) -> None:
    before = running.served()
    attempt = Attempt(running)
    attempt.succeeds("stage")
    lab = running.own_lab
    lab.cut("web2")
    attempt.fails("still owe it", "web2")
    assert running.state(attempt.number) == "backing_out"
    assert running.served() == before
    Attempt(running).fails("meets it at", attempt.number)
    lab.mend("web2")
    attempt.fails("was backed out")
    assert running.state(attempt.number) == "backed_out"


def test_a_host_that_freezes_while_it_is_activated_does_not_hold_up_the_deployment_for_ever(running: Fleet) -> None:
    before = running.served()
    slow = {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["sh", "-c", "sleep 5; exec bin/start"], "timeout": 20}}
    attempt = Attempt(running, hooks=slow)
    lab = running.own_lab
    command = running.command("tidegate.release.deploy", {"tidegate_rfc": str(attempt.rfc)})
    with subprocess.Popen(command, env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as deploy:
        try:
            while running.host_states(attempt.number).get("web1") != "activating":
                assert deploy.poll() is None
                time.sleep(0.1)
            time.sleep(2)  # its connection is open, its half at work
            lab.pause("web1")
            said, _nothing = deploy.communicate(timeout=120)
        finally:
            deploy.kill()
            lab.resume("web1")
    assert "still owe it" in said
    assert running.host_states(attempt.number) == {"web1": "owed", "web2": "staged", "web3": "staged"}
    attempt.fails("was backed out")
    assert running.served() == before


@pytest.mark.thorough
def test_a_resumed_deployment_keeps_off_hosts_that_its_rfc_does_not_select_any_more(running: Fleet) -> None:
    before = running.served()
    attempt = Attempt(running)
    attempt.succeeds("stage")
    whole = attempt.rfc.read_text()
    attempt.rfc = running.rfc(attempt.number, attempt.version, attempt.digest, scope="[?name=='web1']")
    attempt.fails("no longer selects 2 of the hosts", "web2, web3")
    assert running.served() == before
    attempt.rfc.write_text(whole)
    attempt.succeeds()


@pytest.mark.thorough
def test_a_resumed_deployment_keeps_to_the_digest_that_it_began_with(running: Fleet) -> None:
    attempt, other = Attempt(running), Attempt(running)
    attempt.succeeds("stage")
    whole = attempt.rfc.read_text()
    running.rfc(attempt.number, other.version, other.digest)
    attempt.fails(f"now names {other.digest}", "back that out first")
    attempt.rfc.write_text(whole)
    attempt.succeeds()


def test_a_ci_that_the_inventory_does_not_have_is_named_before_anything_starts(running: Fleet) -> None:
    attempt = Attempt(running)
    done = running.play("tidegate.release.deploy", {"tidegate_rfc": str(attempt.rfc)}, inventory="localhost,")
    assert done.returncode != 0
    assert "3 CIs in the scope" in done.stdout
    assert running.state(attempt.number) is None


@pytest.mark.thorough
def test_an_rfc_that_a_later_one_has_replaced_is_not_said_to_be_live(running: Fleet) -> None:
    first, second = Attempt(running), Attempt(running)
    first.succeeds()
    second.succeeds()
    first.fails("by a later deployment")
    second.succeeds("backout")
    first.succeeds()


def test_an_audit_of_no_host_is_not_a_clean_one(running: Fleet, tmp_path: Path) -> None:
    done = running.play("tidegate.release.audit", {"tidegate_hosts": "web9"})
    assert done.returncode != 0
    assert "there is no host to audit" in done.stdout
    empty = str(tmp_path / "cmdb.sqlite")
    Cmdb.open(empty, create=True)
    done = running.play("tidegate.release.audit", {"tidegate_cmdb": empty, "tidegate_become": False}, inventory="localhost,")
    assert done.returncode != 0
    assert "there is no host to audit" in done.stdout


def test_an_audit_that_a_limit_cuts_names_the_hosts_it_did_not_read(running: Fleet) -> None:
    done = running.play("tidegate.release.audit", None, "--limit", "web1,localhost")
    assert done.returncode != 0
    assert "web2, web3: it was left out" in done.stdout
    assert "1 of 3 hosts were compared" in done.stdout


def test_one_odd_host_does_not_keep_an_audit_from_the_others(running: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings that have a say in it: what of a host is a variable, and what one that fails does to the others."""
    monkeypatch.setenv("ANSIBLE_ANY_ERRORS_FATAL", "true")
    monkeypatch.setenv("ANSIBLE_INJECT_FACT_VARS", "false")
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    others = {
        "typo1": {"ansible_host": "{{ no_such_variable }}"},
        "odd1": {"ansible_connection": "nonsense", "tidegate_settings": "{{ no_such_variable }}"},
        "gone1": {"ansible_host": "127.0.0.1", "ansible_port": 1},
    }
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    shutil.copy(running.path / "cmdb.yml", inventory / "cmdb.yml")
    (inventory / "others.yml").write_text(yaml.safe_dump({"all": {"hosts": {"localhost": {}, **others}}}))
    home = "/opt/tidegate"
    running.run_on("web1", f"touch {home}/hello/current/intruder")
    running.run_on("web3", f"mv {home} {home}.kept && touch {home}")
    lab = running.own_lab
    lab.pause("web2")
    try:
        done = running.play("tidegate.release.audit", inventory=str(inventory))
    finally:
        lab.resume("web2")
        running.run_on("web3", f"rm {home} && mv {home}.kept {home}")
        running.run_on("web1", f"rm {home}/hello/current/intruder")
    assert done.returncode == 2, done.stdout
    said = " ".join(done.stdout.split())
    assert "1 of 6 hosts were compared" in said
    for words in (
        "web1: 1 file of hello",
        "gone1, web2: it can't be reached",
        "web3: it can't be read, so nobody knows what it runs: /opt/tidegate can't be read",
        "gone1, odd1, typo1: the inventory has it, but the CMDB does not",
        *(f"{host}: it can't be" for host in others if host != "gone1"),
    ):
        assert words in said, done.stdout


@pytest.mark.thorough
def test_a_host_lost_within_the_budget_is_visited_again_before_the_deployment_completes(shared: Fleet) -> None:
    shared.write_policy(rollout={**STRICT, "budget": {"wave": 1, "total": 1}})
    attempt = Attempt(shared)
    attempt.succeeds("stage")
    lab = shared.own_lab
    lab.cut("web2")
    attempt.fails("is held", "not known what web2 run")
    assert shared.host_states(attempt.number) == {"web1": "active", "web2": "lost", "web3": "active"}
    attempt.fails("is held", "not known what web2 run")
    lab.mend("web2")
    attempt.succeeds()
    assert set(shared.served().values()) == {attempt.version}
    assert shared.installed() == shared.served()
    shared.write_policy(rollout=STRICT)


def write_off(fleet: Fleet, host: str, *options: str, **variables: str) -> str:
    done = fleet.play("tidegate.release.write_off", {"tidegate_host": host, **variables}, *options, inventory="localhost,")
    assert "Traceback" not in done.stdout
    return " ".join(done.stdout.split())


@pytest.mark.thorough
def test_a_host_that_never_comes_back_locks_no_other_and_is_written_off_until_it_is_there_again(running: Fleet) -> None:
    attempt = Attempt(running)
    attempt.succeeds("stage")
    lab = running.own_lab
    lab.cut("web1")
    attempt.fails("still owe it, 1 of them (web1)", "a host that will not come back is written off with tidegate.release.write_off")

    # The others are free at once: for a change of their own and for an emergency. It itself is not.
    Attempt(running, {"scope": "[?name=='web2']"}).succeeds()
    Attempt(running, {"scope": "[?name=='web3']", "type": "emergency"}).succeeds()
    Attempt(running).fails("meets it at web1", attempt.number)
    with Cmdb.open(str(running.path / "cmdb.sqlite")) as cmdb, pytest.raises(ConflictError, match="web1 is held by deployment"):
        cmdb.remove_cis(["web1"], "test")

    assert "no reason is given for writing off web1" in write_off(running, "web1")
    before = running.rows("select count(*) from journal"), running.rows("select count(*) from history")
    assert "web1 is written off by" in write_off(running, "web1", "--check", tidegate_reason="its disk died")
    assert (running.rows("select count(*) from journal"), running.rows("select count(*) from history")) == before
    said = write_off(running, "web1", tidegate_reason="its disk died on Monday")
    assert f"run again what waited for it: {attempt.number}#" in said
    attempt.fails("was backed out of 0 of 1 host", "web1 is written off (its disk died on Monday)")

    # New deployments leave it out, an audit does not blame it, and a report has it.
    assert "to 2 hosts in 2 waves (1, 1); 1 written off and left out: web1" in Attempt(running).succeeds()
    done = running.play("tidegate.release.audit")
    assert done.returncode == 0, done.stdout
    assert re.search(r"2 of \d hosts were compared [^:]*: each runs what the CMDB says", done.stdout)
    assert re.search(r"web1: it is written off since 2\S+, by \S+: its disk died on Monday", " ".join(done.stdout.split()))
    with Cmdb.open(str(running.path / "cmdb.sqlite")) as cmdb:
        assert [sentence for sentence in build_report(cmdb, datetime.now(UTC)).overview["attention"] if "disk died on Monday" in sentence]

    # It is up but can't be read: it is not gone, so that is said and counts.
    lab.mend("web1")
    done = running.play("tidegate.release.audit", {"tidegate_root": "/etc/passwd"})
    assert done.returncode != 0
    assert "web1, web2, web3: it can't be read, so nobody knows what it runs" in " ".join(done.stdout.split())
    assert "web1: it is written off since" in done.stdout

    # It answers: that is noted, and what it runs is compared like anything else.
    served = running.served()["web1"]
    done = running.play("tidegate.release.audit", None, "--check")
    assert done.returncode == 0, done.stdout
    assert running.rows("select count(*) from write_off") == [(1,)]
    running.run_on("web1", "touch /opt/tidegate/hello/current/intruder")
    done = running.play("tidegate.release.audit")
    assert done.returncode != 0
    assert "web1 was written off and is there again" in " ".join(done.stdout.split())
    assert "intruder" in done.stdout
    assert running.rows("select count(*) from write_off") == [(0,)]
    assert running.rows("select event from history where ci = 'web1' order by seq desc limit 2") == [
        ("no longer written off",),
        ("written off",),
    ]
    assert running.installed()["web1"] == served
    running.run_on("web1", "rm /opt/tidegate/hello/current/intruder")
    assert "to 3 hosts in 2 waves" in Attempt(running).succeeds()


@pytest.mark.thorough
def test_a_dead_host_holds_its_rollout_and_locks_none_of_the_others(shared: Fleet) -> None:
    shared.write_policy(rollout=STRICT)
    attempt = Attempt(shared)
    lab = shared.own_lab
    lab.cut("web2")
    try:
        attempt.fails("is held", "write_off")
        assert shared.rows("select count(*) from lock") == [(0,)]
        other = Attempt(shared, {"scope": "[?name=='web3']"})
        other.succeeds()
        attempt.fails(f"{other.number}#", "has changed web3 since", "raise a new RFC for what is left")
        attempt.succeeds("backout")
        assert shared.state(attempt.number) == "cancelled"
    finally:
        lab.mend("web2")
    Attempt(shared).succeeds()
    assert shared.installed() == shared.served()


@pytest.mark.thorough
def test_a_rollout_that_lost_a_host_is_complete_without_it_and_the_host_can_be_removed(shared: Fleet) -> None:
    before = shared.served()["web2"]
    shared.write_policy(rollout={**STRICT, "budget": {"wave": 1, "total": 1}})
    attempt = Attempt(shared)
    attempt.succeeds("stage")
    lab = shared.own_lab
    lab.cut("web2")
    attempt.fails("is held", "not known what web2 run", "write_off")
    assert shared.rows("select ci from lock") == [("web2",)]
    other = Attempt(shared, {"scope": "[?name=='web3']"})
    other.succeeds()
    write_off(shared, "web2", tidegate_reason="its disk died")
    said = attempt.succeeds()
    assert f"is live on 1 of 3 hosts; web2 is written off (its disk died), web3 is left as it is, for {other.number}#" in " ".join(
        said.split()
    )
    assert shared.rows("select count(*) from lock") == [(0,)]
    assert shared.served() == {"web1": attempt.version, "web2": before, "web3": other.version}
    with Cmdb.open(str(shared.path / "cmdb.sqlite")) as cmdb:
        gone = cmdb.cis(["web2"])
        assert cmdb.remove_cis(["web2"], "test") == ["web2"]
        assert "web2" not in shared.installed()
        cmdb.put_cis([{key: value for key, value in ci.items() if key != "revision"} for ci in gone], "test")  # a new one of that name
    lab.mend("web2")
    shared.write_policy(rollout=STRICT)
    Attempt(shared).succeeds()
    assert shared.installed() == shared.served()


def test_a_release_that_was_changed_by_hand_since_staging_is_not_touched(running: Fleet) -> None:
    attempt = Attempt(running)
    attempt.succeeds("stage")
    home = "/opt/tidegate/hello"
    link = running.run_on("web1", f"readlink {home}/current").strip()
    other = running.run_on("web1", f"ls -d {home}/releases/*").split()
    strange = next(path for path in other if attempt.version not in path and Path(path).name not in link)
    running.run_on("web1", f"ln -sfn releases/{Path(strange).name}/tree {home}/current")
    attempt.fails("which the journal does not know of")
    running.run_on("web1", f"ln -sfn {link} {home}/current")
    if running.state(attempt.number) == "backing_out":
        attempt.fails("was backed out")


def test_an_audit_names_what_was_changed_behind_its_back(running: Fleet) -> None:
    home = "/opt/tidegate/hello"
    running.run_on("web1", f"cp {home}/current/version /tmp/version; echo edited > {home}/current/version")
    running.run_on("web2", f"touch {home}/current/intruder")
    running.run_on("web3", "mkdir -p /opt/tidegate/stranger && ln -s /tmp /opt/tidegate/stranger/current")
    done = running.play("tidegate.release.audit")
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    for words in ("web1: 1 file of hello", "version", "web2: 1 file of hello", "intruder", "web3: stranger"):
        assert words in said
    running.run_on("web1", f"cat /tmp/version > {home}/current/version")
    running.run_on("web2", f"rm {home}/current/intruder")
    running.run_on("web3", "rm -r /opt/tidegate/stranger")
    assert running.play("tidegate.release.audit").returncode == 0
