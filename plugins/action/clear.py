# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.clear."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, kept_in_run
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.clearance import Clearance
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.summary import is_signed
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import list_release, remember_sight
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.load import needs_of_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.report.artifacts import first, inert, passed_on
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import write_documents
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_clearance
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Clearing, clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned

_SUMMARY = "clearance.dsse.json"


class ActionModule(TidegateAction):
    """Evaluate every control, write that down when asked to, and fail unless the clearance is granted."""

    module = "clear"
    homes = ("rfc", "dsl", "cmdb")

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("base", *needs_of_policy(optional_setting(given, "policy")))

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        rfc, dsl, cmdb = (required_setting(options, name) for name in ("rfc", "dsl", "cmdb"))
        with Sources(dsl, cmdb, optional_setting(options, "policy"), utc_now(), kept_in_run()) as sources:
            clearing = clear(sources, rfc)
            clearance = clearing.clearance
            # What people signed, that is; without people it writes nothing anywhere.
            sight = clearing.sight if clearing.sight and clearing.sight.evidence is not None and not self._task.check_mode else None
            problems = remember_sight(sources.cmdb, sight, sources.now)
            if clearing.sight and not self._task.check_mode:
                problems += list_release(sources.library().repository(clearing.sight.name), clearing.sight.name)
            files = self._write(clearing, options, sources) if options["dest"] else []
        return {
            "changed": bool(files),
            "failed": not clearance.granted,
            "msg": inert("\n".join((clearance.sentence(), *clearance.details(complete=self._display.verbosity > 0)))),
            "granted": clearance.granted,
            "controls": clearance.to_dict()["controls"],
            "files": files,
            **warned([*problems, *clearing.remarks()]),
            **passed_on("cleared", _passed_on(clearance), sentence=clearance.sentence()),
        }

    def _write(self, clearing: Clearing, options: dict[str, Any], sources: Sources) -> list[str]:
        document, key, folder = clearing.document(), optional_setting(options, "key"), Path(options["dest"])
        others, stale = {"clearance.html": lambda: render_clearance(document)}, False
        if key is not None:
            signer = load_signer(key, secret_setting(options, "key_passphrase"))
            summary = clearing.summary(sources.policy_path, sources.dsl, signer.public_key.keyid)
            others[_SUMMARY] = lambda: sign(summary, signer, sources.now).decode()
            # It says more than the document: the RFC and the policy as they read, and each CI.
            with contextlib.suppress(OSError):
                stale = not is_signed(summary, (folder / _SUMMARY).read_bytes(), signer.public_key)
        return write_documents("clearance", document, "at", others, folder, write=not self._task.check_mode, stale=stale)


def _passed_on(clearance: Clearance) -> dict[str, Any]:
    failing = first(control.name for control in clearance.controls if control.blocks)
    return {"rfc": clearance.rfc, "digest": clearance.digest, "granted": clearance.granted, "failing": failing}
