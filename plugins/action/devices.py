# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.devices."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import announce
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.switch import SwitchAction
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal, SharedFirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal

_AT_ONCE = 64
_ACCESS = ("redfish_user", "redfish_password")


class ActionModule(SwitchAction):
    """Do a step with the devices of all hosts of a wave, each in a thread of this one worker, since it mostly waits."""

    module = "devices"
    per_host = False

    def visit(self, _journal: Journal, deployment: Deployment) -> dict[str, Any]:
        self.step, hosts = self.options["step"], [str(host) for host in self._task_vars["ansible_play_batch"]]
        ways = {str(ci["name"]): ci["attributes"].get("redfish") for ci in self._cmdb.cis(hosts)}
        others = [host for host in hosts if not ways.get(host)]
        if not deployment.rollout.firmware or others:
            what = f"{others[0]} has no attribute redfish" if others else f"{deployment.label} is no release of firmware"
            raise TidegateError(f"{what}; use tidegate.release.{self.step} for these hosts")
        access, self._shared = self._access(hosts), SharedFirmwareJournal(self._cmdb)
        with ThreadPoolExecutor(min(len(hosts), _AT_ONCE), "device") as pool:
            results = dict(zip(hosts, pool.map(lambda host: self._visit(deployment, host, access[host]), hosts), strict=True))
        visited = {host: result for host, result in results.items() if not result.get("skipped")}
        bad = [f"{host}: {result['msg']}" for host, result in visited.items() if result.get("failed")]
        stopped = next((str(result["msg"]) for result in results.values() if result.get("skip_reason")), "")
        found: dict[str, Any] = {
            "changed": any(result.get("changed") for result in visited.values()),
            "hosts": {host: {"state": result["state"], "detail": result["progress"]["detail"]} for host, result in visited.items()},
        }
        if bad:  # which the gate decides about; a task that failed would fail for those that got there too
            first = f"{len(bad)} of {len(hosts)} machines did not get there"
            found |= {"msg": "\n".join((first, *bad)), "progress": {"state": "failed", "detail": first, "more": bad}}
            announce(found["msg"])
        elif stopped:
            found["msg"] = stopped
        return found

    def firmware_journal(self) -> FirmwareJournal:
        """See :class:`HostAction`: one for all of them."""
        return self._shared

    def _visit(self, deployment: Deployment, host: str, access: Mapping[str, str]) -> dict[str, Any]:
        stop = interrupted()
        if stop:  # since the wave was begun: those beyond the first 64 wait for these
            return self.not_begun(stop)
        one = copy.copy(self)
        one._host, one.options = host, {**self.options, **access}
        try:
            return one._switch_device(self._shared, deployment)
        except TidegateError as error:  # nothing more is done there, and the journal has how far it got
            detail = str(error)
            return {"failed": True, "msg": detail, "state": str(self._shared.target(self._run, host).state), "progress": {"detail": detail}}

    def _access(self, hosts: list[str]) -> dict[str, dict[str, str]]:
        """Who we are to the BMC of each host: by its own variables, unless that is said for all of them, by the task or the play."""
        everybody, mine = self._task_vars["hostvars"], str(self._task_vars["inventory_hostname"])
        found: dict[str, dict[str, str]] = {host: {} for host in hosts}
        for name in _ACCESS:
            variable = f"tidegate_{name}"
            for_all = name in self._task.args or self._own(everybody, mine, variable) != self.options.get(name)
            for host in hosts:
                said = self.options.get(name) if for_all else self._own(everybody, host, variable)
                found[host][name] = str(said or "")
        return found

    @staticmethod
    def _own(everybody: Any, host: str, variable: str) -> Any:
        try:
            own = everybody[host]
            return own[variable] if variable in own else None  # noqa: SIM401 - get() of Ansible's has no default
        except AnsibleError:
            raise TidegateError(f"{variable} of {host} can't be evaluated; correct it, or take it away") from None
