# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A miniature of live: few hosts that together have what live has, its sites, classes, redundancy and installed releases. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

PER_GROUP = 2  # hosts of a site and class: as many as it takes to have one beside another
_LONGEST = 50  # signs of a lab host's name

Group = tuple[str, str]
Combination = frozenset[tuple[str, str, str]]


@dataclass(frozen=True)
class LiveHost:
    """A host as the CMDB has it, where names are unique. ``releases``: name, version and digest of each that is installed."""

    name: str
    class_: str = "server"
    site: str = ""
    releases: Combination = frozenset()

    @property
    def group(self) -> Group:
        """What makes hosts alike, whatever they run."""
        return self.class_, self.site

    @property
    def kind(self) -> tuple[str, Combination]:
        """What an upgrade can meet."""
        return self.class_, self.releases


@dataclass(frozen=True)
class Miniature:
    """``hosts``: the live hosts that have a double in the lab, by the double's name. ``lacking``: what of live has none, in words."""

    hosts: Mapping[str, LiveHost]
    lacking: tuple[str, ...] = ()

    @property
    def releases(self) -> list[tuple[str, str, str]]:
        """Every release that some double has, each once."""
        return sorted({release for host in self.hosts.values() for release in host.releases})


def live_host(ci: Mapping[str, Any]) -> LiveHost:
    """A CI as a query of the CMDB gives it."""
    installed = ((name, str(one["version"]), str(one["digest"])) for name, one in ci["installations"].items())
    return LiveHost(str(ci["name"]), ci["class"] or "", ci["site"] or "", frozenset(installed))


def miniature(live: Iterable[LiveHost], limit: int, needed: Collection[str] = ()) -> Miniature:
    """Choose doubles for at most ``limit`` hosts, what matters most first.

    First come those whose names are ``needed``, then hosts that together run, in each class, every combination of releases that is
    installed there; then one of each site and class; then a second one wherever live has more than one. More than two of a site and class
    are chosen only for combinations that are nowhere else.
    """
    hosts = sorted(live, key=lambda host: host.name)
    chosen: list[LiveHost] = []
    taken: Counter[Group] = Counter()

    def take(host: LiveHost) -> None:
        chosen.append(host)
        taken[host.group] += 1

    for host in hosts:
        if host.name in needed:
            take(host)
    there = {host.kind for host in chosen}
    kinds: dict[tuple[str, Combination], list[LiveHost]] = {}
    for host in hosts:
        kinds.setdefault(host.kind, []).append(host)
    for kind in sorted(kinds.keys() - there, key=lambda one: (-len(kinds[one]), one[0], sorted(one[1]))):
        # In a group with room for it, so that no group gets more than it has to.
        take(min(kinds[kind], key=lambda host: (min(taken[host.group], PER_GROUP), host.name)))
    for wanted in range(1, PER_GROUP + 1):
        names = {host.name for host in chosen}
        for host in hosts:
            if taken[host.group] < wanted and host.name not in names:
                take(host)
    kept = {host.name: host for host in chosen[:limit]}
    return Miniature({name: kept[ci] for name, ci in named(sorted(kept)).items()}, tuple(_lacking(hosts, kept.values())))


def with_untouched(plan: Miniature, release: str, needs: Callable[[LiveHost], Combination], unlike: Collection[str] = ()) -> Miniature:
    """``plan`` with a double more that has nothing of ``release``, if all of its doubles have some: going back to having none is rehearsed
    too. ``needs`` says what else has to be on a host for the release to be; ``unlike`` of which hosts it is no double if there are others.
    """
    if not plan.hosts or any(release not in {name for name, _version, _digest in host.releases} for host in plan.hosts.values()):
        return plan
    _double, host = min(plan.hosts.items(), key=lambda item: (item[1].name in unlike, item[0]))
    name = next(iter(named([f"{host.name}-untouched"], plan.hosts)))
    return replace(plan, hosts={**plan.hosts, name: replace(host, releases=needs(host))})


def _lacking(hosts: Collection[LiveHost], kept: Collection[LiveHost]) -> Iterable[str]:
    """What a limit left out."""
    for kind in sorted({host.kind for host in hosts} - {host.kind for host in kept}, key=lambda one: (one[0], sorted(one[1]))):
        listed = ", ".join(f"{name} {version}" for name, version, _digest in sorted(kind[1])) or "no release"
        yield f"no {kind[0]} in the lab has {listed}"
    there, left = Counter(host.group for host in hosts), Counter(host.group for host in kept)
    for group in sorted(there):
        where = f"{group[0]} at {group[1] or 'no site'}"
        if not left[group]:
            yield f"the lab has no {where}"
        elif left[group] < min(there[group], PER_GROUP):
            yield f"the lab has one {where}, live {there[group]}"


def named(cis: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Each CI by a name that a lab host can have, and that is not ``taken``."""
    found: dict[str, str] = {}
    for ci in cis:
        plain = re.sub(r"[^a-z0-9]+", "-", ci.lower())[:_LONGEST].strip("-")
        if plain in ("", "localhost"):  # which is the controller
            plain = f"host-{plain}".rstrip("-")
        name, number = plain, 1
        while name in found or name in taken:
            number += 1
            name = f"{plain}-{number}"
        found[name] = ci
    return found
