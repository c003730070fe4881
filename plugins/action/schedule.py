# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.scheduling import LIBRARIES, drop, publish, schedule
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded, home


class ActionModule(TidegateAction):
    """Enter RFCs in the register, withdraw them, publish what is to come."""

    module = "schedule"
    libraries = ("SQLAlchemy", "jmespath", "jsonschema", *LIBRARIES)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        now, write = utc_now(), not self._task.check_mode
        with Cmdb.open(home(options, "cmdb")) as cmdb:
            drop(cmdb, options["withdraw"], now, write=False)  # both are found to be good before anything is written
            entered = schedule(cmdb, [expanded(address) for address in options["rfcs"]], now, write)
            withdrawn = drop(cmdb, options["withdraw"], now, write)
            result: dict[str, Any] = {"entered": entered, "withdrawn": withdrawn, "changed": bool(entered or withdrawn)}
            if options["dest"]:
                before, after = publish(cmdb, Path(options["dest"]), now, write)
                result["changed"] |= before != after
                result["diff"] = {"before": before, "after": after, "before_header": options["dest"], "after_header": options["dest"]}
        return result
