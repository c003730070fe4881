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
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_wave import RoleWave, local_tmp
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import mark
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import WaveJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting


class ActionModule(TidegateAction):
    """Have a release's own role do the hosts of a wave, and journal what was seen of each."""

    module = "apply"
    homes = ("rfc", "dsl", "cmdb")
    libraries = ("SQLAlchemy", "jmespath", "jsonschema")

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
            journal = WaveJournal(cmdb)
            deployment = journal.driven_by(rfc_number(required_setting(options, "rfc")), Holder.this_run())
            wave = RoleWave(self, options, journal, deployment, Path(work))
            outcomes = wave.back_out(hosts) if options["step"] == "backout" else wave.activate(hosts)
        told = {host: {"state": state.value, "detail": detail} for host, (state, detail) in outcomes.items()}
        refused = sorted(wave.refused.values())
        return {"changed": bool(told), "hosts": told, **({"warnings": refused} if refused else {})}
