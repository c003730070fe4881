# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of a scenario can ask for, those of a release's own too."""

from __future__ import annotations

import os
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from testinfra.host import Host


@pytest.fixture(scope="session")
def inventory() -> dict[str, dict[str, Any]]:
    """The variables of each host as a deployment has them. What can't be templated stays as it is written."""
    init_plugin_loader()
    loader = DataLoader()
    hosts = InventoryManager(loader, [f"{os.environ['TIDEGATE_WORK']}/inventory/cmdb.yml"])
    manager = VariableManager(loader, hosts)
    found: dict[str, dict[str, Any]] = {}
    for host in hosts.get_hosts():
        written = manager.get_vars(host=host)
        templar = Templar(loader, written)
        found[host.name] = {key: _templated(templar, value) for key, value in written.items()}
    return found


@pytest.fixture(scope="module")
def variables(host: Host, inventory: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The host's variables, tidegate_settings and tidegate_ci among them."""
    return inventory[host.backend.get_hostname()]


def _templated(templar: Templar, value: Any) -> Any:
    try:
        return templar.template(value)
    except AnsibleError:
        return value
