# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves that bake, with a real Prometheus: good, bad, killed and frozen in the middle; and a controller that is killed or in a hurry."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import heads, is_in_chain
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import GATES
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import collect
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployments
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.history import gates_again
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import heads_in
from documents import write_document
from fleet import Fleet
from kills import kill_at
from monitoring import PROGRAM, Monitoring
from waiting import wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root"),
    pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus (apt install prometheus)"),
]

NUMBERS = count(4001)
METRIC = {"name": "errors", "query": "errors{instance=~$hosts}", "good": "< 1", "every": 1, "count": 3, "errors": 0}


class Site:
    """A fleet, and what watches it."""

    def __init__(self, fleet: Fleet, monitoring: Monitoring) -> None:
        self.fleet, self.monitoring = fleet, monitoring

    def ask_for(self, **metric: Any) -> None:
        """Have the policy ask for a metric before each gate."""
        bake = {"minutes": 0.01, "metrics": [{**METRIC, **metric}]}
        rollout = {"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}, "bake": bake}
        self.fleet.write_policy(rollout=rollout, prometheus={"address": {"environment": "PROMETHEUS_URL"}})

    def new(self) -> tuple[str, str, list[str]]:
        """The number of a fresh RFC, its version, and the command that deploys it."""
        number = next(NUMBERS)
        version = f"{number}.0"
        rfc = self.fleet.rfc(f"CHG{number}", version, self.fleet.archive(version))
        return f"CHG{number}", version, self.fleet.command("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})

    def events(self, rfc: str, event: str) -> int:
        """How often the journal of an RFC's deployment has an event of a wave."""
        query = "select count(*) from journal j join deployment d on d.id = j.deployment_id where d.rfc = '{}' and j.event = '{}'"
        return int(self.fleet.rows(query.format(rfc, event))[0][0])

    def succeeds(self, command: list[str], version: str) -> None:
        done = self.fleet.execute(command)
        assert done.returncode == 0, done.stdout
        assert self.fleet.served() == dict.fromkeys(self.fleet.hosts, version)

    def assert_explained(self, rfc: str, gates: list[str]) -> None:
        """Every gate says the same again, by the journal alone."""
        with Cmdb.open(self.fleet.environment["TIDEGATE_CMDB"]) as cmdb, cmdb.read() as connection:
            found = gates_again(connection, rfc, archived=True)
        assert [(one["decision"], one["same"]) for one in found] == [(gate, True) for gate in gates]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    fleet = Fleet(tmp_path_factory.mktemp("metrics"), count=2)
    monitoring = Monitoring(fleet.path, dict.fromkeys(fleet.hosts, 0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMETHEUS_URL", monitoring.url)
        try:
            fleet.up()
            first = fleet.deploy("CHG4000", "4000.0")
            assert first.returncode == 0, first.stdout
            monitoring.start()
            yield Site(fleet, monitoring)
        finally:
            monitoring.stop()
            fleet.down()


def test_waves_that_are_good_proceed_and_the_one_whose_patience_is_over_goes_on(site: Site) -> None:
    site.ask_for()
    rfc, version, command = site.new()
    hurried = site.fleet.execute([*command, "-e", "tidegate_patience=0"])
    said = " ".join(hurried.stdout.split())
    assert hurried.returncode != 0
    assert f"{rfc}: hello {version} is baking until " in said, hurried.stdout
    assert "Run deploy again to go on, or backout to undo it." in said
    assert site.fleet.state(rfc) == "baking"
    site.succeeds(command, version)
    assert (site.events(rfc, "bake"), site.events(rfc, "measured")) == (2, 6)
    site.assert_explained(rfc, ["proceed", "proceed"])
    play = site.fleet.path / "explain.yml"
    asked = {"number": rfc, "explain": True, "cmdb": site.fleet.environment["TIDEGATE_CMDB"]}
    failed = "explained.gates | length != 2 or explained.gates | rejectattr('same') | length > 0"
    task = {"tidegate.release.cmdb_history_info": asked, "register": "explained", "failed_when": failed}
    write_document(play, [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}])
    done = site.fleet.execute(["ansible-playbook", "-i", "localhost,", str(play)])
    assert done.returncode == 0, done.stdout


def test_a_wave_that_is_bad_goes_back(site: Site) -> None:
    site.ask_for()
    before = site.fleet.served()
    rfc, _version, command = site.new()
    site.monitoring.set(5)
    try:
        done = site.fleet.execute(command)
    finally:
        site.monitoring.set(0)
    assert done.returncode != 0
    assert "errors is bad: 5 on web1, not < 1" in " ".join(done.stdout.split()), done.stdout
    assert (site.fleet.state(rfc), site.fleet.served()) == ("backed_out", before)
    site.assert_explained(rfc, ["back_out"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_prometheus_that_dies_or_freezes_in_the_middle_holds(site: Site, number: signal.Signals) -> None:
    site.ask_for(count=8)
    rfc, version, command = site.new()
    with subprocess.Popen(command, env=site.fleet.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        try:
            wait_until(lambda: site.events(rfc, "measured"), seconds=240)
            site.monitoring.send(number)
            output, _errors = run.communicate(timeout=120)
        finally:
            run.kill()
            if number is signal.SIGSTOP:
                site.monitoring.send(signal.SIGCONT)
            else:
                site.monitoring.start()
    assert run.returncode not in (0, -signal.SIGKILL), output
    assert "errors can't be measured: Prometheus" in " ".join(output.split()), output
    assert "127.0.0.1" not in site.fleet.rows(f"select reason from deployment where rfc = '{rfc}'")[0][0]  # noqa: S608 - a test's own number
    assert site.fleet.state(rfc) == "held"
    wait_until(lambda: site.monitoring.says(0))
    site.succeeds(command, version)
    site.assert_explained(rfc, ["hold", "proceed", "proceed"])


def test_a_controller_that_is_killed_while_it_bakes_goes_on_where_it_was(site: Site) -> None:
    site.ask_for()
    rfc, version, command = site.new()
    kill_at(site.fleet, "measured", command, when="0.01")
    assert (site.fleet.state(rfc), site.events(rfc, "bake")) == ("baking", 1)
    measured = site.events(rfc, "measured")
    assert measured
    site.succeeds(command, version)
    assert (site.events(rfc, "bake"), site.events(rfc, "measured")) == (2, 6)
    site.assert_explained(rfc, ["proceed", "proceed"])


@pytest.mark.thorough
def test_one_that_is_killed_before_it_bakes_begins_with_that(site: Site) -> None:
    site.ask_for()
    rfc, version, command = site.new()
    for event in ("bake", "baking"):
        kill_at(site.fleet, event, command)
        assert (site.fleet.state(rfc), site.events(rfc, "bake")) == ("activating", 0)
    site.succeeds(command, version)
    assert (site.events(rfc, "bake"), site.events(rfc, "measured")) == (2, 6)


@pytest.mark.thorough
def test_support_ends_when_what_it_is_to_end_with_is_good(site: Site) -> None:
    exit_ = {"minutes": 0.01, "metrics": [{**METRIC, "count": 2}]}
    rollout = {"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}, "support": {"hours": 0, "exit": exit_}}
    site.fleet.write_policy(rollout=rollout, prometheus={"address": {"environment": "PROMETHEUS_URL"}})
    rfc, version, command = site.new()
    site.monitoring.set(5)
    try:
        done = site.fleet.execute(command)
    finally:
        site.monitoring.set(0)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0, said
    assert (
        f"hello {version} is live on 2 of 2 hosts; its exit criteria are not met (errors is bad: 5 on web1, not < 1, and so on 1 more)"
        in said
    )
    assert (site.fleet.state(rfc), site.fleet.served()) == ("supporting", dict.fromkeys(site.fleet.hosts, version))
    site.succeeds(command, version)
    assert site.fleet.state(rfc) == "completed"
    assert (site.events(rfc, "exit_criteria"), site.events(rfc, "exit_measured")) == (2, 3)
    rfc, version, command = site.new()
    for event in ("exit_measured", "exit_criteria"):
        kill_at(site.fleet, event, command)
        assert site.fleet.state(rfc) == "supporting"
    site.succeeds(command, version)
    assert site.fleet.state(rfc) == "completed"


def test_what_the_gates_were_decided_by_is_signed_with_a_key(site: Site) -> None:
    site.ask_for()
    rfc, version, command = site.new()
    key = site.fleet.path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    key.chmod(0o600)
    site.succeeds([*command, "-e", f"tidegate_key={key}"], version)
    with Cmdb.open(site.fleet.environment["TIDEGATE_CMDB"]) as cmdb:
        deployment = Deployments(cmdb).latest(rfc)
    assert deployment is not None
    home = open_library(site.fleet.environment["TIDEGATE_DSL"]).repository("hello")
    found = [open_envelope(one, deployment.digest).statement for one in collect(home, deployment.digest)]
    (signed,) = [one.predicate for one in found if one.type == GATES]
    assert signed["rfc"] == rfc
    with Cmdb.open(site.fleet.environment["TIDEGATE_CMDB"]) as cmdb, cmdb.read() as connection:
        seen, now = heads_in(next(one for one in found if one.type == GATES)), heads(connection)
        assert is_in_chain(connection, seen)
    assert 0 < seen["journal"].seq <= now["journal"].seq
    assert [(gate["wave"], gate["decision"]) for gate in signed["gates"]] == [(1, "proceed"), (2, "proceed")]
    assert all(len(gate["measured"]) == 64 for gate in signed["gates"])
