# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which spares a deployment has to reserve, and whether there are enough. Pure.

A unit that gets firmware without a way back, and does not come up with it, can only be replaced. So as many spares are reserved as can fail
before a gate looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .spare_rules import CANARY, SpareRules
from .stock import RuleStock
from .units import AVAILABLE, Unit, UnitState

_S = UnitState
_LISTED = 5  # CIs that a sentence has


@dataclass(frozen=True)
class Exposed:
    """A CI that needs a unit of a model: its own one can't be brought back by firmware alone, or is to be exchanged.

    ``slot``: where in the CI, empty for the machine itself; ``old``: the tag of the unit that is exchanged; ``instructions``: which file
    says how.
    """

    ci: str
    model: str
    site: str = ""
    slot: str = ""
    old: str = ""
    instructions: str = ""


@dataclass(frozen=True)
class SpareAllotment:
    """What a deployment reserves.

    ``needed``: how many of each model; ``taken``: the tags of the units, empty when there are too few of any; ``usable``: how many could be
    taken of each model; ``unusable``: why each other unit of these models does not count. ``misplaced``: CIs that don't have what is to be
    exchanged, a sentence for each.
    """

    needed: Mapping[str, int]
    taken: tuple[str, ...] = ()
    usable: Mapping[str, int] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()
    misplaced: tuple[str, ...] = ()

    @property
    def lacking(self) -> dict[str, int]:
        """How many are too few of each model."""
        return {model: count - self.usable.get(model, 0) for model, count in self.needed.items() if count > self.usable.get(model, 0)}

    @property
    def suffices(self) -> bool:
        """Whether there is a unit for each that needs one, and each has what is to be exchanged."""
        return not self.lacking and not self.misplaced

    def sentence(self) -> str:
        """How many are needed and how many there are, for a person."""
        parts = [
            f"{count} of {model} are needed and {self.usable.get(model, 0)} are usable" for model, count in sorted(self.needed.items())
        ]
        more = [f"and {len(self.misplaced) - _LISTED} more"] if len(self.misplaced) > _LISTED else []
        return "; ".join([*parts, *self.misplaced[:_LISTED], *more])


def exposed_at_once(waves: Sequence[Collection[str]], exposed: Iterable[Exposed], cover: str) -> list[Exposed]:
    """Those that can fail before a gate looks: of the first wave that has any, or by model of the wave that has most."""
    by_ci = {one.ci: one for one in exposed}
    listed = [[by_ci[ci] for ci in wave if ci in by_ci] for wave in waves]
    if cover == CANARY:
        return next((wave for wave in listed if wave), [])
    largest: dict[str, list[Exposed]] = {}
    for wave in listed:
        for model in {one.model for one in wave}:
            mine = [one for one in wave if one.model == model]
            if len(mine) > len(largest.get(model, ())):
                largest[model] = mine
    return [one for model in sorted(largest) for one in largest[model]]


def allot_spares(
    exposed: Sequence[Exposed],
    units: Iterable[Unit],
    behind: Mapping[str, str],
    stock: Iterable[RuleStock],
    rules: SpareRules,
    change: str,
    mine: int | None = None,
) -> SpareAllotment:
    """Find a spare for each of ``exposed``, the nearest stockroom first, or say how many are too few.

    ``units``: those of their models that are not retired; ``behind``: by tag, why their firmware is in the way; ``stock``: how it stands
    for each stock rule that counts these models; ``change``: the type of the RFC; ``mine``: the deployment, if it has reserved some.
    """
    needed = Counter(one.model for one in exposed)
    free: dict[str, list[Unit]] = {}
    unusable = []
    kept = list(stock)
    spare = [held.usable - held.rule.threshold for held in kept]
    counting: dict[tuple[str, str], list[int]] = {}
    for number, rule in enumerate(held.rule for held in kept):
        for model in (rule.model, *rule.substitutes):
            counting.setdefault((model, rule.stockroom), []).append(number)
    for unit in sorted(units, key=lambda unit: unit.tag):
        if unit.model not in needed or unit.state is _S.IN_USE:
            continue
        if mine is not None and unit.deployment == mine:
            free.setdefault(unit.model, []).append(unit)
            continue
        if (unit.state, unit.substate) != (_S.IN_STOCK, AVAILABLE):
            unusable.append(f"{unit.tag} is {unit}")
            continue
        if unit.tag in behind:
            unusable.append(f"{unit.tag} {behind[unit.tag]}")
            continue
        if change not in rules.undercut:
            numbers = counting.get((unit.model, unit.stockroom), [])
            if any(spare[number] <= 0 for number in numbers):
                unusable.append(f"{unit.tag} is one of those that {unit.stockroom} has to keep")
                continue
            for number in numbers:
                spare[number] -= 1
        free.setdefault(unit.model, []).append(unit)
    usable = {model: len(found) for model, found in free.items()}
    allotment = SpareAllotment(dict(needed), (), usable, tuple(unusable))
    if not allotment.suffices:
        return allotment
    taken = []
    for one in exposed:
        near = rules.near.get(one.site, ())
        places = {stockroom: place for place, stockroom in enumerate(near)}
        unit = min(
            free[one.model],
            key=lambda unit: (unit.deployment is None, places.get(unit.stockroom, len(places)), unit.stockroom, unit.tag),
        )
        free[one.model].remove(unit)
        taken.append(unit.tag)
    return SpareAllotment(dict(needed), tuple(taken), usable, tuple(unusable))
