# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.instant."""

from __future__ import annotations

from typing import Any

from ansible import context
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import announce
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.instant_journal import InstantJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.instant import set_instant


class ActionModule(TidegateAction):
    """Say at which instant the armed hosts of the open wave switch, or that they don't."""

    module = "instant"
    homes = ("rfc", "cmdb")
    libraries = ("SQLAlchemy", "jmespath", "jsonschema")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "in check mode no instant is set"}
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            journal = InstantJournal(cmdb)
            deployment = journal.driven_by(rfc_number(required_setting(options, "rfc")), Holder.this_run())
            if not self._meet(cmdb, deployment, str(task_vars["inventory_hostname"])):
                return {"changed": False, "at": "", "msg": "nobody sets an instant, and the gate says why"}
            forks = int(context.CLIARGS.get("forks") or 1)
            at, said = set_instant(journal, deployment, forks, interrupted(), utc_now())
        announce(said)
        about = {"step": "instant", "state": "set" if at else "withdrawn", "detail": said}
        return {"changed": at is not None, "at": at.isoformat() if at else "", "msg": said, "progress": about}

    def _meet(self, cmdb: Cmdb, deployment: Deployment, host: str) -> bool:
        """Wait until every controller of several has armed its hosts of the wave; return whether the instant is to be set, or is."""
        if deployment.epoch is None:
            return True
        from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal  # noqa: PLC0415 - as below
        from ansible_collections.tidegate.release.plugins.plugin_utils.steps import slices  # noqa: PLC0415 - for one controller of several

        journal, run = SliceJournal(cmdb), deployment.run
        wave = journal.target(run, host).wave
        return slices.meet_for_instant(
            journal, run, wave, slices.Waiting(utc_now, interrupted), lambda: journal.word(run, wave) is not None
        )
