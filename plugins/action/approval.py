# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.approval."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import watch
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.approve import (
    Decision,
    decide,
    load_decision_request,
    record_decision,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned


class ActionModule(TidegateAction):
    """Sign somebody's decision on an RFC."""

    module = "approval"
    homes = ("rfc", "dsl", "cmdb", "key")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        signer = load_signer(required_setting(options, "key"), secret_setting(options, "key_passphrase"))
        question = load_decision_request(
            required_setting(options, "rfc"),
            required_setting(options, "dsl"),
            required_setting(options, "cmdb"),
            optional_setting(options, "policy"),
        )
        decision, write = options["decision"], not self._task.check_mode
        now, matter = utc_now(), question.matter
        name, role, changed = decide(question, signer, Decision(decision, options["role"], options["comment"]), now, write)
        what = f"{matter.release} {matter.version} on {counted(len(matter.cis), 'CI')}"
        for_good = "; it migrates data, which is a point of no return" if question.no_return else ""
        cmdb = required_setting(options, "cmdb")
        problems = watch(cmdb if write and changed else None, question.home, (matter.release, matter.version, matter.digest), now, signer)
        problems += record_decision(cmdb, question, (name, role, decision), now, changed) if write else []
        return {
            **warned(problems),
            **self.record_outcome(changed, f"{name} {decision} {matter.rfc} as {role}: {what}{for_good}"),
            "rfc": matter.rfc,
            "rfc_digest": f"sha256:{matter.fingerprint}",
            "digest": matter.digest,
            "cis": list(matter.cis),
            "person": name,
            "role": role,
            "decision": decision,
        }
