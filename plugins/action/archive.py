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
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home


class ActionModule(TidegateAction):
    """Look at the release, then store it, or in check mode say what that would come to."""

    module = "archive"
    libraries = ("jsonschema", "pyfastcdc")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        dsl = home(options, "dsl")
        library = OciLayout.find(dsl)
        source = read_release(Path(options["path"]))
        # The library is made last, when nothing was found wrong.
        archived = source.preview(library) if self._task.check_mode else source.archive(library or OciLayout.create(dsl))
        return {
            "changed": archived.created,
            "digest": archived.digest,
            "name": archived.name,
            "version": archived.version,
            "files": archived.files,
            "size": archived.size,
        }
