# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the homes are: the one adapter from options to paths and URLs."""

from __future__ import annotations

import configparser
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from .errors import TidegateError

_WHAT = {
    "dsl": "definitive software library (a directory, or oci://host/prefix)",
    "cmdb": "CMDB (a file, or a database URL)",
    "rfc": "request for change (a file, or servicenow+https://instance/number)",
    "key": "private key (a file)",
}
ONLY_WORDS = "TIDEGATE_ONLY_WORDS"  # what the command sets for the callback, ...
NEXT = "TIDEGATE_NEXT"  # ... and for what a deployment says at its end: how to go on and how to undo it, as a list in JSON
_SECTION = "tidegate"  # of ansible.cfg
_CONFIGURED = ("cmdb", "dsl", "key", "policy", "rfc")  # what can be in it
# By options that are addresses, how one begins that can't do without the libraries of a need; see ``libs``.
_NEEDS = (
    (("dsl", "to", "replica"), ("oci://", "oci+http://"), "registry"),
    (("cmdb",), ("postgresql://", "postgresql+psycopg://", "postgres://"), "postgres"),
    (("rfc", "rfcs"), ("servicenow+https://",), "servicenow"),
)
_SECRET = re.compile("PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH")  # in the name of a variable of the environment
# What an address begins with, also one that lacks a sign, and not a path.
_SCHEME = re.compile(r"(?![./~])([^/@\s]*:/*|[^/@:\s]+//)")
_PASSWORD = re.compile(r"(\bpass\w*\s*=\s*)\S+", re.IGNORECASE)


def required_setting(options: Mapping[str, object], name: str) -> str:
    """Return option ``name`` (``dsl``, ``cmdb``, ``rfc`` or ``key``), a leading ``~`` expanded.

    Raises :class:`TidegateError` when it is not set, neither in the task nor by a variable nor in the environment.
    """
    value = optional_setting(options, name)
    if value is None:
        raise TidegateError(missing(name))
    return value


@functools.cache
def configured_homes(path: Path) -> dict[str, str]:
    """What the section ``[tidegate]`` of an ansible.cfg says of homes, by the variables of the environment that count before it.

    A relative path starts at the file. Raises :class:`TidegateError` for a name that is no home.
    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}  # Ansible says what is wrong with it
    said = dict(parser.items(_SECTION)) if parser.has_section(_SECTION) else {}
    if unknown := sorted(said.keys() - _CONFIGURED):
        raise TidegateError(f"{path} has {', '.join(unknown)} in its section [{_SECTION}]; what can be there is {', '.join(_CONFIGURED)}")
    addresses = {f"TIDEGATE_{name.upper()}": expanded(value) for name, value in said.items() if value}
    return {name: value if "://" in value or has_login(value) else str(path.absolute().parent / value) for name, value in addresses.items()}


def missing(name: str) -> str:
    """What to say of a home that nobody gave."""
    names = f"{user_name(f'tidegate_{name}')} or the environment variable TIDEGATE_{name.upper()}"
    return f"no {_WHAT[name]} given; set {names}, or {name} in the section [{_SECTION}] of ansible.cfg"


def flag(variable: str) -> str:
    """The option of the command ``tidegate`` that stands for a variable of the playbooks: ``--take-over`` for ``tidegate_take_over``."""
    return "--" + variable.removeprefix("tidegate_").replace("_", "-")


def user_name(variable: str) -> str:
    """What the user of this run calls a variable: by its option, when the command runs it."""
    return flag(variable) if of_command() else variable


def how_to_give(variable: str) -> str:
    """What the user of this run writes to give a variable, up to its value."""
    return f"{flag(variable)} " if of_command() else f"-e {variable}="


def of_command() -> bool:
    """Whether the command ``tidegate`` runs this, and not ansible-playbook or AWX."""
    return bool(os.environ.get(ONLY_WORDS))


def library_needs(options: Mapping[str, object]) -> tuple[str, ...]:
    """What the addresses that are given need of libraries, by the files of ``requirements/``."""
    return tuple(need for names, schemes, need in _NEEDS if any(_begins(options.get(name), schemes) for name in names))


def _begins(given: object, schemes: tuple[str, ...]) -> bool:
    return any(str(one).startswith(schemes) for one in (given if isinstance(given, list) else [given]))


def secret_setting(options: Mapping[str, object], name: str) -> str | None:
    """Return option ``name`` as it is, ``None`` when it is not set."""
    return str(options.get(name) or "") or None


def optional_setting(options: Mapping[str, object], name: str) -> str | None:
    """Like :func:`required_setting`, but ``None`` when it is not set: the policy has a shipped default, and ``key`` may be left out."""
    value = options.get(name)
    return expanded(str(value)) if value else None


def has_login(address: str) -> bool:
    """Whether an address, or what was meant as one, says who logs in there. Taken for a path it would be shown, and be made."""
    begin = _SCHEME.match(address)
    return bool(begin and "@" in address[begin.end() :]) or bool(_PASSWORD.search(address))


def without_login(address: str) -> str:
    """An address, or what was meant as one, as it may be shown: without who logs in there, and what a query adds."""
    begin = _SCHEME.match(address)
    scheme, rest = (begin[0], address[begin.end() :]) if begin else ("", address)
    if begin and "@" in rest:
        # With a slash it is a scheme; else a user, a colon and a password.
        scheme, rest = scheme if scheme.endswith("/") else "", f"***@{rest.rpartition('@')[2]}"
    shown = scheme + (re.sub("[?#].*", "?***", rest, flags=re.DOTALL) if begin else rest)
    return _PASSWORD.sub(r"\1***", shown)


def is_secret(variable: str) -> bool:
    """Whether the name of a variable of the environment says that its value is nobody else's business."""
    return bool(_SECRET.search(variable))


def expanded(address: str) -> str:
    """An address as it was given, a leading ``~`` of a path expanded."""
    return address if "://" in address or has_login(address) else str(Path(os.path.expanduser(address)))


def same(one: str, other: str) -> bool:
    """Whether two addresses name one home, whichever links and relative paths lead there."""
    if "://" in one or "://" in other:
        return one.rstrip("/") == other.rstrip("/")
    return os.path.realpath(one) == os.path.realpath(other)
