# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.instant."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ansible import context
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import announce
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import open_change, rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.instant_journal import InstantJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import make_wave_check
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.instant import (
    InstantTerms,
    await_arming,
    set_instant,
    set_instant_back,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.wait import Wait

_LOOK = 2.0  # seconds between two looks at whether another controller was interrupted


class ActionModule(TidegateAction):
    """Say at which instant the armed hosts of the open wave switch, or that they don't; or wait until they have to be armed."""

    module = "instant"
    homes = ("rfc", "dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "in check mode no instant is set"}
        rfc = required_setting(options, "rfc")

        def check(*asked: Any) -> Any:  # by what policy and library say when it is asked, which may be long after it began
            policy, dsl = optional_setting(options, "policy"), required_setting(options, "dsl")
            with Sources(dsl, required_setting(options, "cmdb"), policy, utc_now(), kept_in_run()) as sources:
                return make_wave_check(sources)(*asked)

        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            journal = InstantJournal(cmdb)
            deployment = journal.driven_by(rfc_number(rfc), Holder.this_run())
            wait = Wait(utc_now, interrupted if deployment.epoch is None else self._stop_of_any(cmdb, deployment))
            about = InstantTerms(int(context.CLIARGS.get("forks") or 1), open_change(rfc), check, wait)
            if options["back"]:
                return self._set_back(journal, deployment, str(task_vars["inventory_hostname"]), about)
            if options["step"] == "wait":
                said = await_arming(journal, deployment, about)
                return {"changed": False, "at": "", "msg": said or "no instant has to be waited for"}
            if not self._meet(cmdb, deployment, str(task_vars["inventory_hostname"])):
                return {"changed": False, "at": "", "msg": "nobody sets an instant, and the gate says why"}
            return _result(*set_instant(journal, deployment, about))

    def _set_back(self, journal: InstantJournal, deployment: Deployment, host: str, about: InstantTerms) -> dict[str, Any]:
        wave = journal.target(deployment.run, host).wave
        return _result(*set_instant_back(journal, deployment, wave, about.at_once, interrupted(), utc_now()))

    def _stop_of_any(self, cmdb: Cmdb, deployment: Deployment) -> Callable[[], str]:
        """Why somebody has interrupted any of several controllers, looked at now and then."""
        from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal  # noqa: PLC0415 - as below
        from ansible_collections.tidegate.release.plugins.plugin_utils.steps import slices  # noqa: PLC0415 - for one controller of several

        journal, seen = SliceJournal(cmdb), {"at": 0.0, "why": ""}

        def stop() -> str:
            if time.monotonic() - float(seen["at"]) >= _LOOK:
                seen.update(at=time.monotonic(), why=slices.stop_of(journal, deployment.run, slices.Waiting(utc_now, interrupted)))
            return interrupted() or str(seen["why"])

        return stop

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


def _result(at: datetime | None, said: str) -> dict[str, Any]:
    announce(said)
    shown = {"step": "instant", "state": "set" if at else "withdrawn", "detail": said}
    return {"changed": at is not None, "at": at.isoformat() if at else "", "msg": said, "progress": shown}
