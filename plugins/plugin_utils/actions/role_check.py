# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The step ``check`` of a release's own role, alone, on hosts that have the release as far as anybody knows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..dsl.package import load_package
from ..dsl.repository import Repository
from ..rollout.leftovers import log_of
from ..rollout.role_play import HostVerdict, check_alone, play, verdicts
from .own_role import role_variables, roles_within, unpacked_role
from .role_run import RolePlay, prepare_log, run_play


def check_by_role(action: Any, home: Repository, digest: str, hosts: Sequence[str], cmdb: str, work: Path) -> dict[str, HostVerdict]:
    """Run ``check`` of the role of the package ``digest`` on ``hosts``; what came of it on each. None are there for a role without it.

    ``work``: a directory of this user's alone. Raises :class:`TidegateError` when the role can't be run.
    """
    package = load_package(home, digest)
    manifest = package.manifest
    own, what = manifest.ansible, f"{manifest.name} {manifest.version}"
    if own is None or "check" not in own.steps or not hosts:
        return {}
    role = unpacked_role(home, package, own, work / "role")
    parts = check_alone(role, what)
    log = log_of(f"adopt {what}", None)
    prepare_log(log)
    end = f"the end, {secrets.token_hex(8)}"
    mark = f"adopt {what}:{int(time.time() * 1000)}"
    wanted = RolePlay(
        play(f"Check {what}", hosts, parts, mark, end, facts=own.gather_facts, tree={}),
        end,
        {"": own.timeout, **{part.called: own.timeout for part in parts}},
        role_variables(manifest.name, manifest.version, digest, dict.fromkeys(hosts, (None, None)), manifest.payload is not None),
        roles_within(role),
        log,
    )
    seen = run_play(action, wanted, {"cmdb": cmdb, "deployment": None, "token": 0}, work, lambda: None)
    found = verdicts(hosts, seen.receipts, seen.failures, seen.ended)
    return {host: HostVerdict(one.problem and f"{one.problem}, see {log}", one.unreachable) for host, one in found.items()}
