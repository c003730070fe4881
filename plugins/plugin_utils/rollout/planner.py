# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order hosts get a release: the plan. Pure: the same hosts and rollout always give the same waves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
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


def plan_waves(hosts: Sequence[PlanHost], rollout: Rollout, order: Iterable[tuple[str, str]] = ()) -> tuple[tuple[str, ...], ...]:
    """Cut ``hosts`` in waves; every host is in exactly one, no wave is empty.

    Hosts are taken group by group (sorted by the group's name, hosts without a group last), by name within a group;
    their order in ``hosts`` does not matter. The first wave is the canary: at least one host, at most the first group.
    A further wave ends wherever ``rollout.steps`` has reached its percentage of *all* hosts, rounded up, and at the end of
    each group: a wave never mixes groups, so that a site is finished, and its gate passed, before the next one is touched.

    ``order``: pairs of hosts of which the first is in an earlier wave than the second, whatever their groups. Where that takes it, hosts
    come later than they would, and a wave ends before one that has to wait for it.

    Raises :class:`TidegateError` for no hosts, for a name that comes twice, and for hosts that would wait for one another.
    """
    if not hosts:
        raise TidegateError("no host to deploy to; check the scope of the RFC against the CMDB")
    twice = sorted(name for name, count in Counter(host.name for host in hosts).items() if count > 1)
    if twice:
        raise TidegateError(f"hosts that are in scope more than once: {', '.join(twice)}; name each CI once")

    ordered = sorted(hosts, key=lambda host: (host.group is None, host.group or "", host.name))
    first = _waited_for(ordered, order)
    ordered = _arranged(ordered, first) if first else ordered
    total = len(ordered)
    ends = {end for end, (left, right) in enumerate(pairwise(ordered), start=1) if left.group != right.group} | {total}
    canary = min(max(1, rollout.canary.at_least(total)), *ends, total)
    steps = {Share(step, percent=True).at_least(total) for step in rollout.steps}
    cuts = [0, canary, *sorted(end for end in ends | steps if canary < end <= total)]
    waves = (tuple(host.name for host in ordered[start:end]) for start, end in pairwise(cuts))
    return tuple(part for wave in waves for part in _parted(wave, first)) if first else tuple(waves)


def _waited_for(hosts: Iterable[PlanHost], order: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Each host that has to wait, with those that it waits for."""
    pairs = tuple(order)
    names = {host.name for host in hosts} if pairs else set()
    first: dict[str, set[str]] = {}
    for earlier, later in pairs:
        if earlier in names and later in names:
            first.setdefault(later, set()).add(earlier)
    return first


def _arranged(hosts: Sequence[PlanHost], first: Mapping[str, set[str]]) -> list[PlanHost]:
    """The hosts with as few as possible moved behind those that they wait for."""
    place = {host.name: number for number, host in enumerate(hosts)}
    sorter = TopologicalSorter({host.name: first.get(host.name, ()) for host in hosts})
    try:
        sorter.prepare()
    except CycleError as error:
        names = ", ".join(reversed(error.args[1]))
        raise TidegateError(f"hosts that wait for one another ({names}) can't be put in waves; deploy another version first") from None
    ready: list[int] = []
    arranged = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heappush(ready, place[name])
        host = hosts[heappop(ready)]
        arranged.append(host)
        sorter.done(host.name)
    return arranged


def _parted(wave: Sequence[str], first: Mapping[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """The wave in parts in which no host waits for another."""
    part: list[str] = []
    for host in wave:
        if not first.get(host, set()).isdisjoint(part):
            yield tuple(part)
            part = []
        part.append(host)
    yield tuple(part)
