# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a rollout is cut in waves and when it stops: the part of the policy that planner and gate read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..metrics.model import Bake


@dataclass(frozen=True)
class Share:
    """A number of hosts, absolute or in percent of a total."""

    value: int
    percent: bool = False

    def at_least(self, total: int) -> int:
        """The share of ``total``, rounded up: a canary of 10 % of 5 hosts is one host."""
        return -(-total * self.value // 100) if self.percent else self.value

    def at_most(self, total: int) -> int:
        """The share of ``total``, rounded down: a failure budget of 10 % of 5 hosts is none."""
        return total * self.value // 100 if self.percent else self.value

    def __str__(self) -> str:
        return f"{self.value}%" if self.percent else str(self.value)


@dataclass(frozen=True)
class Rollout:
    """The rollout section of a policy."""

    canary: Share = Share(1)
    """The size of the first wave."""
    steps: tuple[int, ...] = (100,)
    """After the canary, the cumulative percentages of all hosts that are done when each further wave ends: ascending, the last one 100."""
    order_by: str | None = None
    """The CI attribute, such as ``site``, whose values are taken one after the other; ``None`` for the order of names."""
    wave_budget: Share = Share(0)
    """Failed hosts that are tolerated in a wave."""
    total_budget: Share = Share(0)
    """Failed hosts that are tolerated in the whole deployment."""
    on_failure: Literal["back_out", "hold"] = "back_out"
    """What the gate says when a budget is spent."""
    keep: int = 3
    """How many releases are kept on a host."""
    stable: float = 10
    """For how many seconds a release that came up has to stay healthy, unless it says so itself."""
    wave_minutes: int = 5
    """How many minutes a wave may take."""
    clock_skew_seconds: int = 60
    """By how many seconds a host's clock may differ from the controller's."""
    role: str = ""
    """The release's own role, by name, which does each wave; empty when it has none."""
    tree: bool = True
    """Whether the release has a payload, so each host is staged."""
    firmware: bool = False
    """Whether it is firmware, which the controller brings to each host's device."""
    hardware: bool = False
    """Whether it is hardware, which people exchange by work orders."""
    outside: bool = False
    """Whether its effect is outside the trees, so that it is read there which release runs."""
    level_days: int = 30
    """Within how many days units in stock have to have the firmware that it makes their model's level."""
    data_host: str = ""
    """The host on which the role migrates data, once; empty when it has none to migrate."""
    no_return: bool = False
    """Whether what it does to data can't be undone."""
    share_files: bool = False
    """Whether releases on a host share files that are alike, so that what is written into one of them changes all."""
    bake: Bake | None = None
    """What is measured of each wave before its gate; ``None`` for nothing."""
    canary_bake: Bake | None = None
    """The same for the first wave, where it has one of its own."""

    def bake_of(self, wave: int) -> Bake | None:
        """What is measured of a wave, by its number."""
        return self.canary_bake or self.bake if wave == 1 else self.bake

    def bake_minutes(self, wave: int) -> float:
        """How many minutes that takes at least."""
        bake = self.bake_of(wave)
        return bake.seconds / 60 if bake else 0
