# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.clear."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearing import clear
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home, optional_home


class ActionModule(TidegateAction):
    """Evaluate every control and fail unless the clearance is granted."""

    module = "clear"
    libraries = ("SQLAlchemy", "jmespath", "jsonschema")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        policy = optional_home(options, "policy")
        clearance = clear(home(options, "rfc"), home(options, "dsl"), home(options, "cmdb"), policy, utc_now()).clearance
        return {
            "changed": False,
            "failed": not clearance.granted,
            "msg": f"{clearance.sentence()}\n{clearance.text()}",
            "granted": clearance.granted,
            "controls": clearance.to_dict()["controls"],
        }
