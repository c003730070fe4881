# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of this run as its sources have it: neither files of variables beside it, nor extra variables."""

from __future__ import annotations

from typing import Any

from ansible import context
from ansible.inventory.helpers import get_group_vars
from ansible.inventory.manager import InventoryManager
from ansible.parsing.vault import EncryptedString

from ..errors import TidegateError
from ..steps.cmdb_import import InventoryHost

_MADE = frozenset({"group_names", "inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short"})  # by Ansible itself
_EVERYBODY = frozenset({"all", "ungrouped"})


def read_inventory(loader: Any) -> list[InventoryHost]:
    """The hosts of the inventory that this run was started with, by name; ``loader`` is the task's.

    Raises :class:`TidegateError` when there is none.
    """
    core: Any = InventoryManager  # ansible-core has no types for its constructor
    manager = core(loader=loader, sources=list(context.CLIARGS.get("inventory") or ()))
    hosts = [_host(host) for host in manager.get_hosts("all", ignore_limits=True, ignore_restrictions=True)]
    if not hosts:
        raise TidegateError("the inventory has no host; name yours with -i")
    return sorted(hosts, key=lambda host: host.name)


def _host(host: Any) -> InventoryHost:
    groups = sorted(group.name for group in host.get_groups() if group.name not in _EVERYBODY)
    variables = {str(name): value for name, value in {**get_group_vars(host.get_groups()), **host.vars}.items() if name not in _MADE}
    vaulted = {name for name, value in variables.items() if _is_vaulted(value)}
    plain = {name: value for name, value in variables.items() if name not in vaulted}
    return InventoryHost(str(host.name), tuple(groups), plain, frozenset(vaulted))


def _is_vaulted(value: Any) -> bool:
    """Whether a vault has the value, or a part of it."""
    if isinstance(value, dict):
        return any(_is_vaulted(part) for part in value.values())
    if isinstance(value, list | tuple):
        return any(_is_vaulted(part) for part in value)
    return isinstance(value, EncryptedString)
