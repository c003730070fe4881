# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.settlement."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import watch
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.settle import Settlement, find, settle_debt
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned


class ActionModule(TidegateAction):
    """Note that a duty of a change was done."""

    module = "settlement"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        key, signer = optional_setting(options, "key"), None
        if key is not None:
            signer = load_signer(key, secret_setting(options, "key_passphrase"))
        policy = load_policy(optional_setting(options, "policy"))
        settlement = Settlement(options["number"], options["duty"], options["note"])
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            release = find(cmdb, settlement.rfc, settlement.duty).release
            library = open_library(required_setting(options, "dsl")).repository(release)
            now, write = utc_now(), not self._task.check_mode
            debt, actor, changed = settle_debt(cmdb, library, policy, settlement, signer, now, write)
        signed = required_setting(options, "cmdb") if write and changed and signer is not None else None
        return {
            **warned(watch(signed, library, (debt.release, debt.version, debt.digest), now, signer)),
            **self.record_outcome(changed, f"{debt.rfc} ({debt.release} {debt.version}) owed {debt.duty}, settled by {actor}"),
            "due": debt.due.isoformat(),
            "person": actor,
        }
