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
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import BakeVerdict
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import open_change, rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
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
    """Decide about the open wave, or about staging, by what the journal says and by what is measured."""

    module = "gate"
    homes = ("rfc", "dsl", "cmdb")
    libraries = ("SQLAlchemy", "jmespath", "jsonschema")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False, "decision": "proceed", "reason": "in check mode nothing is decided"}
        with self._sources(options) as sources:
            journal = Journal(sources.cmdb())
            deployment = to_decide(journal, rfc_number(required_setting(options, "rfc")), Holder.this_run())
            if options["after"] == "staging":
                return self._after_staging(options, task_vars, sources, deployment)
            if deployment.rollout.bake is None and deployment.rollout.canary_bake is None:
                return self._after_wave(options, task_vars, sources, None)
            from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.bake_journal import BakeJournal  # noqa: PLC0415 - as below
            from ansible_collections.tidegate.release.plugins.plugin_utils.steps import bake  # noqa: PLC0415 - for who measures anything

            ask = bake.make_asker(lambda: sources.policy().prometheus)
            patience = options["patience"]
            if patience is not None and not patience >= 0:
                raise TidegateError(f"tidegate_patience is {patience:g}; give a number of seconds, 0 or more")
            wait = bake.Wait(utc_now, interrupted, patience)
            verdict, wave = bake.bake_wave(BakeJournal(sources.cmdb()), deployment, ask, wait)
        if verdict is not None and verdict.outcome == "baking" and not interrupted():
            result = bake.baking_result(verdict, wave)
            announce(result["msg"])
            return result
        with self._sources(options) as sources:  # by what RFC, policy and library say now
            return self._after_wave(options, task_vars, sources, verdict)

    def _sources(self, options: dict[str, Any]) -> Sources:
        dsl, policy, cmdb_url = required_setting(options, "dsl"), optional_setting(options, "policy"), required_setting(options, "cmdb")
        return Sources(dsl, cmdb_url, policy, utc_now(), kept_in_run())

    def _after_staging(
        self, options: dict[str, Any], task_vars: dict[str, Any], sources: Sources, deployment: Deployment
    ) -> dict[str, Any]:
        if deployment.state is DeploymentState.STAGING and not deployment.rollout.tree:
            WaveJournal(sources.cmdb()).stage_all(deployment.run, sources.now)
        change, check, tell = open_change(required_setting(options, "rfc")), make_wave_check(sources), make_notifier(sources.policy)
        journal, now = Journal(sources.cmdb()), sources.now
        return _said(decide_staging_gate(journal, deployment.run, change, check, tell, now, interrupted(), reasons(task_vars)))

    def _after_wave(
        self, options: dict[str, Any], task_vars: dict[str, Any], sources: Sources, metrics: BakeVerdict | None
    ) -> dict[str, Any]:
        rfc, journal, now = required_setting(options, "rfc"), Journal(sources.cmdb()), sources.now
        run = to_decide(journal, rfc_number(rfc), Holder.this_run()).run
        change, check, tell = open_change(rfc), make_wave_check(sources), make_notifier(sources.policy)
        return _said(decide_wave_gate(journal, run, change, check, tell, now, interrupted(), reasons(task_vars), metrics))


def _said(decided: dict[str, Any]) -> dict[str, Any]:
    if "msg" in decided:
        announce(decided["msg"])
    return decided
