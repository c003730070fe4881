# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a play has to visit now."""

from __future__ import annotations

DOCUMENTATION = r"""
name: waves
short_description: The hosts that a step of a deployment has to visit now, wave by wave
version_added: 0.1.0
description:
  - Reads the journal and returns one list of host names for each wave that the step still has to visit, in its order.
  - Empty when the deployment is not at that step, so a play over it does nothing.
  - Use it for C(hosts) and C(serial) of a play. Both are evaluated when the play starts, so an earlier play can write the plan.
  - Empty in check mode too, where no plan is written, and when somebody has interrupted the run.
  - From the first use on, Ctrl-C and SIGTERM let hosts that are under way finish and start no other; the next signal ends the run at once.
  - Hosts that are not in the inventory, or are outside C(--limit), are left out of both, so that the cut stays right.
author:
  - Tidegate maintainers (@tidegate)
options:
  _terms:
    description: The step, one of V(stage), V(activate) and V(backout); V(activate-together) and V(backout-together) where the hosts of a
      wave are switched at one instant; V(activate-devices) for a release of firmware, where each host that is left has a BMC; for a
      release with a role of its own V(activate-by-role) and V(backout-by-role), and V(migrate) and V(reverse), which one host is visited
      for.
    type: list
    elements: str
    required: true
  rfc:
    description: The request for change, a file or an address in ServiceNow.
    type: str
    vars:
      - name: tidegate_rfc
    env:
      - name: TIDEGATE_RFC
  cmdb:
    description: The CMDB, the path of an SQLite file or an SQLAlchemy database URL.
    type: str
    vars:
      - name: tidegate_cmdb
    env:
      - name: TIDEGATE_CMDB
seealso:
  - module: tidegate.release.plan
"""

EXAMPLES = r"""
- name: Activate in waves
  hosts: "{{ lookup('tidegate.release.waves', 'activate') | flatten }}"
  serial: "{{ lookup('tidegate.release.waves', 'activate') | map('length') }}"
  gather_facts: false
  tasks:
    - name: Say who is in this wave
      ansible.builtin.debug:
        var: ansible_play_batch
"""

RETURN = r"""
_raw:
  description: One list of host names for each wave.
  type: list
  elements: list
"""

from importlib import import_module
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.documentation import argument_spec
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host_program import host_program
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import hold_on_signals, interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.invocation import end_run, is_check, is_listing
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.options import VariableOptions
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import heartbeat, prepare_main
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.poll import poll_less
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.libs import lacking, require
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.rehearsal import rehearse
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import library_needs, required_setting

_ACTIONS = {
    "activate": ("activate", "soak", "confirm", "gate"),
    "activate-devices": ("devices", "soak", "gate"),
    "activate-together": ("arm", "instant", "fire", "collect", "soak", "confirm", "gate"),
    "backout-together": ("arm", "instant", "fire", "backout"),
    "activate-by-role": ("apply", "gate"),
    "backout-by-role": ("apply",),
    "migrate": ("apply",),
    "reverse": ("apply",),
}
# What actions import when they go to a device.
_OF_FIRMWARE = ("actions.firmware", "actions.device", "actions.turn", "firmware.redfish", "rollout.firmware_journal", "dhs.assets")
_STEPS = ("stage", "backout", *_ACTIONS)


class LookupModule(VariableOptions, LookupBase):
    """The batches of hosts of a step, as the journal has them now."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[list[list[str]]]:
        if len(terms) != 1 or terms[0] not in _STEPS:
            raise AnsibleLookupError(f"tidegate.release.waves takes one step: {', '.join(_STEPS[:-1])} or {_STEPS[-1]}")
        if is_listing() or is_check():
            return [[]]
        prepare_main()
        hold_on_signals()
        if interrupted():
            return [[]]
        known = set((variables or {}).get("groups", {}).get("all", []))
        try:
            self.set_options(var_options=variables, direct=kwargs)
            options = {"rfc": self.get_option("rfc"), "cmdb": self.get_option("cmdb")}
            require("base", *library_needs(options))
            with heartbeat(f"finding the hosts to {terms[0]}"), Cmdb.open(required_setting(options, "cmdb")) as cmdb:
                journal, number = Journal(cmdb), rfc_number(required_setting(options, "rfc"))
                holder = Holder.this_run()
                batches = journal.batches(number, terms[0], holder)
                latest = journal.latest(number) if batches else None
                if latest is not None:
                    deployment = journal.as_driven_by(latest, holder) or latest
                    _prepare(terms[0], deployment.rollout.firmware)
                    if not deployment.rollout.role or terms[0] == "stage":
                        rehearse(cmdb, deployment, terms[0].partition("-")[0], batches[0][0], utc_now())
        except TidegateError as error:
            end_run(error)
        kept = ([host for host in batch if host in known] for batch in batches)
        return [[batch for batch in kept if batch]]


def _prepare(step: str, firmware: bool) -> None:
    """Load what the step's actions need: this is the process that forks a worker for each host and wave, which need not do it again.

    ``firmware``: they go to devices.
    """
    for action in _ACTIONS.get(step, (step,)):
        import_module(f"ansible_collections.tidegate.release.plugins.action.{action}")
        argument_spec(action)
    if firmware:
        poll_less(devices=True)
        lacking("firmware")
        for module in _OF_FIRMWARE:
            import_module(f"ansible_collections.tidegate.release.plugins.plugin_utils.{module}")
    host_program().pack()
    if step.startswith("activate"):
        load_policy(None)  # which each wave's gate adds to the team's own
