# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the times of an event in an iCalendar file to one kind: whole days, or moments in one time zone.

RFC 5545 asks for that (sections 3.3.10, 3.8.2.2, 3.8.4.4 and 3.8.5). Programs export otherwise, and readers then lose the last day of a
series, or an exception. Where the meaning is plain the event is rewritten as the specification has it. Where it can be taken in two ways,
a freeze gets the longer one and a window the shorter. What has no meaning is a problem, named by event and property.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

with contextlib.suppress(ImportError):
    from dateutil.rrule import rrulestr
    from icalendar.prop import vDDDLists, vDDDTypes, vRecur

EXCEPTED = "X-TIDEGATE-EXCEPTED"  # set here: when a freeze has no occurrence
_FIRST = "X-TIDEGATE-FIRST"  # set here: the start of the first occurrence that was changed, where those after it were too
_DAY = timedelta(days=1)
_MIDNIGHT = time()
_LAST = time(23, 59, 59)  # RFC 5545 counts whole seconds
Time = date | datetime


def summary_of(event: Any) -> str:
    """The first SUMMARY of an event, for it may have one for each language."""
    return str(next(iter(values(event, "SUMMARY")), ""))


def name_of(event: Any) -> str:
    """What an event is called in a message: its summary, or its UID where it has none."""
    summary = summary_of(event).strip()
    return f"{summary!a:.80}" if summary else f"with the UID {str(event.get('UID', ''))!a:.80}"


def values(event: Any, name: str) -> list[Any]:
    """Every value of a property, which may stand more than once."""
    found = event.get(name, [])
    return found if isinstance(found, list) else [found]


@dataclass(frozen=True)
class Series:
    """What the times of an event have to be like. ``start``: of the first occurrence. ``zone``: of its moments, or where its days begin.

    ``excepted``: when a freeze has no occurrence, as :data:`EXCEPTED` says it.
    """

    start: Time
    zone: tzinfo | None
    excepted: str = ""

    @property
    def whole_days(self) -> bool:
        return not isinstance(self.start, datetime)


def one_kind(events: list[Any], zone: tzinfo | None, longer: bool) -> Iterator[str]:
    """Bring the times of ``events``, those of one calendar, to one kind each; yield what is wrong with them.

    ``zone``: the calendar's, for times without one and for whole days. ``longer``: they are freezes.
    """
    series: dict[str, Series] = {}
    # An occurrence that was changed is found by the times of its series, so those come first.
    for event in sorted(events, key=lambda event: "RECURRENCE-ID" in event):
        uid = str(event.get("UID", id(event)))
        try:
            own = _Event(event, zone, longer)
            own.settle(series.get(uid))
        except _Unclear as problem:
            yield f"the event {name_of(event)} has {problem}"
            continue
        if "RECURRENCE-ID" not in event:
            series[uid] = replace(own.series, excepted=str(event.get(EXCEPTED, "")))


class _Unclear(Exception):
    """Times that do not fit together and have no plain meaning."""


