# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.tree."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction, NoAnswer
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.role_play import MARK
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState

# By step: what the host does, whether health waits for the role's tasks, the state in which it ends well, and that of the host meanwhile.
_STEPS = {
    "activate": ("activate", True, "started", (HostState.ACTIVATING,)),
    "settle": ("activate", False, "started", (HostState.ACTIVATING,)),
    "confirm": ("confirm", False, "active", (HostState.ACTIVATING,)),
    "leave": ("backout", True, "backed_out", (HostState.ACTIVATING, HostState.BACKING_OUT)),
    "backout": ("backout", False, "backed_out", (HostState.ACTIVATING, HostState.BACKING_OUT)),
}


_PATIENCE = 300  # seconds that a module of an interrupted run gets to end
_WITHOUT_PROCESSES = (
    "network_cli",
    "netconf",
    "httpapi",
    "winrm",
    "psrp",
)  # what these lead to has no processes that could be looked at so


class ActionModule(HostAction):
    """Do one step with the tree of a release whose own role does the rest; the journal is written by who runs that."""

    module = "tree"
    step = "activate"

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        if self.options["step"] == "wait":
            return self._wait(deployment)
        operation, unchecked, good, meanwhile = _STEPS[self.options["step"]]
        target = next((target for target in journal.targets(deployment.id) if target.host == self._host), None)
        if target is None or target.state not in meanwhile:
            raise StateError(f"{self._host} is not about to change by {deployment.label}; only tidegate.release.apply has this done")
        more = {"stable": deployment.rollout.stable} if operation == "activate" else {}
        # What the release before did by its role alone its role undoes and brings back; to the tree it is as if there had been none.
        previous = None if target.previous_digest in self.options["treeless"] else target.previous_digest
        answer = self.switch(deployment, previous, operation=operation, unchecked=unchecked, **more)
        detail, warned = self.repaired(answer, answer.get("detail", ""))
        failed = answer["state"] != good
        return {
            "changed": bool(answer.get("changed")),
            "state": answer["state"],
            **({"failed": True} if failed else {}),
            **({"msg": detail} if detail else {}),
            **warned,
        }

    def _wait(self, deployment: Deployment) -> dict[str, Any]:
        """Wait for what an interrupted run has left running; where no Python of ours can be, no module of Ansible's runs either."""
        if self._connection.transport in _WITHOUT_PROCESSES:
            return {"changed": False}
        try:
            answer = self.call(deployment, operation="wait", mark=os.environ.get(MARK, ""), patience=_PATIENCE)
        except NoAnswer as error:
            if "no Python was found" not in str(error) and "or newer is needed" not in str(error):
                raise
            return {"changed": False}
        failed = answer["state"] != "quiet"
        return {"changed": False, "state": answer["state"], **({"failed": True, "msg": answer["detail"]} if failed else {})}

    def lost(self, journal: Journal, detail: str) -> str:
        return "lost"
