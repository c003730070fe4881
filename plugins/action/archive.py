# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import Source, read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library, find_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import list_release, watch
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import ensure
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.examine import Examination, examine, quarantine, snapshot, statements
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.report.artifacts import passed_on
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.archive import describe, last_version


class ActionModule(TidegateAction):
    """Look at the release, then store it and sign what is said about it, or in check mode say what that would come to."""

    module = "archive"
    homes = ("dsl",)

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("base", "intake") if _wanted(given) else ("base",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dsl, key, write = required_setting(options, "dsl"), optional_setting(options, "key"), not self._task.check_mode
        signer = load_signer(key, secret_setting(options, "key_passphrase")) if key else None
        source = read_release(Path(options["path"]))
        library = find_library(dsl)
        found: Examination | None = None
        if _wanted(options):
            found = self._examine(source, options, _quarantine(options["quarantine"], dsl), write)
        # The library is made last, when nothing was found wrong.
        if write:
            library = create_library(dsl)
        part = library and library.repository(source.manifest.name)
        archived = source.archive(part, found and found.contents) if write and part else source.preview(part)
        signed = signer is not None
        if signer and part:
            said = [release_statement(archived.name, archived.version, archived.digest)]
            said += statements(found, source, archived.digest) if found else []
            changes = [ensure(part, statement, signer, utc_now(), write) for statement in said]
            signed = any(changes)
        if write and library and signed:
            library.publish()
        # Archived it is all the same: whether that may be used is for the policy to say.
        problems = [f"the malware scan was inconclusive: {found.scan.detail}"] if found and found.scan.outcome != "clean" else []
        if write and part and (archived.created or signed):
            release = archived.name, archived.version, archived.digest
            problems += watch(optional_setting(options, "cmdb"), part, release, utc_now(), signer)
        elif write and part:
            problems += list_release(part, archived.name)  # another tool may have brought it
        lines = [f"{archived.name} {archived.version} is {archived.digest}"]
        if not write:
            state = "would be archived" if archived.created else "is archived already"
            before = last_version(part, archived.name, archived.version)
            lines += [f"It {state}:", *(f"  {line}" for line in describe(archived, source.manifest, before, found))]
        return {
            "msg": "\n".join(lines),
            "changed": archived.created or signed,
            "digest": archived.digest,
            "name": archived.name,
            "version": archived.version,
            "files": archived.files,
            "size": archived.size,
            "key": signer.public_key.keyid if signer else None,
            "examination": found and _told(found),
            "warnings": problems,
            **passed_on("archived", {"name": archived.name, "version": archived.version, "digest": archived.digest}),
        }

    def _examine(self, source: Source, options: dict[str, Any], folder: Path, write: bool) -> Examination:
        """Examine the release; an infected one goes to quarantine and no further."""
        with snapshot(source) as copied:
            found = examine(source, copied, options["malware_signatures"])
            if found.scan.outcome != "infected":
                return found
            if write:
                quarantine(found, source, copied, folder)
        kept = f" and kept in quarantine in {folder}" if write else ""
        raise TidegateError(f"{found.scan.detail}; it was not archived{kept}, find out how that got into the release")


def _wanted(options: Mapping[str, Any]) -> bool:
    """Whether the release is to be examined: what is signed is, unless somebody says otherwise."""
    asked = options.get("examine")
    return bool(optional_setting(options, "key")) if asked in (None, "") else boolean(asked, strict=False)


def _quarantine(named: str | None, dsl: str) -> Path:
    if named:
        return Path(named)
    if "://" in dsl:
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "tidegate/quarantine"
    return Path(f"{dsl.rstrip('/')}.quarantine")


def _told(found: Examination) -> dict[str, Any]:
    scan = asdict(found.scan)
    return {
        "scan": {**scan, "found": [{"path": path, "signature": signature} for path, signature in found.scan.found]},
        "components": len(found.sbom.get("components", [])),
        "sbom_brought": found.brought,
        "licences": found.licences,
    }