class _Event:
    def __init__(self, event: Any, zone: tzinfo | None, longer: bool) -> None:
        self._event, self._zone, self._longer = event, zone, longer
        self.series = self._bounds()

    def settle(self, series: Series | None) -> None:
        """Bring everything but start and end to their kind; ``series`` is the one that this event changes an occurrence of."""
        for rule in values(self._event, "RRULE"):
            if rule.get("UNTIL"):
                rule["UNTIL"] = [self._until(rule["UNTIL"][0])]
            if self.series.whole_days:
                for part in ("BYHOUR", "BYMINUTE", "BYSECOND"):  # which mean nothing then
                    rule.pop(part, None)
        self._each("EXDATE", self._excepted)
        if not self._longer and not self._begins_with_rule():
            # Readers do not agree on whether such a start is an occurrence.
            self._event["EXDATE"] = [*values(self._event, "EXDATE"), vDDDLists([self.series.start])]
        if self._longer and "EXDATE" in self._event:
            # The library takes a moment for excepted when one in another zone has its clock time.
            excepted = (one.dts[0].dt for one in values(self._event, "EXDATE"))
            self._event[EXCEPTED] = " ".join(sorted({_named(one) for one in excepted}))
            del self._event["EXDATE"]
        self._each("RDATE", self._added)
        if "RECURRENCE-ID" in self._event:
            changed = self._event["RECURRENCE-ID"]
            moment = self._same(changed.dt, series or self.series, "RECURRENCE-ID")
            self._event["RECURRENCE-ID"] = vDDDTypes(moment)
            if "RANGE" in changed.params:  # in these letters alone the library knows it
                self._event["RECURRENCE-ID"].params["RANGE"] = "THISANDFUTURE"
                self._event[_FIRST] = _clock(self.series.start).isoformat()
                if series is not None and series.excepted:
                    self._event[EXCEPTED] = " ".join(one for one in series.excepted.split() if one not in _names_of(moment))

    def _bounds(self) -> Series:
        event = self._event
        if "DTSTART" not in event:
            raise _Unclear("no DTSTART")
        start = self._placed(event["DTSTART"].dt, self._zone)
        zone = start.tzinfo if isinstance(start, datetime) else self._zone
        length = event["DURATION"].dt if "DURATION" in event else _DAY
        end = self._placed(event["DTEND"].dt, zone) if "DTEND" in event else None
        if not isinstance(start, datetime) and (isinstance(end, datetime) or length % _DAY):
            # A day that ends at a time of day begins with its first hour.
            zone = zone or (end.tzinfo if isinstance(end, datetime) else None)
            start = datetime.combine(start, _MIDNIGHT, zone)
            end = self._placed(end, zone) if isinstance(end, datetime) else end
        elif isinstance(start, datetime) and end is not None and not isinstance(end, datetime):
            # Its last day, or the day after it: people mean one, the specification the other.
            end = datetime.combine(end + _DAY if self._longer else end, _MIDNIGHT, zone)
        all_day = str(event.get("X-MICROSOFT-CDO-ALLDAYEVENT", "")).strip().upper() == "TRUE"
        if end is None and all_day and isinstance(start, datetime) and "DURATION" not in event:
            end = start
        if end == start and (all_day or (self._longer and not isinstance(start, datetime))):
            end = start + _DAY  # the day that is its first and its last
        event["DTSTART"] = vDDDTypes(start)
        if end is not None:
            event["DTEND"] = vDDDTypes(end)
        return Series(start, zone)

    def _begins_with_rule(self) -> bool:
        """Whether the start is an occurrence by the event's own rules, if it has any."""
        rules = values(self._event, "RRULE")
        start = self.series.start
        naive = start.replace(tzinfo=None) if isinstance(start, datetime) else datetime.combine(start, _MIDNIGHT)
        until_start: list[Any] = [vRecur({name: value for name, value in rule.items() if name not in ("UNTIL", "COUNT")}) for rule in rules]
        return not rules or any(list(rrulestr(rule.to_ical().decode(), dtstart=naive).replace(until=naive)) for rule in until_start)

    def _until(self, until: Time) -> Time:
        start, zone = self.series.start, self.series.zone
        if self.series.whole_days:
            if not isinstance(until, datetime):
                return max(until, start) if self._longer else until
            here = until.astimezone(zone).date() if until.tzinfo and zone else until.date()
            # Nobody means a series without any occurrence.
            return max(here, until.date(), start) if self._longer else here
        if not isinstance(until, datetime):
            until = datetime.combine(until, _LAST, zone)
        if until.tzinfo is None:
            until = until.replace(tzinfo=zone)
        # A series without any zone is refused where its moments are read.
        if not (isinstance(start, datetime) and start.tzinfo and until.tzinfo):
            return until
        return (max(until, start) if self._longer else until).astimezone(UTC)

    def _excepted(self, excepted: Any) -> Iterator[Any]:
        series = self.series
        if not series.whole_days and not isinstance(excepted, datetime):
            yield excepted  # all that begins on that day
            return
        moment = self._same(excepted, series, "EXDATE")
        yield moment
        elsewhere = isinstance(excepted, datetime) and excepted.tzinfo is not None and not series.whole_days
        if elsewhere and not self._longer:
            yield excepted.replace(tzinfo=series.zone)  # the same clock time, written in another zone

    def _added(self, added: Any) -> Iterator[Any]:
        series = self.series
        if isinstance(added, tuple):
            if series.whole_days:
                raise _Unclear(f"an RDATE with the period {added[0].isoformat()} although it is of whole days")
            first, last = added
            start = self._placed(first, series.zone)
            yield (start, last if isinstance(last, timedelta) else self._placed(last, series.zone))
            return
        moment = self._same(added, series, "RDATE")
        if self._longer and not isinstance(added, datetime) and isinstance(moment, datetime):
            # A day that is added to a series with times: all of it, and as long as the event lasts.
            day = datetime.combine(added, _MIDNIGHT, moment.tzinfo)
            yield (day, max(day + _DAY, moment + self._length()))
        else:
            yield moment

    def _length(self) -> timedelta:
        event = self._event
        if "DTEND" in event:
            length: timedelta = event["DTEND"].dt - event["DTSTART"].dt
            return length
        return event["DURATION"].dt if "DURATION" in event else timedelta(0)

    def _same(self, told: Time, series: Series, name: str) -> Time:
        """``told`` in the kind of the series' start; raises :class:`_Unclear` when it has no such meaning."""
        if not series.whole_days:
            if isinstance(told, datetime):
                placed = self._placed(told, series.zone)
                return placed.astimezone(series.zone) if isinstance(placed, datetime) and placed.tzinfo and series.zone else placed
            return datetime.combine(told, series.start.timetz() if isinstance(series.start, datetime) else _MIDNIGHT)
        if not isinstance(told, datetime):
            return told
        here = told.astimezone(series.zone) if told.tzinfo and series.zone else told
        for moment in (here, told):
            if moment.time() == _MIDNIGHT:
                return moment.date()
        raise _Unclear(f"an {name} at {told.isoformat()}, a time of day, although it is of whole days")

    @staticmethod
    def _placed(told: Time, zone: tzinfo | None) -> Time:
        """A moment without a zone is one of ``zone``; whole days have none."""
        return told.replace(tzinfo=zone) if isinstance(told, datetime) and told.tzinfo is None and zone is not None else told

    def _each(self, name: str, settled: Any) -> None:
        if name in self._event:
            found = [new for one in values(self._event, name) for told in one.dts for new in settled(told.dt)]
            self._event[name] = [vDDDLists([new]) for new in found]


