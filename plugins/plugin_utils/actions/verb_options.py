# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each verb can be told: the options of the roles and modules that its playbook calls, by the variables that they are taken from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .documentation import FALLBACK, SECRET, documented, fallbacks, paragraphs

_COLLECTION = Path(__file__).parents[3]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tidegate.release."
_ROLES = ("ansible.builtin.import_role", "ansible.builtin.include_role")
_REFERENCE = re.compile(r"\bO\((\w+)\)")


class VerbOptions(NamedTuple):
    """A verb: what its playbook says that it does, and by variable each option as an argument specification has it."""

    description: str
    options: Mapping[str, Mapping[str, Any]]


def read_verbs() -> dict[str, VerbOptions]:
    """Every verb of the collection as it is installed, in the order of their names."""
    return {path.stem: read_verb(path.stem) for path in sorted((_COLLECTION / "playbooks").glob("*.yml"))}


def read_verb(verb: str) -> VerbOptions:
    """One verb of them."""
    text = (_COLLECTION / "playbooks" / f"{verb}.yml").read_text(encoding="utf-8")
    comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    options: dict[str, Mapping[str, Any]] = {}
    for play in _load(text):
        for task in _tasks(play.get("tasks", ())):
            for variable, option in _options(task).items():
                options.setdefault(variable, option)
    return VerbOptions(re.split(r"\s(?:Its v|V)ariables?:", comment)[0], options)


def _load(text: str) -> Any:
    return yaml.load(text, _LOADER)  # noqa: S506 - a safe one


def _tasks(tasks: Any) -> Iterator[Mapping[str, Any]]:
    for task in tasks:
        yield task
        for key in ("block", "rescue", "always"):
            yield from _tasks(task.get(key, ()))


def _options(task: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """By variable, the options that a task leaves to its user."""
    for key, value in task.items():
        if key in _ROLES:
            role = _COLLECTION / "roles" / value["name"].removeprefix(_PREFIX)
            specification = _load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
            options = specification[value.get("tasks_from", "main")]["options"]
            return {name: option for name, option in options.items() if name not in task.get("vars", {})}
        if key.startswith(_PREFIX):
            return _of_module(key.removeprefix(_PREFIX), value or {})
    return {}


def _of_module(module: str, arguments: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The same of a task that calls a module, whose options are called after their variables."""
    variables = {name: fallback.variable for name, fallback in fallbacks(module).items() if name not in arguments}
    found: dict[str, Mapping[str, Any]] = {}
    for name, variable in variables.items():
        option = documented(module)[name]
        text = FALLBACK.sub("", " ".join(paragraphs(option))).strip()
        text = _REFERENCE.sub(lambda match: f"O({variables.get(match[1], match[1])})", text)
        made = {key: option[key] for key in ("type", "elements", "choices", "required") if key in option}
        found[variable] = made | {"description": text} | ({"no_log": True} if SECRET.search(name) else {})
    return found
