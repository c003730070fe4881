# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_copy."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_copy import copy_cmdb


class ActionModule(TidegateAction):
    """Copy the CMDB, or say what that would do."""

    module = "cmdb_copy"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dry_run = bool(self._task.check_mode)
        done = copy_cmdb(required_setting(options, "cmdb"), str(options["to"]), utc_now(), dry_run=dry_run)
        there, rows = done.transfer, done.transfer.rows
        what = f"{counted(rows['ci'], 'CI')}, {counted(rows['deployment'], 'deployment')} and {counted(rows['history'], 'line')} of history"
        if done.verified is None:
            said = f"the CMDB {there.label} would be copied to {there.target}: {what}"
        else:
            said = f"the CMDB {there.label} was copied to {there.target}: {what}, all as they were written; use only the copy from now on"
        heads = {table: head.to_json() for table, head in done.verified.heads.items()} if done.verified else {}
        return {"changed": True, "msg": said, "rows": rows, "heads": heads}
