# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.backout."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.answer import REFUSED
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment, as_remark
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState


class ActionModule(HostAction):
    """Write ahead, bring the host back, journal how it went."""

    module = "backout"
    step = "backout"

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        target = journal.backing_out(self._run, self._host, utc_now())
        answer = self.switch(deployment, target.previous_digest)
        state = HostState.OWED if answer["state"] == REFUSED else HostState(answer["state"])
        detail, warned = self.repaired(answer, answer["detail"])
        noted = as_remark(detail) if state is HostState.BACKED_OUT else detail
        journal.backed_out(self._run, self._host, state, noted, utc_now())
        return {**self.outcome(answer, state, detail, target.wave), **warned}

    def lost(self, journal: Journal, detail: str) -> str:
        journal.backed_out(self._run, self._host, HostState.OWED, detail, utc_now())
        return HostState.OWED
