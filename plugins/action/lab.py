# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.lab."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.activity import note


class ActionModule(TidegateAction):
    """Run the module, and say that it goes on when that takes long."""

    module = "lab"

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ()  # its hosts are made with the standard library

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        # From where Ansible was started, as all other paths: a module's own directory is that of the playbook.
        options["path"] = str(Path(options["path"]).expanduser().absolute())
        note(f"its hosts are {'brought up' if options['state'] == 'present' else 'taken down'}")
        return dict(self._execute_module(module_name="tidegate.release.lab", module_args=options, task_vars=task_vars))
