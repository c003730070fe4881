# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""However Ansible is set and called: a verb does all of its work and says so, or changes nothing and says why.

Two hosts in directories of this machine will do, for what a host does is not what is tested here. ``TIDEGATE_TEST_ANSIBLE`` may name
another ansible-playbook, of another ansible-core with the collection beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from fleet import Fleet

NUMBERS = count(7001)
PLAYBOOK = os.environ.get("TIDEGATE_TEST_ANSIBLE", "ansible-playbook")
NOT_INJECTED = {"ANSIBLE_INJECT_FACT_VARS": "false"}
CACHED = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_GATHERING": "smart"}
SETTINGS = {
    "plain": {},
    "not injected": NOT_INJECTED,
    "cached": CACHED,
    "both": NOT_INJECTED | CACHED,
    # What else a team may have set that changes how plays run.
    "hostile": {
        "ANSIBLE_STRATEGY": "free",
        "ANSIBLE_ANY_ERRORS_FATAL": "true",
        "ANSIBLE_TASK_TIMEOUT": "1",
        "ANSIBLE_FORCE_HANDLERS": "true",
        "ANSIBLE_FORKS": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "true",
        "ANSIBLE_DUPLICATE_YAML_DICT_KEY": "error",
    },
}


class Site(Fleet):
    """Hosts that are directories of this machine; Ansible finds no ansible.cfg."""

    settings: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        own = {"HOME": str(self.path / "home"), "ANSIBLE_LOCAL_TEMP": str(self.path / "tmp")}
        return {**super().environment, **own, **self.settings}

    def up(self) -> None:
        self.settings = {}
        (self.path / "home").mkdir()
        self.write_policy(**self.policy)
        with Cmdb.open(self.environment["TIDEGATE_CMDB"], create=True) as cmdb:
            cmdb.put_cis([{"name": name, "class": "server"} for name in self.hosts], "test")
        self.inventory()

    def inventory(self, *names: str, **variables: Any) -> str:
        """An inventory of these hosts, of all without names; with more variables of all."""
        hosts = {name: {"tidegate_root": str(self.path / name)} for name in names or self.hosts}
        wide = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
        path = self.path / f"{'-'.join(names) or 'all'}.yml"
        path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": wide}}))
        return str(path)

    def run(self, verb: str, *options: str, inventory: str | None = "", **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run a verb; ``inventory`` is that of all hosts unless it is said, none with ``None``."""
        where = [] if inventory is None else ["-i", inventory or str(self.path / "all.yml")]
        given = json.dumps({"tidegate_become": False, **variables})
        done = subprocess.run(
            [PLAYBOOK, f"tidegate.release.{verb}", *where, "-e", given, *options],
            env=self.environment,
            cwd=self.path / "home",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done

    def change(self, **rfc: Any) -> tuple[str, str]:
        """The number and the file of a new RFC, for a version of its own."""
        number = next(NUMBERS)
        health = [{"name": "there", "command": ["/bin/true"], "timeout": 5}]
        digest = self.archive(f"{number}.0", settings={}, hooks={}, health=health)
        return f"CHG{number}", str(self.rfc(f"CHG{number}", f"{number}.0", digest, **rfc))

    def everything(self) -> dict[str, Any]:
        """Each table of the CMDB, and each file of each host and of the library."""
        found: dict[str, Any] = {}
        with sqlite3.connect(self.path / "cmdb.sqlite", timeout=30) as connection:
            for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
                found[name] = connection.execute(f"select * from {name}").fetchall()  # noqa: S608 - a table of the CMDB
        for root in (*self.hosts, "dsl"):
            for path in sorted((self.path / root).rglob("*")):
                found[str(path)] = (
                    os.readlink(path) if path.is_symlink() else path.is_dir() or hashlib.sha256(path.read_bytes()).hexdigest()
                )
        return found

    def live(self) -> set[str]:
        return {
            link.resolve().joinpath("version").read_text() for name in self.hosts if (link := self.path / name / "hello/current").exists()
        }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site"), count=2)
    site.up()
    return site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.settings = {}


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def done(site: Site, verb: str, *options: str, **variables: Any) -> str:
    """Run a verb that has to succeed, without a warning of Ansible's."""
    ran = site.run(verb, *options, **variables)
    assert ran.returncode == 0, ran.stdout
    assert not re.search(r"WARNING|DEPRECAT", ran.stdout), ran.stdout
    return words(ran)


def refused(site: Site, *reasons: str, verb: str, options: tuple[str, ...] = (), **variables: Any) -> None:
    """Run a verb that has to say why it does nothing."""
    before = site.everything()
    ran = site.run(verb, *options, **variables)
    assert ran.returncode != 0, ran.stdout
    for reason in reasons:
        assert reason in words(ran), ran.stdout
    assert site.everything() == before


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_verb_ends_with_0_only_when_the_journal_has_it_and_check_mode_changes_nothing(
    site: Site, setting: str, tmp_path: Path
) -> None:
    site.settings = {**SETTINGS[setting], "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path)}
    number, rfc = site.change()
    reason = "it's #5, a=b: [1, 2] yes"
    version = f"{number.removeprefix('CHG')}.0"
    for verb, state in (("stage", "staging"), ("deploy", "completed"), ("backout", "backed_out")):
        before = site.everything()
        done(site, verb, "--check", tidegate_rfc=rfc, tidegate_reason=reason)
        assert site.everything() == before
        done(site, verb, tidegate_rfc=rfc, tidegate_reason=reason)
        assert site.state(number) == state
        assert (site.live() == {version}) == (verb == "deploy")
    assert site.rows(f"select reason from deployment where rfc = '{number}'") == [(reason,)]  # noqa: S608 - a test's own RFC number
    refused(site, "was backed out", verb="deploy", options=("--check",), tidegate_rfc=rfc)


def test_what_a_verb_has_to_visit_is_in_the_inventory_and_inside_the_limit_or_nothing_is_written(site: Site) -> None:
    number, rfc = site.change()
    some = site.inventory("web1")
    refused(site, "1 CI in the scope of", "is not in the inventory (web2)", verb="deploy", inventory=some, tidegate_rfc=rfc)
    refused(site, "left out by --limit (web2)", verb="deploy", options=("--limit", "web1,localhost"), tidegate_rfc=rfc)
    done(site, "stage", "--limit", "all", tidegate_rfc=rfc)
    refused(site, "1 host that", "has still to visit is not in the inventory (web2)", verb="deploy", inventory=some, tidegate_rfc=rfc)
    refused(site, "--tags x could leave out a part of this", verb="deploy", options=("--tags", "x"), tidegate_rfc=rfc)
    misled = ("-e", "tidegate_backout=true tidegate_wanted=staged")
    refused(site, "tidegate_backout is no variable of tidegate.release", verb="deploy", options=misled, tidegate_rfc=rfc)
    odd = site.inventory(*site.hosts, tidegate_backout=True, tidegate_wanted="staged")
    done(site, "deploy", "--limit", "web*", inventory=odd, tidegate_rfc=rfc)
    assert site.state(number) == "completed"
    refused(site, "2 hosts that", "has to be backed out of are not in the inventory", verb="backout", inventory=None, tidegate_rfc=rfc)
    refused(site, "left out by --limit (web1)", verb="backout", options=("--limit", "web2,localhost"), tidegate_rfc=rfc)
    wrong = ("-e", "tidegate_reason=Change log comes on Monday")
    refused(site, """-e '{"tidegate_reason": "Change log comes on Monday"}'""", verb="backout", options=wrong, tidegate_rfc=rfc)
    done(site, "backout", inventory=site.inventory(*site.hosts, tidegate_backout=False, tidegate_wanted="completed"), tidegate_rfc=rfc)
    assert site.state(number) == "backed_out"


def test_a_host_whose_step_could_not_even_begin_is_not_done_and_says_why(site: Site) -> None:
    """Nothing of it is in the journal, and Ansible rescues the task."""
    number, rfc = site.change()
    broken = site.inventory(*site.hosts, tidegate_settings="{{ nothing_of_that_name }}")
    held = site.run("deploy", inventory=broken, tidegate_rfc=rfc)
    assert held.returncode != 0
    assert f"{number}: hello" in words(held)
    assert "is held" in words(held)
    assert "'nothing_of_that_name' is undefined" in words(held).split("is held")[1]
    done(site, "deploy", tidegate_rfc=rfc)
    owed = site.run("backout", inventory=broken, tidegate_rfc=rfc)
    assert owed.returncode != 0
    assert "'nothing_of_that_name' is undefined" in words(owed).split("still owe it")[1]
    done(site, "backout", tidegate_rfc=rfc)


def test_what_the_inventory_says_of_all_hosts_does_not_lead_the_controller_astray(site: Site) -> None:
    _number, rfc = site.change()
    strange = {"ansible_host": "192.0.2.1", "ansible_become": True, "ansible_become_user": "nobody", "ansible_check_mode": True}
    inventory = site.inventory(*site.hosts)
    document = yaml.safe_load(Path(inventory).read_text())
    document["all"]["hosts"]["localhost"] = {"ansible_connection": "ssh", **strange}
    Path(inventory).write_text(yaml.safe_dump(document))
    done(site, "deploy", inventory=inventory, tidegate_rfc=rfc)
    done(site, "backout", inventory=inventory, tidegate_rfc=rfc)
