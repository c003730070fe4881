# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much like live a lab is: what each host and its double have is compared, and comes to a score. Pure.

What is not known of either side is a difference: a lab that nobody can compare is not like live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .miniature import Miniature

# What each part is worth when nothing differs; together 100.
WEIGHTS: Mapping[str, int] = {"os": 25, "releases": 25, "packages": 20, "python": 15, "topology": 15}
_NAMED = 5  # packages that a sentence names
_LISTED = 200  # differences that the evidence lists

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Parity:
    """``score`` is 0 to 100, and 100 only when nothing differs; ``parts`` are what it is made of, each at most its weight."""

    score: int
    parts: Mapping[str, float]
    differences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As evidence has it."""
        more = [f"and {len(self.differences) - _LISTED} more"] if len(self.differences) > _LISTED else []
        return {"score": self.score, "parts": dict(self.parts), "differences": [*self.differences[:_LISTED], *more]}


def compare(plan: Miniature, live: Mapping[str, Facts], lab: Mapping[str, Facts]) -> Parity:
    """Compare hosts with their doubles. ``live`` and ``lab`` are what host_facts found, by the names that hosts have there.

    Facts of the lab have ``releases`` besides: name, version and digest of each that was installed before the release came.
    """
    differences = list(plan.lacking)
    shares: dict[str, list[float]] = {part: [] for part in WEIGHTS}
    compared: dict[str, Callable[[Any, Any], tuple[float, str]]] = {"os": _os, "python": _python, "packages": _packages}
    for double, host in sorted(plan.hosts.items()):
        here, there = lab.get(double, {}), live.get(host.name, {})
        for part, look in compared.items():
            one, other = there.get(part), here.get(part)
            unknown = " and ".join(where for where, value in (("live", one), ("in the lab", other)) if not value)
            share, difference = (0.0, f"not known {unknown}") if unknown else look(one, other)
            shares[part].append(share)
            differences += [f"{host.name}: {part}: {difference}"] if difference else []
        installed = here.get("releases")
        same = installed is not None and {tuple(one) for one in installed} == set(host.releases)
        shares["releases"].append(float(same))
        if not same:
            differences.append(f"{host.name}: releases: {_listed(host.releases)} live, {_listed(installed)} in the lab")
    # Each sentence about what live has more of says that a group or a combination is not as it is there.
    groups = len({host.group for host in plan.hosts.values()})
    shares["topology"].append(groups / (groups + len(plan.lacking)) if groups else 0.0)
    parts = {part: WEIGHTS[part] * (sum(found) / len(found) if found else 0.0) for part, found in shares.items()}
    score = int(sum(parts.values()) + 1e-9)
    return Parity(score, {part: round(value, 1) for part, value in parts.items()}, tuple(differences))


def _os(live: Any, lab: Any) -> tuple[float, str]:
    """Its name is half of it, its version the other."""
    one, other = (f"{of.get('id')} {of.get('version')} on {of.get('architecture')}" for of in (live, lab))
    if one == other:
        return 1.0, ""
    same = (live.get("id"), live.get("architecture")) == (lab.get("id"), lab.get("architecture"))
    return (0.5 if same else 0.0), f"{one} live, {other} in the lab"


def _python(live: Any, lab: Any) -> tuple[float, str]:
    """A version such as 3.11.2; up to its second number it is half of it."""
    if live == lab:
        return 1.0, ""
    return (0.5 if live.split(".")[:2] == lab.split(".")[:2] else 0.0), f"{live} live, {lab} in the lab"


def _packages(live: Any, lab: Any) -> tuple[float, str]:
    """The share of all packages that both have in the same version."""
    names = sorted(live.keys() | lab.keys())
    other = [name for name in names if live.get(name) != lab.get(name)]
    if not other:
        return 1.0, ""
    told = ", ".join(f"{name} {live.get(name) or 'not'} live, {lab.get(name) or 'not'} in the lab" for name in other[:_NAMED])
    return 1 - len(other) / len(names), f"{len(other)} of {len(names)} differ: {told}{' ...' if len(other) > _NAMED else ''}"


def _listed(releases: Any) -> str:
    if releases is None:
        return "not known"
    return ", ".join(f"{name} {version}" for name, version, _digest in sorted(tuple(one) for one in releases)) or "none"
