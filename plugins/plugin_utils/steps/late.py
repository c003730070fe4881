# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is late: hosts that should have a release by now, of deployments that are live on others and still support it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..cmdb.query import pick
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from ..rollout.deployments import Deployment, Deployments
from ..rollout.support import Support, moment
from .audit import Found, NotSeen, late_difference


def joined_since(cmdb: Cmdb, deployment: Deployment, cis: Sequence[dict[str, Any]] | None = None) -> list[str]:
    """The CIs that the scope of a deployment's RFC selects by now, as it was cleared, that are none of its hosts, and lack its release.

    Those that are written off are not meant. ``cis``: all CIs, see :meth:`.cmdb.store.Cmdb.query`, from whoever has them already. Empty
    when the scope is not on record, as of older deployments, or can't be evaluated.
    """
    deployments = Deployments(cmdb)
    scope = deployments.planned_scope(deployment.id)
    if not scope:
        return []
    everything = {str(ci["name"]): ci for ci in (cmdb.query() if cis is None else cis)}
    hosts = {target.host for target in deployments.targets(deployment.id)}
    with contextlib.suppress(TidegateError):
        picked = [everything[name] for name in set(pick(scope, list(everything.values()))) - hosts if name in everything]
        lacking = [ci for ci in picked if (ci["installations"].get(deployment.release) or {}).get("digest") != deployment.digest]
        return sorted(str(ci["name"]) for ci in lacking if ci["written_off"] is None)
    return []


def late_differences(cmdb: Cmdb, found: Mapping[str, Found], now: datetime) -> list[dict[str, object]]:
    """A difference, as :func:`.audit.compare` has them, for each host that answered and lacks a release which is brought in late.

    ``found``: host name to the list of ``release_facts``, or why there is none.
    """
    deployments = Deployments(cmdb)
    supporting = deployments.supporting()
    cis = cmdb.query() if supporting else []
    differences = []
    for deployment in supporting:
        support = deployments.support(deployment, now)
        what = f"{deployment.release} {deployment.version}"
        late = {one.host: f"{what} did not get there{f' ({one.why})' if one.why else ''}" for one in support.late}
        new = dict.fromkeys(joined_since(cmdb, deployment, cis), f"the scope of {deployment.rfc} selects it since {what} was planned")
        for host, why in sorted({**new, **late}.items()):
            if not _runs(found.get(host), deployment):
                remedy = _remedy(deployment, support, now, joined=host in new and host not in late)
                differences.append(late_difference(host, deployment.release, why, remedy))
    return differences


def _runs(answer: Found | None, deployment: Deployment) -> bool:
    """Whether a host runs a deployment's release, or it is not known what it runs, which the audit says already."""
    if answer is None or isinstance(answer, NotSeen):
        return True
    return any(entry["name"] == deployment.release and entry["digest"] == deployment.digest for entry in answer)


def _remedy(deployment: Deployment, support: Support, now: datetime, *, joined: bool) -> str:
    if joined:
        return f"edit {deployment.rfc} and have it approved anew, then deploy it again, or raise another RFC"
    if not support.lets_in(now):
        return "raise another RFC"
    return f"deploy {deployment.rfc} again, which brings it in until {moment(support.late_until)}"
