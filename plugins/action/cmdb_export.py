# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_records import PARTS, export_records, write_records


class ActionModule(TidegateAction):
    """Write the records, or say what that would do."""

    module = "cmdb_export"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dry_run, dest = bool(self._task.check_mode), Path(options["dest"])
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.read() as connection:
            records, label = export_records(cmdb, connection), cmdb.label
        try:
            changed = write_records(dest, records, dry_run)
        except OSError as error:
            raise TidegateError(f"{dest} can't be written: {error.strerror}; name a file in a directory that you may write to") from error
        counts = {part: len(records[part]) for part in PARTS}
        listed = ", ".join(f"{count} {part.replace('_', ' ')}" for part, count in counts.items() if count) or "no records"
        verb = "has just these" if not changed else "would be written with these" if dry_run else "was written with these"
        return {"changed": changed, "msg": f"{dest} {verb} of the CMDB {label}: {listed}", "counts": counts}
