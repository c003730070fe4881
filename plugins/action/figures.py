# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_facts import read_figures
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_formats import figures_document, figures_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_page import FIGURES_FILE
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting

_MOST = 120  # months


class ActionModule(TidegateAction):
    """Count the figures, and write them down when asked to."""

    module = "figures"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        months, dest = options["months"], Path(options["dest"]) if options["dest"] else None
        if not 1 <= months <= _MOST:
            raise TidegateError(f"months is {months}; give a number from 1 to {_MOST}")
        if dest:
            FIGURES_FILE.check(dest)
        read_days = load_policy(optional_setting(options, "policy")).spares.read_days
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            figures = read_figures(cmdb, utc_now(), months, read_days)
        files = FIGURES_FILE.write(figures, dest, write=not self._task.check_mode) if dest else []
        written = "would be written" if self._task.check_mode else "written"
        lines = [*figures_lines(figures), *(f"{path}: {written}" for path in files)]
        return {"changed": bool(files), "msg": "\n".join(lines), "figures": figures_document(figures), "files": files}
