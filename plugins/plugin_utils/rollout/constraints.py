# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the policy's constraints on a plan come to for the CIs of a scope: rings, canary, and how much has to stay up. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..cmdb.query import QueryError, pick, search_each
from ..errors import TidegateError
from .options import Rollout, Share
from .planner import Limit, Limits, PlanHost, shown, some
from .redundancy import named_in, place_of

Ci = Mapping[str, Any]
_SHOWN = 10  # sets that can't be kept, of those that one key of the policy is about
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of a field or an attribute; anything else is an expression


@dataclass(frozen=True)
class Neighbours:
    """What the CMDB has besides the scope.

    ``others``: hosts that the release does not go to, those of the scope among them that were written off. ``services``: by name of a
    CI, those that it depends on. ``written_off``: which of the hosts that the policy names as the canary were.
    """

    others: Sequence[Ci] = ()
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)
    written_off: Collection[str] = ()


def asks_for_others(rollout: Rollout) -> bool:
    """Whether a plan depends on hosts that the release does not go to, if only to tell a rule about nobody from one about none of these."""
    constraints = rollout.constraints
    stay_up, rings = constraints.stay_up, constraints.rings
    asks = stay_up.redundant is not None or bool(stay_up.groups or stay_up.services or constraints.classes)
    return asks or (rings is not None and None in rings.order)


def plan_input(cis: Sequence[Ci], rollout: Rollout, neighbours: Neighbours, release: str) -> tuple[list[PlanHost], Limits]:
    """The CIs of a scope as the planner takes them, and what of the policy's constraints applies to them.

    ``release``: its name and version, by which hosts are shuffled if they are. What can't be kept is among the faults of the limits.
    """
    gathered = _Gathered(cis, rollout, neighbours)
    rings = gathered.rings()
    groups = [_value(ci, rollout.order_by) if rollout.order_by is not None else None for ci in cis]
    hosts = [PlanHost(str(ci["name"]), group, ring) for ci, group, ring in zip(cis, groups, rings, strict=True)]
    limits = tuple(gathered.limits())
    canary = frozenset(gathered.canary())
    return hosts, Limits(limits, canary, release if rollout.constraints.shuffle else "", tuple(gathered.faults), tuple(gathered.remarks))


