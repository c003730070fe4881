# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.attestation_info."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.attesting import find_release, look_at
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.home import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.keys import LIBRARIES
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home, optional_home


class ActionModule(TidegateAction):
    """List the evidence about a package and judge it by the policy."""

    module = "attestation_info"
    homes = ("dsl",)
    libraries = ("jsonschema", *LIBRARIES)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        policy = load_policy(optional_home(options, "policy"))
        library = open_library(home(options, "dsl")).repository(options["name"])
        release = find_release(library, options["name"], options["version"], options["digest"])
        return {"changed": False, **asdict(release), **look_at(library, release, policy, utc_now())}
