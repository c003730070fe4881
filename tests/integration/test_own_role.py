# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases whose own role does the waves, on hosts of the lab; ``test_role_kill_matrix.py`` kills their runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import log_of
from documents import simple_manifest, write_document
from fleet import Fleet

# What the role does is written to a file on the host, in order; by what costs a tenth of a module.
_NOTE = "ansible.builtin.raw"
STEPS = ("drain", "activate", "check", "restore")


def note(what: str) -> dict[str, Any]:
    return {"name": f"Note {what}", _NOTE: f"echo '{what} {{{{ tidegate_version }}}}' >>/srv/notes"}


def tasks(version: str) -> dict[str, list[dict[str, Any]]]:
    """A role that writes its version to a file, and takes it away where there was none."""
    return {
        "drain": [note("drain")],
        "activate": [
            note("activate"),
            {"name": "Write", _NOTE: f"printf %s {version} >/srv/version", "notify": "restart"},
        ],
        "check": [{"name": "Look", "ansible.builtin.command": f"grep -qx {version} /srv/version", "changed_when": False}, note("check")],
        "restore": [note("restore")],
        "back_out": [note("back_out"), {"name": "Remove", "ansible.builtin.file": {"path": "/srv/version", "state": "absent"}}],
    }


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    path = tmp_path_factory.mktemp("own")
    path.chmod(0o755)
    fleet = Fleet(path, 3)
    fleet.up()
    try:
        yield fleet
    finally:
        fleet.down()


@pytest.fixture(autouse=True)
def _empty(fleet: Fleet) -> None:
    for host in fleet.hosts:
        fleet.run_on(host, "rm -rf /srv/notes /srv/version")
    fleet.write_policy(rollout={"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}})


def release(fleet: Fleet, version: str, *, tree: bool = False, own: dict[str, Any] | None = None, **changed: list[dict[str, Any]]) -> str:
    """Archive a release with a role; ``changed`` replaces tasks of it."""
    folder = fleet.path / "releases" / version
    shutil.rmtree(folder, ignore_errors=True)
    if tree:
        fleet.release(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("# hello\n")
    for name, content in {**tasks(version), **changed}.items():
        file = folder / "ansible" / "app" / "tasks" / f"{name}.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content))
    handlers = folder / "ansible" / "app" / "handlers"
    handlers.mkdir(exist_ok=True)
    # Its own version, and not the one that it is told: of two roles in one run Ansible takes the last one's handler.
    handler = {"name": "restart", _NOTE: f"echo 'handler {version}' >>/srv/notes"}
    (handlers / "main.yml").write_text(yaml.safe_dump([handler]))
    ansible = {"role": "ansible/app", "steps": list(STEPS), "on_first": "back_out", "atomic": False, "gather_facts": False, **(own or {})}
    if tree:
        written = yaml.safe_load((folder / "release.yml").read_text())
        write_document(folder / "release.yml", {**written, "ansible": ansible})
    else:
        write_document(folder / "release.yml", simple_manifest(version=version, payload=..., health=..., ansible=ansible))
    return fleet.archive_folder(folder)


def deploy(fleet: Fleet, number: str, version: str, **release_: Any) -> Any:
    rfc = fleet.rfc(number, version, release(fleet, version, **release_))
    return fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})


def backout(fleet: Fleet, number: str) -> Any:
    return fleet.play("tidegate.release.backout", {"tidegate_rfc": str(fleet.path / f"{number}.yml"), "tidegate_reason": "a test"})


def on_hosts(fleet: Fleet, command: str) -> list[str]:
    return [fleet.run_on(host, command).strip() for host in fleet.hosts]


def versions(fleet: Fleet) -> list[str]:
    return on_hosts(fleet, "cat /srv/version 2>/dev/null || echo none")


def notes(fleet: Fleet, host: str) -> list[str]:
    return fleet.run_on(host, "cat /srv/notes; true").splitlines()


def test_a_role_alone_is_deployed_upgraded_and_backed_out(fleet: Fleet) -> None:
    log = log_of(f"of long ago {fleet.path}", None)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch(0o600)
    os.utime(log, times=(0, 0))
    done = deploy(fleet, "CHG0100001", "1.0")
    assert done.returncode == 0, done.stdout
    assert not log.exists()
    assert versions(fleet) == ["1.0"] * 3
    assert notes(fleet, "web1") == ["drain 1.0", "activate 1.0", "handler 1.0", "check 1.0", "restore 1.0"]
    assert fleet.run_on("web1", "ls /opt/tidegate 2>/dev/null | wc -l").strip() == "0"  # staging has touched no host
    assert set(fleet.installed().values()) == {"1.0"}
    done = fleet.play("tidegate.release.audit")
    assert done.returncode == 0, done.stdout
    done = deploy(fleet, "CHG0100002", "2.0")
    assert done.returncode == 0, done.stdout
    assert versions(fleet) == ["2.0"] * 3
    done = backout(fleet, "CHG0100002")
    assert done.returncode == 0, done.stdout
    assert versions(fleet) == ["1.0"] * 3
    assert notes(fleet, "web3")[-5:] == ["drain 2.0", "activate 1.0", "handler 1.0", "check 1.0", "restore 2.0"]
    assert fleet.state("CHG0100002") == "backed_out"
    # What nobody trusts any more is not kept for that.
    fleet.write_policy(people={"rita": {"roles": ["signer"]}}, trust={"package": {"role": "signer"}})
    done = backout(fleet, "CHG0100001")
    assert done.returncode == 0, done.stdout
    assert versions(fleet) == ["none"] * 3


def test_check_mode_says_which_tasks_would_run_and_runs_none(fleet: Fleet) -> None:
    rfc = fleet.rfc("CHG0100003", "9.0", release(fleet, "9.0"))
    done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)}, "--check")
    assert done.returncode == 0, done.stdout
    assert "role, activate: Note activate, Write" in done.stdout
    assert "role, back_out (on hosts that go back): Note back_out, Remove" in done.stdout
    assert versions(fleet) == ["none"] * 3
    assert on_hosts(fleet, "cat /srv/notes 2>/dev/null; true") == [""] * 3


