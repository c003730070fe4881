# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosting service runs is what anybody can run here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")
}
WORKFLOW = WORKFLOWS["ci"]


def table_of_cores() -> dict[str, str]:
    """The supported ansible-cores, oldest first, each with its Python: those of the README."""
    return dict(re.findall(r"(?m)^\| (2\.\d+)\b[^|]* \| (3\.\d+) \|", (ROOT / "README.md").read_text()))


def cores_of(path: str) -> list[Requirement]:
    """What a file of pip's requires of ansible-core."""
    lines = (ROOT / path).read_text().splitlines()
    return [Requirement(line.partition("#")[0]) for line in lines if line.startswith("ansible-core")]


def test_each_place_has_the_same_range_of_ansible_core() -> None:
    cores = list(table_of_cores())
    whole = SpecifierSet(f">={cores[0]},<2.{int(cores[-1].partition('.')[2]) + 1}")
    example = yaml.safe_load((ROOT / "examples" / "execution-environment.yml").read_text())["dependencies"]
    required = [*cores_of("requirements/base.txt"), Requirement(example["ansible_core"]["package_pip"])]
    assert [one.specifier for one in required] == [whole] * 2
    assert yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"] == f">={cores[0]}.0"
    metas = [yaml.safe_load(path.read_text()) for path in (ROOT / "roles").glob("*/meta/main.yml")]
    assert {meta["galaxy_info"]["min_ansible_version"] for meta in metas} == {cores[0]}


def test_each_python_is_developed_on_with_its_own_ansible_core() -> None:
    """And the last one with the newest of its that is released."""
    for core, python in table_of_cores().items():
        given = {"python_version": python, "python_full_version": f"{python}.0"}
        (wanted,) = (one for one in cores_of("requirements-dev.txt") if one.marker and one.marker.evaluate(given))
        (exact,) = (one for one in cores_of("constraints.txt") if one.marker and one.marker.evaluate(given))
        (version,) = (part.version for part in exact.specifier)
        assert wanted.specifier.contains(version)
        assert version.startswith(f"{core}.") or core == list(table_of_cores())[-1]


def test_tox_and_the_workflow_try_each_ansible_core() -> None:
    command = [sys.executable, "-m", "tox", "config", "-k", "base_python", "commands_pre"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"\[testenv:core(\d)(\d+)\]\nbase_python = python(\S+)\n", said)
    assert {f"{major}.{minor}": python for major, minor, python in found} == table_of_cores()
    newest = list(table_of_cores())[-1]
    later = SpecifierSet(re.findall(r"ansible-core([^'\"\s]+)", said)[-1])
    assert (f"{newest}.0" in later, f"{newest}.99" in later, f"2.{int(newest.partition('.')[2]) + 1}.0" in later) == (True, True, False)
    matrix = WORKFLOW["jobs"]["cores"]["strategy"]["matrix"]["include"]
    assert matrix == [{"tox": f"core{major}{minor}", "python": python} for major, minor, python in found]


def test_the_workflow_runs_what_has_to_pass_before_a_merge() -> None:
    commands = [step["run"] for step in WORKFLOW["jobs"]["whole"]["steps"] if "run" in step]
    assert [command.split()[-1] for command in commands] == [".ci/run"]
    assert (ROOT / ".ci" / "run").is_file()


def test_no_workflow_may_write_to_the_repository() -> None:
    assert [workflow["permissions"] for workflow in WORKFLOWS.values()] == [{"contents": "read"}] * len(WORKFLOWS)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What makes the site, which writes its pages to ``tmp_path``."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("docs", ROOT / "tools" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SOURCE", tmp_path)
    return module


def test_the_site_has_each_page_and_each_verb_and_no_link_to_nothing(docs: ModuleType, tmp_path: Path) -> None:
    docs.write_pages("https://example.com/tidegate")
    docs.write_verbs()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    assert found == set(docs.pages().values()) | {f"verbs/{path.stem}.md" for path in (ROOT / "playbooks").glob("*.yml")}
    first = (tmp_path / "index.md").read_text()
    assert "](guides/adopt.md)" in first
    assert "](https://example.com/tidegate/blob/main/" in first
    listed = {line for line in first.splitlines() if f"{line}.md" in found}
    beside = {str(path.relative_to(tmp_path).with_suffix("")) for path in (tmp_path / "decisions").glob("[0-9]*.md")}
    assert {f"{page}.md" for page in listed | beside} == found - {"index.md"}


def test_a_link_to_nothing_is_no_site(docs: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[here](docs/a.md) ![not](b.svg)\n\n```\n[code](nothing.md)\n```\n")
    (tmp_path / "docs" / "a.md").write_text("[up](../README.md#top) [out](../../b.md)\n")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as ended:
        docs.write_pages("https://example.com/tidegate")
    assert str(ended.value) == "README.md links to b.svg, which is not there\ndocs/a.md links to ../../b.md, which is not there"