def period_lengths(event: Any) -> Iterator[timedelta]:
    """How long the periods are that are added to a series, each of which has a length of its own."""
    for added in values(event, "RDATE"):
        for first, last in (told.dt for told in added.dts if isinstance(told.dt, tuple)):
            yield last if isinstance(last, timedelta) else last - first


def is_excepted(occurrence: Any) -> bool:
    """Whether an occurrence of a freeze is one that its series has not: the very moment, or day, that the rule has for it is excepted."""
    return not _names_of(own_time(occurrence)).isdisjoint(str(occurrence.get(EXCEPTED, "")).split())


def own_time(occurrence: Any) -> Time:
    """When its series has an occurrence, whatever it was moved to. The library says of all that were moved together what it says of one."""
    start: Time = occurrence["DTSTART"].dt
    if "RECURRENCE-ID" not in occurrence:
        return start
    changed: Time = occurrence["RECURRENCE-ID"].dt
    if _FIRST not in occurrence:
        return changed
    return changed + (_clock(start) - datetime.fromisoformat(str(occurrence[_FIRST])))


def _clock(told: Time) -> datetime:
    """What the clock shows."""
    return told.replace(tzinfo=None) if isinstance(told, datetime) else datetime.combine(told, _MIDNIGHT)


def _names_of(start: Time) -> set[str]:
    """How :data:`EXCEPTED` may name an occurrence: by its moment, or by its day."""
    return {_named(start), start.strftime("%Y-%m-%d")}


def _named(told: Time) -> str:
    return (told.astimezone(UTC) if isinstance(told, datetime) and told.tzinfo else told).isoformat()
