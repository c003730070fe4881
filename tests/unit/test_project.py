# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosting service runs is what anybody can run here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def test_each_environment_of_tox_is_one_of_the_workflow() -> None:
    listed = subprocess.run([sys.executable, "-m", "tox", "list", "--no-desc"], cwd=ROOT, check=True, capture_output=True, text=True)
    matrix = WORKFLOW["jobs"]["cores"]["strategy"]["matrix"]["include"]
    assert [one["tox"] for one in matrix] == listed.stdout.split()
    assert [one["python"] for one in matrix if one["tox"] != f"py{one['python'].replace('.', '')}"] == ["3.13"]


def test_the_workflow_runs_what_has_to_pass_before_a_merge() -> None:
    commands = [step["run"] for step in WORKFLOW["jobs"]["whole"]["steps"] if "run" in step]
    assert [command.split()[-1] for command in commands] == [".ci/run"]
    assert (ROOT / ".ci" / "run").is_file()


def test_a_workflow_may_not_write_to_the_repository() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
