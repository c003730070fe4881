# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.confirm."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.answer import REFUSED
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState


class ActionModule(HostAction):
    """Look again at a host that came up, journal whether it lasted."""

    module = "confirm"
    step = "confirm"

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        target = journal.confirming(self._run, self._host, utc_now())
        if target is None:
            return {"changed": False, "skipped": True}
        answer = self.advance(deployment, target.previous_digest)
        # A host that refuses could not look: whether the release that came up still runs is not known.
        state = HostState.LOST if answer["state"] == REFUSED else HostState(answer["state"])
        # What is to be known of a release that came up is to be known of one that lasted.
        detail, warned = self.repaired(answer, answer["detail"] or (target.detail if state is HostState.ACTIVE else ""))
        journal.activated(self._run, self._host, state, detail, utc_now())
        return {**self.outcome(answer, state, detail, target.wave), **warned}

    def lost(self, journal: Journal, detail: str) -> str:
        journal.activated(self._run, self._host, HostState.LOST, detail, utc_now())
        return HostState.LOST
