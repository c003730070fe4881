# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.waiver."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.documents import parse_time
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import watch
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.approve import load_decision_request
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.waive import WaiverRequest, waive


class ActionModule(TidegateAction):
    """Sign that a control does not stand in the way of an RFC."""

    module = "waiver"
    homes = ("rfc", "dsl", "cmdb", "key")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        signer = load_signer(required_setting(options, "key"), secret_setting(options, "key_passphrase"))
        try:
            expires = parse_time(options["expires"])
        except ValueError as error:
            raise TidegateError(f"expires is {options['expires']!a:.40}; write it like 2026-03-01T22:00:00+01:00") from error
        question = load_decision_request(
            required_setting(options, "rfc"),
            required_setting(options, "dsl"),
            required_setting(options, "cmdb"),
            optional_setting(options, "policy"),
        )
        control, write = options["control"], not self._task.check_mode
        now, matter = utc_now(), question.matter
        name, role, changed = waive(question, signer, WaiverRequest(control, options["reason"], expires), now, write)
        cmdb = required_setting(options, "cmdb") if write and changed else None
        return {
            **warned(watch(cmdb, question.home, (matter.release, matter.version, matter.digest), now, signer)),
            **self.record_outcome(changed, f"{name} waived {control} for {matter.rfc} as {role}, until {expires.isoformat()}"),
            "rfc": matter.rfc,
            "digest": matter.digest,
            "control": control,
            "person": name,
            "role": role,
            "expires": expires.isoformat(),
        }
