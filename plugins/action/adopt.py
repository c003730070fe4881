# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.adopt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import kept_in_run
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host_program import NoAnswerError, run_on_host
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.keepalive import keep_alive, prefer_fast
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import find_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.shipment import Shipment
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.host_answer import REFUSED, parse_answer, printable
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.adopt import (
    Part,
    parse_contents,
    parse_survey,
    release_to_adopt,
    write_tree,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stage import distrust_once


class ActionModule(HostAction):
    """Fetch the tree that a host has, or have the host make it a release, if it is that of the package."""

    module = "adopt"
    homes = ("dsl",)
    whole = True  # the last step says of each host why it has not adopted the release

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self._task_vars = task_vars
        if self._task.args.get("settings") is None:
            options = {**options, "settings": self._own_settings(task_vars)}
        self.options = options
        keep_alive(self._connection)
        prefer_fast(self._connection, task_vars)
        manifest = release_to_adopt(Path(options["release"]), options["path"])
        if manifest.payload is None:
            return {"changed": False, "state": "adopted", "msg": f"{manifest.name} {manifest.version} has no tree, so nothing is done here"}
        return self._fetch(manifest) if options["step"] == "fetch" else self._adopt(manifest)

    def _fetch(self, manifest: Manifest) -> dict[str, Any]:
        folder = Path(self.options["release"]) / str(manifest.payload)
        if folder.is_dir() and any(folder.iterdir()):
            return {"changed": False, "msg": f"{folder} is there, so no host was asked for it"}
        path, leave = self.options["path"], self.options["leave"]
        files = parse_survey(self._ask(operation="survey", path=path, leave=leave).get("files"))
        size = sum(entry.get("size", 0) for entry in files)
        what = f"{counted(len(files), 'path')} of {size} bytes"
        if self._task.check_mode:
            return {"changed": True, "msg": f"{what} would be fetched into {folder}, and archived; then other hosts can be compared"}

        def read(parts: list[Part]) -> bytes:
            answer = self._ask(operation="contents", path=path, wanted=parts)
            return parse_contents(answer.get("data"), sum(part[2] for part in parts))

        write_tree(folder, files, read)
        return {"changed": True, "msg": f"{what} fetched into {folder}"}

    def _adopt(self, manifest: Manifest) -> dict[str, Any]:
        dsl, write = required_setting(self.options, "dsl"), not self._task.check_mode
        library = find_library(dsl)
        home = library.repository(manifest.name) if library else None
        digest = home.resolve(manifest.name, manifest.version) if home else None
        if digest is None and not write:
            return {
                "changed": False,
                "skipped": True,
                "msg": f"{manifest.name} {manifest.version} is not archived yet, so nothing was compared",
            }
        if home is None or digest is None:
            raise TidegateError(f"{manifest.name} {manifest.version} is not archived; archive it first")
        release = PackageName(manifest.name, manifest.version, digest)
        trust = Path(C.DEFAULT_LOCAL_TMP) / "tidegate-trust"
        distrust = distrust_once(trust, dsl, optional_setting(self.options, "policy"), release, utc_now(), kept_in_run())
        if distrust:
            raise TidegateError(distrust)
        answer = parse_answer(
            "adopt",
            self._ask(
                operation="adopt",
                name=manifest.name,
                digest=digest,
                documents=Shipment(lambda: home, digest, kept_in_run()).documents(),
                path=self.options["path"],
                leave=self.options["leave"],
                settings=dict(self.options["settings"]),
                write=write,
            ),
            self._redactor,
        )
        good = answer["state"] == "adopted"
        return {
            "changed": answer["changed"],
            "state": answer["state"],
            "version": manifest.version,
            "digest": digest,
            **({} if good else {"failed": True, "msg": answer["detail"]}),
        }

    def _ask(self, **order: Any) -> Mapping[str, Any]:
        """What the host answers; raises :class:`TidegateError` for none, and, unless it is asked to adopt, when it says that it can't."""
        keep = not self._task.check_mode
        try:
            answer = run_on_host(self, {"root": self.options["root"], **order}, self._task_vars, keep=keep, along=not keep)
        except NoAnswerError as error:
            raise TidegateError(f"it did not answer: {error.last_words(self._redactor)} and run this again") from None
        if not isinstance(answer, Mapping):
            raise TidegateError("its answer is none; find out who answers there")
        if answer.get("state") == REFUSED and order["operation"] != "adopt":
            raise TidegateError(printable(self._redactor.text(str(answer.get("msg")))))
        return answer
