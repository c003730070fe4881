# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of an action: which there are, and where the value of one comes from. Lookups and the inventory have the same order.

They are those that the module of the same name documents, see ``documentation``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ansible import constants
from ansible.errors import AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible.plugins import AnsiblePlugin

from ..errors import TidegateError
from ..settings import configured_homes
from .documentation import SECRET, argument_spec, fallbacks

HIDDEN = frozenset({"settings"})  # options of which no part may be shown
# Two names of one thing: where a task gives one, the variable of the other is of something else.
_EITHER = {"version": "digest", "digest": "version"}


class _Templar(Protocol):
    def template(self, variable: Any) -> Any: ...


def resolve(module: str, arguments: Mapping[str, Any], variables: Mapping[str, Any], templar: _Templar) -> dict[str, Any]:
    """The values of a task's options before they are validated: the task's ``arguments``, else the variable, else the environment,
    else, for homes, the section ``[tidegate]`` of ansible.cfg.

    What is none or an empty text counts as not given, as the answers in a survey of AWX are that nobody gave. ``variables`` are those of
    the task, which ``templar`` evaluates. A host's settings are left to its action, which does that one by one and shows none. Raises
    :class:`TidegateError` for a variable that is needed and can't be evaluated.
    """
    given, spec = dict(arguments), argument_spec(module)
    for name, fallback in fallbacks(module).items():
        if name not in HIDDEN and given.get(name) in (None, "") and not arguments.get(_EITHER.get(name, "")):
            value = evaluated(fallback.variable, variables, templar)
            if value in (None, "") and fallback.environment:
                value = os.environ.get(fallback.environment) or _configured(fallback.environment)
            if value is not None and (value != "" or spec[name].get("type") not in ("str", "path")):
                given[name] = value
    return given


def _configured(environment: str) -> str | None:
    """What the ansible.cfg that Ansible reads says in place of a variable of the environment."""
    file = getattr(constants, "CONFIG_FILE", None)  # a name that ansible-core makes as it is imported
    return configured_homes(Path(file)).get(environment) if file else None


def evaluated(variable: str, variables: Mapping[str, Any], templar: _Templar) -> Any:
    """The value of a variable, ``None`` when it is not set; raises :class:`TidegateError` when it can't be evaluated."""
    if variables.get(variable) is None:
        return None
    try:
        return templar.template(variables[variable])
    except AnsibleValueOmittedError:
        return None
    except AnsibleError as error:
        # What others say than of a name that is not there can have the value in it that they were given.
        why = f": {error.message}" if isinstance(error, AnsibleUndefinedVariable) or not SECRET.search(variable) else ""
        raise TidegateError(f"{variable} can't be evaluated{why}; correct it, or take it away") from error


class VariableOptions(AnsiblePlugin):
    """Makes the variables that a lookup or an inventory plugin documents for its options count as they do for an action's.

    ansible-core takes them as they are written. Here they are evaluated, when the option is not given, and an empty text is none. Last
    counts what ansible.cfg says of homes.
    """

    def set_options(
        self, task_keys: dict[str, Any] | None = None, var_options: dict[str, Any] | None = None, direct: dict[str, Any] | None = None
    ) -> None:
        """See :class:`AnsiblePlugin`; raises :class:`TidegateError` for a variable that is needed and can't be evaluated."""
        plugin: Any = self  # which calls its templar by one name or the other
        templar = plugin.templar if hasattr(plugin, "templar") else plugin._templar
        given, found = dict(direct or {}), {}
        for name, option in self.option_definitions.items():
            if given.get(name) not in (None, ""):
                continue
            variables = [entry["name"] for entry in option.get("vars", ())]
            said = {variable: evaluated(variable, var_options or {}, templar) for variable in variables}
            said = {variable: value for variable, value in said.items() if value != ""}
            if variables:
                given[name] = None
                found.update(said)
            named = [entry["name"] for entry in option.get("env", ())]
            if all(value is None for value in said.values()) and not any(map(os.environ.get, named)):
                given.update((name, value) for value in map(_configured, named) if value)
        core: Any = super()  # ansible-core has no types for what it calls here
        core.set_options(task_keys=task_keys, var_options=found, direct=given)
