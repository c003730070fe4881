# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.plan_info."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.report.artifacts import passed_on, planned
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import PLAN_FILE
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import one_line
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.preview import host_sentence, preview, preview_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned


class ActionModule(TidegateAction):
    """Show the plan, and write it down when asked to."""

    module = "plan_info"
    homes = ("rfc", "dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        rfc, dsl, cmdb = (required_setting(options, name) for name in ("rfc", "dsl", "cmdb"))
        dest = Path(options["dest"]) if options["dest"] else None
        if dest:
            PLAN_FILE.check(dest)
        with Sources(dsl, cmdb, optional_setting(options, "policy"), utc_now(), kept_in_run()) as sources:
            document = preview(sources, rfc)
        lines = [host_sentence(document, options["host"])] if options["host"] else list(preview_lines(document))
        files = PLAN_FILE.write(document, dest, write=not self._task.check_mode) if dest else []
        hosts = [wave["hosts"] for wave in document["waves"]]
        return {
            "changed": bool(files),
            "msg": "\n".join(map(_indented, lines)),
            "plan": document,
            "files": files,
            **warned(document["warnings"]),
            **passed_on("planned", planned(document["rfc"], document["release"], document["version"], hosts)),
        }


def _indented(line: str) -> str:
    """A line as a terminal may have it, with the spaces that it begins with."""
    return f"{line[: len(line) - len(line.lstrip())]}{one_line(line)}"
