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
  - A limit that leaves out no host of the inventory, such as V(all), is lifted, as an implicit localhost is not in it.
  - Fails when C(--tags), C(--skip-tags), C(--start-at-task) or C(--step) could leave out a part of what is done as a whole or not at all.
    A playbook that was imported with tags of a team's own may be chosen by them, whole.
  - Fails when the extra variable C(tidegate_slice) says that this run has a slice of the inventory, unless O(hold) says that it is one of
    those that can share a deployment.
  - Fails when a text was given in a way that Ansible does not read to its end, as in C(-e "tidegate_reason=two words").
  - Fails when an extra variable looks like one of this collection's and is none, as C(tidegate_relase) is, or can't be what a play
    takes it for, as C(tidegate_become=perhaps) can't.
author:
  - Tidegate maintainers (@tidegate)
options:
  hold:
    description:
      - Let Ctrl-C and SIGTERM hold what this run does from here on, instead of ending it; the next signal ends it at once.
      - For plays after which a deployment may be under way.
    type: bool
    default: false
  cmdb:
    description:
      - The CMDB, the path of an SQLite file or an SQLAlchemy database URL.
      - With O(hold) this run keeps a session with it, or a lock beside the file, until it ends. By that others see whether it is still
        there, who can't see its process.
    type: str
    vars:
      - name: tidegate_cmdb
    env:
      - name: TIDEGATE_CMDB
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

from contextlib import suppress
from typing import Any, ClassVar

from ansible.plugins.lookup import LookupBase
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import hold_on_signals
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.invocation import (
    CONTROLLER,
    end_run,
    is_check,
    is_listing,
    is_tagged,
    keep_controller,
    refuse_cut_texts,
    refuse_partial,
    refuse_slice,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.options import VariableOptions
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import prepare_main
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.variables import refuse_mistyped, refuse_unfit
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.libs import require
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import library_needs


class LookupModule(VariableOptions, LookupBase):
    """Looks at how this run was called, in the process that runs the plays."""

    drives: ClassVar[bool] = False  # whether a deployment may be under way since an earlier play of this run

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        if not is_listing():
            prepare_main()
            if kwargs.get("hold"):
                hold_on_signals()
                type(self).drives = True
            try:
                refuse_partial(is_tagged())
                if not self.drives:
                    refuse_slice(self._loader)
                refuse_cut_texts(self._loader)
                refuse_mistyped(self._loader, {})
                refuse_unfit(self._loader)
                keep_controller(self._loader, variables or {})
            except TidegateError as error:
                end_run(error)
            if kwargs.get("hold") and not is_check():
                self._show_presence(variables or {})
        return [CONTROLLER]

    def _show_presence(self, variables: dict[str, Any]) -> None:
        # What is wrong with the CMDB says the task that needs it.
        with suppress(TidegateError):
            self.set_options(var_options=variables, direct={})
            if cmdb := self.get_option("cmdb"):
                require("base", *library_needs({"cmdb": cmdb}))
                # What it needs takes time to load, and most verbs don't.
                from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import presence  # noqa: PLC0415 - as above

                presence.enter(cmdb)
