# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_relation."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.ci_changes import note_of
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user


class ActionModule(TidegateAction):
    """Add or remove relations in one transaction."""

    module = "cmdb_relation"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        triples = [(one["source"], one["target"], one["kind"]) for one in options["relations"]]
        note, wanted = note_of(options["number"], options["reason"]), options["state"] == "present"
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            change = cmdb.relate if wanted else cmdb.unrelate
            changed = change(triples, this_user(task_vars), dry_run=bool(self._task.check_mode), note=note)
        lines = "".join(f"{source} {kind} {target}\n" for source, target, kind in changed)
        return {
            "changed": bool(changed),
            "relations": [{"source": source, "kind": kind, "target": target} for source, target, kind in changed],
            "diff": [{"header": "relations", "before": "" if wanted else lines, "after": lines if wanted else ""}] if changed else [],
        }
