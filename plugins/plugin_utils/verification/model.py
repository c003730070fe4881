# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the CMDB of a lab says before anything is deployed there: the doubles, how they are related, and what live has around them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .miniature import LiveHost, Miniature, live_host, named

# How a host is reached, where releases go there, and what its site has: each lab host has its own.
CONNECTION = ("ansible_", "tidegate_root", "tidegate_become", "tidegate_mirror")
LAB = "lab"  # the environment of each double

Relation = tuple[str, str, str]


@dataclass(frozen=True)
class Model:
    """``doubles`` and ``neighbours`` as rows of a CMDB, by name. Neighbours are CIs that doubles are related to and that get nothing:
    they are in the CMDB only. ``installed``: releases of neighbours. ``relations``: source, target and kind.
    ``lacking``: what of live is not in it, in words."""

    doubles: tuple[Mapping[str, Any], ...]
    neighbours: tuple[Mapping[str, Any], ...] = ()
    installed: tuple[Mapping[str, Any], ...] = ()
    relations: tuple[Relation, ...] = ()
    lacking: tuple[str, ...] = ()


def model(
    plan: Miniature, scope: Mapping[str, Mapping[str, Any]], around: Mapping[str, Mapping[str, Any]], relations: Iterable[Relation]
) -> Model:
    """Model the lab after ``scope``, the CIs that the release is for, and ``around``, those that are related to them, both as queries of a
    CMDB give them, by name.

    A relation with a CI of the scope that has no double becomes one with a double of its class and site, one that has the same releases if
    there is. None does that would close a circle, which live may not have.
    """
    doubles: dict[str, str] = {}
    for double, host in sorted(plan.hosts.items()):
        doubles.setdefault(host.name, double)
    wanted = sorted(relation for relation in relations if not doubles.keys().isdisjoint(relation[:2]))
    near = sorted({name for relation in wanted for name in relation[:2]} - scope.keys())
    names = doubles | {ci: name for name, ci in named(near, plan.hosts).items()}
    found = [(names[source], names[target], kind) for source, target, kind in wanted if {source, target} <= names.keys()]
    lacking = []
    for source, target, kind in wanted:
        if {source, target} <= names.keys():
            continue
        one, two = (names.get(name) or _like(plan, live_host(scope[name])) for name in (source, target))
        if one and two and (one, two, kind) not in found and not _leads(found, kind, two, one):
            found.append((one, two, kind))
        if (one, two, kind) not in found:
            lacking.append(f"in the lab no {scope[source]['class']} has the relation {kind} with a {scope[target]['class']}")
    for double, host in plan.hosts.items():  # a second double of one host is related as the first is
        same = {doubles[host.name]: double}
        if double not in same:
            found += [(same.get(one, one), same.get(two, two), kind) for one, two, kind in found if not same.keys().isdisjoint((one, two))]
    return Model(
        tuple(_row(double, scope[host.name]) | {"environment": LAB} for double, host in sorted(plan.hosts.items())),
        tuple(_row(names[ci], around[ci]) for ci in near),
        tuple({"ci": names[ci], "release": release, **has} for ci in near for release, has in sorted(around[ci]["installations"].items())),
        tuple(found),
        tuple(dict.fromkeys(lacking)),
    )


def _like(plan: Miniature, host: LiveHost) -> str | None:
    """A double that can stand for a host that has none of its own."""
    able = [(host.releases != one.releases, double) for double, one in plan.hosts.items() if one.group == host.group]
    return min(able)[1] if able else None


def _leads(relations: Collection[Relation], kind: str, source: str, target: str) -> bool:
    """Whether relations of a kind lead from one CI to another, which may be the same."""
    reached, left = {source}, [source]
    while left:
        here = left.pop()
        further = {two for one, two, of in relations if (one, of) == (here, kind)} - reached
        reached |= further
        left += further
    return target in reached


def _row(name: str, ci: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {key: value for key, value in ci["attributes"].items() if not key.startswith(CONNECTION)}
    return {"name": name, "class": ci["class"], "site": ci["site"], "environment": ci["environment"], "attributes": attributes}
