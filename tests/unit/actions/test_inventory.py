# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a run as its sources have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.inventory import read_inventory
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError

INVENTORY = """
all:
  children:
    web:
      vars: {zone: a, shared: group}
      hosts:
        web1: {shared: host, port: 80, one: !vault "$ANSIBLE_VAULT;1.1;AES256\\n61", deep: {two: [!vault "$ANSIBLE_VAULT;1.1;AES256\\n61"]}}
    ams:
      children: {web: {}}
"""


def test_it_has_variables_of_hosts_and_groups_and_names_what_a_vault_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text(INVENTORY)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "web.yml").write_text("beside: it")
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(inventory=(str(path),)))
    (host,) = read_inventory(DataLoader())
    assert (host.name, host.groups, host.vaulted) == ("web1", ("ams", "web"), {"one", "deep"})
    assert host.variables == {"zone": "a", "shared": "host", "port": 80}


def test_an_inventory_without_hosts_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").touch()
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(inventory=(str(tmp_path / "hosts"),)))
    with pytest.raises(TidegateError, match="the inventory has no host"):
        read_inventory(DataLoader())
