# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hours at which nobody is told what can wait: from one time of the day to another, by the clocks of a place. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MINUTE = timedelta(minutes=1)
_LONGEST = timedelta(days=3)  # with a change of the clocks that skips what little is not quiet


@dataclass(frozen=True)
class QuietHours:
    """From ``start`` until ``end``, whole minutes of the day in ``zone``, over midnight when the end is the earlier one."""

    start: time
    end: time
    zone: str

    def holds(self, moment: datetime) -> bool:
        """Whether ``moment`` is in them, by what the clocks of the zone show then."""
        shown = self.local(moment).time()
        if self.start < self.end:
            return self.start <= shown < self.end
        return shown >= self.start or shown < self.end

    def over(self, moment: datetime) -> datetime:
        """The first moment from ``moment`` on that is not in them.

        Minute by minute, for what the clocks show jumps and comes twice when they change; all zones are whole minutes apart.
        """
        if not self.holds(moment):
            return moment
        last = moment + _LONGEST
        at = moment.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        while at < last and self.holds(at):
            at += _MINUTE
        return at

    def local(self, moment: datetime) -> datetime:
        """``moment`` as the clocks of the zone show it."""
        return moment.astimezone(ZoneInfo(self.zone))


def is_zone(name: str) -> bool:
    """Whether the time zone database has this name."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True
