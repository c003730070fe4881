# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.awx."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verb_options import read_verbs
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.client import AwxClient
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.team import set_up
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.wanted import Setup
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted

_TOKENS = ("CONTROLLER_OAUTH_TOKEN", "TOWER_OAUTH_TOKEN")  # the second is what older credentials of AWX for itself give


class ActionModule(TidegateAction):
    """Read what AWX has, and change what differs."""

    module = "awx"

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("base", "awx")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        token = next(filter(None, map(os.environ.get, _TOKENS)), "")
        if not token:
            raise TidegateError("there is no token for AWX; make one there for your user, and set CONTROLLER_OAUTH_TOKEN to it")
        write, notification = not self._task.check_mode, options["notification"] or {}
        if notification.get("type") and notification.get("configuration") is None:
            raise TidegateError("tidegate_awx_notification has a type and no configuration; add it, or leave out the type")
        setup = Setup(
            organization=options["organization"],
            image=options["image"],
            scm_url=options["scm_url"],
            scm_branch=options["scm_branch"],
            scm_credential=options["scm_credential"],
            source_path=options["inventory_file"],
            machine_credential=options["machine_credential"],
            schedules=options["schedules"],
            report=options["report"] or "",
            notification=notification,
        )
        client = AwxClient(options["host"], token, {"notification": notification.get("configuration") or {}})
        applier, left_out = set_up(client, setup, read_verbs(), write, options["patience"])
        changes = applier.changes
        did = ("was made" if len(changes) == 1 else "were made") if write else "would be made"
        head = f"{counted(len(changes), 'change')} {did} in {client.host}" if changes else f"{client.host} is as it has to be"
        return {
            "changed": bool(changes),
            "changes": [change.what for change in changes],
            "left_out": list(left_out),
            "diff": [{"header": one.what, "before": dict(one.before), "after": dict(one.after)} for one in changes],
            "msg": "\n".join((head, *map(str, changes), *left_out)),
        }
