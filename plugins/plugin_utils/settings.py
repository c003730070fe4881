# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the homes are: the one adapter from options and environment to paths and URLs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .errors import TidegateError

_WHAT = {
    "dsl": "definitive software library (a directory, or oci://host/prefix)",
    "cmdb": "CMDB (a file, or a database URL)",
    "rfc": "request for change (a file, or servicenow+https://instance/number)",
    "key": "private key (a file)",
}


def required_setting(options: Mapping[str, object], name: str) -> str:
    """Return option ``name`` (``dsl``, ``cmdb``, ``rfc`` or ``key``), else ``TIDEGATE_<NAME>``.

    A leading ``~`` is expanded. Raises :class:`TidegateError` when neither is set.
    """
    value = optional_setting(options, name)
    if value is None:
        raise TidegateError(missing(name))
    return value


def missing(name: str) -> str:
    """What to say of a home that nobody gave."""
    return f"no {_WHAT[name]} given; set tidegate_{name} or the environment variable TIDEGATE_{name.upper()}"


def secret_setting(options: Mapping[str, object], name: str) -> str | None:
    """Return option ``name``, else ``TIDEGATE_<NAME>``, as it is; ``None`` when neither is set."""
    value = options.get(name) or os.environ.get(f"TIDEGATE_{name.upper()}")
    return str(value) if value else None


def optional_setting(options: Mapping[str, object], name: str) -> str | None:
    """Like :func:`required_setting`, but ``None`` when it is not set: the policy has a shipped default, and ``key`` may be left out."""
    value = options.get(name) or os.environ.get(f"TIDEGATE_{name.upper()}")
    if not value:
        return None
    return expanded(str(value))


def expanded(address: str) -> str:
    """An address as it was given, a leading ``~`` of a path expanded."""
    return address if "://" in address else str(Path(os.path.expanduser(address)))


def same(one: str, other: str) -> bool:
    """Whether two addresses name one home, whichever links and relative paths lead there."""
    if "://" in one or "://" in other:
        return one.rstrip("/") == other.rstrip("/")
    return os.path.realpath(one) == os.path.realpath(other)
