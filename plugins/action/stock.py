# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.stock."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stock import count_spares, settle_levels, tell_low


class ActionModule(TidegateAction):
    """Count, tell people, and fail when stock is short."""

    module = "stock"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        policy, now = load_policy(optional_setting(options, "policy")), utc_now()
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            found = count_spares(cmdb, policy, now, options["stockrooms"])
            problems = [] if self._task.check_mode else list(tell_low(cmdb, policy, this_user(task_vars), now)[1].problems)
            settled = [] if self._task.check_mode else settle_levels(cmdb, this_user(task_vars), now)
        short = sum(one.is_short for one in found)
        if not found:
            where = f" for {', '.join(options['stockrooms'])}" if options["stockrooms"] else ""
            sentence = f"there is no stock rule{where}, so nothing was counted; enter one with tidegate.release.dhs_rule"
        elif short:
            sentence = f"stock is short for {short} of {counted(len(found), 'rule')}"
        else:
            sentence = f"stock is enough for {'the one rule' if len(found) == 1 else f'all {len(found)} rules'}"
        lines = (f"  {one.sentence()}" for one in sorted(found, key=lambda one: not one.is_short))
        return {
            "changed": bool(settled),
            "failed": bool(short) or not found,
            "msg": "\n".join((sentence, *lines, *settled)),
            "stock": [one.to_dict() for one in found],
            **({"warnings": problems} if problems else {}),
        }
