# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.attestation_info."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.attest import find_release, look_at


class ActionModule(TidegateAction):
    """List the evidence about a package and judge it by the policy."""

    module = "attestation_info"
    homes = ("dsl",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        policy = load_policy(optional_setting(options, "policy"))
        library = open_library(required_setting(options, "dsl")).repository(options["name"])
        release = find_release(library, options["name"], options["version"], options["digest"])
        return {"changed": False, **asdict(release), **look_at(library, release, policy, utc_now())}
