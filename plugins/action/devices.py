# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.devices."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.interrupt import interrupted
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import announce
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.switch import SwitchAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.workers import do_shares, processors, shares
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.firmware_journal import FirmwareJournal, SharedFirmwareJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import required_setting

if TYPE_CHECKING:
    from ansible_collections.tidegate.release.plugins.plugin_utils.actions.firmware import FirmwareHost
    from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import Device

_AT_ONCE = 64
_AGAIN = "run the same command again"
_ACCESS = ("redfish_user", "redfish_password")


class ActionModule(SwitchAction):
    """Do a step with the devices of all hosts of a wave, each in a thread of a few processes, since it mostly waits."""

    module = "devices"
    per_host = False
    _device: FirmwareHost | None = None
    _way: Device | None = None
    _opened: contextlib.ExitStack

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        self.step, hosts = self.options["step"], [str(host) for host in self._task_vars["ansible_play_batch"]]
        at_once = self.step == "activate" and not deployment.rollout.stable
        ways = {str(ci["name"]): ci["attributes"].get("redfish") for ci in self._cmdb.cis(hosts)}
        others = [host for host in hosts if not ways.get(host)]
        if not deployment.rollout.firmware or others:
            what = f"{others[0]} has no attribute redfish" if others else f"{deployment.label} is no release of firmware"
            raise TidegateError(f"{what}; use tidegate.release.{self.step} for these hosts")
        if self.step == "confirm":
            up = {target.host for target in journal.targets(self._run.deployment) if target.state == HostState.STARTED}
            hosts = [host for host in hosts if host in up]
        if not hosts:
            return {"changed": False, "hosts": {}, "settled": True}
        access, parts = self._access(hosts), shares(hosts, processors())
        at_a_time = max(1, _AT_ONCE // len(parts))

        def visit_all(part: Sequence[str]) -> dict[str, Any]:
            self._shared = SharedFirmwareJournal(self._cmdb)
            with ThreadPoolExecutor(min(len(part), at_a_time), "device") as pool:
                visits = pool.map(lambda host: self._visit(deployment, host, access[host], at_once), part)
                return dict(zip(part, visits, strict=True))

        def apart(part: Sequence[str]) -> dict[str, Any]:
            try:
                with Cmdb.open(required_setting(self.options, "cmdb")) as self._cmdb:  # whose connections are this process's own
                    return visit_all(part)
            except TidegateError as error:
                return dict.fromkeys(part, str(error))

        done = do_shares(parts, visit_all, apart)
        ended = "the process that went to its BMC was ended; run the same command again"
        results = {host: self._finished(host, done.get(host, ended)) for host in hosts}
        visited = {host: result for host, result in results.items() if not result.get("skipped")}
        bad = [f"{host}: {result['msg']}" for host, result in visited.items() if result.get("failed")]
        stopped = next((str(result["msg"]) for result in results.values() if result.get("skip_reason")), "")
        found: dict[str, Any] = {
            "changed": any(result.get("changed") for result in visited.values()),
            "hosts": {host: {"state": result["state"], "detail": result["progress"]["detail"]} for host, result in visited.items()},
        }
        found["settled"] = not stopped and all(one["state"] != HostState.STARTED for one in found["hosts"].values())
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

    def firmware(self, journal: FirmwareJournal, deployment: Deployment) -> FirmwareHost:
        """See :class:`HostAction`: the same for both steps of a visit."""
        if self._device is None:
            self._device = super().firmware(journal, deployment)
        return self._device

    def open_device(self, recorded: Mapping[str, str]) -> contextlib.AbstractContextManager[Device]:
        """See :class:`HostAction`: its session is the same for both steps of a visit, too."""
        if self._way is None:
            self._way = self._opened.enter_context(super().open_device(recorded))
        return contextlib.nullcontext(self._way)

    def _visit(self, deployment: Deployment, host: str, access: Mapping[str, str], at_once: bool) -> dict[str, Any]:
        """Do the step with one machine; ``at_once``: look again as soon as it is up, for it need not stay well for any time."""
        stop = interrupted()
        if stop:  # since the wave was begun: those beyond the first 64 wait for these
            return self.not_begun(stop)
        one = copy.copy(self)
        one._host, one.options = host, {**self.options, **access}
        try:
            with contextlib.ExitStack() as one._opened:
                result = one._switch_device(self._shared, deployment)
                if at_once and result.get("state") == HostState.STARTED:
                    one.step = "confirm"
                    result = {**one._switch_device(self._shared, deployment), "changed": True}
                return result
        except TidegateError as error:  # nothing more is done there, and the journal has how far it got
            return self._unfinished(host, str(error))

    def _finished(self, host: str, found: dict[str, Any] | str) -> dict[str, Any]:
        """What became of a machine, or why nobody says that."""
        return self._unfinished(host, found) if isinstance(found, str) else found

    def _unfinished(self, host: str, why: str) -> dict[str, Any]:
        """The result of a machine that the journal has as it was at its last step."""
        return {"failed": True, "msg": why, "state": str(self._shared.target(self._run, host).state), "progress": {"detail": why}}

    def _access(self, hosts: list[str]) -> dict[str, dict[str, str]]:
        """Who we are to the BMC of each host: by its own variables, unless that is said for all of them, by the task or the play."""
        mine = str(self._task_vars["inventory_hostname"])
        everybody = functools.cache(self._task_vars["hostvars"].__getitem__)  # which Ansible puts together each time
        found: dict[str, dict[str, str]] = {host: {} for host in hosts}
        for name in _ACCESS:
            variable = f"tidegate_{name}"
            for_all = name in self._task.args or self._own(everybody, mine, variable) != self.options.get(name)
            for host in hosts:
                said = self.options.get(name) if for_all else self._own(everybody, host, variable)
                found[host][name] = str(said or "")
        return found

    @staticmethod
    def _own(everybody: Callable[[str], Any], host: str, variable: str) -> Any:
        try:
            own = everybody(host)
            return own[variable] if variable in own else None  # noqa: SIM401 - get() of Ansible's has no default
        except AnsibleError:
            raise TidegateError(f"{variable} of {host} can't be evaluated; correct it, or take it away") from None
