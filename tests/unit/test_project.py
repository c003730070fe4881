# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosting service runs is what anybody can run here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")
}
WORKFLOW = WORKFLOWS["ci"]


def test_each_environment_of_tox_is_one_of_the_workflow() -> None:
    listed = subprocess.run([sys.executable, "-m", "tox", "list", "--no-desc"], cwd=ROOT, check=True, capture_output=True, text=True)
    matrix = WORKFLOW["jobs"]["cores"]["strategy"]["matrix"]["include"]
    assert [one["tox"] for one in matrix] == listed.stdout.split()
    assert [one["python"] for one in matrix if one["tox"] != f"py{one['python'].replace('.', '')}"] == ["3.13"]


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
