# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.cmdb_verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import (
    Verified,
    seen_in_file,
    seen_in_library,
    verify_cmdb,
)


class ActionModule(TidegateAction):
    """Look at every line and every row, and fail when something is not as it was written."""

    module = "cmdb_verify"
    homes = ("cmdb",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        now, policy = utc_now(), load_policy(optional_setting(options, "policy"))
        problems: list[str] = []
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            seen = [seen_in_file(Path(path), policy, now) for path in options["documents"]]
            dsl = optional_setting(options, "dsl")
            if dsl is not None:
                signed, problems = seen_in_library(open_library(dsl), policy, now)
                seen += signed
            found = verify_cmdb(cmdb, seen)
            label = cmdb.label
        return {
            "changed": False,
            "failed": bool(found.count or problems),
            "msg": "\n".join([*_found(label, found), *problems]),
            "heads": {table: head.to_json() for table, head in found.heads.items()},
            "findings": [asdict(one) for one in found.findings],
            **{name: getattr(found, name) for name in ("lines", "cis", "documents", "count", "chained")},
        }


def _found(label: str, found: Verified) -> list[str]:
    if not found.count:
        lines = " and ".join(f"{counted(number, 'line')} of the {table}" for table, number in found.lines.items())
        return [
            f"the CMDB {label} is as it was written: {lines}, {counted(found.cis, 'CI')} as the history says, and the ends that "
            f"{counted(found.documents, 'document')} saw"
        ]
    more = found.count - len(found.findings)
    return [
        f"the CMDB {label} is not as it was written; find out who did that, and bring back a backup that this verb finds whole",
        *(one.sentence for one in found.findings),
        *([f"and {more} more"] if more else []),
    ]
