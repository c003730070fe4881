# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things stand on an axis of time, in percent of it, for a page to draw. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_LEAST = 1.0  # percent of the axis that something takes which is over at once, so that it can be seen


@dataclass(frozen=True)
class Stretch:
    """Something from one moment to another: in percent of the axis, where it begins and how wide it is."""

    left: float
    width: float


@dataclass(frozen=True)
class Axis:
    """The time between two moments."""

    start: datetime
    end: datetime

    @classmethod
    def over(cls, moments: Iterable[str | None]) -> Axis | None:
        """From the first to the last of some moments, RFC 3339; ``None`` without any."""
        found = [datetime.fromisoformat(moment) for moment in moments if moment]
        return cls(min(found), max(*found, min(found) + timedelta(seconds=1))) if found else None

    def place(self, moment: str | datetime) -> float:
        """How far a moment is along the axis, in percent."""
        at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        return round(min(100.0, max(0.0, 100 * (at - self.start) / (self.end - self.start))), 2)

    def stretch(self, start: str | None, end: str | None) -> Stretch | None:
        """Where that is from ``start`` to ``end``, ``None`` for as far as the axis goes; nothing for what has not begun."""
        if start is None:
            return None
        left = self.place(start)
        width = max(_LEAST, (self.place(end) if end else 100.0) - left)
        return Stretch(round(min(left, 100 - width), 2), round(width, 2))

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Its beginning, middle and end, each with its place: no more words than a narrow page has room for."""
        length = self.end - self.start
        form = "%Y-%m-%d" if length > timedelta(days=3) else "%m-%d %H:%M" if length > timedelta(hours=12) else "%H:%M:%S"
        return [(share * 100, (self.start + length * share).astimezone(UTC).strftime(form)) for share in (0, 0.5, 1)]
