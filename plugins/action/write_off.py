# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.write_off."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.write_off import end_write_offs, write_off_host


class ActionModule(TidegateAction):
    """Write a host off, or take that back."""

    module = "write_off"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        host, reason, write = str(options["host"]), str(options["reason"]), not self._task.check_mode
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            if options["state"] == "absent":
                why = " ".join(reason.split()) or "somebody said so"
                ended = end_write_offs(cmdb, [host], why, this_user(task_vars), utc_now(), write)
                msg = f"{host} is not written off any more" if ended else f"{host} is not written off; nothing to do"
                return {**self.record_outcome(bool(ended), msg), "person": this_user(task_vars), "deployments": []}
            key, signer = optional_setting(options, "key"), None
            if key is not None:
                signer = load_signer(key, secret_setting(options, "key_passphrase"))
            policy = load_policy(optional_setting(options, "policy"))
            found = write_off_host(cmdb, policy, host, reason, signer, utc_now(), write)
        parts = [f"{host} is written off by {found.person}" if found.changed else f"{host} was written off before, by {found.person}"]
        if found.deployments:
            parts.append(f"run again what waited for it: {', '.join(found.deployments)}")
        if found.seats:
            parts.append(f"{found.seats} seat{'s' if found.seats > 1 else ''} of licensed products are free")
        about = {"person": found.person, "deployments": list(found.deployments)}
        return {**self.record_outcome(found.changed, "; ".join(parts)), **about}
