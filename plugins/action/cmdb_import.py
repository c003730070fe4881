# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_import."""

from __future__ import annotations

import contextlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.inventory import read_inventory
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.invocation import refuse_left_out
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import ci_changes
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb, put_into_none
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import NotFoundError
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_import import Import, InventoryHost, describe_import, plan_import
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_records import import_records, read_records
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user

if TYPE_CHECKING:
    import sqlalchemy as sa

_WORDS = {"class": "classes", "site": "sites", "environment": "environments"}


class ActionModule(TidegateAction):
    """Enter the hosts of the inventory in the CMDB, in one transaction."""

    module = "cmdb_import"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dry_run, url = bool(self._task.check_mode), required_setting(options, "cmdb")
        if options["src"] is not None:
            return _import_records(url, Path(options["src"]), this_user(task_vars), dry_run)
        hosts = read_inventory(self._loader)
        why = "an import enters the whole inventory, and names what is gone from it"
        refuse_left_out(self._loader, task_vars, [host.name for host in hosts], why)
        words = {word: options[option] for word, option in _WORDS.items()}
        try:
            cmdb = Cmdb.open(url, create=not dry_run)
        except NotFoundError:
            if not dry_run:
                raise
            found = plan_import(hosts, (), words)
            put = put_into_none(found.rows)
        else:
            with cmdb:
                found, put = _put(cmdb, hosts, words, this_user(task_vars), dry_run)
        return {
            "changed": bool(put.diffs),
            "msg": describe_import(found, put, dry_run),
            "created": put.created,
            "updated": put.updated,
            "gone": found.gone,
            "not_taken": found.not_taken,
            "dropped": found.dropped,
            "diff": [{"header": name, "before": before or {}, "after": after} for name, (before, after) in put.diffs.items()],
        }


def _put(
    cmdb: Cmdb, hosts: list[InventoryHost], words: dict[str, list[str]], actor: str, dry_run: bool
) -> tuple[Import, ci_changes.PutResult]:
    """In one transaction: what anybody else enters for the hosts meanwhile stays."""

    def put(connection: sa.Connection) -> tuple[Import, ci_changes.PutResult]:
        found = plan_import(hosts, cmdb.cis(connection=connection), words)
        return found, cmdb.put_cis(found.rows, actor, dry_run=dry_run, connection=connection)

    return cmdb.ask(put) if dry_run else cmdb.change(put)


def _import_records(url: str, src: Path, actor: str, dry_run: bool) -> dict[str, Any]:
    """The same of a file of records: what is in it, and no inventory."""
    records = read_records(src)
    names = [str(ci["name"]) for ci in records["cis"]]
    with contextlib.ExitStack() as stack:
        try:
            cmdb = stack.enter_context(Cmdb.open(url, create=not dry_run))
        except NotFoundError:
            if not dry_run:
                raise
            # There is no CMDB yet, so one that nobody else sees is taken, for the same faults to be found.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-"))
            cmdb = stack.enter_context(Cmdb.open(str(Path(folder) / "cmdb.sqlite"), create=True))
        target = stack.enter_context(cmdb.rehearsal()) if dry_run else cmdb
        changed = target.change(lambda connection: import_records(target, connection, records, actor, datetime.now(UTC)))
    verb = "are in the CMDB already" if not changed else "would be entered" if dry_run else "were entered"
    nothing: dict[str, Any] = {"updated": [], "gone": [], "not_taken": {}, "dropped": {}}
    return {"changed": changed, "msg": f"the records of {src} {verb}: {len(names)} CIs", "created": names if changed else [], **nothing}
