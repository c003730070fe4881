# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.adoption."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.invocation import refuse_left_out
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_check import check_by_role
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_wave import local_tmp
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Repository, find_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import mark
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.adopt import (
    HostAdoption,
    describe,
    record,
    refuse_changing,
    release_to_adopt,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stage import distrust


class ActionModule(TidegateAction):
    """Look before any host is asked, and record what became of each."""

    module = "adoption"
    homes = ("dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        manifest = release_to_adopt(Path(options["release"]), options["path"])
        hosts = sorted(set(options["hosts"]).intersection(task_vars["groups"]["all"]))
        refuse_left_out(self._loader, task_vars, hosts, "tidegate_hosts chooses which hosts adopt a release, and each is accounted for")
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            refuse_changing(cmdb, manifest, hosts)
            if options["step"] == "begin":
                return {"changed": False, "msg": f"{manifest.name} {manifest.version}"}
            return self._record(cmdb, manifest, options, {host: _outcome(task_vars["hostvars"].raw_get(host)) for host in hosts})

    def _record(self, cmdb: Cmdb, manifest: Manifest, options: Mapping[str, Any], outcomes: Mapping[str, HostAdoption]) -> dict[str, Any]:
        library, write = find_library(required_setting(options, "dsl")), not self._task.check_mode
        home = library.repository(manifest.name) if library else None
        digest = home.resolve(manifest.name, manifest.version) if home else None
        if home is None or digest is None:
            if not write:
                said = "would be archived, and adopted where it runs; once it is archived, hosts are compared"
                return {"changed": True, "msg": f"{manifest.name} {manifest.version} {said}"}
            raise TidegateError(
                f"{manifest.name} {manifest.version} is not archived, so no host can have it; run all of the playbook again"
            )
        if write:
            release = PackageName(manifest.name, manifest.version, digest)
            untrusted = distrust(required_setting(options, "dsl"), optional_setting(options, "policy"), release, utc_now())
            if untrusted:
                raise TidegateError(untrusted)
            outcomes = self._checked(home, digest, required_setting(options, "cmdb"), outcomes)
        recorded = record(cmdb, manifest, digest, outcomes, this_user(), utc_now(), write)
        return {
            "changed": bool(recorded.new),
            "failed": bool(recorded.missing),
            "msg": describe(manifest, recorded, not write),
            "digest": digest,
            "adopted": recorded.adopted,
            "not_adopted": recorded.missing,
        }

    def _checked(self, home: Repository, digest: str, cmdb: str, outcomes: Mapping[str, HostAdoption]) -> dict[str, HostAdoption]:
        """The outcomes after the release's role, if it has one, has looked at the hosts that adopted it."""
        hosts = [host for host, outcome in outcomes.items() if outcome.adopted]
        with tempfile.TemporaryDirectory(prefix="tidegate-role-", dir=local_tmp()) as work:
            mark(local_tmp())  # when this run is killed, the next one removes what it has left there
            found = check_by_role(self, home, digest, hosts, cmdb, Path(work))
        bad = {host: HostAdoption(False, verdict.problem) for host, verdict in found.items() if verdict.problem}
        return {**outcomes, **bad}


def _outcome(variables: Mapping[str, Any]) -> HostAdoption:
    """What the task that asked a host left of it."""
    result = variables.get("adopt_result")
    if not isinstance(result, Mapping):
        return HostAdoption(False, "nobody asked it; look above for what kept the run from that")
    if result.get("state") == "adopted":
        return HostAdoption(True)
    return HostAdoption(False, " ".join(str(result.get("msg") or "it did not say why").split()))
