# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where tasks of a team's own, roles, lookups and the inventory take an option from that is not given there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb

CMDBS = ("environment", "variable", "option", "default", "one", "two")


class Desk:
    """A directory with CMDBs, each with one CI that is called like it, and Ansible's programs to run there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in CMDBS:
            with Cmdb.open(str(path / name), create=True) as cmdb:
                cmdb.put_cis([{"name": f"in-{name}"}], "test")

    def run(self, program: str, *arguments: str, environment: bool = True) -> subprocess.CompletedProcess[str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TIDEGATE_"))}
        ours |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"} | ({"TIDEGATE_CMDB": "environment"} if environment else {})
        if program == "ansible-playbook":
            return forked.run([program, *arguments], ours, self.path, apart=True)
        return subprocess.run(
            [str(Path(sys.executable).with_name(program)), *arguments], env=ours, cwd=self.path, capture_output=True, text=True, check=False
        )

    def play(self, *plays: dict[str, Any], arguments: tuple[str, ...] = (), environment: bool = True) -> subprocess.CompletedProcess[str]:
        common = {"hosts": "localhost", "connection": "local", "gather_facts": False}
        (self.path / "play.yml").write_text(yaml.safe_dump([common | play for play in plays]))
        return self.run("ansible-playbook", "play.yml", *arguments, environment=environment)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def reading(expected: str, **task: Any) -> list[dict[str, Any]]:
    """Tasks that read a CMDB and see that it is the expected one."""
    task = {"tidegate.release.cmdb_ci_info": None, "register": "found"} | task
    return [task, {"ansible.builtin.assert": {"that": f"found.cis | map(attribute='name') | list == ['in-' ~ {expected!r}]"}}]


def test_the_option_wins_over_the_variable_and_that_over_the_environment(desk: Desk) -> None:
    variables = {"tidegate_cmdb": "{{ folder }}/variable", "folder": str(desk.path)}
    given = {"tidegate.release.cmdb_ci_info": {"cmdb": "option"}}
    done = desk.play(
        {"tasks": reading("environment")},
        {"tasks": reading("variable") + reading("option", **given), "vars": variables},
        {"tasks": reading("environment"), "vars": {"tidegate_cmdb": ""}},
        {"tasks": reading("option", **given), "vars": {"tidegate_cmdb": "{{ nowhere }}"}},
        {"tasks": [{"tidegate.release.cmdb_ci_info": None}], "vars": {"tidegate_cmdb": "{{ nowhere }}"}},
    )
    assert done.stdout.count("All assertions passed") == 5
    assert "tidegate_cmdb can't be evaluated: 'nowhere' is undefined" in done.stderr + done.stdout
    assert done.returncode == 2


def test_a_group_s_defaults_are_options_of_all_its_modules_also_in_roles(desk: Desk) -> None:
    defaults = {"group/tidegate.release.cmdb": {"cmdb": "default"}}
    role = {"ansible.builtin.include_role": {"name": "tidegate.release.report"}, "vars": {"tidegate_report": "report"}}
    done = desk.play(
        {"module_defaults": defaults, "vars": {"tidegate_cmdb": "variable"}, "tasks": [*reading("default"), role]},
        {"module_defaults": defaults, "tasks": reading("option", **{"tidegate.release.cmdb_ci_info": {"cmdb": "option"}})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [host["name"] for host in json.loads((desk.path / "report/hosts/1.json").read_text())["hosts"]] == ["in-default"]


def test_a_role_alone_takes_its_variables(desk: Desk) -> None:
    roles = [{"role": "tidegate.release.report", "tidegate_cmdb": "variable", "tidegate_report": "report"}]
    done = desk.play({"roles": roles}, environment=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [host["name"] for host in json.loads((desk.path / "report/hosts/1.json").read_text())["hosts"]] == ["in-variable"]
    done = desk.play({"roles": ["tidegate.release.report"]}, environment=False)
    assert "tidegate_report is missing; add -e tidegate_report=..., directory for the report" in done.stderr + done.stdout


def test_a_host_s_own_variable_counts_for_that_host(desk: Desk) -> None:
    hosts = {name: {"tidegate_cmdb": f"{{{{ playbook_dir }}}}/{name}", "ansible_connection": "local"} for name in ("one", "two")}
    (desk.path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    that = "found.cis | map(attribute='name') | first == 'in-' ~ inventory_hostname"
    tasks = [{"tidegate.release.cmdb_ci_info": None, "register": "found"}, {"ansible.builtin.assert": {"that": that}}]
    done = desk.play({"hosts": "all", "tasks": tasks}, arguments=("-i", "hosts.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lookup_needs_the_step_alone(desk: Desk) -> None:
    """There is no such RFC, so the message names the one that was taken."""
    play = {"hosts": "{{ lookup('tidegate.release.waves', 'stage') }}"}
    done = desk.play(play)
    assert "no request for change (a file, or servicenow+https://instance/number) given" in done.stderr
    done = desk.play({"vars": {"tidegate_rfc": "{{ playbook_dir }}/nowhere.yml"}} | play)
    assert f"{desk.path}/nowhere.yml" in done.stderr
    done = desk.play(
        {"vars": {"tidegate_rfc": "variable.yml"}, "hosts": "{{ lookup('tidegate.release.waves', 'stage', rfc='option.yml') }}"}
    )
    assert "option.yml" in done.stderr
    done = desk.play({"vars": {"tidegate_rfc": "{{ nowhere }}"}} | play)
    assert "tidegate_rfc can't be evaluated: 'nowhere' is undefined" in done.stderr


def test_the_inventory_takes_an_extra_variable_before_the_environment(desk: Desk) -> None:
    def hosts(*arguments: str, **options: str) -> list[str]:
        (desk.path / "cmdb.yml").write_text(yaml.safe_dump({"plugin": "tidegate.release.cmdb", **options}))
        done = desk.run("ansible-inventory", "--list", "-i", "cmdb.yml", *arguments)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["_meta"]["hostvars"])

    assert hosts() == hosts(cmdb="") == ["in-environment"]
    assert hosts("-e", "tidegate_cmdb=variable") == ["in-variable"]
    assert hosts("-e", "tidegate_cmdb={{ folder }}/variable", "-e", f"folder={desk.path}") == ["in-variable"]
    assert hosts("-e", "tidegate_cmdb=variable", cmdb="option") == ["in-option"]
