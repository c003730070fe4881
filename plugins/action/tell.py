# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.tell."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.quiet import QuietHours
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.channels import try_channels, unusable
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user


class ActionModule(TidegateAction):
    """Look at the channels, and send a test when that is asked for."""

    module = "tell"

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        communication = load_policy(optional_setting(options, "policy")).communication
        send = bool(options["test"]) and not self._task.check_mode
        problems = try_channels(communication, this_user(task_vars)) if send else unusable(communication)
        channels = [
            {
                "name": name,
                "events": [event for event, names in communication.tell.items() if name in names],
                "quiet": _hours(channel.quiet),
                "told": send and not problems[name],
                "problem": problems[name],
            }
            for name, channel in communication.channels.items()
        ]
        if not channels:
            lines = ["the policy has no channel, so nobody is told of anything; enter one under communication.channels"]
        else:
            lines = [_line(one, test=bool(options["test"]), send=send) for one in channels]
        return {"changed": send and any(one["told"] for one in channels), "failed": any(problems.values()), "msg": "\n".join(lines)} | {
            "channels": channels
        }


def _hours(quiet: QuietHours | None) -> str:
    return f"{quiet.start:%H:%M} to {quiet.end:%H:%M} {quiet.zone}" if quiet else ""


def _line(channel: dict[str, Any], *, test: bool, send: bool) -> str:
    """How it stands for a channel."""
    events = ", ".join(channel["events"]) or "nothing but what RFCs name it for"
    events += f"; quiet {channel['quiet']}" if channel["quiet"] else ""
    if channel["problem"]:
        state = channel["problem"]
    elif send:
        state = "it took the test message"
    else:
        state = "a test message would be sent" if test else "its addresses are there; --test sends it a message"
    return f"{channel['name']} (told of {events}): {state}"