def test_what_a_role_needs_is_looked_for_before_any_host_is_touched(fleet: Fleet) -> None:
    done = deploy(fleet, "CHG0100004", "4.0", own={"collections": [{"name": "nobody.nothing"}]})
    assert done.returncode != 0
    assert "the role app needs the collection nobody.nothing, which is not installed" in " ".join(done.stdout.split())
    assert on_hosts(fleet, "cat /srv/notes 2>/dev/null; true") == [""] * 3
    assert fleet.state("CHG0100004") == "held"
    backout(fleet, "CHG0100004")


@pytest.mark.thorough
def test_a_host_that_can_not_go_back_either_stays_drained_until_a_person_brings_it_back(fleet: Fleet) -> None:
    broken = [{"name": "Break", "ansible.builtin.command": "false"}]
    done = deploy(fleet, "CHG0100021", "3.0", own={"back_out": "own"}, activate=broken, back_out=broken)
    assert done.returncode != 0
    assert fleet.host_states("CHG0100021")["web1"] in ("stuck", "owed")
    assert "it stays drained" in done.stdout
    assert set(notes(fleet, "web1")) == {"drain 3.0"}
    # The role can't mend it. A person does, and says so.
    by_hand = {"tidegate_rfc": str(fleet.path / "CHG0100021.yml"), "tidegate_done_by_hand": "web1"}
    refused = fleet.play("tidegate.release.backout", by_hand)
    assert "no reason is given for what is said, that web1 was brought back by hand" in " ".join(refused.stdout.split())
    refused = fleet.play("tidegate.release.deploy", by_hand)
    assert "tidegate_done_by_hand is about hosts that go back; run backout with it" in " ".join(refused.stdout.split())
    done = fleet.play("tidegate.release.backout", {**by_hand, "tidegate_reason": "I cleaned it up"})
    assert done.returncode == 0, done.stdout
    assert "CHG0100021: hello 3.0 is recorded as undone by hand on web1" in " ".join(done.stdout.split())
    assert "bring into service by hand what it took out of that: web1" in " ".join(done.stdout.split())
    assert set(notes(fleet, "web1")) == {"drain 3.0"}  # nothing of the role has gone there again
    assert (fleet.state("CHG0100021"), fleet.host_states("CHG0100021")["web1"]) == ("backed_out", "backed_out")
    audit = fleet.play("tidegate.release.audit")
    assert audit.returncode == 0, audit.stdout
    assert "web1: hello was brought back by hand to having none on " in audit.stdout
    assert "I cleaned it up" in audit.stdout
    done = deploy(fleet, "CHG0100022", "3.1")  # nobody else is kept from it
    assert done.returncode == 0, done.stdout
    assert "by hand" not in fleet.play("tidegate.release.audit").stdout
    # The next one has a tree, too. Where it goes wrong, what a role alone had done comes back by that role.
    fails = [{"name": "Fail", "ansible.builtin.command": "false"}]
    done = deploy(fleet, "CHG0100023", "3.2", tree=True, check=fails)
    assert done.returncode != 0
    assert fleet.state("CHG0100023") == "backed_out", done.stdout
    assert versions(fleet) == ["3.1"] * 3
    assert on_hosts(fleet, "ls /opt/tidegate/hello/current 2>/dev/null | wc -l") == ["0"] * 3
    assert set(fleet.installed().values()) == {"3.1"}


