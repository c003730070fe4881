# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy says of spares. Pure, and small, for each fork that reads a policy loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CANARY, LARGEST_WAVE = "canary", "largest_wave"
SPARE = "spare"
"""The class of CIs that are spares on a bench: what they run is no reason to want it of others."""


@dataclass(frozen=True)
class SpareRules:
    """What a policy says of spares.

    ``cover``: for which wave they have to suffice, the first or the largest one. ``undercut``: the types of RFC that may take stock below
    the threshold of its rule. ``near``: by site, the stockrooms from which its spares come, the nearest one first; others come after them.
    ``read_days``: for how many days it is believed what a unit said of its firmware. ``level_days``: within how many days units in stock
    have to have firmware that a release made their model's level.
    """

    cover: str = CANARY
    undercut: frozenset[str] = frozenset()
    near: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    read_days: int = 90
    level_days: int = 30
