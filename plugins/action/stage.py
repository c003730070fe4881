# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.stage."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible_collections.tidegate.release.plugins.module_utils.mirror import Mirror
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import kept_in_run
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import load_package_manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.shipment import Shipment
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.host_answer import REFUSED, Live
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import Standing, standing
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stage import distrust_once


class ActionModule(HostAction):
    """Give the host what it lacks, in as few round trips as that takes, and journal how it went."""

    module = "stage"
    step = "stage"

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        dsl = required_setting(self.options, "dsl")
        release = PackageName(deployment.release, deployment.version, deployment.digest)
        # In the run's own temporary directory: the first worker looks at the signatures, the others read what it found.
        distrust = distrust_once(
            Path(C.DEFAULT_LOCAL_TMP) / "tidegate-trust", dsl, optional_setting(self.options, "policy"), release, utc_now(), kept_in_run()
        )
        if distrust:
            journal.stage_failed(self._run, self._host, distrust, utc_now())
            return self.outcome({}, "stage_failed", distrust)
        if deployment.rollout.firmware:
            return self._stage_firmware(deployment)
        if deployment.rollout.outside:
            self.options = {**self.options, "settings": self._own_settings(self._task_vars)}
        mirror = self._mirror()
        shipment = self.shipment(deployment, deployment.digest)
        stands = standing(self._cmdb, self._host, deployment.release)
        self.fresh = stands.fresh
        arguments: dict[str, Any] = {
            "documents": shipment.documents(),
            "keep": deployment.rollout.keep,
            "protect": list(stands.needed),
            "share": deployment.rollout.share_files,
        }
        pack = None if mirror else self._unasked(shipment, stands)
        answer = self.offer(deployment, pack, **arguments, **mirror)
        found = answer.get("mirror", {})
        answer = self.deliver(deployment, answer, **arguments)
        detail = answer["detail"] if answer["state"] == REFUSED else ""
        if answer["state"] == "lacking":
            detail = "what it has of the release keeps changing; find out who writes there and run this again"
        skew, limit = answer.get("skew", 0.0), deployment.rollout.clock_skew_seconds
        if abs(skew) > limit and not detail:
            detail = f"its clock is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the controller's, more than {limit}"
            detail += "; set it, or rollout.clock_skew_seconds in the policy"
        if answer["state"] == "staged" and not detail and deployment.rollout.outside:
            detail = self._stage_outside(deployment, answer["live"], stands, {**arguments, **mirror})
        if answer["state"] != "staged" or detail:
            journal.stage_failed(self._run, self._host, detail, utc_now())
            return self.outcome(answer, "stage_failed", detail)
        if not deployment.rollout.outside:
            journal.staged(self._run, self._host, answer["live"] or self._done_by_role(deployment, stands), utc_now())
        result = {
            **self.outcome(answer, "staged", ""),
            "sent": answer.get("sent", 0),
            "reused": answer.get("reused", 0),
            "source": "push" if self.pushed else "mirror" if found.get("bytes") else "host",
            "bytes": self.pushed or found.get("bytes", 0),
        }
        warnings = []
        if found.get("problem"):
            result["mirror_problem"] = found["problem"]
            warnings.append(f"{self._host} could not use its mirror: {found['problem']}; what it lacked was pushed")
        if answer.get("unkept"):
            warnings.append(f"{self._host} can't keep the program for its steps, so each takes longer: {answer['unkept']}")
        if warnings:
            result["warnings"] = warnings
        return result

    def _stage_firmware(self, deployment: Deployment) -> dict[str, Any]:
        """Look whether the device can get the release; nothing is sent before its wave."""
        from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceError  # noqa: PLC0415 - few need it

        journal, state, detail, device = self.firmware_journal(), "staged", "", None
        try:
            journal.refuse_misnamed(self._host)
            device = self.firmware(journal, deployment)
            before = device.stage(standing(self._cmdb, self._host, deployment.release).installed, self.recorded_firmware())
        except DeviceError as error:
            before, state, detail = None, "stage_failed", str(error)
        if device is not None:
            device.note_read()  # also of one that is refused: what the next clearance takes it to have
        if detail:
            journal.stage_failed(self._run, self._host, detail, utc_now())
        else:
            journal.staged(self._run, self._host, before, utc_now())
        return self.outcome({}, state, detail)

    def _stage_outside(self, deployment: Deployment, live: Live | None, stands: Standing, arguments: dict[str, Any]) -> str:
        """Find out what is there outside the tree, and bring the host the release to go back to; return what is in the way of that."""
        journal, settings, now = self.outside_journal(), self.options["settings"], utc_now()
        answer = self.call(deployment, operation="read", settings=settings)
        reading = answer.get("read")
        if answer["state"] == REFUSED or reading is None:
            return answer["detail"]
        journal.note_read(self._run, self._host, reading["text"], "", now)
        if answer["detail"]:
            return answer["detail"]
        before: Mapping[str, str] | Live | None = live
        if before is None:
            try:
                before = self._find_baseline(deployment, reading["text"], stands.installed)
            except TidegateError as error:
                return str(error)
            detail = self._bring_baseline(deployment, before["digest"], arguments)
            if detail:
                return detail
        release = {"version": before["version"], "digest": before["digest"]}
        journal.staged_outside(self._run, self._host, release, utc_now())
        return ""

    def _find_baseline(self, deployment: Deployment, text: str, installed: str | None) -> Mapping[str, str]:
        from ansible_collections.tidegate.release.plugins.plugin_utils.actions import baseline  # noqa: PLC0415 - few need it

        dsl, policy, folder = required_setting(self.options, "dsl"), optional_setting(self.options, "policy"), Path(C.DEFAULT_LOCAL_TMP)

        def distrust(version: str, digest: str) -> str:
            package = PackageName(deployment.release, version, digest)
            return distrust_once(folder / "tidegate-trust", dsl, policy, package, utc_now(), kept_in_run())

        archived = baseline.archived_versions(open_library(dsl).repository(deployment.release), deployment.release)
        return baseline.find_baseline(deployment.release, text, deployment.digest, archived, installed, distrust)

    def _bring_baseline(self, deployment: Deployment, digest: str, arguments: dict[str, Any]) -> str:
        """Have the host take a release for the one that is live, without activating it; return why that does not work."""
        if digest != deployment.digest:
            protect = [*arguments["protect"], deployment.digest]
            wanted = {**arguments, "digest": digest, "documents": self.shipment(deployment, digest).documents(), "protect": protect}
            answer = self.deliver(deployment, self.call(deployment, **wanted), **wanted)
            if answer["state"] != "staged":
                return answer["detail"] or "what it has of the release before keeps changing; find out who writes there and run this again"
        answer = self.call(deployment, operation="baseline", digest=digest, settings=self.options["settings"])
        return answer["detail"]

    def lost(self, journal: Journal, detail: str) -> str:
        journal.stage_failed(self._run, self._host, detail, utc_now())
        return "stage_failed"

    def _mirror(self) -> dict[str, str]:
        url = self.options["mirror"]
        if not url:
            return {}
        try:
            Mirror(url)
        except HostError as error:
            raise TidegateError(f"{self._host}: {error}") from None
        return {"mirror": url}

    def _done_by_role(self, deployment: Deployment, stands: Standing) -> dict[str, str] | None:
        """What a host without a tree runs for all that: what a role alone has done there, by what the CMDB has."""
        if stands.installed is None or not deployment.rollout.role:
            return None
        home = open_library(required_setting(self.options, "dsl")).repository(deployment.release)
        with contextlib.suppress(TidegateError):  # to what the library has not nobody can go back
            manifest = load_package_manifest(home, stands.installed)
            return {"version": manifest.version, "digest": stands.installed} if manifest.payload is None else None
        return None

    def _unasked(self, shipment: Shipment, stands: Standing) -> Path | None:
        """What can be sent before the host says what it lacks, because that is known or all but known."""
        if stands.fresh:
            return shipment.whole()
        return shipment.expected(stands.installed) if stands.installed else None
