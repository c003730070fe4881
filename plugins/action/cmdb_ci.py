# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_ci."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import ci_changes
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb, put_into_none
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user


class ActionModule(TidegateAction):
    """Put or remove the described CIs in one transaction."""

    module = "cmdb_ci"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        rows = ci_changes.checked(_rows(options))
        url, dry_run = required_setting(options, "cmdb"), bool(self._task.check_mode)
        actor, note = this_user(task_vars), ci_changes.note_of(options["number"], options["reason"])
        if options["state"] == "absent":
            return _remove(url, [row["name"] for row in rows], actor, dry_run, note)
        result = _put(url, rows, actor, dry_run, merge=options["attributes_mode"] == "merge", note=note)
        diff = [{"header": name, "before": before or {}, "after": after} for name, (before, after) in result.diffs.items()]
        names = {"created": result.created, "updated": result.updated}
        return {"changed": bool(result.diffs), **names, "revisions": result.revisions, "diff": diff}


def _rows(options: dict[str, Any]) -> list[dict[str, Any]]:
    """The described CIs; what a description leaves out is not in it."""
    one = {key: options[key] for key in ("name", *ci_changes.WORDS, "attributes", "relations", "revision") if options[key] is not None}
    if options["cis"] is None:
        if "name" not in one:
            raise TidegateError("tidegate.release.cmdb_ci is given no CI; set name, or cis for many")
        return [one]
    if one:
        raise TidegateError(f"tidegate.release.cmdb_ci is given cis and {', '.join(one)}; describe each CI inside cis")
    return [{key: value for key, value in ci.items() if value is not None} for ci in options["cis"]]


def _put(url: str, rows: list[dict[str, Any]], actor: str, dry_run: bool, *, merge: bool, note: Mapping[str, str]) -> ci_changes.PutResult:
    try:
        cmdb = Cmdb.open(url, create=not dry_run)
    except NotFoundError:
        if not dry_run:
            raise
        return put_into_none(rows, merge=merge)
    with cmdb:
        return cmdb.put_cis(rows, actor, dry_run=dry_run, merge=merge, note=note)


def _remove(url: str, names: list[str], actor: str, dry_run: bool, note: Mapping[str, str]) -> dict[str, Any]:
    with Cmdb.open(url) as cmdb:
        before = {ci["name"]: ci for ci in cmdb.cis(names)}
        removed = cmdb.remove_cis(names, actor, dry_run=dry_run, note=note)
    diff = [{"header": name, "before": before[name], "after": {}} for name in removed]
    return {"changed": bool(removed), "removed": removed, "diff": diff}
