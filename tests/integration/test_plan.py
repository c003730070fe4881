# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook plan: it shows which host is in which wave, and why, and changes nothing but the file that it is asked for."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import forked
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from documents import EXAMPLES, example_rfc, policy_of, write_document

WEB = [f"web{number}" for number in range(1, 7)]


class Desk:
    """Six hosts in three clusters, a shop that depends on two of them, and an RFC that nobody has approved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = archive(EXAMPLES / "hello", OciLayout.create(path / "dsl")).digest
        with Cmdb.open(str(path / "cmdb.sqlite"), create=True) as cmdb:
            cis = [{"name": name, "class": "server", "site": "ams", "attributes": {"pair": f"p{n // 2}"}} for n, name in enumerate(WEB)]
            cmdb.put_cis([*cis, {"name": "shop", "class": "business_service"}], "test")
            cmdb.relate([("shop", "web1", "depends_on"), ("shop", "web3", "depends_on")], "test")
        self.write_rfc(approvals=[])

    def write_rfc(self, **changes: Any) -> None:
        write_document(self.path / "rfc.yml", example_rfc(self.digest, scope="[?class=='server']", **changes))

    def policy(self, **rollout: Any) -> None:
        write_document(self.path / "policy.yml", policy_of(rollout=rollout))

    def homes(self) -> dict[str, str]:
        files = {"DSL": "dsl", "CMDB": "cmdb.sqlite", "POLICY": "policy.yml", "RFC": "rfc.yml"}
        return {f"TIDEGATE_{name}": str(self.path / file) for name, file in files.items()}

    def play(self, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", **self.homes()}
        command = ["ansible-playbook", "tidegate.release.plan", "-i", "localhost,", *options]
        return forked.run(command, {**os.environ, **environment}, timeout=120)

    def task(self, **options: Any) -> dict[str, Any]:
        """What a task of one's own registers of the module."""
        called = {"name": "Ask", "tidegate.release.plan_info": options, "register": "asked"}
        kept = {"name": "Keep it", "ansible.builtin.copy": {"content": "{{ asked | to_json }}", "dest": f"{self.path}/asked.json"}}
        here = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        play = {"name": "Ask", "hosts": "localhost", "connection": "local", "gather_facts": False, "vars": here, "tasks": [called, kept]}
        command = ["ansible-playbook", str(write_document(self.path / "play.yml", [play])), "-i", "localhost,"]
        done = forked.run(command, {**os.environ, **self.homes()}, timeout=120)
        assert done.returncode == 0, done.stdout
        return dict(json.loads((self.path / "asked.json").read_text()))

    def content(self) -> dict[str, str]:
        files = (path for path in sorted(self.path.rglob("*")) if path.is_file() and not path.name.endswith(("-wal", "-shm")))
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.policy(stay_up={"groups": {"pair": "50%"}}, steps=[100])
    return made


def test_it_says_which_host_is_in_which_wave_and_why_and_writes_nothing(desk: Desk) -> None:
    before = desk.content()
    done = desk.play()
    assert done.returncode == 0, done.stdout
    said = done.stdout
    assert "CHG0030001: hello 1.0 to 6 hosts in 3 waves (1, 3, 2)" in said
    assert "wave 1/3: web1: nothing -> 1.0; the canary, the first in order" in said
    assert "wave 2/3: web2, web3, web5: nothing -> 1.0; the canary comes first, alone" in said
    assert "wave 3/3: web4: nothing -> 1.0; pair p1 keeps 1 of 2 up" in said
    assert "not fewer than 2 waves: " in said
    assert "changed=0" in said
    assert desk.content() == before


def test_of_one_host_it_says_its_wave_and_why(desk: Desk) -> None:
    done = desk.play("-e", "tidegate_host=web4")
    assert "web4 is in wave 3 of 3, with 1 other host: pair p1 keeps 1 of 2 up; nothing -> 1.0" in done.stdout, done.stdout
    gone = desk.play("-e", "tidegate_host=web9")
    assert gone.returncode == 2
    assert "web9 is not in the plan of CHG0030001, which has web1, web2, web3 and 3 more" in " ".join(gone.stdout.split())


