# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_ci_info."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.ci_changes import STATUSES
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Read the picked CIs with their relations at one moment."""

    module = "cmdb_ci_info"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        names = None if options["names"] is None else set(options["names"])
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            cis = [ci for ci in cmdb.query(options["query"], connection) if names is None or ci["name"] in names]
            by_name: dict[str, dict[str, Any]] = {ci["name"]: ci | {"relations": []} | _servicenow(ci["status"]) for ci in cis}
            for relation in cmdb.relations(connection=connection):
                for end in dict.fromkeys((relation["source"], relation["target"])):
                    if end in by_name:
                        by_name[end]["relations"].append(relation)
        return {"changed": False, "cis": list(by_name.values())}


def _servicenow(status: str) -> dict[str, int | None]:
    """The fields that a CI's status is in ServiceNow; none of one that means nothing."""
    meaning = STATUSES.get(status)
    return {"install_status": meaning and meaning.install_status, "operational_status": meaning and meaning.operational_status}
