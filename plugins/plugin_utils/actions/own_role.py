# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that a package brings, where it can run, and what it gets to know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dsl.manifest import OwnAnsible, missing_collections
from ..dsl.package import Package
from ..dsl.repository import Repository
from ..dsl.role import check_packaged_role, unpack_role
from ..errors import TidegateError
from ..rollout.role_play import Role
from .documentation import argument_spec
from .role_run import handler_names, installed_version

_ROOT = argument_spec("tree")["root"]["default"]


def unpacked_role(home: Repository, package: Package, own: OwnAnsible, folder: Path) -> Role:
    """The role of ``package``, unpacked in ``folder``; ``own`` is what its manifest says of it.

    Raises :class:`TidegateError` when a collection that it needs is not there, or it is not what was archived.
    """
    missing = missing_collections(own, installed_version)
    if missing:
        raise TidegateError("; ".join(missing))
    check_packaged_role(home, package)
    path = unpack_role(home, package, folder)
    return Role(str(path), own.steps, tuple(handler_names(path)))


def roles_within(role: Role) -> list[str]:
    """Where Ansible finds the roles that a role brings."""
    nested = Path(role.path) / "roles"
    return [str(nested)] if nested.is_dir() else []


def role_variables(
    release: str, version: str, digest: str, before: Mapping[str, tuple[str | None, str | None]], tree: bool
) -> dict[str, Any]:
    """What a role gets to know, as extra variables: nothing shadows them.

    ``before``: by host, the version and digest that it had, ``None`` for none; ``tree``: whether the release has one on hosts.
    """
    return {
        "tidegate_release": release,
        "tidegate_version": version,
        "tidegate_digest": digest,
        "tidegate_tree": f"{{{{ tidegate_root | default('{_ROOT}') }}}}/{release}/current" if tree else "",
        "tidegate_before": {host: {"version": had or "", "digest": of or ""} for host, (had, of) in before.items()},
    }
