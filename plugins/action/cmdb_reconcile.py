# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_reconcile."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.reconcile import Wish, reconcile
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources


class ActionModule(TidegateAction):
    """Settle differences of the last audit under an RFC."""

    module = "cmdb_reconcile"
    homes = ("dsl", "cmdb", "rfc")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        key, signer = optional_setting(options, "key"), None
        if key is not None:
            signer = load_signer(key, secret_setting(options, "key_passphrase"))
        restore = options["action"] == "restore"
        wish = Wish(restore, str(options["reason"]), options["kinds"], options["hosts"])
        dsl, cmdb, address = (required_setting(options, name) for name in ("dsl", "cmdb", "rfc"))
        with Sources(dsl, cmdb, optional_setting(options, "policy"), utc_now(), kept_in_run()) as sources:
            found = reconcile(sources, address, wish, signer, not self._task.check_mode)
        hosts = sorted({one["host"] for one in found.done})
        what = f"{counted(len(found.done), 'difference')} on {', '.join(hosts)}"
        if not found.done:
            said = f"{found.rfc} settles nothing"
        elif restore:
            said = f"{what}: tidegate.release.deploy with {found.rfc} brings back what is on record"
        else:
            said = f"{what}: what is there is on record under {found.rfc}, by {found.person}"
        outcome = self.record_outcome(found.changed, said)
        return {
            **outcome,
            **({} if found.done else {"failed": True}),
            "msg": "\n".join((outcome["msg"], *(f"  {line}" for line in found.left))),
            "settled": found.done,
            "left": found.left,
            "person": found.person,
        }
