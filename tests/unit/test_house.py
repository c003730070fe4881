# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house rules: what every plugin, role, playbook and schema of the collection must have."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "tidegate.release."
TESTS = ("tests", "molecule", "examples")
DOCUMENTED = ("modules", "lookup", "inventory", "callback", "filter")


def _plugins(kind: str) -> list[Path]:
    return sorted(path for path in (ROOT / "plugins" / kind).glob("*.py") if not path.stem.startswith("_"))


def _constants(path: Path) -> dict[str, str]:
    """The string constants at module level, read without importing."""
    found: dict[str, str] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def _options(documentation: dict[str, Any]) -> set[str]:
    options = set(documentation.get("options", {}))
    for fragment in documentation.get("extends_documentation_fragment", []):
        if fragment.startswith(PREFIX):
            name, part = (fragment.removeprefix(PREFIX) + ".").split(".")[:2]
            fragment_class = ast.parse((ROOT / "plugins" / "doc_fragments" / f"{name}.py").read_text())
            for node in ast.walk(fragment_class):
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == (part or "documentation").upper():
                    options |= set(yaml.safe_load(ast.literal_eval(node.value)).get("options", {}))
    for name in tuple(options):
        options |= set(documentation.get("options", {}).get(name, {}).get("aliases", []))
    return options


def _ids(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in paths]


PLUGINS = [path for kind in DOCUMENTED for path in _plugins(kind)]
MODULES = _plugins("modules")
ROLES = sorted(path for path in (ROOT / "roles").glob("*") if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
SCHEMAS = sorted((ROOT / "plugins" / "plugin_utils" / "schemas").glob("*.json"))


@cache
def _text(*rooms: str) -> str:
    """All that the files of the rooms say, this one left out."""
    files = (path for room in rooms for path in sorted((ROOT / room).rglob("*")) if path.suffix in {".py", ".yml", ".yaml", ".j2"})
    return "\n".join(path.read_text() for path in files if path != Path(__file__).resolve())


def _tasks(play_or_task: Any) -> Iterator[dict[str, Any]]:
    if isinstance(play_or_task, list):
        for entry in play_or_task:
            yield from _tasks(entry)
    elif isinstance(play_or_task, dict):
        yield play_or_task
        for key in ("tasks", "block", "rescue", "always", "pre_tasks", "post_tasks", "handlers"):
            yield from _tasks(play_or_task.get(key))


@pytest.mark.parametrize("path", _ids(PLUGINS))
def test_every_plugin_documents_itself(path: Path) -> None:
    constants = _constants(path)
    documentation = yaml.safe_load(constants.get("DOCUMENTATION", ""))
    assert documentation, "DOCUMENTATION is missing"
    assert documentation["short_description"]
    assert documentation["description"]
    assert documentation["author"]
    assert documentation["version_added"]
    if path.parent.name != "callback":
        assert list(yaml.safe_load_all(constants.get("EXAMPLES", ""))), "EXAMPLES is missing"
    if path.parent.name in {"modules", "lookup", "filter"}:
        assert yaml.safe_load(constants.get("RETURN", "")), "RETURN is missing"


@pytest.mark.parametrize("path", _ids(MODULES))
def test_every_module_example_uses_documented_options_only(path: Path) -> None:
    constants = _constants(path)
    known = _options(yaml.safe_load(constants["DOCUMENTATION"]))
    used = [task[PREFIX + path.stem] for task in _tasks(yaml.safe_load(constants["EXAMPLES"])) if PREFIX + path.stem in task]
    assert used, f"no example uses {PREFIX}{path.stem}"
    for options in used:
        assert set(options or {}) <= known


@pytest.mark.parametrize("path", _ids(_plugins("action")))
def test_every_action_has_the_module_that_documents_it(path: Path) -> None:
    assert (ROOT / "plugins" / "modules" / path.name).is_file()


@pytest.mark.parametrize("path", _ids(MODULES))
def test_every_module_is_used_by_a_role_a_playbook_or_a_test(path: Path) -> None:
    assert re.search(rf"\b{re.escape(PREFIX + path.stem)}\b", _text("roles", "playbooks", "plugins/action", "plugins/plugin_utils", *TESTS))


@pytest.mark.parametrize("role", [pytest.param(role, id=role.name) for role in ROLES])
def test_every_role_specifies_its_arguments_and_is_used(role: Path) -> None:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    entry_points = {path.stem for path in (role / "tasks").glob("*.yml") if not path.stem.startswith("_")}
    assert set(specs) == entry_points, "one spec for each entry point; a task file that is none starts with _"
    for name, spec in specs.items():
        assert spec["short_description"], name
        for option, details in spec.get("options", {}).items():
            assert option.startswith(("tidegate_", f"{role.name}_")), f"{option} lacks the prefix tidegate_ or {role.name}_"
            assert details["description"], option
            # Of a missing variable Ansible would print the whole spec; the role's action says it in a line. Only audit's comes from a task.
            assert option == "audit_hosts" or not details.get("required"), option
    assert re.search(rf"\b{re.escape(PREFIX + role.name)}\b", _text("playbooks", *TESTS))


@pytest.mark.parametrize("path", _ids(PLAYBOOKS))
def test_every_playbook_says_what_it_does_and_is_tested(path: Path) -> None:
    assert path.read_text().lstrip("-\n").startswith("#"), "begin with a comment that says what it does"
    assert re.search(rf"{re.escape(PREFIX + path.stem)}\b|playbooks/{path.name}", _text(*TESTS))


@pytest.mark.parametrize("path", _ids(SCHEMAS))
def test_every_schema_is_a_valid_json_schema(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    jsonschema.Draft202012Validator.check_schema(schema)


def test_no_symlink_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    tracked = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [line for line in tracked.splitlines() if line.startswith("120000")] == []


def test_the_version_is_the_same_everywhere() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    released = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text())["releases"]
    assert version in released or (ROOT / "changelogs" / "fragments" / f"{version}.yml").is_file()


def test_no_task_waits_for_the_format_checkers_of_jsonschema() -> None:
    """Loading jsonschema takes two seconds of each process where a requirement brings the grammar of IRIs along, which nobody uses."""
    done = subprocess.run([sys.executable, "-c", "import jsonschema, sys; sys.exit('lark' in sys.modules)"], check=False)
    assert done.returncode == 0


def test_no_role_is_begun_by_ansibles_own_check_of_its_arguments() -> None:
    """It prints the whole specification when one is missing; the task of the role says so in one line."""
    for path in (*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")):
        text = path.read_text()
        assert len(re.findall(r"\b(?:include|import)_role:", text)) == text.count("rolespec_validate: false"), path
