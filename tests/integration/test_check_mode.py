# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each verb in check mode, as a job of AWX of the type "check" runs it, where it has something to do: it says what, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from documents import DIGEST, policy_of, simple_manifest, write_document
from sites import Site

PLAYBOOKS = {path.stem for path in (Path(__file__).parents[2] / "playbooks").glob("*.yml")}
RISKIEST = {"archive", "write_off", "verify"}  # beside deploy, stage and backout, which test_invocation.py and test_jobs.py try as well
HEALTH = [{"name": "there", "command": ["/bin/true"], "timeout": 5}]


@dataclass(frozen=True)
class Tried:
    """A verb, what it is given, and what it says in the end; ``refused``: it ends with a documented refusal."""

    verb: str
    says: str
    given: dict[str, Any] = field(default_factory=dict)
    refused: bool = False
    hosts: str = "all.yml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """1.0 is live on two hosts, 2.0 is archived and has an RFC, 3.0 is a directory; a change owes a review, and a key is a person's."""
    site = Site(tmp_path_factory.mktemp("site"), count=2)
    site.up()
    key = site.path / "carl.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    key.chmod(0o600)
    public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True).stdout
    people = {"carl": {"roles": ["change-manager"], "keys": [{"public": public}]}}
    rules = {"waivers": {"documentation": {"role": "change-manager"}}, "opinions": {"change-manager": {"quorum": 1, "minimum": 3}}}
    rules |= {"approvals": {"normal": {"change-manager": 1}}, "emergency": {"review": 0}, "documentation": {"minor": ["README.md"]}}
    write_document(site.path / "people.yml", policy_of(people=people, **rules))
    for number, version in (("CHG0000401", "1.0"), ("CHG0000402", "2.0")):
        site.rfc(number, version, site.archive(version, settings={}, hooks={}, health=HEALTH))
    site.release("3.0", settings={}, hooks={}, health=HEALTH)
    done = site.run("deploy", tidegate_rfc=str(site.path / "CHG0000401.yml"))
    assert done.returncode == 0, done.stdout
    with Cmdb.open(site.environment["TIDEGATE_CMDB"]) as cmdb:
        now = datetime.now(UTC)
        journal, old = Journal(cmdb), now - timedelta(days=3000)
        package = {"name": "world", "version": "1.0", "digest": DIGEST}
        run = journal.begin("CHG0000400", package, (("web1",),), Rollout(canary=Share(1, False), steps=(100,)), Holder.this_run(), old)
        journal.order_backout(run, "nobody wants it", old)
        journal.release_lease(run, old)
        with cmdb.begin() as connection:
            owed = {
                "rfc": "CHG0000401",
                "duty": "review",
                "release": "world",
                "version": "1.0",
                "digest": DIGEST,
                "incurred": now,
                "due": now,
            }
            connection.execute(schema().debt.insert(), owed)
    for host in site.hosts:
        (site.path / "srv" / host).mkdir(parents=True)
        (site.path / "srv" / host / "index.html").write_text("here\n")
    poster = site.path / "poster"
    poster.mkdir()
    (poster / "README.md").write_text("# poster\n")
    write_document(poster / "release.yml", simple_manifest(name="poster", version="1.0"))
    new = yaml.safe_load((site.path / "all.yml").read_text())
    new["all"]["hosts"]["web9"] = {}
    write_document(site.path / "more.yml", new)
    return site


