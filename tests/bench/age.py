# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth laws: what something costs when ten times as much is over, or there. ``make bench ONLY=age``, or ``ONLY=age.schedule``.

A law is a function of an :class:`Aged`, which it asks for its state and which tells it how many times as old that is; it returns a cost.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import forked, write_json

TIMES = (1, 10)
_ENOUGH = 0.3  # CPU seconds that are told from the noise


@dataclass(frozen=True)
class Effort:
    """What some work took once its imports were done: CPU seconds of this process and those it waited for, and bytes of memory."""

    cpu_seconds: float
    peak_bytes: int
    result: Any


def effort_of(work: Callable[[], Any], tries: int = 3) -> Effort:
    """Do ``work`` in a process of its own, again and again, the first time for its imports; its result has to be one that pickles."""
    return Effort(*forked(lambda: _efforts(work, tries)))


def cpu_of(work: Callable[[], Any], tries: int = 3) -> float:
    """The CPU seconds of ``work``, as :func:`effort_of` finds them."""
    return effort_of(work, tries).cpu_seconds


@dataclass
class Aged:
    """What a law is measured on: ``times`` as much as at the beginning. Parts of it are made when the first law asks for them."""

    times: int
    folder: Path
    _made: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str, make: Callable[[Path, int], Any]) -> Any:
        """What ``make`` made of a path, at which there is nothing, and of ``times``, once for all laws that ask for that ``name``."""
        if name not in self._made:
            self._made[name] = make(self.folder / name, self.times)
        return self._made[name]


@dataclass(frozen=True)
class Law:
    """``grows``: what there is ten times as much of. The cost, in ``unit``, may grow by the factor ``at_most``; where that is ``None``, a
    cost may be ``limit`` at most, however much there is."""

    name: str
    grows: str
    cost: Callable[[Aged], float]
    unit: str
    at_most: float | None
    limit: float | None

    def row(self, costs: tuple[float, ...]) -> tuple[str, ...]:
        """What the table says of it: the costs, the law, and whether it is kept."""
        first, last = costs[0], costs[-1]
        growth = last / first if first else float("inf") if last else 1.0
        kept = growth <= self.at_most if self.at_most is not None else last <= (self.limit or 0)
        allowed = f"{self.at_most:g} x" if self.at_most is not None else f"{self.limit:g}"
        return (self.name, self.grows, *(f"{cost:.4g}" for cost in costs), self.unit, f"{growth:.2f} x", allowed, "yes" if kept else "NO")


LAWS: list[Law] = []


def law(
    grows: str, at_most: float | None = None, unit: str = "CPU s", limit: float | None = None
) -> Callable[[Callable[[Aged], float]], Callable[[Aged], float]]:
    """Enter a function in the table as the law of its name."""

    def enter(cost: Callable[[Aged], float]) -> Callable[[Aged], float]:
        LAWS.append(Law(cost.__name__, grows, cost, unit, at_most, limit))
        return cost

    return enter


def run(wanted: str = "") -> None:
    """Measure all laws, or the ``wanted`` one, and print them beside what they came to."""
    laws = [one for one in LAWS if wanted in ("", one.name)]
    if not laws:
        raise SystemExit(f"no law {wanted}; there are {', '.join(one.name for one in LAWS)}")
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        states = [Aged(times, folder / str(times)) for times in TIMES]
        for state in states:
            state.folder.mkdir()
        rows = list(_rows(laws, states))
    finally:
        shutil.rmtree(folder)
    head = ("law", "ten times the", *(f"x{times}" for times in TIMES), "unit", "grows by", "at most", "kept")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)))
    write_json("age" if not wanted else f"age.{wanted}", {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows})


def _rows(laws: list[Law], states: list[Aged]) -> Iterator[tuple[str, ...]]:
    for one in laws:
        print(f"    {one.name}", flush=True)
        try:
            yield one.row(tuple(one.cost(state) for state in states))
        except Exception as error:  # a benchmark is no test: the others go on
            traceback.print_exc()
            yield (one.name, one.grows, *("-" for _state in states), one.unit, "-", "-", f"NOT MEASURED: {type(error).__name__}")


def _efforts(work: Callable[[], Any], tries: int) -> tuple[float, int, Any]:
    before = _peak()
    result = work()
    peak = _peak() - before
    least, spent = float("inf"), 0.0
    done = 0
    while done < tries or (spent < _ENOUGH and done < 50 * tries):
        begun = _cpu()
        result = work()
        took = _cpu() - begun
        least, spent, done = min(least, took), spent + took, done + 1
    return least, peak, result


def _cpu() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
