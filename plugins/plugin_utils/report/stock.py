# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of the hardware storage: its stock rules with their figures, and the firmware level of each model and component."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..dhs.assets import count_levels, list_rules, stock

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_ENTRIES = 500  # of rules, and of levels, on one page
_NAMED = 20  # rules that are short, in what waits for a person


@dataclass(frozen=True)
class StockReport:
    """``overview``: what the first page has; ``pages``: by name, ``stock/1``, rules and levels; ``attention``: what waits for a person."""

    overview: Mapping[str, Any]
    pages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attention: tuple[str, ...] = ()


def report_stock(connection: sa.Connection, read_days: int, now: datetime) -> StockReport:
    """The stock of one moment. ``read_days``: for how long a unit counts as read, as the policy has it."""
    found = stock(connection, list_rules(connection), read_days, now)
    rules = [one.to_dict() for one in found]
    levels = [
        {
            "model": one.level.model,
            "component": one.level.component,
            "version": one.level.version,
            "release": one.release,
            "since": one.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "in_use": {"units": one.in_use, "at_level": one.in_use_at_level},
            "in_stock": {"units": one.in_stock, "at_level": one.in_stock_at_level},
        }
        for one in count_levels(connection, read_days, now)
    ]
    starts = range(0, max(len(rules), len(levels)), _ENTRIES)
    pages = {
        f"stock/{number}": {
            "read_days": read_days,
            "rules": rules[start : start + _ENTRIES],
            "levels": levels[start : start + _ENTRIES],
        }
        for number, start in enumerate(starts, 1)
    }
    short = [one for one in found if one.is_short]
    attention = [f"Stock is low: {one.sentence()}." for one in short[:_NAMED]]
    if len(short) > _NAMED:
        attention.append(f"Stock is low for {len(short) - _NAMED} more rules.")
    overview = {
        "rules": len(rules),
        "short": len(short),
        "levels": len(levels),
        "pages": [{"page": f"{name}.html", "data": f"{name}.json"} for name in pages],
    }
    return StockReport(overview, pages, tuple(attention))
