# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.opinion."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import watch
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.opinion import Opinion
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.attest import find_release
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.opine import opine
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned


class ActionModule(TidegateAction):
    """Sign what somebody thinks of a package."""

    module = "opinion"
    homes = ("dsl", "key")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        signer = load_signer(required_setting(options, "key"), secret_setting(options, "key_passphrase"))
        policy = load_policy(optional_setting(options, "policy"))
        library = open_library(required_setting(options, "dsl")).repository(options["name"])
        release = find_release(library, options["name"], options["version"], options["digest"])
        given = {key: options[key] for key in ("score", "blocking", "functionality", "usability")}
        opinion = Opinion(role=options["role"] or "", **given)
        now, write = utc_now(), not self._task.check_mode
        name, opinion, changed = opine(library, release, policy, signer, opinion, now, write)
        cmdb = optional_setting(options, "cmdb") if write and changed else None
        blocks = ", and it must not go live" if opinion.blocking else ""
        return {
            **warned(watch(cmdb, library, (release.name, release.version, release.digest), now, signer)),
            **self.record_outcome(changed, f"{name} gives {release.name} {release.version} {opinion.score} of 5 as {opinion.role}{blocks}"),
            "version": release.version,
            "digest": release.digest,
            "person": name,
            "role": opinion.role,
        }
