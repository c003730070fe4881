# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order hosts get a release: the plan. Pure: the same hosts and rollout always give the same waves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import TidegateError
from .options import Rollout, Share


@dataclass(frozen=True)
class PlanHost:
    """A host in scope. ``group`` is its value of the CI attribute ``order_by`` (a site, say); ``None`` if it has none."""

    name: str
    group: str | None = None


def plan_hosts(cis: Iterable[Mapping[str, Any]], rollout: Rollout) -> list[PlanHost]:
    """The CIs as the plan takes them, each with its value of the field or attribute that orders the rollout."""
    by = rollout.order_by
    groups = ((str(ci["name"]), None if by is None else ci.get(by, ci["attributes"].get(by))) for ci in cis)
    return [PlanHost(name, None if group is None else str(group)) for name, group in groups]


def plan_waves(hosts: Sequence[PlanHost], rollout: Rollout) -> tuple[tuple[str, ...], ...]:
    """Cut ``hosts`` in waves; every host is in exactly one, no wave is empty.

    Hosts are taken group by group (sorted by the group's name, hosts without a group last), by name within a group;
    their order in ``hosts`` does not matter. The first wave is the canary: at least one host, at most the first group.
    A further wave ends wherever ``rollout.steps`` has reached its percentage of *all* hosts, rounded up, and at the end of
    each group: a wave never mixes groups, so that a site is finished, and its gate passed, before the next one is touched.

    Raises :class:`TidegateError` for no hosts and for a name that comes twice.
    """
    if not hosts:
        raise TidegateError("no host to deploy to; check the scope of the RFC against the CMDB")
    twice = sorted(name for name, count in Counter(host.name for host in hosts).items() if count > 1)
    if twice:
        raise TidegateError(f"hosts that are in scope more than once: {', '.join(twice)}; name each CI once")

    ordered = sorted(hosts, key=lambda host: (host.group is None, host.group or "", host.name))
    total = len(ordered)
    ends = {end for end, (left, right) in enumerate(pairwise(ordered), start=1) if left.group != right.group} | {total}
    canary = min(max(1, rollout.canary.at_least(total)), *ends, total)
    steps = {Share(step, percent=True).at_least(total) for step in rollout.steps}
    cuts = [0, canary, *sorted(end for end in ends | steps if canary < end <= total)]
    return tuple(tuple(host.name for host in ordered[start:end]) for start, end in pairwise(cuts))
