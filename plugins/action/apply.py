# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.apply."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import announce
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_data import RoleData
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_wave import RoleWave, local_tmp
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_journal import DataJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import mark
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import make_notifier, warned


class ActionModule(TidegateAction):
    """Have a release's own role do the hosts of a wave, and journal what was seen of each."""

    module = "apply"
    homes = ("rfc", "dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "in check mode no host is visited"}
        stop = interrupted()
        if stop:
            return {"changed": False, "skipped": True, "msg": f"it was not begun: {stop}"}
        hosts = [str(host) for host in task_vars["ansible_play_batch"]]
        mark(local_tmp())  # when this run is killed, the next one removes what it has left there
        with (
            Cmdb.open(required_setting(options, "cmdb")) as cmdb,
            tempfile.TemporaryDirectory(prefix="tidegate-role-", dir=local_tmp()) as work,
        ):
            journal = DataJournal(cmdb)
            deployment = journal.driven_by(rfc_number(required_setting(options, "rfc")), Holder.this_run())
            if options["step"] in ("migrate", "reverse"):
                return self._change_data(options, journal, deployment, Path(work))
            wave = RoleWave(self, options, journal, deployment, Path(work))
            outcomes = wave.back_out(hosts) if options["step"] == "backout" else wave.activate(hosts)
        told = {host: {"state": state.value, "detail": detail} for host, (state, detail) in outcomes.items()}
        refused = sorted(wave.refused.values())
        return {"changed": bool(told), "hosts": told, **({"warnings": refused} if refused else {})}

    def _change_data(self, options: dict[str, Any], journal: DataJournal, deployment: Deployment, work: Path) -> dict[str, Any]:
        """Migrate or reverse; the journal has what became of it, and holds when that is not known."""
        step, host, policy = options["step"], deployment.rollout.data_host, optional_setting(options, "policy")
        tell = make_notifier(lambda: load_policy(policy))
        try:
            data = RoleData(self, options, journal, deployment, work)
            problem = data.migrate() if step == "migrate" else data.reverse()
        except TidegateError as error:
            why = f"no data were migrated: {error}"  # it was not begun
            if step == "migrate" and journal.hold(deployment.run, why, utc_now()):
                tell(journal, deployment.run, "hold", why, utc_now())
            raise
        if problem:
            problems = tell(journal, deployment.run, "hold", f"{step} on {host}: {problem}", utc_now())
            return {**warned(problems), "changed": True, "failed": True, "msg": f"{step} on {host}: {problem}"}
        sentence = f"data migrated on {host}" if step == "migrate" else f"data are as before again, by {host}"
        announce(sentence)
        return {"changed": True, "msg": sentence}
