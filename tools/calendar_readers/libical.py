# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libical, the reader of Evolution and KDE, finds in a calendar.

Reads ``{text, start, end}`` from standard input and prints ``[[start, end], ...]`` or ``{error}``. Run by the system's Python, with the
packages ``gir1.2-ical-3.0`` and ``python3-gi``.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import gi

gi.require_version("ICalGLib", "3.0")
from gi.repository import ICalGLib  # noqa: E402  gi wants its version first

EVENT, CALENDAR = ICalGLib.ComponentKind.VEVENT_COMPONENT, ICalGLib.ComponentKind.VCALENDAR_COMPONENT


def children(component, kind):
    found, child = [], component.get_first_component(kind)
    while child is not None:
        found.append(child)
        child = component.get_next_component(kind)
    return found


def moment(seconds, start):
    """As the event has it: a day, a time without a zone, or one in UTC."""
    told = datetime.fromtimestamp(seconds, UTC)
    if start.is_date():
        return told.strftime("%Y-%m-%d")
    return told.strftime("%Y-%m-%dT%H:%M:%S") + ("Z" if start.is_utc() or start.get_timezone() is not None else "")


def occurrences(calendar, between):
    events = children(calendar, EVENT)
    changed = {}
    for event in events:
        which, start = event.get_recurrenceid(), event.get_dtstart()
        if not which.is_null_time():
            changed.setdefault(event.get_uid(), set()).add(which.as_timet_with_zone(which.get_timezone() or start.get_timezone()))
    found = []
    for event in events:
        start, skipped = event.get_dtstart(), set()
        if event.get_recurrenceid().is_null_time():
            skipped = changed.get(event.get_uid(), set())
        spans = []
        event.foreach_recurrence(*between, lambda _event, span, spans: spans.append((span.get_start(), span.get_end())), spans)
        found += [(moment(first, start), moment(last, start)) for first, last in spans if first not in skipped]
    return found


given = json.load(sys.stdin)
between = [ICalGLib.Time.new_from_string(given[name].replace("-", "").replace(":", "")) for name in ("start", "end")]
root = ICalGLib.Component.new_from_string(given["text"])
if root is None:
    print(json.dumps({"error": "no component"}))
else:
    all_calendars = [root] if root.isa() == CALENDAR else children(root, CALENDAR)
    print(json.dumps([span for calendar in all_calendars for span in occurrences(calendar, between)]))
