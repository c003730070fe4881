# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_upgrade."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.upgrade import upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Upgrade the CMDB, or take it back to an older revision, or say what that would do."""

    module = "cmdb_upgrade"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dry_run = bool(self._task.check_mode)
        back_to = options["revision"]
        done = upgrade(required_setting(options, "cmdb"), datetime.now(UTC), back_to=back_to, lose=bool(options["lose"]), dry_run=dry_run)
        changed = done.before != done.after
        if changed and back_to is not None:
            verb = "would be" if dry_run else "was"
            said = (
                f"the CMDB {done.label} {verb} taken back from revision {done.before} to {done.after}, which an older collection needs; "
                "this one can't use it then"
            )
        elif not changed and back_to is not None:
            said = f"the CMDB {done.label} is of revision {done.after}; nothing to do"
        elif not changed:
            said = f"the CMDB {done.label} is of revision {done.after}, which this collection needs; nothing to do"
        elif dry_run:
            said = f"the CMDB {done.label} would be upgraded from revision {done.before} to {done.after}; make a backup before"
        else:
            said = f"the CMDB {done.label} was upgraded from revision {done.before} to {done.after}; older collections can't use it now"
        said = "\n".join((said, *done.notes))
        return {"changed": changed, "msg": said, "before": done.before, "after": done.after}
