# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.remind."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.remind import ToTell, remind


class ActionModule(TidegateAction):
    """Tell what is due, and fail when a channel could not be told."""

    module = "remind"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        policy, now, write = load_policy(optional_setting(options, "policy")), utc_now(), not self._task.check_mode
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            found = remind(cmdb, policy, this_user(task_vars), now, write=write)
        lines = [_line(one, write=write) for one in found.told]
        if not policy.communication.channels:
            lines = ["the policy has no channel, so nobody is told of anything; enter one under communication.channels"]
        elif not lines and not found.problems:
            lines = ["there is nothing to tell anybody now"]
        if found.waiting:
            lines.append(f"{counted(found.waiting, 'message')} still to be told when it is time")
        return {
            "changed": any(one.channels or one.later for one in found.told),
            "failed": bool(found.problems),
            "msg": "\n".join([*(["not everybody could be told"] if found.problems else []), *found.problems, *lines]),
            "told": [{"title": one.title, "channels": list(one.channels)} for one in found.told],
            "waiting": found.waiting,
            "problems": list(found.problems),
        }


def _line(one: ToTell, *, write: bool) -> str:
    """What is said of a message."""
    now = f"{'told' if write else 'would be told to'} {', '.join(one.channels)}" if one.channels else ""
    later = [f"{name} from {at.isoformat(timespec='minutes')} on" for name, at in one.later.items()]
    return f"{one.title}: {'; '.join([*([now] if now else []), *later])}"
