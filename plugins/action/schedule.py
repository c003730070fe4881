# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.schedule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.schedule import publish, schedule


class ActionModule(TidegateAction):
    """Enter RFCs in the register, withdraw them, publish what is to come."""

    module = "schedule"
    homes = ("cmdb",)

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("base", "calendars")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        now, write = utc_now(), not self._task.check_mode
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            done = schedule(cmdb, [expanded(address) for address in options["rfcs"]], options["withdraw"], now, write)
            result: dict[str, Any] = {
                "entered": list(done.entered),
                "withdrawn": list(done.withdrawn),
                "unchanged": list(done.unchanged),
                "conflicts": [
                    {"number": number, "other": overlap.other.number, "at": list(overlap.meeting)} for number, overlap in done.conflicts
                ],
                "changed": bool(done.entered or done.withdrawn),
            }
            lines = list(done.lines)
            if options["dest"]:
                before, after, sentence = publish(cmdb, Path(expanded(options["dest"])), () if write else done.changes, now, write)
                lines.append(sentence)
                result["changed"] |= before != after
                result["diff"] = {"before": before, "after": after, "before_header": options["dest"], "after_header": options["dest"]}
        nothing = "nothing was asked for; give RFCs to enter, numbers to withdraw, or a file to write"
        return result | {"msg": "\n".join(lines) or nothing}
