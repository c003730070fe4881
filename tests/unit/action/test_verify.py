# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab's hosts are given is known where a scenario's words are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.tidegate.release.plugins.action import verify as action
from ansible_collections.tidegate.release.plugins.action.verify import ActionModule
from ansible_collections.tidegate.release.plugins.module_utils.lab.processes import LabError
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import secrets_of
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import OWNER


@pytest.fixture
def verify() -> Any:
    made = cast("Any", ActionModule.__new__(ActionModule))
    made._loader = DataLoader()
    made._templar = Templar(made._loader, variables={})
    return made


@pytest.mark.parametrize(
    "given",
    [
        {"tidegate_settings": {"token": "hidden-1"}},
        {"tidegate_settings": {"token": "hidden-1", "address": "{{ only_there }}"}},
        {"tidegate_settings": {"token": "{{ of_the_file }}"}, "of_the_file": "hidden-1"},
        {"tidegate_settings": "{{ {'token': of_the_caller} }}"},
    ],
)
def test_the_settings_of_the_file_are_known(verify: Any, tmp_path: Path, given: dict[str, Any]) -> None:
    path = tmp_path / "lab.yml"
    path.write_text(json.dumps(given))
    variables = {"of_the_caller": "hidden-1", "hostvars": {"web1": {"tidegate_settings": {"key": "hidden-2"}}}}
    redactor = secrets_of(variables, verify._settings_in(str(path), variables))
    assert redactor.text("hidden-1 hidden-2") == "${token} ${key}"


def test_a_file_that_has_none_gives_none(verify: Any, tmp_path: Path) -> None:
    path = tmp_path / "lab.yml"
    path.write_text("[1, 2]")
    assert verify._settings_in(None, {}) == verify._settings_in(str(path), {}) == verify._settings_in(str(tmp_path / "none"), {}) == {}


def test_the_directories_of_verifications_that_ended_go_with_their_labs(
    verify: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Holder.this_run()
    for name, holder in (("dead", replace(own, started=own.started + 1)), ("stuck", replace(own, started=own.started + 1)), ("live", own)):
        (tmp_path / f"tidegate-verify-{name}" / "lab").mkdir(0o700, parents=True)
        (tmp_path / f"tidegate-verify-{name}" / OWNER).write_text(str(holder))
        (tmp_path / f"tidegate-verify-{name}").chmod(0o700)
    down = []

    class Lab:
        def __init__(self, path: str) -> None:
            self.path = Path(path)

        def down(self) -> None:
            down.append(self.path.parent.name)
            if self.path.parent.name.endswith("stuck"):
                raise LabError("a host does not end")

    monkeypatch.setattr(action, "Hosts", Lab)
    monkeypatch.setattr(action.tempfile, "gettempdir", lambda: str(tmp_path))
    verify._display = MagicMock()
    verify._sweep()
    assert down == ["tidegate-verify-dead", "tidegate-verify-stuck"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tidegate-verify-live", "tidegate-verify-stuck"]
    verify._display.warning.assert_called_once()
