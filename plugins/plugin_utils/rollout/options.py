# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a rollout is cut in waves and when it stops: the part of the policy that planner and gate read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
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
class Rings:
    """Hosts in rings, of which each is finished before the next one is touched."""

    by: str
    """The field or attribute of a CI that says its ring, or a JMESPath expression over the CI."""
    order: tuple[str | None, ...]
    """The rings in their order; ``None`` for CIs that have none."""


@dataclass(frozen=True)
class StayUp:
    """How many hosts that do the same stay up while a wave changes others of them."""

    redundant: Share | None = None
    """Of CIs that stand in for one another, see :mod:`.redundancy`; ``None`` for no such rule."""
    groups: Mapping[str, Share] = field(default_factory=dict)
    """By field or attribute, of CIs that have the same value of it."""
    services: Mapping[str, Share] = field(default_factory=dict)
    """By name of a CI, of the CIs that it depends on."""


@dataclass(frozen=True)
class Constraints:
    """Which hosts may be in which wave, besides what steps and sites say."""

    canary_hosts: tuple[str, ...] | str = ()
    """Who the canary is: names of CIs, or a JMESPath query for them; empty for the first ones in order."""
    shuffle: bool = False
    """Whether hosts come in an order that is another one for each version of a release, and not by name."""
    rings: Rings | None = None
    """The rings; ``None`` for one ring."""
    classes: Mapping[str, Share] = field(default_factory=dict)
    """By class of CI, how many of its hosts a wave may have."""
    stay_up: StayUp = StayUp()
    """What has to stay up."""
    max_waves: int = 50
    """A plan of more waves comes with a warning."""


@dataclass(frozen=True)
class Together:
    """That the hosts of a wave are switched at one instant."""

    releases: tuple[str, ...] = ("*",)
    """Names of releases for which that holds, or patterns of them."""
    types: tuple[str, ...] = ()
    """The types of RFCs for which it holds; all when there are none."""
    quorum: Share = Share(100, percent=True)
    """How many hosts of a wave have to be armed, or nobody of it is switched."""
    skew_milliseconds: int = 250
    """By how much a host's clock may differ from the controller's."""
    lead_seconds: float = 10
    """How long before the instant hosts are told, at least."""


@dataclass(frozen=True)
class Rollout:
    """The rollout section of a policy."""

    canary: Share = Share(1)
    """The size of the first wave."""
    steps: tuple[int, ...] = (100,)
    """After the canary, the cumulative percentages of all hosts that are done when each further wave ends: ascending, the last one 100."""
    order_by: str | None = None
    """The CI attribute, such as ``site``, whose values are taken one after the other; ``None`` for the order of names."""
    constraints: Constraints = Constraints()
    """What else the plan has to keep."""
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
    together: Together | None = None
    """How hosts of a wave are switched at one instant; ``None`` when each is on its own."""
    confirm_minutes: float = 0
    """Within how many minutes of its activation a host has to be reached anew, or it goes back by itself; 0 for never."""
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
    support_hours: float = 0
    """For how many hours after its last wave was decided a deployment stays in early-life support."""
    late_days: float = 0
    """Within how many days of its support's begin hosts are brought in that have not got the release; 0 for never."""
    support_exit: Bake | None = None
    """What is measured of all hosts that have the release before its support ends; ``None`` for nothing."""
    share_files: bool = False
    """Whether releases on a host share files that are alike, so that what is written into one of them changes all."""
    bake: Bake | None = None
    """What is measured of each wave before its gate; ``None`` for nothing."""
    canary_bake: Bake | None = None
    """The same for the first wave, where it has one of its own."""

    @property
    def guarded(self) -> bool:
        """Whether hosts go back by themselves when nobody confirms in time: what brings more than a tree can't be left to a host alone."""
        return self.confirm_minutes > 0 and self.tree and not (self.role or self.firmware or self.hardware)

    def bake_of(self, wave: int) -> Bake | None:
        """What is measured of a wave, by its number."""
        return self.canary_bake or self.bake if wave == 1 else self.bake

    def lengths(self, waves: int) -> list[timedelta]:
        """How long each of so many waves may take, with its bake; of the first it is not known here whether it is the canary."""
        usual = self.wave_minutes + self.bake_minutes(2)
        first = max(usual, self.wave_minutes + self.bake_minutes(1))
        return [timedelta(minutes=first if number == 0 else usual) for number in range(waves)]

    def bake_minutes(self, wave: int) -> float:
        """How many minutes that takes at least."""
        bake = self.bake_of(wave)
        return bake.seconds / 60 if bake else 0