def test_it_is_written_as_page_drawing_and_data_and_once(desk: Desk) -> None:
    # What may begin now is expected a minute later when it is asked a minute later.
    desk.write_rfc(approvals=[], start_date="2099-03-01T20:00:00Z", end_date="2099-03-01T23:00:00Z")
    texts = {}
    for suffix in ("html", "svg", "json"):
        file = desk.path / f"plan.{suffix}"
        assert not file.exists()
        assert desk.play("-e", f"tidegate_plan_file={file}", "--check").returncode == 0
        assert not file.exists()
        assert "changed=1" in desk.play("-e", f"tidegate_plan_file={file}").stdout
        texts[suffix] = file.read_text()
    assert "changed=0" in desk.play("-e", f"tidegate_plan_file={desk.path / 'plan.html'}").stdout
    written = json.loads(texts["json"])
    assert [[entry["host"] for entry in wave["hosts"]] for wave in written["waves"]] == [
        ["web1"],
        ["web2", "web3", "web5"],
        ["web4", "web6"],
    ]
    assert written["at_least"] == 2
    drawn = "".join(ElementTree.fromstring(texts["svg"]).itertext())  # noqa: S314 - our own
    assert all(host in drawn and host in texts["html"] for host in WEB)
    assert "http" not in texts["html"].replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    other = desk.play("-e", f"tidegate_plan_file={desk.path / 'plan.pdf'}")
    assert other.returncode == 2
    assert "plan.pdf is no name for a plan; let it end with .html, .svg, .json" in " ".join(other.stdout.split())


def test_a_task_of_ones_own_has_the_plan_as_data(desk: Desk) -> None:
    asked = desk.task(host="web1", dest=str(desk.path / "plan.json"))
    assert (asked["changed"], asked["files"]) == (True, [str(desk.path / "plan.json")])
    assert asked["plan"] == json.loads((desk.path / "plan.json").read_text())
    assert asked["msg"].startswith("web1 is in wave 1 of 3")


def test_all_that_can_not_be_kept_is_said_at_once(desk: Desk) -> None:
    desk.policy(
        canary_hosts=["nobody"],
        rings={"by": "pair", "order": ["p0", "p1"]},
        stay_up={"groups": {"name": "75%"}, "services": {"shop": "75%", "till": 1}},
    )
    done = desk.play("-v")
    assert done.returncode == 2
    said = " ".join(done.stdout.split())
    for fault in (
        "web5, web6: the ring 'p2', which rollout.rings.order does not have; add it there, or correct the CMDB",
        "name web1 has 1 host, 25% of 1 is none, so web1 can't change; lower rollout.stay_up.groups.name, or correct the CMDB",
        "service shop has 2 hosts, 25% of 2 is none, so web1, web3 can't change; lower rollout.stay_up.services.shop, or correct the CMDB",
        "the service till depends on no host of the CMDB; relate it by depends_on, or correct rollout.stay_up.services",
        "the canary nobody is not among the hosts that get the release; correct rollout.canary_hosts, or the scope",
    ):
        assert fault in said, said


def test_the_journal_keeps_the_reasons_of_a_deployment(desk: Desk) -> None:
    desk.write_rfc()
    with Sources(*(desk.homes()[f"TIDEGATE_{name}"] for name in ("DSL", "CMDB", "POLICY")), utc_now()) as sources:
        plan(sources, RunRequest(str(desk.path / "rfc.yml"), Reach(WEB), True, lambda: ""))
    desk.policy(steps=[100])  # what is asked now is not what it was planned by
    before = desk.content()
    done = desk.play("-e", "tidegate_host=web4")
    assert "web4 is in wave 3 of 3, with 1 other host: pair p1 keeps 1 of 2 up; nothing -> 1.0; it is planned" in done.stdout, done.stdout
    assert "CHG0030001#1 is staging: hello 1.0 to 6 hosts in 3 waves (1, 3, 2)" in desk.play().stdout
    assert desk.content() == before
