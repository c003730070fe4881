# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command among the objectives gets nothing of the controller's, ends in time, and what it prints says no secret."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import secrets_of
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Outcome
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.objectives import evaluate_objectives
from documents import loaded_rfc

NOW = datetime(2027, 3, 1, tzinfo=UTC)
RFC = loaded_rfc(version="2.0", fingerprint="")
SECRET = "canary-4d5e6f"  # noqa: S105 - nobody's


def made(script: str, timeout: float = 5, redactor: Redactor | None = None) -> Outcome:
    check: dict[str, Any] = {"name": "it", "command": ["sh", "-c", script], "timeout": timeout}
    (outcome,) = evaluate_objectives(replace(RFC, objectives=(check,)), redactor or Redactor({}))
    return outcome


def test_a_command_finds_nothing_of_the_controller_s_in_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SN_PASSWORD", "TIDEGATE_KEY_PASSPHRASE", "ANSIBLE_VAULT_PASSWORD", "GITHUB_TOKEN", "LD_PRELOAD_OF_MINE"):
        monkeypatch.setenv(name, SECRET)
    found = tmp_path / "environment"
    assert made(f'env >{found}; echo "HERE=$(pwd)" >>{found}').met
    variables = dict(line.split("=", 1) for line in found.read_text().splitlines())
    assert SECRET not in found.read_text()
    assert variables["TIDEGATE_RFC"] == "CHG0001"
    assert variables["HOME"] == variables["TMPDIR"] == variables["HERE"]
    assert not Path(variables["HOME"]).exists()
    own = {"TIDEGATE_RFC", "TIDEGATE_RELEASE", "TIDEGATE_VERSION", "TIDEGATE_DIGEST", "TIDEGATE_HOOK"}
    assert variables.keys() - own <= {"PATH", "LANG", "HOME", "TMPDIR", "HERE", "PWD", "OLDPWD", "SHLVL", "_"}


def test_a_command_that_fails_says_no_secret_and_not_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SN_PASSWORD", SECRET)
    redactor = secrets_of({"hostvars": {"web1": {"tidegate_settings": {"token": "canary-of-web1"}}, "web2": {}}})
    outcome = made(f"head -c 100000 /dev/zero | tr '\\0' x; echo {SECRET} canary-of-web1; exit 1", 1, redactor)
    assert not outcome.met
    assert outcome.detail.endswith("${sn_password} ${token}")
    assert "canary" not in json.dumps(outcome.detail)
    assert len(outcome.detail) < 3000


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    outcome = made(f"sleep 61 & echo $! >{tmp_path}/pid; wait", 0.5)
    assert "did not end within" in outcome.detail
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
