# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a rollout is cut in waves and when it stops: the part of the policy that planner and gate read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    """The rollout section of a policy.

    ``canary``: size of the first wave. ``steps``: after the canary, the cumulative percentages of all hosts that are
    done when each further wave ends, ascending, the last one 100. ``order_by``: CI attribute (such as ``site``) whose
    values are taken one after the other. ``wave_budget`` and ``total_budget``: failed hosts tolerated per wave and in
    the whole deployment. ``on_failure``: what the gate says when a budget is spent. ``keep``: releases kept on a host.
    ``stable``: for how many seconds a release that came up has to stay healthy, unless it says itself.
    ``wave_minutes``: how long a wave may take. ``clock_skew_seconds``: by how much a host's clock may differ from the controller's.
    ``share_files``: releases on a host share the files that are alike, so what is written into one of them changes all.
    """

    canary: Share = Share(1)
    steps: tuple[int, ...] = (100,)
    order_by: str | None = None
    wave_budget: Share = Share(0)
    total_budget: Share = Share(0)
    on_failure: Literal["back_out", "hold"] = "back_out"
    keep: int = 3
    stable: float = 10
    wave_minutes: int = 5
    clock_skew_seconds: int = 60
    share_files: bool = False