@pytest.mark.thorough
def test_what_a_role_made_is_adopted_where_its_check_passes_and_is_what_hosts_go_back_to(fleet: Fleet) -> None:
    folder = _called_world(fleet, "5.0")
    # By the role and a playbook of the team's, on all but one host.
    for host in fleet.hosts:
        fleet.run_on(host, f"printf {'5.0' if host != 'web3' else '4.9'} >/srv/version")
    done = fleet.play("tidegate.release.adopt", {"tidegate_release": str(folder)})
    assert done.returncode != 0
    assert "world 5.0 is adopted on 2 of 3 hosts" in done.stdout, done.stdout
    assert "web3: the task 'Look' (ansible.builtin.command) failed" in done.stdout
    recorded = "select ci.name from installation i join ci on ci.id = i.ci_id where i.release = 'world' and i.version = '5.0' order by 1"
    assert [host for (host,) in fleet.rows(recorded)] == ["web1", "web2"]
    fleet.run_on("web3", "printf 5.0 >/srv/version")
    done = fleet.play("tidegate.release.adopt", {"tidegate_release": str(folder)})
    assert done.returncode == 0, done.stdout
    assert len(fleet.rows(recorded)) == 3
    assert set(notes(fleet, "web1")) == {"check 5.0"}  # nothing else was done there
    folder = _called_world(fleet, "5.1", check=[{"name": "Fail", "ansible.builtin.command": "false"}])
    digest = read_release(folder).archive(create_library(fleet.environment["TIDEGATE_DSL"]).repository("world")).digest
    rfc = fleet.rfc("CHG0100041", "5.1", digest, release={"name": "world", "version": "5.1", "digest": digest})
    done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    assert done.returncode != 0
    assert fleet.state("CHG0100041") == "backed_out"
    assert versions(fleet) == ["5.0"] * 3
    assert "activate 5.0" in notes(fleet, "web1")


def _called_world(fleet: Fleet, version: str, **changed: list[dict[str, Any]]) -> Path:
    """The directory of a release of another name, which no other test has brought to these hosts."""
    release(fleet, version, **changed)
    folder = fleet.path / "releases" / version
    written = yaml.safe_load((folder / "release.yml").read_text())
    write_document(folder / "release.yml", {**written, "name": "world"})
    return folder
