# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The questions that AWX asks before it runs a verb, made from the options that the verb has."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

_TYPES = {"bool": "multiplechoice", "float": "float", "int": "integer", "list": "text", "path": "text", "str": "text"}
_SAYS_REQUIRED = "Has to be given."
_ENVIRONMENT = re.compile(r" ?Defaults to the environment variable E\(\w+\)\.")
_MARK = re.compile(r"\b(?:[OVCEIBMPU]|RV)\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_SHORT = re.compile(r"\b(dsl|rfcs?)\b")  # words that are written in capitals
_LONGEST = 1024  # characters of an answer; AWX has no limit of its own, its pages have this one
_MANY = "Several have commas between them, and no spaces."


def make_survey(options: Mapping[str, Mapping[str, Any]], by_credential: Collection[str]) -> list[dict[str, Any]]:
    """The questions for ``options``, an argument specification by variable: the ones that have to be answered first.

    ``by_credential``: variables that a credential gives, or that are in no survey for another reason. A mapping is not asked for, as no
    question of AWX's has one for an answer; it belongs into the inventory or the extra variables of the job template.
    """
    asked = {name: option for name, option in options.items() if name not in by_credential and "dict" not in _kinds(option)}
    # Which of them a release is looked for by is the user's choice, unless there is one way only.
    always = {"tidegate_rfc"} if not asked.keys() & {"tidegate_name", "tidegate_release"} else set()
    questions = [_question(name, option, name in always) for name, option in asked.items()]
    return [one for one in questions if one["required"]] + [one for one in questions if not one["required"]]


def _kinds(option: Mapping[str, Any]) -> tuple[str, str]:
    return str(option["type"]), str(option.get("elements", ""))


def _name(variable: str) -> str:
    words = variable.removeprefix("tidegate_").replace("_", " ")
    text = _SHORT.sub(lambda match: match[1].upper().replace("RFCS", "RFCs"), words)
    return text[:1].upper() + text[1:]


def _question(variable: str, option: Mapping[str, Any], always: bool) -> dict[str, Any]:
    said, kind = option["description"], _TYPES[option["type"]]
    text = said if isinstance(said, str) else " ".join(said)
    choices = [str(choice) for choice in option.get("choices", ())] or (["true", "false"] if option["type"] == "bool" else [])
    several = option["type"] == "list"
    if choices:
        kind = "multiselect" if several else "multiplechoice"
    elif option.get("no_log"):
        kind = "password"
    description = _MARK.sub(r"\1", _ENVIRONMENT.sub("", text).replace(_SAYS_REQUIRED, "")).strip()
    question: dict[str, Any] = {
        "question_name": _name(variable),
        "question_description": f"{description} {_MANY}" if several and not choices else description,
        "required": bool(always or option.get("required") or _SAYS_REQUIRED in text),
        "type": kind,
        "variable": variable,
    }
    if kind in ("text", "password"):
        question |= {"min": 0, "max": _LONGEST}
    if choices:
        question["choices"] = choices
    # One that is empty would be an answer, so there is none then; but for choices, as it is none of them, and AWX's page needs one there.
    default = option.get("default")
    if default not in (None, "", [], {}):
        question["default"] = _default(default, kind)
    elif choices:
        question["default"] = ""
    return question


def _default(value: Any, kind: str) -> Any:
    """A default as AWX wants it: a number for a number, else a text, each choice on a line of its own."""
    if kind in ("integer", "float"):
        return value
    if isinstance(value, list):
        return ("\n" if kind == "multiselect" else ",").join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
