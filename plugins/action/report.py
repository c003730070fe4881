# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_facts import read_figures
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_page import PAGE, REPORTED, write_figures_pages
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import merge, write_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.site import with_library, with_site
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting


class ActionModule(TidegateAction):
    """Read the CMDB once and write the report's pages, each with its data."""

    module = "report"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        policy, now = load_policy(optional_setting(options, "policy")), utc_now()
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb, cmdb.at_one_moment() as moment:
            report = build_report(moment, now, options["deployments"], policy.spares.read_days, past=True)
            report = with_site(report, moment, policy, now)
            figures = read_figures(moment, now, REPORTED, policy.spares.read_days)
        report = with_library(report, optional_setting(options, "dsl"), policy, now)
        report = replace(report, overview=merge({**report.overview, "figures": dict(PAGE)}, options["extra"]))
        directory = Path(options["dest"])
        changed = write_report(report, directory, write=not self._task.check_mode)
        changed += write_figures_pages(figures, directory, write=not self._task.check_mode)
        state = ("would be written" if self._task.check_mode else "written") if changed else "unchanged"
        return {
            "changed": bool(changed),
            "msg": f"{directory / 'index.html'}: {state}",
            "html": str(directory / "index.html"),
            "json": str(directory / "report.json"),
            "attention": report.overview["attention"],
            "progress": {"step": "report", "state": state, "detail": str(directory / "index.html")},
        }
