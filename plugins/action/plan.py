# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.plan."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.invocation import (
    missing_settings,
    outside_limit,
    refuse_kept_files,
    refuse_partial,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import advise, announce
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.load import needs_of_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.report.artifacts import passed_on
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_change import DataStatement
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import sweep_logs, sweep_run_directories
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources


def _said(options: Mapping[str, Any]) -> DataStatement | None:
    """What a person says of the data; raises :class:`TidegateError` when they give no reason, or say it in another form."""
    if not options["data"]:
        return None
    reason = " ".join(options["reason"].split())
    if not reason:
        raise TidegateError("tidegate_data says how data are, and nobody can ask why later; give the reason as tidegate_reason")
    return DataStatement.parse(options["data"], reason, options["backout"])


class ActionModule(TidegateAction):
    """Clear the RFC, then write its plan to the journal or take the deployment over where it stands."""

    module = "plan"

    def needed(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("rfc", "cmdb") if given.get("backout") else ("rfc", "dsl", "cmdb")

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        # Who goes back is not kept from it by what no wave asks any more.
        return ("base",) if given.get("backout") else ("base", *needs_of_policy(optional_setting(given, "policy")))

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        refuse_partial(bool(self._task.tags))
        refuse_kept_files()
        rfc, cmdb, policy = required_setting(options, "rfc"), required_setting(options, "cmdb"), optional_setting(options, "policy")
        if not self._task.check_mode:
            sweep_run_directories(Path(C.DEFAULT_LOCAL_TMP))
        reach = Reach(set(task_vars.get("groups", {}).get("all", [])), outside_limit(self._loader, task_vars))
        request = RunRequest(rfc, reach, not self._task.check_mode, interrupted, options["take_over"], _said(options), options["slice"])
        by_hand, accepted = (tuple(filter(None, (host.strip() for host in options[name]))) for name in ("done_by_hand", "accept"))
        for name, hosts in (("done_by_hand", by_hand), ("accept", accepted)):
            if hosts and not options["backout"]:
                raise TidegateError(f"tidegate_{name} is about hosts that go back; run backout with it")
        key = optional_setting(options, "key") if by_hand or accepted or request.said or not options["backout"] else None
        signer = load_signer(key, secret_setting(options, "key_passphrase")) if key is not None else None
        if options["backout"]:
            told = {"reason": options["reason"], "by_hand": by_hand, "accepted": accepted, "signer": signer}
            ordered = order_backout(request, cmdb_url=cmdb, policy_path=policy, now=utc_now(), **told)
            announce(ordered["msg"])
            return ordered
        with Sources(required_setting(options, "dsl"), cmdb, policy, utc_now(), kept_in_run()) as sources:
            planned = plan(sources, request, signer)
            if request.write:
                with suppress(TidegateError):  # who goes back may have no policy that can be read
                    sweep_logs(sources.now - timedelta(days=sources.policy().journal_days))
        for line in planned.pop("lines", ()):
            self._display.display(line)
        announce(planned["msg"])
        for advice in missing_settings(sum(map(len, planned.get("waves", [])))):
            advise(advice)
        return planned | (passed_on("planned", planned["passed_on"]) if "passed_on" in planned else {})
