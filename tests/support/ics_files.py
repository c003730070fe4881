# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calendars for tests, and what is read out of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.ics import read_events

BERLIN = "TZID=Europe/Berlin"
OWN_ZONE = """BEGIN:VTIMEZONE
TZID:Our Office
BEGIN:STANDARD
DTSTART:19701025T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19700329T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
END:VTIMEZONE
"""


def write(path: Path, *events: str, head: str = "", name: str = "test.ics") -> Path:
    body = "".join(
        f"BEGIN:VEVENT\nUID:{number}@example\nDTSTAMP:20260101T000000Z\n{event.strip()}\nEND:VEVENT\n" if "UID:" not in event else event
        for number, event in enumerate(events)
    )
    target = path / name
    target.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//example//EN\n{head}{body}END:VCALENDAR\n")
    return target


def read(path: Path, day: str, days: int = 1, longer: bool = False) -> list[tuple[str, str]]:
    """Start and end, in UTC, of what occurs from a day on."""
    start = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    found = read_events(path, start, start + timedelta(days=days), longer)
    return sorted((f"{event.start:%d %H:%M}", f"{event.end:%d %H:%M}") for event in found)
