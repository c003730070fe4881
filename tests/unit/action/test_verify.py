# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab's hosts are given is known where a scenario's words are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.tidegate.release.plugins.action.verify import ActionModule
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import secrets_of


@pytest.fixture
def verify() -> Any:
    action = cast("Any", ActionModule.__new__(ActionModule))
    action._loader = DataLoader()
    action._templar = Templar(action._loader, variables={})
    return action


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
