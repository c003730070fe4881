# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.conclude."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run, reasons, secrets_of
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.invocation import next_commands
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import say_last
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.report.artifacts import inert, passed_on
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Outcome
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.objectives import evaluate_objectives
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import open_change, rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout import states
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_change import is_past_return, statements
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import refuse_commands
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.conclude import conclude, foresee, to_conclude
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import make_notifier, warned
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.wait import Wait


class ActionModule(TidegateAction):
    """Close the deployment and turn its state into the run's verdict."""

    module = "conclude"
    homes = ("rfc", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        rfc = required_setting(options, "rfc")
        number = rfc_number(rfc)
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            journal = Journal(cmdb)
            if self._task.check_mode:
                return _said(foresee(journal, number, options["wanted"], utc_now()))
            change = open_change(rfc)
            deployment = to_conclude(journal, number, Holder.this_run(), change, options["wanted"])
            policy = optional_setting(options, "policy")
            tell = make_notifier(lambda: load_policy(policy))

            def make(rfc: Rfc) -> list[Outcome]:
                if any("command" in check for check in rfc.objectives):
                    hosts = {target.host for target in journal.targets(deployment.id)}
                    dsl, cmdb_url = required_setting(options, "dsl"), required_setting(options, "cmdb")
                    with Sources(dsl, cmdb_url, policy, utc_now(), kept_in_run()) as sources:
                        refuse_commands(sources, rfc, hosts)
                return evaluate_objectives(rfc, secrets_of(task_vars))

            last = self._is_last(cmdb, deployment, options["wanted"])
            unmet = self._measure_exit(cmdb, deployment, policy) if last else ""
            about = (change, options["wanted"], tell, make, utc_now(), interrupted(), reasons(task_vars))
            unsigned = self._sign_gates(cmdb, deployment, options) if last else []
            ended = conclude(journal, deployment.run, *about, last=last, unmet=unmet)
            ended |= warned([*ended.get("warnings", []), *unsigned])
            left = journal.deployment(deployment.id)
            wanted = statements(left, journal.data_log(left.id))
        if left.state in states.OPEN and left.state is not states.DeploymentState.SUPPORTING:  # somebody has to go on, or go back
            undo = left.state is not states.DeploymentState.BACKING_OUT and not is_past_return(left)
            ended["progress"]["more"] = next_commands(undo, wanted)
        return _said(ended)

    def _measure_exit(self, cmdb: Cmdb, deployment: Deployment, policy: str | None) -> str:
        """Measure what the deployment's support ends with, when nothing else is in the way of that; why it was not met, if it was not."""
        if deployment.rollout.support_exit is None:
            return ""
        from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.bake_journal import ExitJournal  # noqa: PLC0415 - as below
        from ansible_collections.tidegate.release.plugins.plugin_utils.steps import bake  # noqa: PLC0415 - for who measures anything

        journal, now = ExitJournal(cmdb), utc_now()
        current = journal.deployment(deployment.id)
        if current.state is not states.DeploymentState.SUPPORTING or not journal.support(current, now).asks_exit(now):
            return ""
        ask = bake.make_asker(lambda: load_policy(policy).prometheus)
        verdict = bake.measure_exit(journal, deployment, ask, Wait(utc_now, interrupted))
        return "" if verdict.outcome == "good" else verdict.reason

    def _sign_gates(self, cmdb: Cmdb, deployment: Deployment, options: dict[str, Any]) -> list[str]:
        """Sign what its gates were decided by, with a key; why that could not be done. The deployment is what it is without that."""
        key, dsl = optional_setting(options, "key"), optional_setting(options, "dsl")
        if key is None or dsl is None:
            return []
        from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.bake_journal import BakeJournal  # noqa: PLC0415 - as below
        from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate_evidence import sign_gates  # noqa: PLC0415 - with a key

        try:
            home = open_library(dsl).repository(deployment.release)
            signer = load_signer(key, secret_setting(options, "key_passphrase"))
            sign_gates(BakeJournal(cmdb), deployment.run, home, signer, utc_now())
        except (TidegateError, OSError) as error:
            return [f"what the gates of {deployment.label} were decided by could not be signed: {error}"]
        return []

    def _is_last(self, cmdb: Cmdb, deployment: Deployment, wanted: str) -> bool:
        """Whether no other controller has anything to do still; where the verdict is about their hosts, too, they are waited for."""
        if deployment.epoch is None:
            return True
        from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal  # noqa: PLC0415 - as below
        from ansible_collections.tidegate.release.plugins.plugin_utils.steps import slices  # noqa: PLC0415 - for one controller of several

        return slices.end_slice(SliceJournal(cmdb), deployment.run, wanted == "staged", slices.Waiting(utc_now, interrupted))


def _said(ended: dict[str, Any]) -> dict[str, Any]:
    say_last("\n".join((ended["msg"], *ended["progress"].get("more", ()))))
    sentence = inert(ended["msg"])  # which the role passes on when it failed
    return ended | {"msg": sentence} | passed_on("concluded", ended["passed_on"], sentence=sentence)
