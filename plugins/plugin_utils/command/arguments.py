# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command's options, made of what the verbs' playbooks and roles say that they take."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..settings import flag, has_login

_PREFIX = "tidegate_"
_MARKUP = re.compile(r"\b[A-Z]\(([^()]*)\)")
_VARIABLE = re.compile(r"\btidegate_\w+")
# What may be given without its option's name, by verb: the first of them that the verb has.
_OPERANDS = ("tidegate_release", "tidegate_rfc")
_EXTRA = "--extra-vars"
_SHORT_EXTRA = re.compile(r"-[bCDkKJv]*e(.*)", re.DOTALL)  # alone, or behind options of Ansible's that take no value
HIDDEN = "…"  # in place of what may be a secret
_TYPES = {"int": int, "float": float}


def operand(verb: str, options: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The variable whose value ``verb`` takes without an option's name: the release that it reads, or else the RFC.

    ``verify`` takes the RFC; as ``try`` it takes the release.
    """
    ordered = reversed(_OPERANDS) if verb == "verify" else _OPERANDS
    return next((name for name in ordered if name in options), None)


def add_options(parser: argparse.ArgumentParser, verb: str, options: Mapping[str, Mapping[str, Any]]) -> None:
    """Let ``parser`` take the options of a verb, given by variable as an argument specification has them.

    Secrets are left out: everybody on a machine sees the arguments of a process, so they come from the environment, or by Ansible's vault.
    """
    plain = operand(verb, options)
    if plain is not None:
        parser.add_argument(plain, nargs="?", metavar=plain.removeprefix(_PREFIX).upper(), help=meaning(options[plain]))
    for variable, option in options.items():
        if option.get("no_log") or variable == "tidegate_settings":
            continue
        about: dict[str, Any] = {"dest": f"option {variable}", "help": meaning(option), "default": None}
        kind = option.get("type", "str")
        if kind == "bool":
            parser.add_argument(flag(variable), action=argparse.BooleanOptionalAction, **about)
            continue
        about["metavar"] = "VALUE"
        if kind == "list":
            about |= {"action": "append", "help": f"{about['help']}; can be given several times"}
        elif kind == "dict":
            about |= {"type": mapping, "metavar": "JSON"}
        else:
            about["type"] = _TYPES.get(kind, str)
        if option.get("choices"):
            about["choices"] = option["choices"]
            del about["metavar"]
        parser.add_argument(flag(variable), **about)


def variables(given: argparse.Namespace) -> dict[str, Any]:
    """The variables for the playbook, by what was given on the command line; an operand counts before its option."""
    found = {name.removeprefix("option "): value for name, value in vars(given).items() if name.startswith("option ")}
    found |= {name: getattr(given, name) for name in _OPERANDS if getattr(given, name, None) is not None}
    return {name: value for name, value in found.items() if value is not None}


def typed(name: str, told: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]], more: Sequence[str]) -> str:
    """What to type for the verb ``name``, for a shell, with what it was ``told`` by variable, as far as it has ``options`` for that.

    ``more``: arguments behind those. What may be a secret, an address with a login or extra variables, is not shown.
    """
    plain = operand(name, options)
    words = ["tidegate", name, *([str(told[plain])] if plain is not None and plain in told else [])]
    for variable, value in told.items():
        if variable == plain or variable not in options:
            continue
        if isinstance(value, bool):
            words.append(flag(variable) if value else f"--no-{flag(variable).removeprefix('--')}")
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [flag(variable), json.dumps(one) if isinstance(one, dict) else str(one)]
    for before, word in zip(["", *more], more, strict=False):
        follows = _extra_in(before) == "" and not word.startswith("@")
        words.append(HIDDEN if follows or _extra_in(word) else word)
    return shlex.join([HIDDEN if has_login(word) or "?" in word else word for word in words]).replace(f"'{HIDDEN}'", HIDDEN)


def _extra_in(word: str) -> str | None:
    """The extra variables that an argument of ansible-playbook brings, empty when the next one does; ``None`` for any other."""
    name, _equals, value = word.partition("=")
    if len(name) > len("--e") and _EXTRA.startswith(name):
        return value
    found = _SHORT_EXTRA.fullmatch(word)
    return found[1] if found else None


def meaning(option: Mapping[str, Any]) -> str:
    """What an option is, as the first sentence of its documentation says it, for argparse, which formats with ``%``."""
    text = option.get("description", "")
    first = next(iter(text), "") if isinstance(text, list) else text
    said = _MARKUP.sub(r"\1", str(first).split(". ", maxsplit=1)[0]).rstrip(".")
    return _VARIABLE.sub(lambda match: flag(match[0]), said).replace("%", "%%")


def mapping(text: str) -> dict[str, Any]:
    """A JSON object on the command line; raises :class:`argparse.ArgumentTypeError` for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'{text!r:.60} is no JSON object, such as \'{{"name": "value"}}\'')
    return value


def long_options(parser: argparse.ArgumentParser) -> list[str]:
    """Every option that ``parser`` knows, by its long name, for completion."""
    return sorted({name for action in parser._actions for name in action.option_strings if name.startswith("--")})


def split_rest(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """``arguments`` before and behind ``--``: what is behind goes to ansible-playbook as it is."""
    own = list(arguments)
    if "--" not in own:
        return own, []
    place = own.index("--")
    return own[:place], own[place + 1 :]
