# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.attestation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import watch
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.attest import attach_signed, attest, find_release, read_envelope
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned


class ActionModule(TidegateAction):
    """Sign a statement about a package and keep it beside the package."""

    module = "attestation"

    def needed(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("dsl",) if given.get("envelope") is not None else ("dsl", "key")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("type", "predicate") if options[name] is not None]
        if options["envelope"] is None and options["type"] is None:
            raise TidegateError("there is nothing to attach; give the type of the evidence and its predicate, or an envelope")
        if options["envelope"] is not None and given:
            raise TidegateError(f"an envelope says all that there is to say; leave {' and '.join(given)} out, or the envelope")
        signer = (
            None
            if options["envelope"] is not None
            else load_signer(required_setting(options, "key"), secret_setting(options, "key_passphrase"))
        )
        library = open_library(required_setting(options, "dsl")).repository(options["name"])
        release = find_release(library, options["name"], options["version"], options["digest"])
        now, write = utc_now(), not self._task.check_mode
        said: dict[str, Any]
        if signer is None:
            policy = load_policy(optional_setting(options, "policy"))
            people, changed = attach_signed(library, release, read_envelope(options["envelope"]), policy, now, write)
            said = {"signed_by": people}
        else:
            changed = attest(library, release, options["type"], options["predicate"] or {}, signer, now, write)
            said = {"key": signer.public_key.keyid}
        cmdb = optional_setting(options, "cmdb") if write and changed else None
        return {
            **warned(watch(cmdb, library, (release.name, release.version, release.digest), now, signer)),
            "changed": changed,
            "name": release.name,
            "version": release.version,
            "digest": release.digest,
            **said,
        }
