# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module of the collection documents of its options, without Ansible.

The argument spec is read from its ``DOCUMENTATION``, so there is no second copy to keep in step. A module's documentation has no keys for
variables, as that of other plugins has, so its text says in one fixed sentence which variable, and which variable of the environment, stand
in for an option that a task does not give; see :func:`fallbacks`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import yaml

# Each worker reads them anew: the fast one, where libyaml is there.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLLECTION = "ansible_collections.tidegate.release.plugins"
_MARKUP = re.compile(r"\b[A-Z]\(([^()]*)\)")
FALLBACK = re.compile(r"Taken from the variable C\((\w+)\)(?:, or else the environment variable E\((\w+)\))?, when it is not given\.")
SECRET = re.compile("pass(word|phrase)$")  # documentation has no word for an option that must not be shown


class Fallback(NamedTuple):
    """What stands in for an option that a task does not give."""

    variable: str
    environment: str  # the name of the environment variable, empty when there is none


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


def _spec(options: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("type", "required", "default", "choices", "elements", "aliases")
    spec: dict[str, Any] = {}
    for name, option in options.items():
        spec[name] = {key: option[key] for key in keys if key in option}
        if "suboptions" in option:
            spec[name]["options"] = _spec(option["suboptions"])
    return spec
