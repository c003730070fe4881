# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The step ``check`` of a release's own role, alone, on hosts that have the release as far as anybody knows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dsl.manifest import missing_collections
from ..dsl.package import load_package
from ..dsl.repository import Repository
from ..dsl.role import check_packaged_role, unpack_role
from ..errors import TidegateError
from ..rollout.role_play import HostVerdict, Role, check_alone, play, verdicts
from .role_run import RolePlay, installed_version, log_of, prepare_log, run_play


def check_by_role(
    action: Any, home: Repository, digest: str, hosts: Sequence[str], tree: str, cmdb: str, work: Path
) -> dict[str, HostVerdict]:
    """Run ``check`` of the role of the package ``digest`` on ``hosts``; what came of it on each. None are there for a role without it.

    ``tree``: where the release's tree is on hosts, empty when it has none; ``work``: a directory of this user's alone. Raises
    :class:`TidegateError` when the role can't be run.
    """
    package = load_package(home, digest)
    own, what = package.manifest.ansible, f"{package.manifest.name} {package.manifest.version}"
    if own is None or "check" not in own.steps or not hosts:
        return {}
    missing = missing_collections(own, installed_version)
    if missing:
        raise TidegateError("; ".join(missing))
    check_packaged_role(home, package)
    path = unpack_role(home, package, work / "role")
    parts = check_alone(Role(str(path), own.steps), what)
    log = log_of(f"adopt {what}", None)
    prepare_log(log)
    end = f"the end, {secrets.token_hex(8)}"
    mark = f"adopt {what}:{int(time.time() * 1000)}"
    nested = path / "roles"
    wanted = RolePlay(
        play(f"Check {what}", hosts, parts, mark, end, facts=own.gather_facts, tree={}),
        end,
        {"": own.timeout, **{part.called: own.timeout for part in parts}},
        _variables(package.manifest.name, package.manifest.version, digest, hosts, tree),
        [str(nested)] if nested.is_dir() else [],
        log,
    )
    seen = run_play(action, wanted, {"cmdb": cmdb, "deployment": None, "token": 0}, work, lambda: None)
    found = verdicts(hosts, seen.receipts, seen.failures, seen.ended)
    return {host: HostVerdict(one.problem and f"{one.problem}, see {log}", one.unreachable) for host, one in found.items()}


def _variables(name: str, version: str, digest: str, hosts: Sequence[str], tree: str) -> Mapping[str, Any]:
    """What the role gets to know in a deployment, too."""
    return {
        "tidegate_release": name,
        "tidegate_version": version,
        "tidegate_digest": digest,
        "tidegate_tree": tree,
        "tidegate_before": {host: {"version": "", "digest": ""} for host in hosts},
    }
