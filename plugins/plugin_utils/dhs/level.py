# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a unit has the firmware that units of its model have to have. Pure.

Versions are texts that nothing orders: what is behind is known by the ways that archived releases go, from one version to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .units import UnitState


class LevelState(StrEnum):
    """How a unit stands to the level: only the first can be used as a spare."""

    AT_LEVEL = "at_level"
    BEHIND = "behind"
    AHEAD = "ahead"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class FirmwareLevel:
    """The version of a component that units of a model have to have, since a release with it completed."""

    model: str
    component: str
    version: str


@dataclass
class LevelCount:
    """How many units have a level, and of how many: of those in use, and of those in stock. ``release`` brought it, ``at`` a moment."""

    level: FirmwareLevel
    release: str
    at: datetime
    in_use: int = 0
    in_use_at_level: int = 0
    in_stock: int = 0
    in_stock_at_level: int = 0

    def add(self, state: UnitState, is_met: bool, units: int) -> None:
        """Count units that are in use or in stock."""
        if state is UnitState.IN_USE:
            self.in_use += units
            self.in_use_at_level += units * is_met
        else:
            self.in_stock += units
            self.in_stock_at_level += units * is_met


@dataclass(frozen=True)
class FirmwareReading:
    """The version of a component that a unit itself said to have, and when."""

    component: str
    version: str
    at: datetime


@dataclass(frozen=True)
class Way:
    """What brings a component of a model from one of some versions to another: an archived release."""

    release: str
    """Its name and version, for a person."""
    model: str
    component: str
    before: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class LevelStanding:
    """How a unit stands to one level: ``chain`` are the releases that bring it there, in order."""

    level: FirmwareLevel
    state: LevelState
    found: str = ""
    chain: tuple[str, ...] = ()

    def sentence(self) -> str:
        """For a person."""
        wanted = f"{self.level.component} {self.level.version}"
        if self.state is LevelState.AT_LEVEL:
            return f"has {wanted}"
        if self.state is LevelState.BEHIND:
            return f"has {self.level.component} {self.found}, behind {self.level.version}: {', then '.join(self.chain)}"
        if self.state is LevelState.AHEAD:
            return f"has {self.level.component} {self.found}, ahead of {self.level.version}"
        return (
            f"has {self.level.component} {self.found}, from which no archived release leads to {self.level.version}"
            if self.found
            else (f"was not read lately, and is to have {wanted}")
        )


def compare_to_levels(
    model: str, readings: Iterable[FirmwareReading], levels: Iterable[FirmwareLevel], ways: Iterable[Way], now: datetime, read_days: int
) -> list[LevelStanding]:
    """How a unit of ``model`` stands to each level of its model, by what was read within ``read_days``."""
    lately = {one.component: one.version for one in readings if now - one.at <= timedelta(days=read_days)}
    listed = [way for way in ways if way.model == model]
    return [_compare(level, lately.get(level.component, ""), listed) for level in levels if level.model == model]


def _compare(level: FirmwareLevel, found: str, ways: Sequence[Way]) -> LevelStanding:
    if found == level.version:
        return LevelStanding(level, LevelState.AT_LEVEL, found)
    mine = [way for way in ways if way.component == level.component]
    chain = _chain(found, level.version, mine) if found else None
    if chain is not None:
        return LevelStanding(level, LevelState.BEHIND, found, chain)
    ahead = found and _chain(level.version, found, mine) is not None
    return LevelStanding(level, LevelState.AHEAD if ahead else LevelState.UNKNOWN, found)


def _chain(start: str, end: str, ways: Iterable[Way]) -> tuple[str, ...] | None:
    """The fewest releases that lead from one version to another; ``None`` when none do."""
    steps: Mapping[str, list[Way]] = _by_start(ways)
    seen: dict[str, tuple[str, ...]] = {start: ()}
    todo = deque([start])
    while todo:
        version = todo.popleft()
        for way in steps.get(version, ()):
            if way.version not in seen:
                seen[way.version] = (*seen[version], way.release)
                todo.append(way.version)
    return seen.get(end)


def _by_start(ways: Iterable[Way]) -> dict[str, list[Way]]:
    found: dict[str, list[Way]] = {}
    for way in ways:
        for version in way.before:
            found.setdefault(version, []).append(way)
    return found
