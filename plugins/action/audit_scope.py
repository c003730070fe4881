# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.audit_scope."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import recorded_digests
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting


class ActionModule(TidegateAction):
    """Read once for all hosts what each of them is asked for."""

    module = "audit_scope"
    homes = ("dsl", "cmdb")  # as the audit itself, so that all that lacks is said before a host is asked

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        policy = load_policy(optional_setting(options, "policy"))
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            recorded = recorded_digests(connection)
        return {"changed": False, "copies": list(policy.audit_copies), "recorded": recorded}
