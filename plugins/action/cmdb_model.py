# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.ci_changes import note_of
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.model import build_model
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import (
    load_team_model,
    not_in_model,
    own_document,
    set_model,
    shipped_document,
    unknown_in,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user

if TYPE_CHECKING:
    import sqlalchemy as sa


class ActionModule(TidegateAction):
    """Set the team's model, or read it."""

    module = "cmdb_model"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        url, dry_run = required_setting(options, "cmdb"), bool(self._task.check_mode)
        note = note_of(options["number"], options["reason"])
        wanted = None if options["src"] is None else load_team_model(options["src"])
        write = wanted is not None and not dry_run

        def look(connection: sa.Connection) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
            before = own_document(connection)
            after = before if wanted is None else wanted
            if write and before != after:
                set_model(connection, after, this_user(task_vars), utc_now(), note)
            return before, after, unknown_in(connection, build_model(shipped_document(), after))

        with Cmdb.open(url, create=write) as cmdb:
            before, after, unknown = cmdb.change(look) if write else cmdb.ask(look)
        changed = before != after
        said = f"{'would be' if dry_run else 'was'} set" if changed else "is as it was"
        lines = [f"the model of CIs {said}", *([not_in_model(unknown)] if unknown else [])]
        diff = [{"header": "model of CIs", "before": before, "after": after}] if changed else []
        return {"changed": changed, "msg": "\n".join(lines), "model": after, "unknown": unknown, "diff": diff}
