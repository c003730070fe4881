# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases whose own role changes data, on hosts of the lab; the data are a file on one of them, in which each run adds a line.

Runs that are killed meanwhile are in ``test_role_kill_matrix.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from documents import simple_manifest, write_document
from fleet import Fleet

LOOK = {"name": "Look", "ansible.builtin.command": "test -e /srv/live", "changed_when": False}
TASKS: dict[str, list[dict[str, Any]]] = {
    "migrate": [{"name": "Migrate", "ansible.builtin.shell": "echo migrate >>/srv/data"}],
    "reverse": [{"name": "Reverse", "ansible.builtin.shell": "echo reverse >>/srv/data"}],
    "activate": [{"name": "Activate", "ansible.builtin.file": {"path": "/srv/live", "state": "touch", "mode": "0644"}}],
    "check": [LOOK],
    "back_out": [{"name": "Remove", "ansible.builtin.file": {"path": "/srv/live", "state": "absent"}}],
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    path = tmp_path_factory.mktemp("data")
    path.chmod(0o755)
    fleet = Fleet(path, 2)
    fleet.up()
    try:
        yield fleet
    finally:
        fleet.down()


def release(fleet: Fleet, version: str, **changed: list[dict[str, Any]]) -> str:
    folder = fleet.path / "releases" / version
    tasks = folder / "ansible" / "app" / "tasks"
    tasks.mkdir(parents=True)
    (folder / "README.md").write_text("# hello\n")
    for name, content in {**TASKS, **changed}.items():
        (tasks / f"{name}.yml").write_text(yaml.safe_dump(content))
    ansible = {
        "role": "ansible/app",
        "steps": ["migrate", "activate", "check", "reverse"],
        "migrate_on": "[?name=='web2'].name",
        "on_first": "back_out",
        "atomic": False,
        "gather_facts": False,
    }
    write_document(folder / "release.yml", simple_manifest(version=version, payload=..., health=..., ansible=ansible))
    return fleet.archive_folder(folder)


def data(fleet: Fleet) -> list[str]:
    return fleet.run_on("web2", "cat /srv/data; true").split()


def events(fleet: Fleet, number: str) -> list[str]:
    known = "('not_migrated', 'migrating', 'migrated', 'migrate_failed', 'reversing', 'reversed', 'reverse_failed', 'kept')"
    rows = fleet.rows(
        "select j.event from journal j join deployment d on d.id = j.deployment_id "  # noqa: S608 - a test's own RFC number
        f"where d.rfc = '{number}' and j.event in {known} order by j.seq"
    )
    return [event for (event,) in rows]


def said(output: str, what: str) -> str:
    """What the message of a hold has to be answered with."""
    found = re.search(rf"tidegate_data=({what}:\d+)", output)
    assert found, output
    return found[1]


@pytest.mark.thorough
def test_a_migrate_that_failed_is_held_before_any_host_has_the_release(fleet: Fleet) -> None:
    broken = [*TASKS["migrate"], {"name": "Break", "ansible.builtin.command": "false"}]
    rfc = fleet.rfc("CHG0100052", "2.1", release(fleet, "2.1", migrate=broken))
    variables = {"tidegate_rfc": str(rfc), "tidegate_reason": "a test looked"}
    done = fleet.play("tidegate.release.deploy", variables, "--check")
    assert done.returncode == 0, done.stdout
    assert "role, migrate (once, on web2, before the first wave): Migrate" in done.stdout
    assert "before the first wave data are migrated on web2" in done.stdout
    assert data(fleet) == []
    done = fleet.play("tidegate.release.deploy", {**variables, "ansible_port": 1})  # nobody is there
    assert done.returncode != 0, done.stdout
    assert "is held: no data were migrated: it was not reached in the task" in done.stdout
    assert (events(fleet, "CHG0100052"), data(fleet)) == (["migrating", "not_migrated"], [])
    failed = "migrate on web2 failed (the task 'Break' (ansible.builtin.command) failed, see "
    for verb in ("deploy", "deploy", "backout"):
        done = fleet.play(f"tidegate.release.{verb}", variables)
        assert done.returncode != 0, done.stdout
        assert (fleet.state("CHG0100052"), data(fleet)) == ("held", ["migrate"])
        assert failed in done.stdout
    assert failed in fleet.play("tidegate.release.audit").stdout
    assert set(fleet.host_states("CHG0100052").values()) == {"staged"}
    assert [fleet.run_on(host, "ls /srv/live 2>/dev/null; true") for host in fleet.hosts] == ["", ""]
    done = fleet.play("tidegate.release.backout", {**variables, "tidegate_data": said(done.stdout, "migrated")})
    assert done.returncode == 0, done.stdout
    assert (fleet.state("CHG0100052"), data(fleet)) == ("backed_out", ["migrate", "reverse"])


def test_a_query_that_does_not_give_one_host_of_the_plan_is_said_before_anything_is_begun(fleet: Fleet) -> None:
    rfc = fleet.rfc("CHG0100053", "2.2", release(fleet, "2.2"), scope="[?name=='web1']")
    done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)}, "--check")
    assert done.returncode != 0, done.stdout
    assert "data_host: migrate_on, \"[?name=='web2'].name\", has to give one CI of the plan and gives none" in done.stdout
