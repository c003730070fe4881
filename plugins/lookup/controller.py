# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that decides, or an error when this run leaves it out."""

from __future__ import annotations

DOCUMENTATION = r"""
name: controller
short_description: The controller as a play's host, never left out in silence
version_added: 0.1.0
description:
  - Returns V(localhost), where a deployment is cleared, planned and decided about.
  - Fails when C(--limit) leaves it out. ansible-core would skip the play and end with 0, as if all had been done.
author:
  - Tidegate maintainers (@tidegate)
options:
  hold:
    description:
      - Let Ctrl-C and SIGTERM hold what this run does from here on, instead of ending it; the next signal ends it at once.
      - For plays after which a deployment may be under way.
    type: bool
    default: false
seealso:
  - plugin: tidegate.release.waves
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Clear
  hosts: "{{ lookup('tidegate.release.controller') }}"
  connection: local
  gather_facts: false
  roles:
    - role: tidegate.release.clear
"""

RETURN = r"""
_raw:
  description: The name of the controller.
  type: list
  elements: str
"""

from typing import Any

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase
from ansible_collections.tidegate.release.plugins.plugin_utils.interrupt import hold_on_signals

_NAME = "localhost"


class LookupModule(LookupBase):
    """Asks ansible-core itself, with the inventory and the limit of this run."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        looking_only = any(context.CLIARGS.get(name) for name in ("syntax", "listhosts", "listtasks", "listtags"))
        if self.get_option("hold") and not looking_only:
            hold_on_signals()
        limit = context.CLIARGS.get("subset")
        if limit:
            inventory = InventoryManager(self._loader, parse=False)
            for group, hosts in (variables or {}).get("groups", {}).items():
                inventory.add_group(group)
                for host in hosts:
                    inventory.add_host(host, group=group)
            inventory.subset(limit)
            if not inventory.get_hosts(_NAME):
                raise AnsibleLookupError(
                    f"--limit {limit} leaves out {_NAME}, where everything is decided, so nothing would be done; "
                    f"leave it away, or add {_NAME} to it"
                )
        return [_NAME]
