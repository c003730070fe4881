# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action plugin of the collection shares.

The options of an action are those that the module of the same name documents: the argument spec is
read from its ``DOCUMENTATION``, so there is no second copy to keep in step.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from enum import Enum
from importlib import import_module
from typing import Any, ClassVar

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from .errors import TidegateError
from .invocation import refuse_cut_texts
from .libs import require
from .output import heartbeat

# Each worker reads them anew: the fast one, where libyaml is there.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTION = "ansible_collections.tidegate.release.plugins"
_REGISTERED = (
    "__backout_result",
    "__confirm_result",
    "__activate_result",
    "__stage_result",
)  # by the roles of those names, the last step first
_SECRET = re.compile("pass(word|phrase)$")  # documentation has no word for an option that must not be shown


def _spec(options: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("type", "required", "default", "choices", "elements", "aliases")
    spec: dict[str, Any] = {}
    for name, option in options.items():
        spec[name] = {key: option[key] for key in keys if key in option}
        if "suboptions" in option:
            spec[name]["options"] = _spec(option["suboptions"])
    return spec


@functools.cache
def argument_spec(module: str) -> dict[str, Any]:
    """The argument spec that the documentation of ``module`` (a name in this collection) describes."""
    documentation = yaml.load(import_module(f"{_COLLECTION}.modules.{module}").DOCUMENTATION, _LOADER)  # noqa: S506 - a safe one
    options = dict(documentation.get("options", {}))
    for fragment in documentation.get("extends_documentation_fragment", []):
        if fragment.startswith("tidegate.release."):
            name, _dot, part = fragment.removeprefix("tidegate.release.").partition(".")
            text = getattr(import_module(f"{_COLLECTION}.doc_fragments.{name}").ModuleDocFragment, part.upper() or "DOCUMENTATION")
            options = yaml.load(text, _LOADER).get("options", {}) | options  # noqa: S506 - a safe one
    return _spec(options)


def _plain(value: Any) -> Any:
    """A result as Ansible keeps one: it warns of an enumeration where a text will do."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.value if isinstance(value, Enum) else value


def reasons(task_vars: Mapping[str, Any]) -> Callable[[str], str]:
    """Look up what Ansible said of a host's step when the journal has no outcome of it, as for a setting that could not be templated.

    The roles register their steps' results; nothing is known of a host that has none, and nothing of one that did not fail.
    """
    hosts = task_vars.get("hostvars", {})

    def reason(host: str) -> str:
        variables = hosts[host] if host in hosts else {}  # noqa: SIM401 - get() of Ansible's has no default
        results = [variables[name] for name in _REGISTERED if name in variables]
        failed = next((result for result in results if isinstance(result, Mapping) and result.get("failed")), {})
        return " ".join(str(failed.get("msg", "")).split())

    return reason


class TidegateAction(ActionBase):
    """Base of the actions: validate, run :meth:`execute`, turn a :class:`TidegateError` into a failed task."""

    module: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()
    per_host: ClassVar[bool] = False  # whether it runs on many hosts at once, and not once on the controller

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._supports_check_mode = True
        self._supports_async = False
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            refuse_cut_texts(self._loader)
            require(*self.libraries)
            self._refuse_left_out(task_vars or {})
            with heartbeat(self.module, str((task_vars or {}).get("inventory_hostname", "")) if self.per_host else ""):
                result.update(_plain(self.execute(self._options(), task_vars or {})))
        except TidegateError as error:
            result.update(failed=True, msg=str(error))
        secrets = {str(value) for name, value in self._task.args.items() if value and _SECRET.search(name)}
        return dict(remove_values(result, secrets)) if secrets else result

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do the work of the action with validated options; return the keys of the task's result."""
        raise NotImplementedError

    def _refuse_left_out(self, task_vars: Mapping[str, Any]) -> None:
        """An option is left out when its variable is not set; not when it is set and can't be evaluated, which Jinja's default() hides."""
        for name in argument_spec(self.module):
            for variable in (f"tidegate_{name}", f"{self.module}_{name}"):
                if name not in self._task.args and task_vars.get(variable):
                    try:
                        self._templar.template(task_vars[variable])
                    except AnsibleError as error:
                        raise TidegateError(f"{variable} can't be evaluated: {error.message}; correct it, or take it away") from error

    def _options(self) -> dict[str, Any]:
        spec = argument_spec(self.module)
        for name, value in self._task.args.items():
            # A version 1.10 would become 1.1, a date or a yes something else.
            if value is not None and not isinstance(value, str) and spec.get(name, {}).get("type") == "str":
                raise TidegateError(f"tidegate.release.{self.module}: {name} is no text but {value}, as YAML reads it; write it in quotes")
        outcome = ArgumentSpecValidator(spec).validate(self._task.args)
        if outcome.error_messages:
            raise TidegateError(f"tidegate.release.{self.module}: " + "; ".join(outcome.error_messages))
        return dict(outcome.validated_parameters)
