# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases whose own role changes data, on hosts of the lab; the data are a file on one of them, in which each run adds a line."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.module_utils.processes import below
from documents import simple_manifest, write_document
from fleet import Fleet
from waiting import wait_until

NUMBER, SLOW = "CHG0100051", "if [ ! -e /srv/slow ]; then touch /srv/slow; sleep 10; fi"
LOOK = {"name": "Look", "ansible.builtin.command": "test -e /srv/live", "changed_when": False}
TASKS: dict[str, list[dict[str, Any]]] = {
    "migrate": [{"name": "Migrate", "ansible.builtin.shell": f"echo migrate >>/srv/data; {SLOW}"}],
    "reverse": [{"name": "Reverse", "ansible.builtin.shell": f"echo reverse >>/srv/data; {SLOW}"}],
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


def killed_in_the_middle(fleet: Fleet, verb: str, variables: dict[str, str]) -> None:
    """Run a verb, and kill it with all that it has started as soon as the data are being changed."""
    fleet.run_on("web2", "rm -f /srv/slow")
    with (fleet.path / "killed.log").open("wb") as log:
        run = subprocess.Popen(
            fleet.command(verb, variables), env=fleet.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(lambda: fleet.run_on("web2", "test -e /srv/slow && echo yes; true").strip() == "yes")
    finally:
        for pid in [run.pid, *below([run.pid])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.wait()


def test_data_that_a_killed_run_was_changing_are_changed_again_only_when_a_person_has_looked(fleet: Fleet) -> None:
    rfc = fleet.rfc(NUMBER, "2.0", release(fleet, "2.0"))
    variables = {"tidegate_rfc": str(rfc), "tidegate_reason": "a test looked"}
    done = fleet.play("tidegate.release.deploy", variables, "--check")
    assert done.returncode == 0, done.stdout
    assert "role, migrate (once, on web2, before the first wave): Migrate" in done.stdout
    assert "before the first wave data are migrated on web2" in done.stdout
    assert data(fleet) == []

    killed_in_the_middle(fleet, "tidegate.release.deploy", variables)
    done = fleet.play("tidegate.release.deploy", variables)
    assert done.returncode != 0, done.stdout
    assert (fleet.state(NUMBER), data(fleet)) == ("held", ["migrate"])
    assert "migrate on web2 was interrupted, so it is not known what it has done to the data" in done.stdout
    before = said(done.stdout, "as_before")
    assert f" -e tidegate_data={before} -e tidegate_reason=" in done.stdout
    assert set(fleet.host_states(NUMBER).values()) == {"staged"}
    done = fleet.play("tidegate.release.backout", variables)
    assert done.returncode != 0, done.stdout
    assert "migrate on web2 was interrupted" in done.stdout
    done = fleet.play("tidegate.release.audit")
    assert "migrate on web2 was interrupted" in done.stdout

    # A person has brought the data back. It waits for what still runs there.
    done = fleet.play("tidegate.release.deploy", {**variables, "tidegate_data": before})
    assert done.returncode == 0, done.stdout
    assert (fleet.state(NUMBER), data(fleet)) == ("completed", ["migrate", "migrate"])
    assert events(fleet, NUMBER) == ["migrating", "not_migrated", "migrating", "migrated"]

    killed_in_the_middle(fleet, "tidegate.release.backout", variables)
    assert set(fleet.host_states(NUMBER).values()) == {"backed_out"}, "every host is back before its data are"
    for verb in ("tidegate.release.backout", "tidegate.release.deploy"):
        done = fleet.play(verb, variables)
        assert done.returncode != 0, done.stdout
        assert (fleet.state(NUMBER), data(fleet)) == ("backing_out", ["migrate", "migrate", "reverse"])
        assert "every host is back, but reverse on web2 was interrupted" in done.stdout
        answer = said(done.stdout, "as_before")
    # What was said of the first attempt is not true of this one.
    done = fleet.play("tidegate.release.backout", {**variables, "tidegate_data": before})
    assert done.returncode != 0, done.stdout
    assert (fleet.state(NUMBER), data(fleet)) == ("backing_out", ["migrate", "migrate", "reverse"])
    done = fleet.play("tidegate.release.backout", {**variables, "tidegate_data": answer})
    assert done.returncode == 0, done.stdout
    assert (fleet.state(NUMBER), data(fleet)) == ("backed_out", ["migrate", "migrate", "reverse"])
    assert "its data as before" in done.stdout
    assert events(fleet, NUMBER)[4:] == ["reversing", "reversed"]


def test_a_migrate_that_failed_is_held_before_any_host_has_the_release(fleet: Fleet) -> None:
    broken = [*TASKS["migrate"], {"name": "Break", "ansible.builtin.command": "false"}]
    rfc = fleet.rfc("CHG0100052", "2.1", release(fleet, "2.1", migrate=broken))
    variables = {"tidegate_rfc": str(rfc), "tidegate_reason": "a test looked"}
    fleet.run_on("web2", "rm -f /srv/data")
    done = fleet.play("tidegate.release.deploy", {**variables, "ansible_port": 1})  # nobody is there
    assert done.returncode != 0, done.stdout
    assert "is held: no data were migrated: it was not reached in the task" in done.stdout
    assert (events(fleet, "CHG0100052"), data(fleet)) == (["migrating", "not_migrated"], [])
    for _time in range(2):
        done = fleet.play("tidegate.release.deploy", variables)
        assert done.returncode != 0, done.stdout
        assert (fleet.state("CHG0100052"), data(fleet)) == ("held", ["migrate"])
        assert "migrate on web2 failed (the task 'Break' (ansible.builtin.command) failed, see " in done.stdout
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
