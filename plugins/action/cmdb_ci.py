# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_ci."""

from __future__ import annotations

import getpass
import socket
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import ci_changes
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Put or remove the described CIs in one transaction."""

    module = "cmdb_ci"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        rows = ci_changes.checked(_rows(options))
        url, dry_run = required_setting(options, "cmdb"), bool(self._task.check_mode)
        actor = f"{getpass.getuser()}@{socket.gethostname()}"
        if options["state"] == "absent":
            return _remove(url, [row["name"] for row in rows], actor, dry_run)
        result = _put(url, rows, actor, dry_run)
        diff = [{"header": name, "before": before or {}, "after": after} for name, (before, after) in result.diffs.items()]
        return {"changed": bool(result.diffs), "created": result.created, "updated": result.updated, "diff": diff}


def _rows(options: dict[str, Any]) -> list[dict[str, Any]]:
    """The described CIs; what a description leaves out is not in it."""
    one = {key: options[key] for key in ("name", *ci_changes.WORDS, "attributes", "relations") if options[key] is not None}
    if options["cis"] is None:
        if "name" not in one:
            raise TidegateError("tidegate.release.cmdb_ci is given no CI; set name, or cis for many")
        return [one]
    if one:
        raise TidegateError(f"tidegate.release.cmdb_ci is given cis and {', '.join(one)}; describe each CI inside cis")
    return [{key: value for key, value in ci.items() if value is not None} for ci in options["cis"]]


def _put(url: str, rows: list[dict[str, Any]], actor: str, dry_run: bool) -> ci_changes.PutResult:
    try:
        cmdb = Cmdb.open(url, create=not dry_run)
    except NotFoundError:
        if not dry_run:
            raise
        return ci_changes.plan({}, rows)  # there is no CMDB yet, so every CI would be new
    with cmdb:
        return cmdb.put_cis(rows, actor, dry_run=dry_run)


def _remove(url: str, names: list[str], actor: str, dry_run: bool) -> dict[str, Any]:
    with Cmdb.open(url) as cmdb:
        before = {ci["name"]: ci for ci in cmdb.cis(names)}
        removed = cmdb.remove_cis(names, actor, dry_run=dry_run)
    diff = [{"header": name, "before": before[name], "after": {}} for name in removed]
    return {"changed": bool(removed), "removed": removed, "diff": diff}
