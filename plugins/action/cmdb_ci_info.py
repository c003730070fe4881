# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_ci_info."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.past import past_of, time_option
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.query import pick_rows
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.replay import as_told
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Read the picked CIs with their relations at one moment."""

    module = "cmdb_ci_info"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        names = None if options["names"] is None else set(options["names"])
        at = time_option(options, "at")
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            if at is None:
                cis, relations = cmdb.query(options["query"], connection), cmdb.relations(connection=connection)
            else:
                past = past_of(connection, at, utc_now())
                cis, relations = pick_rows(options["query"], past.query_rows()), past.relation_rows()
        return {"changed": False, "cis": as_told([ci for ci in cis if names is None or ci["name"] in names], relations)}
