# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.dhs_asset_info."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import history_of, list_units, shown
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Read units in one transaction."""

    module = "dhs_asset_info"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        asked = {name: options[name] for name in ("tags", "models", "stockrooms", "cis", "states")}
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            units = list_units(connection, **asked)
            past = {"history": history_of(connection, [unit.tag for unit in units])} if options["history"] else {}
        return {"changed": False, "units": [shown(unit) for unit in units], **past}