def tries(site: Site) -> list[Tried]:
    names = (
        "CHG0000401.yml",
        "CHG0000402.yml",
        "people.yml",
        "carl.pem",
        "replica",
        "labs",
        "plan.html",
        "journal",
        "copy",
        "figures.json",
    )
    there = {name: str(site.path / name) for name in names}
    key = {"tidegate_key": there["carl.pem"], "tidegate_policy": there["people.yml"]}
    live, next_ = {"tidegate_rfc": there["CHG0000401.yml"]}, {"tidegate_rfc": there["CHG0000402.yml"]}
    new = {name: str(site.path / "new" / name) for name in ("report", "clearance", "schedule.ics", "results.xml")}
    about = {"tidegate_name": "hello", "tidegate_version": "2.0"}
    report = {"tidegate_report": new["report"]}
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    undone = "This was check mode: nothing has changed"
    poster = {"tidegate_release": str(site.path / "poster"), "tidegate_path": str(site.path / "srv" / "web1")}
    waiver = {"tidegate_control": "documentation", "tidegate_reason": "known", "tidegate_expires": tomorrow}
    debt = {"tidegate_number": "CHG0000401", "tidegate_duty": "review", "tidegate_note": "minutes"}
    unit = {"tidegate_host": "web1", "tidegate_slot": "PSU 1", "tidegate_new_serial": "S1"}
    schedule = {"tidegate_rfcs": [there["CHG0000402.yml"]], "tidegate_schedule": new["schedule.ics"]}
    archive = {"tidegate_journal_archive": there["journal"], "tidegate_reason": "old"}
    lab = {"lab_path": there["labs"], "lab_hosts": [{"name": "one"}], "lab_mode": "local"}
    awx = {
        "tidegate_awx_host": "http://127.0.0.1:1",
        "tidegate_awx_image": "registry.example/ee:1",
        "tidegate_awx_scm_url": "https://git.example/releases.git",
    }
    return [
        Tried("archive", "It would be archived", {"tidegate_release": str(site.path / "releases" / "3.0")}),
        Tried("adopt", "poster 1.0 would be archived, and adopted", poster),
        Tried("approve", f"carl approved CHG0000402 .*{undone}", {**next_, **key}),
        Tried("waive", f"carl waived documentation .*{undone}", {**next_, **key, **waiver}),
        Tried("opine", f"carl gives hello 2.0 4 of 5 .*{undone}", {**about, **key, "tidegate_score": 4}),
        Tried("settle", f"owed review, settled by carl.*{undone}", {**key, **debt}),
        Tried("write_off", f"web1 is written off by carl.*{undone}", {**key, "tidegate_host": "web1", "tidegate_reason": "burnt"}),
        Tried("swap", "is software, so no unit is exchanged", {**live, **unit}, refused=True),
        Tried("clear", "CHG0000402 is cleared", {**next_, "tidegate_clearance": new["clearance"]}),
        Tried("plan", "wave 1/2: web1: 1.0 -> 2.0", {**next_, "tidegate_plan_file": there["plan.html"]}),
        Tried("stage", f"CHG0000402 would be staged. {undone}", {**next_, **report}),
        Tried("deploy", f"CHG0000402 would be deployed. {undone}", {**next_, **report}),
        Tried("backout", f"CHG0000401 would be backed out. {undone}", {**live, **report, "tidegate_reason": "it is bad"}),
        Tried("verify", "hello 2.0 would be verified on 2 hosts", about),
        Tried("audit", "each runs what the CMDB says", {"audit_junit": new["results.xml"]}),
        Tried("reconcile", "CHG0000402.* is not in the register", {**next_, "tidegate_reason": "so"}, refused=True),
        Tried("report", "index.html: would be written", report),
        Tried("dsl_sync", "would be copied to", {"tidegate_dsl_to": there["replica"]}),
        Tried("dsl_verify", "are what their digests say"),
        Tried("import", "1 would be entered", hosts="more.yml"),
        Tried("schedule", "would be entered, .*would be written", schedule),
        Tried("journal_archive", "the journal of 1 .*would be archived", archive),
        Tried("figures", "a bar for each month.*would be written", {"tidegate_figures_file": there["figures.json"]}),
        Tried("tell", "the policy has no channel", {"tidegate_test": True}),
        Tried("remind", "the policy has no channel"),
        Tried("stock", "there is no stock rule", refused=True),
        Tried("lab", "would be up", lab),
        Tried("cmdb_copy", "would be copied to", {"tidegate_cmdb_to": there["copy"]}),
        Tried("cmdb_upgrade", "nothing to do"),
        Tried("cmdb_verify", "CIs as the history says"),
        Tried("awx", "127.0.0.1", awx, refused=True),
    ]


def everything(site: Site) -> dict[str, Any]:
    """Each row of the CMDB, and each file of hosts, library, reports, replica and whatever else is there but what is Ansible's own."""
    found = site.everything()
    for root, folders, files in os.walk(site.path):
        folders[:] = [name for name in folders if Path(root, name) not in (site.path / "tmp", site.path / "home" / ".ansible")]
        for name in (*folders, *files):
            path = Path(root, name)
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif not name.startswith("cmdb.sqlite"):
                found[str(path)] = path.stat().st_mode, path.is_dir() or hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("verbs", ["riskiest", "others"])
def test_each_verb_says_in_check_mode_what_it_would_do_and_changes_nothing(site: Site, verbs: str) -> None:
    complaints = []
    assert {tried.verb for tried in tries(site)} == PLAYBOOKS
    environment = site.environment | {"CONTROLLER_OAUTH_TOKEN": "t"}
    for tried in (tried for tried in tries(site) if (tried.verb in RISKIEST) == (verbs == "riskiest")):
        before = everything(site)
        command = ["ansible-playbook", f"tidegate.release.{tried.verb}", "--check", "-i", str(site.path / tried.hosts)]
        command += ["-e", json.dumps({"tidegate_become": False, **tried.given})]
        ran = forked.run(command, environment, site.path / "home", timeout=120)
        said = " ".join(ran.stdout.split())
        after = everything(site)
        complaints += [f"{tried.verb} changes {name}" for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        if (ran.returncode != 0) != tried.refused or not re.search(tried.says, said) or "Traceback" in said or "undefined" in said:
            complaints.append(f"{tried.verb} ends with {ran.returncode} and says {ran.stdout}")
    assert not complaints, "\n".join(complaints)