class _Gathered:
    """One scope and its policy; ``faults`` has what can't be kept, ``remarks`` what was passed over."""

    def __init__(self, cis: Sequence[Ci], rollout: Rollout, neighbours: Neighbours) -> None:
        self._cis, self._constraints, self._neighbours = cis, rollout.constraints, neighbours
        self._scope = {str(ci["name"]) for ci in cis}
        self._all = {str(ci["name"]): ci for ci in (*neighbours.others, *cis)}
        self.faults: list[str] = []
        self.remarks: list[str] = []

    def rings(self) -> list[int]:
        """By CI, the place of its ring."""
        rings = self._constraints.rings
        if rings is None:
            return [0] * len(self._cis)
        others = self._neighbours.others if None in rings.order else ()
        try:
            values = [_text(value) for value in _ring_values(rings.by, [*self._cis, *others])]
        except QueryError as error:
            self.faults.append(f"rollout.rings.by, {rings.by!r:.200}, can't be evaluated: {error}; correct it in the policy")
            return [0] * len(self._cis)
        if None in rings.order and not any(value is not None for value in values):
            self.faults.append(f"no host of the CMDB has a ring by {shown(rings.by)}; correct rollout.rings.by, or the CMDB")
        places = {value: place for place, value in enumerate(rings.order)}
        strange: dict[str | None, list[str]] = defaultdict(list)
        values = values[: len(self._cis)]
        for ci, value in zip(self._cis, values, strict=True):
            if value not in places:
                strange[value].append(str(ci["name"]))
        for value, names in strange.items():
            ring = "no ring" if value is None else f"the ring {value!a:.80}"
            self.faults.append(f"{some(names)}: {ring}, which rollout.rings.order does not have; add it there, or correct the CMDB")
        return [places.get(value, 0) for value in values]

    def canary(self) -> Iterable[str]:
        """The hosts that the policy says are the canary."""
        wanted = self._constraints.canary_hosts
        if not wanted:
            return ()
        if isinstance(wanted, str):
            try:
                names = tuple(dict.fromkeys(pick(wanted, [dict(ci) for ci in self._cis])))
            except TidegateError as error:
                self.faults.append(f"rollout.canary_hosts: {error}")
                return ()
            if not names:
                self.faults.append(
                    f"rollout.canary_hosts, {wanted!r:.200}, picks none of the hosts; correct it in the policy, or the scope"
                )
        else:
            gone = [name for name in wanted if name in self._neighbours.written_off and name not in self._scope]
            names = tuple(name for name in wanted if name not in gone)
            if gone and names:
                self.remarks.append(f"the canary is without {some(gone)}, written off; name others in rollout.canary_hosts")
            elif gone:
                self.faults.append(f"the canary {some(gone)} was written off; name another in rollout.canary_hosts")
        if strangers := [name for name in names if name not in self._scope]:
            self.faults.append(
                f"the canary {some(strangers)} is not among the hosts that get the release; correct rollout.canary_hosts, or the scope"
            )
        return names

    def limits(self) -> Iterator[Limit]:
        """How many hosts of what does the same a wave may have."""
        for name, share in self._constraints.classes.items():
            yield from self._of_class(name, share)
        stay_up = self._constraints.stay_up
        if stay_up.redundant is not None:
            sets = ((f"redundant {some(members)}", members) for members in self._redundant())
            yield from self._kept(sets, stay_up.redundant, "redundant")
        for by, share in stay_up.groups.items():
            found = self._grouped(partial(_value, by=by))
            if not found:
                self.faults.append(f"no host of the CMDB has {shown(by)}; correct rollout.stay_up.groups, or the CMDB")
            yield from self._kept(((f"{by} {shown(value)}", names) for value, names in found.items()), share, f"groups.{by}")
        for name, share in stay_up.services.items():
            yield from self._kept([(f"service {shown(name)}", self._serving(name))], share, f"services.{name}")

    def _of_class(self, name: str, share: Share) -> Iterator[Limit]:
        of_class = [host for host, ci in self._all.items() if str(ci["class"]).casefold() == name.casefold()]
        hosts = tuple(host for host in of_class if host in self._scope)
        most = max(1, share.at_most(len(hosts)))
        if not of_class:
            self.faults.append(f"no host of the CMDB is of class {shown(name)}; correct rollout.classes, or the CMDB")
        elif hosts:
            yield Limit(f"a wave has {most} of class {shown(name)} at most", hosts, most)

    def _kept(self, sets: Iterable[tuple[str, Sequence[str]]], share: Share, key: str) -> Iterator[Limit]:
        """The limits under which a share of each set stays up; a fault where none of its members in scope could change then.

        A set is a pair of how a sentence calls it, and its members.
        """
        faults = []
        for what, members in sets:
            hosts = tuple(name for name in members if name in self._scope)
            total = len(members)
            gone = sum(self._all[name].get("written_off") is not None for name in members)
            keep = share.at_least(total)
            if not hosts:
                continue
            if total - gone - keep >= 1:
                yield Limit(f"{what} keeps {keep} of {total} up", hosts, total - gone - keep)
                continue
            counted = f"{what} has {'1 host' if total == 1 else f'{total} hosts'}{f', {gone} of them written off' if gone else ''}"
            free = f"{100 - share.value}% of {total} is none" if share.percent and total - keep < 1 else f"{keep} have to stay up"
            faults.append(f"{counted}, {free}, so {some(hosts)} can't change; lower rollout.stay_up.{key}, or correct the CMDB")
        self.faults += faults[:_SHOWN]
        if len(faults) > _SHOWN:
            self.faults.append(f"{len(faults) - _SHOWN} more that rollout.stay_up.{key} is about can't change either")

    def _redundant(self) -> list[tuple[str, ...]]:
        """Each CI with those that stand in for it, once, and those of one place."""
        partners: dict[str, set[str]] = defaultdict(set)
        for name, ci in self._all.items():
            named = named_in(ci["attributes"])
            if named is None and name in self._scope:
                self.faults.append(f"{name}: its attribute redundant_with is no list of names; correct the CMDB")
            strangers = [shown(other) for other in named or () if other not in self._all]
            if strangers and name in self._scope:
                self.faults.append(f"{name}: it is redundant_with {some(strangers)}, no host of the CMDB; correct that there")
            for other in named or ():
                if other in self._all and other != name:
                    partners[name].add(other)
                    partners[other].add(name)
        found = {tuple(sorted({name, *others})) for name, others in partners.items()}
        found.update(tuple(sorted(names)) for names in self._grouped(lambda ci: place_of(ci["attributes"])).values() if len(names) > 1)
        return sorted(found)

    def _grouped(self, key: Callable[[Ci], Any]) -> dict[Any, list[str]]:
        found: dict[Any, list[str]] = defaultdict(list)
        for name in sorted(self._all):
            if (value := key(self._all[name])) not in (None, ""):
                found[value].append(name)
        return found

    def _serving(self, service: str) -> list[str]:
        """The hosts that a service depends on."""
        names = sorted(name for name in self._neighbours.services.get(service, ()) if name in self._all)
        if not names:
            self.faults.append(
                f"the service {shown(service)} depends on no host of the CMDB; relate it by depends_on, or correct rollout.stay_up.services"
            )
        return names


def _ring_values(by: str, cis: Sequence[Ci]) -> list[Any]:
    return [_field(ci, by) for ci in cis] if _NAME.fullmatch(by) else search_each(by, [dict(ci) for ci in cis])


def _field(ci: Ci, by: str) -> Any:
    return ci.get(by, ci["attributes"].get(by))


def _value(ci: Ci, by: str) -> str | None:
    return _text(_field(ci, by))


def _text(value: object) -> str | None:
    """A value as policies write it."""
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)
