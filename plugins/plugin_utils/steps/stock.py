# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there are spares enough, and who is told when there are not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ..cmdb.store import Cmdb
from ..dhs.assets import list_rules, note_stock, stock, take_untold
from ..dhs.stock import RuleStock
from ..policy.communication import STOCK_LOW
from ..policy.model import Policy
from .tell import tell_channels


def count_spares(cmdb: Cmdb, policy: Policy, now: datetime, stockrooms: Collection[str] | None = None) -> list[RuleStock]:
    """How it stands for each stock rule, of all stockrooms or of some, by stockroom and model."""
    with cmdb.read() as connection:
        return stock(connection, list_rules(connection, stockrooms), policy.spares.read_days, now)


def tell_low(cmdb: Cmdb, policy: Policy, actor: str, now: datetime) -> list[str]:
    """Note where stock has come down to its threshold, and tell the policy's channels of what they were not told; return what went wrong.

    That it is told is noted before, so it is told at most once, until there is enough again.
    """
    communication = policy.communication
    listeners = communication.listeners(STOCK_LOW, ())
    with cmdb.begin() as connection:
        note_stock(connection, policy.spares.read_days, actor, now)
        low = take_untold(connection, policy.spares.read_days, now) if listeners else []
    if not low:
        return []
    title = f"stock is low: {', '.join(dict.fromkeys(one.rule.model for one in low))}"
    return tell_channels(communication, listeners, STOCK_LOW, title, "\n".join(one.sentence() for one in low))


def shown_stock(one: RuleStock) -> dict[str, Any]:
    """A rule and its figures as results have them."""
    figures = {"usable": one.usable, "reserved": one.reserved, "on_the_way": one.on_the_way, "unfit": dict(one.unfit)}
    return {**asdict(one.rule), "substitutes": list(one.rule.substitutes), **figures, "short": one.is_short, "to_order": one.to_order}
