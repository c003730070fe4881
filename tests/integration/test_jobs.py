# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs as jobs of ansible-runner, as AWX runs them: what they pass on, what they say, and where they write."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from jobs import Ended, Job
from sites import PLAYBOOK, Site
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a project that nobody can write to is a mount of root's")

VERBS = ("archive", "clear", "plan", "deploy", "stage", "backout", "verify")
PROJECT = {f"{verb}.yml": f"- import_playbook: tidegate.release.{verb}\n" for verb in VERBS}
PASSPHRASE = "correct-horse-battery"  # noqa: S105 - of a test's own key
THERE = {"name": "there", "command": ["/bin/true"], "timeout": 5}
BROKEN = {"name": "never", "command": ["/bin/false"], "timeout": 1}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site"), count=2)
    site.up()
    return site


@pytest.fixture(scope="module")
def job(site: Site) -> Job:
    """A private data directory whose credentials are the homes and a signing key."""
    key = site.path / "key.pem"
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", f"pass:{PASSPHRASE}", "-out", str(key)]
    subprocess.run(make, check=True, capture_output=True)
    key.chmod(0o600)
    homes = {name: value for name, value in site.environment.items() if name.startswith("TIDEGATE_")}
    key_of_job = {"TIDEGATE_KEY": str(key), "TIDEGATE_KEY_PASSPHRASE": PASSPHRASE}
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}", "tidegate_become": False}
    hosts = {name: {**local, "tidegate_root": str(site.path / name)} for name in site.hosts}
    job = Job(site.path / "job", hosts, {**homes, **key_of_job, "HOME": str(site.path / "home")})
    job.lay_out(project=PROJECT)
    return job


def passed_on(ended: Ended, name: str) -> dict[str, Any]:
    """What a job passes on, and nothing of it or of what it says is a secret."""
    assert PASSPHRASE not in "\n".join((*ended.said, str(ended.events)))
    assert set(ended.artifacts) <= {"tidegate_archived", "tidegate_cleared", "tidegate_planned", "tidegate_concluded"}
    found = ended.artifacts[name]
    assert len(str(found)) < 2000
    return dict(found)


def planned(number: str, version: str) -> dict[str, Any]:
    return {"rfc": number, "release": "hello", "version": version, "hosts": 2, "waves": 2, "sizes": [1, 1]}


def is_said(ended: Ended, pattern: str) -> bool:
    """Whether a line is this sentence, behind its time, and no JSON."""
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in ended.said]
    return any(re.fullmatch(rf"([0-9-]+T[0-9:]+Z )?{pattern}", line) for line in plain)


def test_a_workflow_of_jobs_passes_on_what_each_found(site: Site, job: Job) -> None:
    folder = site.release("1.0", settings={}, hooks={}, health=[THERE])
    archived = job.run("archive.yml", tidegate_release=str(folder))
    assert archived.status == 0, archived.said
    package = passed_on(archived, "tidegate_archived")
    assert package == {"name": "hello", "version": "1.0", "digest": site.archive_folder(folder)}

    later = datetime.now(UTC) + timedelta(days=1)
    window = {"start_date": later.isoformat(), "end_date": (later + timedelta(hours=4)).isoformat()}
    closed = str(site.rfc("CHG0000201", "1.0", package["digest"], **window))
    refused = job.run("clear.yml", tidegate_rfc=closed)
    assert refused.status != 0
    cleared = passed_on(refused, "tidegate_cleared")
    assert cleared["failing"] == ["window"]
    assert (cleared["rfc"], cleared["digest"], cleared["granted"]) == ("CHG0000201", package["digest"], False)
    assert cleared["sentence"].startswith("CHG0000201 is not cleared: window")

    rfc = str(site.rfc("CHG0000201", "1.0", package["digest"]))
    before = site.everything()
    given = {"tidegate_archived": package, "tidegate_cleared": cleared}  # as AWX does with the artifacts of the nodes before
    named = {f"tidegate_{key}": f"{{{{ tidegate_archived.{key} }}}}" for key in ("name", "digest")}
    looked = job.run("verify.yml", "--check", **given, **named)
    assert "no host to upgrade to hello 1.0: 0 were found" in "".join(looked.said), "it has found the package, and nothing is live yet"
    tried = job.run("deploy.yml", "--check", tidegate_rfc=rfc)
    assert tried.status == 0, tried.said
    assert site.everything() == before
    assert passed_on(tried, "tidegate_concluded")["state"] == "none"

    deployed = job.run("deploy.yml", tidegate_rfc=rfc)
    assert deployed.status == 0, deployed.said
    assert passed_on(deployed, "tidegate_planned") == planned("CHG0000201", "1.0")
    concluded = passed_on(deployed, "tidegate_concluded")
    assert concluded.pop("sentence").startswith("CHG0000201: hello 1.0 is live on ")
    known = {"rfc": "CHG0000201", "release": "hello", "version": "1.0"}
    assert concluded == {**known, "state": "completed", "hosts": {"active": 2}, "amiss": []}
    assert is_said(deployed, r"wave 1 of 2: .*")
    assert is_said(deployed, r"CHG0000201: hello 1\.0 is live on .*")


