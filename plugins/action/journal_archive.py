# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.journal_archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.journal_archive import archive_journal


class ActionModule(TidegateAction):
    """Archive the journal, or say what would be archived."""

    module = "journal_archive"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        key, signer, write = optional_setting(options, "key"), None, not self._task.check_mode
        if key is not None:
            signer = load_signer(key, secret_setting(options, "key_passphrase"))
        policy = load_policy(optional_setting(options, "policy"))
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            done = archive_journal(cmdb, policy, Path(options["dest"]), str(options["reason"]), signer, utc_now(), write)
        many = counted(len(done.deployments), "deployment")
        left = done.total - len(done.deployments)
        if not done.deployments:
            said = f"nothing is to be archived of {counted(done.total, 'deployment')}"
        elif write:
            said = f"the journal of {many} is archived in {counted(len(done.files), 'file')} in {Path(options['dest']).absolute()}"
        else:
            said = f"the journal of {many} would be archived"
        if done.kept:
            said += "; of those that are as old " + ", and ".join(f"{number} stay as {reason}" for reason, number in done.kept.items())
        diff = {"header": "deployments in the journal", "before": f"{done.total}\n", "after": f"{left}\n"}
        result = {
            "changed": bool(done.deployments),
            "msg": said,
            "deployments": done.deployments,
            "files": done.files,
            "kept": done.kept,
            "person": done.person,
        }
        return {**result, "diff": diff} if self._task.diff else result
