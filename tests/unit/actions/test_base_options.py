# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An option comes from the task, else from its variable, else from the environment, else from ansible.cfg; and its text is written once."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.plugins import AnsiblePlugin
from ansible.template import Templar, trust_as_template
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.documentation import documented, fallbacks, paragraphs
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.options import VariableOptions, resolve
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.variables import ENVIRONMENT
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError

ROOT = Path(__file__).resolve().parents[3]
ACTIONS = sorted(path.stem for path in (ROOT / "plugins/action").glob("*.py"))


def given(module: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    return resolve(module, arguments, variables, Templar(DataLoader(), variables))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def test_the_option_wins_over_the_variable_and_that_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "dsl" not in given("clear", {}, {})
    monkeypatch.setenv("TIDEGATE_DSL", "/environment")
    assert given("clear", {}, {})["dsl"] == "/environment"
    assert given("clear", {}, {"tidegate_dsl": "/variable"})["dsl"] == "/variable"
    assert given("clear", {"dsl": "/option"}, {"tidegate_dsl": "/variable"})["dsl"] == "/option"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "ansible.cfg"
    file.write_text("[tidegate]\ndsl = lib\ncmdb = cmdb.sqlite\n")
    monkeypatch.setattr(constants, "CONFIG_FILE", str(file))
    return tmp_path


def test_what_ansible_cfg_says_comes_last(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert given("clear", {}, {})["dsl"] == str(configured / "lib")
    monkeypatch.setenv("TIDEGATE_DSL", "/environment")
    assert given("clear", {}, {})["dsl"] == "/environment"
    assert given("clear", {}, {"tidegate_cmdb": "/variable"})["cmdb"] == "/variable"
    assert given("clear", {"cmdb": "/option"}, {})["cmdb"] == "/option"


class Recorder(AnsiblePlugin):
    """Keeps what it is told, as ansible-core would take it."""

    templar = Templar(DataLoader(), {})

    @property
    def option_definitions(self) -> dict[str, Any]:
        return {"cmdb": {"vars": [{"name": "tidegate_cmdb"}], "env": [{"name": "TIDEGATE_CMDB"}]}, "query": {}}

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        self.told = {**(direct or {}), "variables": var_options}


class Lookup(VariableOptions, Recorder):
    """Any lookup or inventory plugin."""


@pytest.mark.parametrize(
    ("option", "variable", "environment", "told"),
    [
        (None, None, None, "configured"),
        (None, "", None, "configured"),
        (None, None, "/e", None),
        (None, "/v", None, None),
        ("/o", None, None, "/o"),
        ("/o", "/v", "/e", "/o"),
    ],
)
def test_so_it_does_for_lookups(
    option: str | None, variable: str | None, environment: str | None, told: str | None, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is told ansible-core itself takes the variable, else the environment."""
    if environment:
        monkeypatch.setenv("TIDEGATE_CMDB", environment)
    lookup = Lookup()
    lookup.set_options(var_options={"tidegate_cmdb": variable}, direct={"cmdb": option})
    assert lookup.told["cmdb"] == (str(configured / "cmdb.sqlite") if told == "configured" else told)
    assert lookup.told["variables"].get("tidegate_cmdb") == (variable if variable and not option else None)
    assert "query" not in lookup.told


@pytest.mark.parametrize("nothing", ["", None, trust_as_template("{{ nowhere | default(omit) }}"), trust_as_template("{{ '' }}")])
def test_what_is_empty_is_not_given(monkeypatch: pytest.MonkeyPatch, nothing: Any) -> None:
    monkeypatch.setenv("TIDEGATE_CMDB", "/environment")
    assert given("clear", {}, {"tidegate_cmdb": nothing})["cmdb"] == "/environment"
    assert given("clear", {"cmdb": "" if nothing == "" else None}, {"tidegate_cmdb": "/variable"})["cmdb"] == "/variable"


@pytest.mark.parametrize("value", [False, 0, {}, []])
def test_what_is_no_text_counts_whatever_it_is(value: Any) -> None:
    assert given("archive", {}, {"tidegate_examine": value})["examine"] == value


def test_an_empty_text_in_place_of_something_else_is_not_nothing() -> None:
    """It is refused as no list; what somebody meant to give is not left out in silence."""
    assert given("schedule", {}, {"tidegate_rfcs": ""})["rfcs"] == ""


def test_a_variable_is_evaluated_when_it_is_needed_and_only_then() -> None:
    broken = {"tidegate_rfcs": [trust_as_template("{{ nowhere }}.yml")]}
    with pytest.raises(TidegateError, match="tidegate_rfcs can't be evaluated: 'nowhere' is undefined; correct it, or take it away"):
        given("schedule", {}, broken)
    assert given("schedule", {"rfcs": ["rfc.yml"]}, broken)["rfcs"] == ["rfc.yml"]
    assert "rfcs" not in given("clear", {}, broken)
    assert given("schedule", {}, broken | {"nowhere": "rfc"})["rfcs"] == ["rfc.yml"]


def test_what_nobody_trusts_is_not_evaluated() -> None:
    assert given("schedule", {}, {"tidegate_rfcs": ["{{ 1 + 1 }}"]})["rfcs"] == ["{{ 1 + 1 }}"]


def test_a_host_s_settings_are_left_to_its_action() -> None:
    assert "settings" not in given("activate", {}, {"tidegate_settings": {"port": trust_as_template("{{ nowhere }}")}})


def test_a_version_in_the_task_keeps_out_the_digest_of_another() -> None:
    variables = {"tidegate_digest": "sha256:other", "tidegate_name": "hello"}
    assert given("opinion", {"version": "1.0"}, variables) == {"version": "1.0", "name": "hello"}
    assert given("opinion", {}, variables)["digest"] == "sha256:other"


@pytest.mark.parametrize("module", ACTIONS)
def test_each_sentence_on_a_variable_is_one_that_is_understood(module: str) -> None:
    for name, option in documented(module).items():
        said = any(re.search("[Vv]ariable C\\(tidegate_|variable E\\(TIDEGATE_", text) for text in paragraphs(option))
        assert said == (name in fallbacks(module)), f"{name} of {module}"


def test_shared_options_have_one_variable_everywhere() -> None:
    shared = {name.removeprefix("TIDEGATE_").lower() for name in ENVIRONMENT}
    for module in ACTIONS:
        for name in shared & documented(module).keys():
            assert fallbacks(module)[name] == (f"tidegate_{name}", f"TIDEGATE_{name.upper()}")
        others = {"host"} if module == "awx" else set()  # which AWX's own tools take from the same variable
        assert {name for name, fallback in fallbacks(module).items() if fallback.environment} <= shared | others
        for name in {"root", "settings"} & documented(module).keys():
            assert fallbacks(module)[name] == (f"tidegate_{name}", "")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("role_options", ROOT / "tools/role_options.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_made_from_the_documentation_is_current(tool: ModuleType) -> None:
    for path, text in [*tool.specifications().items(), *tool.readmes().items()]:
        assert path.read_text() == text, f"run tools/role_options.py: {path}"
    assert tool.RUNTIME.read_text() == tool.runtime(), "run tools/role_options.py"


def test_a_group_has_just_the_modules_that_take_its_option() -> None:
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
    assert set(groups) == {"dsl", "cmdb", "policy", "rfc", "key", "tidegate"}
    assert groups.pop("tidegate") == ACTIONS
    for name, modules in groups.items():
        assert modules == [module for module in ACTIONS if name in documented(module)]


def test_roles_and_playbooks_leave_it_to_the_actions() -> None:
    tasks = "".join(path.read_text() for path in (*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")))
    assert len(re.findall(r"\b(?:default|d)\(\s*omit", tasks)) <= 20
