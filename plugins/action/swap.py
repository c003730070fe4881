# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.swap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.device import read_in_place
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import Unit
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceIdentity
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import rfc_number
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.swap import Swap, confirm_swap


class ActionModule(TidegateAction):
    """Confirm that a unit was exchanged."""

    module = "swap"
    homes = ("rfc", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        key, signer = optional_setting(options, "key"), None
        if key is not None:
            signer = load_signer(key, secret_setting(options, "key_passphrase"))
        texts = (" ".join(str(options[name]).split()) for name in ("host", "slot", "old_serial", "new_serial", "reason"))
        own = {name: str(options[name]) for name in ("redfish_fingerprint",) if options[name]}
        said = Swap(*texts, attributes=own)

        def read(attributes: Mapping[str, Any], slot: str, unit: Unit | None) -> DeviceIdentity | None:
            return read_in_place(said.host, attributes, slot, unit.serial if unit else "", options, self)

        policy, number = load_policy(optional_setting(options, "policy")), rfc_number(required_setting(options, "rfc"))
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            found = confirm_swap(cmdb, policy, number, said, read, signer, utc_now(), not self._task.check_mode)
        return found | self.record_outcome(found["changed"], found["msg"])
