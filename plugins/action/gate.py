# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.gate."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run, reasons
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import announce
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
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
    decided_by_others,
    goes_on,
    make_wave_check,
    to_decide,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import make_notifier, warned
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.wait import Wait


class ActionModule(TidegateAction):
    """Decide about the open wave, or about staging, by what the journal says and by what is measured."""

    module = "gate"
    homes = ("rfc", "dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False, "decision": "proceed", "reason": "in check mode nothing is decided"}
        for name in ("patience", "slice_patience"):
            if options[name] is not None and not options[name] >= 0:
                raise TidegateError(f"tidegate_{name} is {options[name]:g}; give a number of seconds, 0 or more")
        with self._sources(options) as sources:
            deployment = to_decide(Journal(sources.cmdb()), rfc_number(required_setting(options, "rfc")), Holder.this_run())
            if deployment.epoch is None:
                return self._decide(options, task_vars, sources, deployment)
        return self._decide_with_others(options, task_vars, deployment)

    def _decide_with_others(self, options: dict[str, Any], task_vars: dict[str, Any], deployment: Deployment) -> dict[str, Any]:
        """Decide, or wait for another controller to do so; and then for the next wave in which this one has hosts."""
        from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal  # noqa: PLC0415 - as below
        from ansible_collections.tidegate.release.plugins.plugin_utils.steps import slices  # noqa: PLC0415 - for one controller of several

        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            journal, run = SliceJournal(cmdb), deployment.run
            staging, host = options["after"] == "staging", str(task_vars["inventory_hostname"])
            place = slices.Meeting(slices.STAGING if staging else journal.target(run, host).wave)
            wait = slices.Waiting(utc_now, interrupted, options["slice_patience"])
            met, own = slices.meet(journal, run, place, wait), {}
            if met.move is slices.SliceMove.DECIDE:
                stop = slices.stop_of(journal, run, wait)
                try:
                    with self._sources(options) as sources:
                        own = self._decide(options, task_vars, sources, deployment, stop, place.number)
                except ConflictError:
                    if not slices.is_decided(journal, run, place, wait):  # else somebody else has done it in this very moment
                        raise
                if own and own["decision"] != "proceed":
                    return own
            result = own or decided_by_others(journal, run, place.number, met.why)
            if not own:
                announce(f"{place}: {result['reason']}")
            after = slices.await_wave(journal, run, place.number, wait)
            result |= goes_on(journal.deployment(run.deployment), result, after.why)
            if slices.SliceMove.HOLD in (met.move, after.move):
                policy = optional_setting(options, "policy")
                tell = make_notifier(lambda: load_policy(policy))
                result |= warned(tell(journal, run, "hold", result["reason"], utc_now()))
        return result

    def _decide(
        self,
        options: dict[str, Any],
        task_vars: dict[str, Any],
        sources: Sources,
        deployment: Deployment,
        stop: str = "",
        wave: int | None = None,
    ) -> dict[str, Any]:
        """Decide; ``stop``: why another controller of several was interrupted, ``wave``: the one that they are to decide about."""
        if options["after"] == "staging":
            return self._after_staging(options, task_vars, sources, deployment, stop)
        if deployment.rollout.bake is None and deployment.rollout.canary_bake is None:
            return self._after_wave(options, task_vars, sources, None, (stop, wave))
        from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.bake_journal import BakeJournal  # noqa: PLC0415 - as below
        from ansible_collections.tidegate.release.plugins.plugin_utils.steps import bake  # noqa: PLC0415 - for who measures anything

        ask = bake.make_asker(lambda: sources.policy().prometheus)
        wait = Wait(utc_now, interrupted, options["patience"])
        verdict, baked = bake.bake_wave(BakeJournal(sources.cmdb()), deployment, ask, wait)
        if verdict is not None and verdict.outcome == "baking" and not interrupted():
            result = bake.baking_result(verdict, baked)
            announce(result["msg"])
            return result
        with self._sources(options) as later:  # by what RFC, policy and library say now
            return self._after_wave(options, task_vars, later, verdict, (stop, wave))

    def _sources(self, options: dict[str, Any]) -> Sources:
        dsl, policy, cmdb_url = required_setting(options, "dsl"), optional_setting(options, "policy"), required_setting(options, "cmdb")
        return Sources(dsl, cmdb_url, policy, utc_now(), kept_in_run())

    def _after_staging(
        self, options: dict[str, Any], task_vars: dict[str, Any], sources: Sources, deployment: Deployment, stop: str
    ) -> dict[str, Any]:
        if deployment.state is DeploymentState.STAGING and not deployment.rollout.tree:
            WaveJournal(sources.cmdb()).stage_all(deployment.run, sources.now)
        change, check, tell = open_change(required_setting(options, "rfc")), make_wave_check(sources), make_notifier(sources.policy)
        journal, now = Journal(sources.cmdb()), sources.now
        return _said(decide_staging_gate(journal, deployment.run, change, check, tell, now, interrupted() or stop, reasons(task_vars)))

    def _after_wave(
        self,
        options: dict[str, Any],
        task_vars: dict[str, Any],
        sources: Sources,
        metrics: BakeVerdict | None,
        shared: tuple[str, int | None],
    ) -> dict[str, Any]:
        rfc, journal, now = required_setting(options, "rfc"), Journal(sources.cmdb()), sources.now
        run = to_decide(journal, rfc_number(rfc), Holder.this_run()).run
        change, check, tell = open_change(rfc), make_wave_check(sources), make_notifier(sources.policy)
        stop, wave = interrupted() or shared[0], shared[1]
        return _said(decide_wave_gate(journal, run, change, check, tell, now, stop, reasons(task_vars), metrics, about=wave))


def _said(decided: dict[str, Any]) -> dict[str, Any]:
    if "msg" in decided:
        announce(decided["msg"])
    return decided
