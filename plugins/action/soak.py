# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.soak."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.activity import note
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting

_RENEWAL = 60.0  # seconds after which the lease is renewed, which is for ten minutes
_LOOK = 0.5  # seconds between two looks at whether somebody interrupted the run


class ActionModule(TidegateAction):
    """Wait until the last host that came up has run for as long as it has to stay healthy."""

    module = "soak"
    homes = ("rfc", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "in check mode nothing is waited for"}
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            journal = Journal(cmdb)
            deployment = journal.driven_by(rfc_number(required_setting(options, "rfc")), Holder.this_run())
            run, stable = deployment.run, deployment.rollout.stable
            began = utc_now()
            up = [target for target in journal.targets(run.deployment) if target.state is HostState.STARTED]
            started = [target for target in up if run.epoch is None or target.controller == run.token]
            end = max((target.since for target in started), default=began) + timedelta(seconds=stable)
            # Not longer than that, whatever somebody does to the clock meanwhile.
            seconds = min(max((end - began).total_seconds(), 0.0), stable) if started else 0.0
            note(f"{len(started)} of the wave's hosts have to stay healthy for {seconds:.0f} s")
            deadline = time.monotonic() + seconds
            renewal = time.monotonic()
            while not interrupted():
                if time.monotonic() >= renewal:
                    journal.renew(run, utc_now())
                    renewal += _RENEWAL
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                time.sleep(min(left, _LOOK))
        return {"changed": False, "seconds": round(seconds, 1), "hosts": [target.host for target in started]}
