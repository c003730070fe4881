# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of an action: which there are, and where the value of one comes from. Lookups and the inventory have the same order.

They are those that the module of the same name documents: the argument spec is read from its ``DOCUMENTATION``, so there is no second
copy to keep in step. A module's documentation has no keys for variables, as that of other plugins has, so its text says in one fixed
sentence which variable, and which variable of the environment, stand in for an option that a task does not give; see :func:`fallbacks`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible.plugins import AnsiblePlugin

from ..errors import TidegateError

# Each worker reads them anew: the fast one, where libyaml is there.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTION = "ansible_collections.tidegate.release.plugins"
_MARKUP = re.compile(r"\b[A-Z]\(([^()]*)\)")
FALLBACK = re.compile(r"Taken from the variable C\((\w+)\)(?:, or else the environment variable E\((\w+)\))?, when it is not given\.")
HIDDEN = frozenset({"settings"})  # options of which no part may be shown
SECRET = re.compile("pass(word|phrase)$")  # documentation has no word for an option that must not be shown
# Two names of one thing: where a task gives one, the variable of the other is of something else.
_EITHER = {"version": "digest", "digest": "version"}


class Fallback(NamedTuple):
    """What stands in for an option that a task does not give."""

    variable: str
    environment: str  # the name of the environment variable, empty when there is none


class _Templar(Protocol):
    def template(self, variable: Any) -> Any: ...


@functools.cache
def documented(module: str) -> dict[str, Any]:
    """The options that ``module`` (a name in this collection) documents, by name, with those of the fragments."""
    documentation = yaml.load(import_module(f"{_COLLECTION}.modules.{module}").DOCUMENTATION, _LOADER)  # noqa: S506 - a safe one
    options: dict[str, Any] = {}
    for fragment in documentation.get("extends_documentation_fragment", []):
        if fragment.startswith("tidegate.release."):
            name, _dot, part = fragment.removeprefix("tidegate.release.").partition(".")
            text = getattr(import_module(f"{_COLLECTION}.doc_fragments.{name}").ModuleDocFragment, part.upper() or "DOCUMENTATION")
            options |= yaml.load(text, _LOADER).get("options", {})  # noqa: S506 - a safe one
    options |= documentation.get("options", {})
    return options


@functools.cache
def argument_spec(module: str) -> dict[str, Any]:
    """The argument spec that the documentation of ``module`` (a name in this collection) describes."""
    return _spec(documented(module))


@functools.cache
def fallbacks(module: str) -> dict[str, Fallback]:
    """By option, what stands in for those options of ``module`` (a name in this collection) for which something does."""
    found = {name: FALLBACK.search(" ".join(paragraphs(option))) for name, option in documented(module).items()}
    return {name: Fallback(match[1], match[2] or "") for name, match in found.items() if match}


def paragraphs(option: Mapping[str, Any]) -> list[str]:
    """The description of a documented option, which is a text or a list of them."""
    text = option["description"]
    return [str(part) for part in text] if isinstance(text, list) else [str(text)]


def meaning(module: str, option: str) -> str:
    """What an option is, as the first sentence of its documentation says it."""
    sentence = paragraphs(documented(module)[option])[0].split(". ", maxsplit=1)[0].rstrip(".")
    return _MARKUP.sub(r"\1", sentence[:1].lower() + sentence[1:])


def resolve(module: str, arguments: Mapping[str, Any], variables: Mapping[str, Any], templar: _Templar) -> dict[str, Any]:
    """The values of a task's options before they are validated: the task's ``arguments``, else the variable, else the environment.

    What is none or an empty text counts as not given, as the answers in a survey of AWX are that nobody gave. ``variables`` are those of
    the task, which ``templar`` evaluates. A host's settings are left to its action, which does that one by one and shows none. Raises
    :class:`TidegateError` for a variable that is needed and can't be evaluated.
    """
    given, spec = dict(arguments), argument_spec(module)
    for name, fallback in fallbacks(module).items():
        if name not in HIDDEN and given.get(name) in (None, "") and not arguments.get(_EITHER.get(name, "")):
            value = evaluated(fallback.variable, variables, templar)
            if value in (None, "") and fallback.environment:
                value = os.environ.get(fallback.environment)
            if value is not None and (value != "" or spec[name].get("type") not in ("str", "path")):
                given[name] = value
    return given


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

    ansible-core takes them as they are written. Here they are evaluated, when the option is not given, and an empty text is none.
    """

    def set_options(
        self, task_keys: dict[str, Any] | None = None, var_options: dict[str, Any] | None = None, direct: dict[str, Any] | None = None
    ) -> None:
        """See :class:`AnsiblePlugin`; raises :class:`TidegateError` for a variable that is needed and can't be evaluated."""
        plugin: Any = self  # which calls its templar by one name or the other
        templar = plugin.templar if hasattr(plugin, "templar") else plugin._templar
        given, found = dict(direct or {}), {}
        for name, option in self.option_definitions.items():
            variables = [entry["name"] for entry in option.get("vars", ())]
            if variables and given.get(name) in (None, ""):
                given[name] = None
                found.update({variable: evaluated(variable, var_options or {}, templar) for variable in variables})
        kept = {variable: value for variable, value in found.items() if value != ""}
        core: Any = super()  # ansible-core has no types for what it calls here
        core.set_options(task_keys=task_keys, var_options=kept, direct=given)


def _spec(options: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("type", "required", "default", "choices", "elements", "aliases")
    spec: dict[str, Any] = {}
    for name, option in options.items():
        spec[name] = {key: option[key] for key in keys if key in option}
        if "suboptions" in option:
            spec[name]["options"] = _spec(option["suboptions"])
    return spec
