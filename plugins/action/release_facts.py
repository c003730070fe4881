# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.release_facts."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.keepalive import keep_alive, prefer_fast


class ActionModule(TidegateAction):
    """Run the module over a connection that notices when the host freezes."""

    module = "release_facts"
    per_host = True
    whole = True  # the audit says of each host why it has no answer

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        keep_alive(self._connection)
        prefer_fast(self._connection, task_vars)
        return dict(self._execute_module(module_name=f"tidegate.release.{self.module}", module_args=options, task_vars=task_vars))
