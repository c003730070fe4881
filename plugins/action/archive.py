# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import ensure
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home, optional_home, secret


class ActionModule(TidegateAction):
    """Look at the release, then store and sign it, or in check mode say what that would come to."""

    module = "archive"
    libraries = ("jsonschema",)

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dsl, key, write = home(options, "dsl"), optional_home(options, "key"), not self._task.check_mode
        signer = load_signer(key, secret(options, "key_passphrase")) if key else None
        library = OciLayout.find(dsl)
        source = read_release(Path(options["path"]))
        # The library is made last, when nothing was found wrong.
        if write:
            library = library or OciLayout.create(dsl)
        archived = source.archive(library) if write and library else source.preview(library)
        signed = signer is not None
        if signer and library:
            statement = release_statement(archived.name, archived.version, archived.digest)
            signed = ensure(library, statement, signer, utc_now(), write)
        return {
            "changed": archived.created or signed,
            "digest": archived.digest,
            "name": archived.name,
            "version": archived.version,
            "files": archived.files,
            "size": archived.size,
            "key": signer.public_key.keyid if signer else None,
        }
