# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the deployment and after the back-out: what the lab's CMDB says is live, is live, as it was released."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host


@pytest.fixture(scope="module")
def found(host: Host, variables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is really on the host, by release."""
    root, become = variables.get("tidegate_root", "/opt/tidegate"), os.environ["TIDEGATE_BECOME"] == "true"
    result = host.ansible("tidegate.release.release_facts", f"root={root}", check=False, become=become)
    return {release["name"]: release for release in result["releases"]}


def test_what_is_recorded_is_live(found: dict[str, dict[str, Any]], variables: dict[str, Any]) -> None:
    treeless = json.loads((Path(os.environ["TIDEGATE_WORK"]) / "scene.json").read_text(encoding="utf-8"))["treeless"]
    installed = variables["tidegate_ci"]["installations"]
    # What a role alone has brought has nothing that could be looked at here; its own check did, on the way.
    recorded = {name: one["digest"] for name, one in installed.items() if one["digest"] not in treeless}
    assert {name: release["digest"] for name, release in found.items() if release["digest"]} == recorded


def test_every_release_is_as_it_was_released(found: dict[str, dict[str, Any]]) -> None:
    for release in found.values():
        assert not release.get("error")
        assert [release[key] for key in ("changed", "extra", "others", "strangers", "packages")] == [[]] * 5