def test_a_deployment_that_fails_passes_on_how_it_ended(site: Site, job: Job) -> None:
    digest = site.archive("2.0", settings={}, hooks={}, health=[BROKEN])
    failed = job.run("deploy.yml", tidegate_rfc=str(site.rfc("CHG0000202", "2.0", digest)))
    assert failed.status != 0
    concluded = passed_on(failed, "tidegate_concluded")
    assert concluded["state"] == "backed_out"
    assert concluded["hosts"] == {"backed_out": 1, "staged": 1}
    assert "CHG0000202: hello 2.0 was backed out of " in concluded["sentence"]
    assert is_said(failed, r"wave 1 of 2: .*back out.*")
    assert is_said(failed, r"CHG0000202: hello 2\.0 was backed out of .*")


def test_a_job_that_a_worker_does_elsewhere_passes_on_the_same(site: Site, job: Job, tmp_path: Path) -> None:
    digest = site.archive("3.0", settings={}, hooks={}, health=[THERE])
    job.lay_out({"tidegate_rfc": str(site.rfc("CHG0000203", "3.0", digest))})
    stream = job.stream("deploy.yml", tmp_path)
    subprocess.run(["bash", "-c", stream], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    ended = Job.streamed(tmp_path)
    assert ended.status == 0, ended.said
    concluded = passed_on(ended, "tidegate_concluded")
    assert (concluded["state"], concluded["hosts"], concluded["amiss"]) == ("completed", {"active": 2}, [])


@pytest.mark.thorough
def test_what_is_granted_and_a_plan_that_is_only_shown_are_passed_on_too(site: Site, job: Job) -> None:
    rfc = str(site.rfc("CHG0000204", "4.0", site.archive("4.0", settings={}, hooks={}, health=[THERE])))
    granted = passed_on(job.run("clear.yml", tidegate_rfc=rfc), "tidegate_cleared")
    assert (granted["granted"], granted["failing"]) == (True, [])
    assert granted["sentence"].startswith("CHG0000204 is cleared")
    assert passed_on(job.run("plan.yml", tidegate_rfc=rfc), "tidegate_planned") == planned("CHG0000204", "4.0")
    for verb, state, hosts in (("stage", "staging", {"staged": 2}), ("backout", "cancelled", {"staged": 2})):
        concluded = passed_on(job.run(f"{verb}.yml", tidegate_rfc=rfc), "tidegate_concluded")
        assert (concluded["state"], concluded["hosts"]) == (state, hosts)


@dataclass
class Containers:
    """Controllers in PID namespaces of their own, and a release that comes up on no host before it may."""

    site: Site
    cmdb: Cmdb
    number: str
    rfc: str

    @property
    def may(self) -> Path:
        return self.site.path / "may"

    @contextmanager
    def deploying(self) -> Iterator[subprocess.Popen[str]]:
        """A deploy in a container that is in the middle of a host."""
        command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", PLAYBOOK, "tidegate.release.deploy"]
        command += ["-i", str(self.site.path / "all.yml"), "-e", f"tidegate_rfc={self.rfc} tidegate_become=false"]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, env=self.site.environment, cwd=self.site.path / "home", **pipes) as container:
            try:
                wait_until(lambda: container.poll() is not None or self.is_at_a_host())
                assert container.poll() is None, container.stdout and container.stdout.read()
                yield container
            finally:
                container.kill()

    def deploy(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        return self.site.run("deploy", tidegate_rfc=self.rfc, **variables)

    def events(self) -> list[str]:
        journal = Journal(self.cmdb)
        found = journal.latest(self.number)
        return [event.event for event in journal.events(found.id)] if found else []

    def is_at_a_host(self) -> bool:
        journal = Journal(self.cmdb)
        found = journal.latest(self.number)
        return found is not None and any(target.state == "activating" for target in journal.targets(found.id))

    def state(self) -> str:
        found = Journal(self.cmdb).latest(self.number)
        return str(found.state) if found else ""

    def end_lease(self) -> None:
        """As hours later."""
        table = schema().deployment
        with self.cmdb.begin() as connection:
            connection.execute(table.update().where(table.c.rfc == self.number).values(lease_until=datetime(2026, 1, 1, tzinfo=UTC)))


def signal_controllers(container: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to ansible-playbook in a container and to its workers, and to nothing of a host."""
    first = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()[0]
    namespace = os.readlink(f"/proc/{first}/ns/pid")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            inside = os.readlink(process / "ns/pid") == namespace
        except OSError:
            continue
        if inside and any(word.endswith(b"ansible-playbook") for word in words[:2]):
            os.kill(int(process.name), number)


@pytest.fixture
def containers(cmdb_url: str, tmp_path: Path) -> Iterator[Containers]:
    site = Site(tmp_path, count=2)
    site.up()
    site.settings = {"TIDEGATE_CMDB": cmdb_url}
    waits = {"name": "may", "command": ["/usr/bin/test", "-e", str(tmp_path / "may")], "timeout": 300}
    digest = site.archive("1.0", settings={}, hooks={}, health=[waits])
    rfc = str(site.rfc("CHG0000301", "1.0", digest))
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": name, "class": "server"} for name in site.hosts], "test")
        yield Containers(site, cmdb, "CHG0000301", rfc)


def test_the_successor_of_a_killed_job_goes_on_at_once_and_one_that_stands_still_has_none(containers: Containers) -> None:
    with containers.deploying() as container:
        living = containers.deploy()
        signal_controllers(container, signal.SIGSTOP)
        containers.end_lease()
        frozen = containers.deploy()
        for refused in (living, frozen):
            assert refused.returncode != 0
            assert "which is there, however long it says nothing" in " ".join(refused.stdout.split()), refused.stdout
        assert containers.events().count("taken_over") == 0
        container.kill()
        container.wait()
        containers.may.touch()
        done = containers.deploy()
    assert done.returncode == 0, done.stdout
    assert containers.state() == "completed"
    assert containers.events().count("taken_over") == 1
    assert containers.site.live() == {"1.0"}


def test_one_that_wakes_after_a_person_has_taken_over_changes_nothing_and_does_not_end_well(containers: Containers) -> None:
    with containers.deploying() as container:
        signal_controllers(container, signal.SIGSTOP)
        containers.may.touch()
        done = containers.deploy(tidegate_take_over=True)
        assert done.returncode == 0, done.stdout
        assert containers.state() == "completed"
        before = containers.events()
        signal_controllers(container, signal.SIGCONT)
        said, _ = container.communicate(timeout=120)
    assert container.returncode != 0, said
    assert "another controller has taken CHG0000301#1 over; this run must not go on" in " ".join(said.split()), said
    assert containers.events() == before
