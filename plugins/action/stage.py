# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.stage."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.pack import build_pack
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import load_package
from ansible_collections.tidegate.release.plugins.plugin_utils.host_action import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal, utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import home, optional_home
from ansible_collections.tidegate.release.plugins.plugin_utils.trusting import Release, distrust_once


class ActionModule(HostAction):
    """Ask the host what it lacks, send just that, journal how it went."""

    module = "stage"
    step = "stage"

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        dsl = home(self._options_, "dsl")
        release = Release(deployment.release, deployment.version, deployment.digest)
        # In the run's own temporary directory: the first worker looks at the signatures, the others read what it found.
        distrust = distrust_once(
            Path(C.DEFAULT_LOCAL_TMP) / "tidegate-trust", dsl, optional_home(self._options_, "policy"), release, utc_now()
        )
        if distrust:
            journal.stage_failed(self._run, self._host, distrust, utc_now())
            return self.outcome({}, "stage_failed", distrust)
        library = OciLayout.open(dsl)
        package = load_package(library, deployment.digest)
        arguments: dict[str, Any] = {
            "documents": [
                base64.b64encode(zlib.compress(document)).decode()
                for document in (package.manifest_bytes, package.config_bytes, package.index_bytes)
            ],
            "keep": deployment.rollout.keep,
        }
        answer = self.call(deployment, **arguments)
        if answer.get("state") == "lacking":
            # One pack for every host that lacks the same: the other workers find it made, in the run's own temporary directory.
            folder = Path(C.DEFAULT_LOCAL_TMP) / "tidegate-packs"
            folder.mkdir(exist_ok=True)
            pack = build_pack(library, package, answer["need"], folder)
            remote = self._connection._shell.join_path(self._make_tmp_path(), "pack")
            self._transfer_file(str(pack), remote)
            self._fixup_perms2([self._connection._shell.tmpdir, remote])
            answer = self.call(deployment, pack=remote, **arguments)
        if answer.get("failed"):
            detail = str(answer.get("msg", "the host's half of staging did not answer"))
            journal.stage_failed(self._run, self._host, detail, utc_now())
            return self.outcome(answer, "stage_failed", detail)
        journal.staged(self._run, self._host, answer["live"], utc_now())
        return {**self.outcome(answer, "staged", ""), "sent": answer.get("sent", 0), "linked": answer.get("linked", 0)}

    def lost(self, journal: Journal, detail: str) -> str:
        journal.stage_failed(self._run, self._host, detail, utc_now())
        return "stage_failed"
