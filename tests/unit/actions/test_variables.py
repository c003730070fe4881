# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A variable that is nearly one of the verbs' is refused; a team's own is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.variables import known_variables, refuse_mistyped, refuse_unfit
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> object:
    """Sets the extra variables of this run."""

    def give(*options: str) -> DataLoader:
        monkeypatch.setattr(context, "CLIARGS", ImmutableDict(extra_vars=options))
        monkeypatch.setattr(load_extra_vars, "extra_vars", None, raising=False)
        return DataLoader()

    yield give
    monkeypatch.setattr(load_extra_vars, "extra_vars", None, raising=False)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("tidegate_relase", "tidegate_release"),
        ("tidgate_release", "tidegate_release"),
        ("tidegate-release", "tidegate_release"),
        ("Tidegate_Release", "tidegate_release"),
        ("tidegate_polices", "tidegate_policy"),
        ("tidegate_setings", "tidegate_settings"),
        ("tidegate_desicion", "tidegate_decision"),
        ("verify_host", "verify_hosts"),
        ("lab_pth", "lab_path"),
        ("tidegate_zzzzzzzz", "docs/verbs.md"),
    ],
)
def test_a_mistyped_extra_variable_is_refused_with_what_was_meant(extra: object, given: str, meant: str) -> None:
    with pytest.raises(TidegateError, match=re.escape(f"{given} is no variable of tidegate.release; ") + f".*{re.escape(meant)}"):
        refuse_mistyped(extra(f"{given}=x"), {})  # type: ignore[operator]


@pytest.mark.parametrize("name", ["adopt_result", "audit_facts", "__stage_result"])
def test_what_a_task_of_ours_finds_out_is_not_given_in_its_place(extra: object, name: str) -> None:
    with pytest.raises(TidegateError, match=f"{name} is what a task finds out, and can't be given; leave it out"):
        refuse_mistyped(extra(f"{name}=x"), {})  # type: ignore[operator]


def test_a_variable_of_the_inventory_is_refused_only_when_it_is_nearly_one(extra: object) -> None:
    loader = extra("team=web release=x rfc_number=3")  # type: ignore[operator]
    refuse_mistyped(loader, {"tidegate_ci": {}, "tidegate_datacenter": "x", "tidegate_lab": 1, "tidegate_team": 1, "setings": 1})
    with pytest.raises(TidegateError, match=r"tidegate_setings is no variable .* did you mean tidegate_settings\?"):
        refuse_mistyped(loader, {"tidegate_setings": {}})


def test_a_mistyped_environment_variable_is_refused(extra: object, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = extra()  # type: ignore[operator]
    monkeypatch.setenv("TIDEGATE_RELEASE", "hello")  # as hooks get it
    refuse_mistyped(loader, {})
    monkeypatch.setenv("TIDEGATE_CMBD", "x")
    with pytest.raises(TidegateError, match=r"TIDEGATE_CMBD .* did you mean TIDEGATE_CMDB\?"):
        refuse_mistyped(loader, {})


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("tidegate_become=perhaps", "tidegate_become=no"),
        ('{"tidegate_become": []}', '{"tidegate_become": false}'),
        ('{"tidegate_hosts": ["web1"]}', "tidegate_hosts=web1,db*"),
        ('{"tidegate_hosts": 9}', '{"tidegate_hosts": "{{ [9] }}"}'),
        ("audit_timeout=0", "audit_timeout=10"),
        ("audit_timeout=soon", '{"audit_timeout": 600}'),
    ],
)
def test_what_can_not_be_a_keyword_of_a_play_is_refused_before_the_first_host(extra: object, given: str, right: str) -> None:
    with pytest.raises(TidegateError, match=r"(tidegate_\w+|audit_timeout) is .*; it has to be "):
        refuse_unfit(extra(given))  # type: ignore[operator]
    refuse_unfit(extra(right))  # type: ignore[operator]


def test_every_variable_that_a_role_specifies_or_a_task_reads_is_known() -> None:
    specified = {
        name
        for path in ROOT.glob("roles/*/meta/argument_specs.yml")
        for spec in yaml.safe_load(path.read_text())["argument_specs"].values()
        for name in spec.get("options", {})
    }
    tasks = "\n".join(path.read_text() for path in (*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")))
    read = set(re.findall(r"(?<![\w.])(?:tidegate|verify|lab|audit|write_off|report)_\w+", tasks)) - {"lab_result"}  # what a task registers
    assert len(specified) > 40
    assert specified | read <= known_variables()
