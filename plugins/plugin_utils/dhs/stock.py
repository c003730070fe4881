# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many units of a model a stockroom should have, how many it has, and how many are to be ordered. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import TidegateError
from .units import AVAILABLE, RESERVED, UnitState, check_texts

_MOST = 1_000_000  # units of a rule
_S = UnitState


@dataclass(frozen=True)
class StockRule:
    """With ``threshold`` usable units or fewer, so many are ordered from ``source`` that there are at least ``target``: a multiple of
    ``order_size``. Units of the models in ``substitutes`` count, too."""

    model: str
    stockroom: str
    threshold: int
    target: int
    order_size: int = 1
    source: str = ""
    substitutes: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise :class:`TidegateError` unless the figures make sense."""
        check_texts(self, ("model", "stockroom", "source"))
        if not (self.model and self.stockroom):
            raise TidegateError("a rule is for a model in a stockroom; name both")
        name = f"the rule for {self.model} in {self.stockroom}"
        if not 0 <= self.threshold < self.target <= _MOST:
            raise TidegateError(
                f"{name} has the threshold {self.threshold} and the target {self.target}; the target has to be more, and at most {_MOST}"
            )
        if not 1 <= self.order_size <= _MOST:
            raise TidegateError(f"{name} has the order size {self.order_size}; give a number from 1 to {_MOST}")
        if self.model in self.substitutes or len(set(self.substitutes)) < len(self.substitutes):
            raise TidegateError(f"{name} counts a model twice; list others under substitutes, each once")


@dataclass(frozen=True)
class RuleStock:
    """What a stockroom has for a rule. ``unfit``: how many of its units are there and count for nothing, by substate; ``on_the_way``:
    those that are ordered for it, or are in transit to it."""

    rule: StockRule
    usable: int = 0
    reserved: int = 0
    on_the_way: int = 0
    unfit: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_short(self) -> bool:
        """Whether it is time to order."""
        return self.usable <= self.rule.threshold

    @property
    def to_order(self) -> int:
        """How many to order: nothing unless it is short, and what is on the way already comes off."""
        lacking = self.rule.target - self.usable - self.on_the_way
        return -(-lacking // self.rule.order_size) * self.rule.order_size if self.is_short and lacking > 0 else 0

    def to_dict(self) -> dict[str, Any]:
        """The rule and its figures, as results and reports have them."""
        figures = {"usable": self.usable, "reserved": self.reserved, "on_the_way": self.on_the_way, "unfit": dict(self.unfit)}
        rule = {**asdict(self.rule), "substitutes": list(self.rule.substitutes)}
        return {**rule, **figures, "short": self.is_short, "to_order": self.to_order}

    def sentence(self) -> str:
        """How it stands, for a person."""
        parts = [
            f"{self.usable} usable",
            f"{self.reserved} reserved",
            f"{self.on_the_way} on the way",
        ]
        parts += [f"{count} {substate.replace('_', ' ')}" for substate, count in sorted(self.unfit.items())]
        source = f" from {self.rule.source}" if self.rule.source else ""
        low = f"; short, for {self.rule.threshold} is the threshold: " if self.is_short else ""
        order = f"order {self.to_order}{source}" if self.to_order else "enough is on the way" if self.is_short else ""
        return f"{self.rule.model} in {self.rule.stockroom}: {', '.join(parts)}{low}{order}"


def count_stock(rules: Iterable[StockRule], counts: Iterable[tuple[str, str, str, str, int]]) -> list[RuleStock]:
    """What there is for each rule, in their order. ``counts``: stockroom, model, state, substate, and how many units are so."""
    found: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
    for stockroom, model, state, substate, count in counts:
        found.setdefault((stockroom, model), {})[(state, substate)] = count
    return [_count(rule, [found.get((rule.stockroom, model), {}) for model in (rule.model, *rule.substitutes)]) for rule in rules]


def _count(rule: StockRule, found: Iterable[Mapping[tuple[str, str], int]]) -> RuleStock:
    usable = reserved = on_the_way = 0
    unfit: dict[str, int] = {}
    for counts in found:
        for (state, substate), count in counts.items():
            if state == _S.ON_ORDER or (state == _S.IN_TRANSIT and substate == AVAILABLE):
                on_the_way += count
            elif substate == AVAILABLE:
                usable += count
            elif substate == RESERVED:
                reserved += count
            else:
                unfit[substate] = unfit.get(substate, 0) + count
    return RuleStock(rule, usable, reserved, on_the_way, unfit)
