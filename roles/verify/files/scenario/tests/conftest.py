# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of a scenario can ask for, those of a release's own too."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from testinfra.host import Host


@pytest.fixture(scope="session")
def inventory() -> dict[str, Any]:
    """The variables of each host as a deployment has them."""
    command = ["ansible-inventory", "--list", "-i", f"{os.environ['TIDEGATE_WORK']}/inventory/cmdb.yml"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(_plain(json.loads(listed)["_meta"]["hostvars"]))


@pytest.fixture(scope="module")
def variables(host: Host, inventory: dict[str, Any]) -> dict[str, Any]:
    """The host's variables, tidegate_settings and tidegate_ci among them."""
    return dict(inventory[host.backend.get_hostname()])


def _plain(value: Any) -> Any:
    """Without the marks of ansible-inventory on what must not be templated."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return value["__ansible_unsafe"] if "__ansible_unsafe" in value else {key: _plain(one) for key, one in value.items()}
    return value
