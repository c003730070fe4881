# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.gate."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run, reasons
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import announce
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import open_change, rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import WaveJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import (
    decide_staging_gate,
    decide_wave_gate,
    make_wave_check,
    to_decide,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import make_notifier


class ActionModule(TidegateAction):
    """Decide about the open wave, or about staging, by what the journal says."""

    module = "gate"
    homes = ("rfc", "dsl", "cmdb")
    libraries = ("SQLAlchemy", "jmespath", "jsonschema")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False, "decision": "proceed", "reason": "in check mode nothing is decided"}
        dsl, policy, cmdb_url = required_setting(options, "dsl"), optional_setting(options, "policy"), required_setting(options, "cmdb")
        rfc_path = required_setting(options, "rfc")
        change = open_change(rfc_path)
        decide = decide_staging_gate if options["after"] == "staging" else decide_wave_gate
        with Sources(dsl, cmdb_url, policy, utc_now(), kept_in_run()) as sources:
            journal = Journal(sources.cmdb())
            deployment = to_decide(journal, rfc_number(rfc_path), Holder.this_run())
            run = deployment.run
            if options["after"] == "staging" and deployment.state is DeploymentState.STAGING and not deployment.rollout.tree:
                WaveJournal(sources.cmdb()).stage_all(run, sources.now)
            check, tell = make_wave_check(sources), make_notifier(sources.policy)
            decided = decide(journal, run, change, check, tell, sources.now, interrupted(), reasons(task_vars))
        if "msg" in decided:
            announce(decided["msg"])
        return decided
