# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured while a wave bakes: metrics, how often, and what of each is good, bad or worse. Pure.

A *bake* is the time between the second look at the hosts of a wave and its gate, in which metrics of theirs are measured.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, pairwise
from math import inf, isfinite, nextafter
from string import Template
from typing import Any, Literal

_TERM = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_MEETS = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
    "==": lambda value, bound: value == bound,
    "!=": lambda value, bound: value != bound,
}
WORDS = ("release", "version", "hosts")
"""What a query may have placeholders for, as ``$release``; each stands for a whole string literal of PromQL, quotes and all."""
EFFECTS = {"values": 0.71, "counts": 1.5}
"""By kind of comparison, how much worse hosts have to be to count as worse, unless the policy says: P(X > Y), and relative risk."""
_REGEX = re.compile(r"[\\.+*?()|\[\]{}^$]")  # what means something in a regular expression of RE2

_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|`[^`]*`')  # a string literal of PromQL


@dataclass(frozen=True)
class Comparison:
    """A condition that a number can meet, such as ``< 0.01`` or ``>= 0.5 and <= 2``: all of ``terms``, each an operator and a bound."""

    terms: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Comparison:
        """Read a condition; raises :class:`ValueError` for anything else. No part of it is ever evaluated as code."""
        terms = []
        for part in re.split(r"\band\b", text):
            match = _TERM.fullmatch(part)
            if match is None or not isfinite(float(match[2])):
                raise ValueError(text)
            terms.append((match[1], float(match[2])))
        return cls(tuple(terms))

    def holds(self, value: float) -> bool:
        """Whether a number meets it; what is no number meets nothing."""
        return isfinite(value) and all(_MEETS[operator](value, bound) for operator, bound in self.terms)

    def overlap(self, other: Comparison) -> float | None:
        """A number that meets both, if there is one."""
        bounds = sorted({bound for _operator, bound in (*self.terms, *other.terms)})
        around = chain.from_iterable((nextafter(bound, -inf), bound, nextafter(bound, inf)) for bound in bounds)
        between = ((low + high) / 2 for low, high in pairwise(bounds))
        return next((value for value in (*around, *between) if self.holds(value) and other.holds(value)), None)


@dataclass(frozen=True)
class Compared:
    """How hosts with the release are compared with those that still have the one before."""

    kind: Literal["values", "counts"]
    """``values``: one value a host, the median over the bake, by Mann-Whitney's test; ``counts``: how many of how many, the sums over the
    bake, by Fisher's."""
    total: str = ""
    """The query for of how many the counts are."""
    worse: Literal["higher", "lower"] = "higher"
    """Which values are the worse ones."""
    alpha: float = 0.05
    """Below which p a difference is no chance."""
    effect: float | None = None
    """Above which effect it matters; ``None`` for the usual one, see :data:`EFFECTS`."""

    @property
    def bound(self) -> float:
        """The effect that has to be exceeded."""
        return EFFECTS[self.kind] if self.effect is None else self.effect


@dataclass(frozen=True)
class Metric:
    """What is measured, when, and how much of what is not good is borne with."""

    name: str
    """Its name in sentences, of this bake's alone."""
    query: str
    """An instant query in PromQL; see :data:`WORDS`."""
    good: str = ""
    """The condition for good values; empty for all that are not ``bad``."""
    bad: str = ""
    """The condition for bad ones; empty for all that are not ``good``."""
    every: float = 60
    """Seconds from one measurement to the next."""
    count: int | None = None
    """How many of them have to be good; ``None`` for as many as fit into the bake."""
    delay: float = 0
    """Seconds from the beginning of the bake to the first one."""
    failures: int = 0
    """How many bad ones are borne with."""
    errors: int = 4
    """How many may fail in a row."""
    inconclusive: int = 0
    """How many may be neither good nor bad."""
    of: Literal["hosts", "wave"] = "hosts"
    """Whether there is one value for each host, or one for all."""
    label: str = "instance"
    """The label that says of which host a value is; a port behind the host's name is ignored."""
    compare: Compared | None = None
    """How it is compared, in place of ``good`` and ``bad``."""

    @cached_property
    def is_good(self) -> Comparison | None:
        """The condition that good values meet; ``None`` for one that only has bad ones, or compares."""
        return Comparison.parse(self.good) if self.good else None

    @cached_property
    def is_bad(self) -> Comparison | None:
        """The condition that bad values meet."""
        return Comparison.parse(self.bad) if self.bad else None

    def judge(self, value: float) -> Literal["good", "bad", "inconclusive"]:
        """What one value is. One that meets the condition for bad ones is bad whatever else it meets."""
        if not isfinite(value):
            return "inconclusive"
        if self.is_bad is not None and self.is_bad.holds(value):
            return "bad"
        if self.is_good is None or self.is_good.holds(value):
            return "good"
        return "bad" if self.is_bad is None else "inconclusive"

    def needed(self, minutes: float) -> int:
        """How many good measurements a bake of so many minutes needs."""
        return self.count or max(1, int((minutes * 60 - self.delay) // self.every) + 1)


@dataclass(frozen=True)
class Bake:
    """For how many ``minutes`` at least a wave bakes, and what is measured meanwhile."""

    minutes: float
    metrics: tuple[Metric, ...]

    @property
    def seconds(self) -> float:
        """How long it takes when nothing has to be measured again."""
        return max([self.minutes * 60, *(one.delay + (one.needed(self.minutes) - 1) * one.every for one in self.metrics)])

    @property
    def compares(self) -> bool:
        """Whether hosts are compared with others."""
        return any(metric.compare is not None for metric in self.metrics)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Bake:
        """Read what :meth:`to_dict` made, or the section of a policy that was checked."""
        metrics = ({**one, "compare": Compared(**one["compare"]) if one.get("compare") else None} for one in data["metrics"])
        return cls(data["minutes"], tuple(Metric(**one) for one in metrics))


@dataclass(frozen=True)
class BakeVerdict:
    """What a bake has come to, with a sentence; ``baking`` when that is not known yet."""

    outcome: Literal["baking", "good", "bad", "inconclusive"]
    reason: str
    at: str = ""
    """At which time that was said, RFC 3339; empty where it does not depend on that."""


def fill_query(query: str, release: str, version: str, hosts: Collection[str]) -> str:
    """The query with its placeholders filled in.

    ``$release`` and ``$version`` are string literals; ``$hosts`` is one that holds a regular expression, for ``=~``, which the label of
    one of ``hosts`` matches, with or without a port, and no other.
    """
    either = "|".join(_REGEX.sub(r"\\\g<0>", host) for host in sorted(hosts))
    words = {"release": literal(release), "version": literal(version), "hosts": literal(f"(?:{either})(?::[0-9]+)?")}
    return Template(query).substitute(words)


def literal(text: str) -> str:
    """A text as a string literal of PromQL: no sign of it can end the literal, or begin anything."""
    return '"' + "".join(sign if sign.isprintable() and sign not in '"\\' else _escaped(sign) for sign in text) + '"'


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    return "\\uFFFD" if 0xD800 <= ord(sign) <= 0xDFFF else f"\\U{ord(sign):08x}"


def query_fault(query: str) -> str:
    """What is wrong with the placeholders of a query; empty when nothing is."""
    template = Template(query)
    if not template.is_valid():
        return "a $ that stands for nothing"
    if any(Template(part).get_identifiers() for part in _QUOTED.findall(query)):
        return "a placeholder within quotes, which it brings itself"
    unknown = [name for name in template.get_identifiers() if name not in WORDS]
    return f"${unknown[0]}, which stands for nothing" if unknown else ""
