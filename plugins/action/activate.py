# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.activate."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.answer import REFUSED
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState


class ActionModule(HostAction):
    """Write ahead, flip the host, journal how it went."""

    module = "activate"
    step = "activate"

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        target = journal.activating(self._run, self._host, utc_now())
        answer = self.advance(deployment, target.previous_digest)
        # A host that refuses has not touched anything now. Whether it runs what it ran before is known only if no earlier order reached it.
        refused = HostState.FAILED if target.state in (HostState.STAGED, HostState.FAILED) else HostState.LOST
        state = refused if answer["state"] == REFUSED else HostState(answer["state"])
        detail, warned = self.repaired(answer, answer["detail"])
        journal.activated(self._run, self._host, state, detail, utc_now())
        return {**self.outcome(answer, state, detail, target.wave), **warned}

    def lost(self, journal: Journal, detail: str) -> str:
        journal.activated(self._run, self._host, HostState.LOST, detail, utc_now())
        return HostState.LOST
