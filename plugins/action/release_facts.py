# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.release_facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host_program import NoAnswerError, run_on_host
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.keepalive import keep_alive, prefer_fast
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.variables import host_settings
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.libs import require
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.host_answer import printable
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import library_needs, optional_setting


class ActionModule(TidegateAction):
    """Have the host program look, over a connection that notices when the host freezes; it changes nothing, so it is not kept there."""

    module = "release_facts"
    per_host = True
    whole = True  # the audit says of each host why it has no answer
    found: ClassVar[tuple[str, ...]] = ("releases",)  # what is taken from the answer
    also: ClassVar[tuple[str, ...]] = ("copies", "sets")  # what is taken if it is there
    handed_on: ClassVar[tuple[str, ...]] = ("running", "copies", "sets", "whole_sets", "scan")  # options that the host gets as they are
    along = False  # whether the host can't have the program
    outside = True  # whether a release that acts outside its tree is asked what runs there

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        asked = self._asked(options, task_vars)
        if asked is None:
            return self._look_at_host(options, task_vars)
        from ansible_collections.tidegate.release.plugins.plugin_utils.actions.device_reading import read_device  # noqa: PLC0415 - few hosts

        core: Any = self._connection
        if asked.by_host:  # which has to be reached for that
            releases = self._look_at_host(options, task_vars)
            return releases if core.transport == "local" else {**releases, "device": read_device(options, asked, self).to_dict()}
        reading = read_device(options, asked, self)
        device = {"device": reading.to_dict()}
        try:
            if core.transport != "local":  # else its host is nobody's to log in to
                return {**self._look_at_host(options, task_vars), **device}
        except AnsibleConnectionFailure as error:
            if reading.silent:
                raise AnsibleConnectionFailure(f"{error}; nor its BMC: {reading.problem}") from None
            if asked.software or reading.problem:
                return {"unreachable": True, "msg": printable(str(error)), **device}
        except TidegateError as error:
            return {"failed": True, "msg": str(error), **device}
        if reading.silent:
            raise AnsibleConnectionFailure(f"its BMC: {reading.problem}")
        if reading.problem:
            raise TidegateError(f"its BMC: {reading.problem}")
        return {"changed": False, "releases": [], **device}

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ()  # hosts are looked at with the standard library

    def _asked(self, options: dict[str, Any], task_vars: dict[str, Any]) -> Any:
        """What the device of the host is to be asked; ``None`` for a host without one that can be."""
        known = task_vars.get("redfish") or task_vars.get("firmware")
        if self.module != "release_facts" or not known or optional_setting(options, "cmdb") is None:
            return None
        require("base", *library_needs(options))
        from ansible_collections.tidegate.release.plugins.plugin_utils.actions.device_reading import what_to_ask  # noqa: PLC0415 - few hosts

        return what_to_ask(options, str(task_vars["inventory_hostname"]))

    def _look_at_host(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        keep_alive(self._connection)
        prefer_fast(self._connection, task_vars)
        order: dict[str, Any] = {"operation": self.module, "root": options.get("root", "")}
        order.update((name, options[name]) for name in self.handed_on if options.get(name) or (name == "sets" and options.get(name) == {}))
        settings: Mapping[str, Any] = {}
        # By the CMDB a release here acts outside its tree, and is asked, or each is whether it runs.
        if self.outside and (task_vars.get("reads") or options.get("running")):
            settings = host_settings(self._templar, str(task_vars["inventory_hostname"]), task_vars.get("tidegate_settings"))
            order["settings"] = settings
        try:
            answer = run_on_host(self, order, task_vars, keep=False, along=self.along)
        except NoAnswerError as error:
            raise TidegateError(f"it did not answer: {error.last_words(Redactor(settings))} and run this again") from None
        if not isinstance(answer, Mapping):
            raise TidegateError("its answer is none; find out who answers there")
        if answer.get("failed"):
            raise TidegateError(printable(str(answer.get("msg"))))
        more = {name: answer[name] for name in self.also if name in order and name in answer}
        if order.get("scan"):
            from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_scan import scan_suspects  # noqa: PLC0415 - slow

            more["scan"] = scan_suspects(answer.get("suspects"), options.get("malware_signatures"))
        return {"changed": False, **{name: answer.get(name) for name in self.found}, **more}
