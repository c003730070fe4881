# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read iCalendar files (RFC 5545): what occurs in them between two moments.

LOCATION has the sites that an event is for, CATEGORIES the releases, with commas between them; none is all. Recurrence, exceptions,
changed and cancelled occurrences, and time zones are the libraries' business. Two kinds of time are not left to chance: one that a change
of the clocks skips does not exist, so the file is refused; one that comes twice is taken so that a window is shorter and a freeze longer.
"""

from __future__ import annotations

import contextlib
import glob
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from math import prod
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import TidegateError
from ..libs import require
from ..policy.calendar import Calendars, Event
from ..policy.model import CalendarFiles
from .times import TIMED, find_zone, is_excepted, name_of, one_kind, values, zones_of

with contextlib.suppress(ImportError):
    import icalendar
    import recurring_ical_events

LIBRARIES = ("icalendar", "recurring-ical-events")
_LIMIT = 8 << 20  # bytes of a calendar
_EVENTS = 10_000  # in a calendar, and of their occurrences that matter
_OFTEN = frozenset({"SECONDLY", "MINUTELY", "HOURLY"})
_TIMES = 24  # a day, at most
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)  # more than any zone is from UTC
_NO_EVENTS = {"VTODO": "the task", "VJOURNAL": "the journal entry", "VFREEBUSY": "the busy time"}
_ONCE = ("UID", "DTSTART", "DTEND", "DURATION", "RECURRENCE-ID", "LOCATION", "STATUS")
_HOURS = "X-TIDEGATE-HOURS"  # set here: the seconds of a DURATION that are not whole days
_CALENDAR = re.compile(r"^BEGIN:VCALENDAR[ \t]*\r?\n.*?^END:VCALENDAR[ \t]*\r?$", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_EVENT = re.compile(r"^BEGIN:VEVENT[ \t]*\r?\n.*?^END:VEVENT[ \t]*\r?$", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_SET_ANEW = "open the event in Outlook, Google Calendar or Exchange, set its times and recurrence anew, and export the calendar again"
_SET_ZONE = (
    "choose a zone such as Europe/Berlin (Outlook: Options, Calendar, Time zones; Google Calendar: Settings, Time zone; Exchange: "
    "the mailbox's regional settings) and export the calendar again, or correct the name in the file"
)


def read_calendars(files: CalendarFiles, start: datetime, end: datetime) -> Calendars:
    """What the policy's calendars have between two moments; raises :class:`TidegateError` with everything that is wrong in them."""
    if files.windows or files.freezes:
        require(*LIBRARIES)
    problems: list[str] = []
    kinds: dict[str, tuple[Event, ...] | None] = {}
    for kind, patterns in (("windows", files.windows), ("freezes", files.freezes)):
        found: list[Event] = []
        for path in _paths(patterns, problems):
            try:
                found += read_events(path, start, end, longer=kind == "freezes")
            except TidegateError as error:
                problems.append(str(error))
        kinds[kind] = tuple(found) if patterns else None
    if problems:
        raise TidegateError("\n".join(problems))
    return Calendars(kinds["windows"], kinds["freezes"])


def read_events(path: Path, start: datetime, end: datetime, longer: bool) -> list[Event]:
    """What occurs in a calendar between two moments. ``longer``: of an hour that comes twice, take the times that make an event longer."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise TidegateError(f"the calendar {path} can't be read: it is no file; correct calendars in the policy")
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as error:
        raise TidegateError(f"the calendar {path} can't be read: {error.strerror}; correct calendars in the policy") from error
    if len(content) > _LIMIT:
        raise TidegateError(f"the calendar {path} has more than {_LIMIT} bytes; leave out what is past")
    text = content.decode("utf-8-sig", "replace")
    calendars = _CALENDAR.findall(text)
    if not calendars or _CALENDAR.sub("", text).strip():
        raise TidegateError(f"the calendar {path} has something that is in no complete VCALENDAR; export it again as iCalendar")
    problems: list[str] = []
    events: list[Event] = []
    for one in calendars:
        events += _read_calendar(path, one, (start, end), longer, problems)
    if problems:
        raise TidegateError("\n".join(f"{path}: {problem}" for problem in problems))
    return events


def _read_calendar(path: Path, text: str, between: tuple[datetime, datetime], longer: bool, problems: list[str]) -> list[Event]:
    """The events of one VCALENDAR; what is wrong with them goes to ``problems``."""
    unknown = [f"the event {name_of(event)} has {which} in {_no_zone(zone)}" for event, which, zone in zones_of(text) if _is_folder(zone)]
    if unknown:
        problems += unknown
        return []
    start, end = between
    try:
        icalendar.timezone.tzp.use_default()  # which forgets the zones that the calendar before has described
        calendar = icalendar.Calendar.from_ical(text)
        zone = _zone(calendar)
        found = [*_refusals(calendar), *(_strangers(calendar) if longer else ())]
        if not found:
            found = [f"{problem}; {_SET_ANEW}" for problem in one_kind(calendar.walk("VEVENT"), zone, longer)]
            found += [f"the event {name_of(event)} has no length; {_SET_ANEW}" for event in calendar.walk("VEVENT") if _is_empty(event)]
        if found:
            problems += found
            return []
        _mark_hours(calendar)
        # It takes whole days for those of UTC.
        occurrences = recurring_ical_events.of(calendar).between(start - _DAY, end + _DAY)
    except _NoZone as error:
        problems.append(str(error))
        return []
    except Exception as error:  # a file from anywhere meets three parsers
        problems.append(f"{_culprit(text)}can't be read: {' '.join(str(error).split())!a:.200}; {_SET_ANEW}")
        return []
    reader = _Reader(path, zone, longer)
    read = (reader.read(occurrence) for occurrence in occurrences[:_EVENTS])
    events = [event for event in read if event is not None and event.start < end and start < event.end]
    problems += reader.problems
    if len(occurrences) > _EVENTS:
        problems.append(f"it has more than {_EVENTS} events between {start.isoformat()} and {end.isoformat()}; leave some out")
    return events


def _paths(patterns: Iterable[str], problems: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        paths = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not paths:
            problems.append(f"no calendar is named {pattern}; correct calendars in the policy, or put one there")
        yield from map(Path, paths)


def _refusals(calendar: Any) -> Iterator[str]:
    """Rules that nobody means, and that would keep the machine busy."""
    events = calendar.walk("VEVENT")
    if len(events) > _EVENTS:
        yield f"it has more than {_EVENTS} events; leave out what is past"
        return
    names = Counter((str(event["UID"]), str(event.get("RECURRENCE-ID", ""))) for event in events if "UID" in event)
    yield from (
        f"two events have the UID {uid!a:.80}, so one would take the other's place; give one of them another UID, or delete one"
        for (uid, _which), many in names.items()
        if many > 1
    )
    for event in events:
        unread = [what for name, what in event.errors if name is None]
        if unread:
            yield f"the event {name_of(event)} has a line that can't be read: {unread[0]!a:.200}; {_SET_ANEW}"
        many = [name for name in _ONCE if isinstance(event.get(name), list)]
        if many:
            yield f"the event {name_of(event)} has more than one {many[0]}; {_SET_ANEW}"
            continue
        if "EXRULE" in event:
            yield f"the event {name_of(event)} has an EXRULE, which is no more in use; give it EXDATE"
        yield from (f"the event {name_of(event)} has {which} in {_no_zone(zone)}" for which, zone in _unknown_zones(event))
        for rule in values(event, "RRULE"):
            if not rule.get("FREQ") or min(rule.get("INTERVAL", [1])) < 1:
                yield f"the event {name_of(event)} has an RRULE without a FREQ, or with an INTERVAL below 1; {_SET_ANEW}"
            often = prod(len(rule.get(part, [0])) for part in ("BYHOUR", "BYMINUTE", "BYSECOND")) > _TIMES
            if _OFTEN.intersection(str(frequency).upper() for frequency in rule.get("FREQ", [])) or often:
                yield f"the event {name_of(event)} has an RRULE that recurs more often than {_TIMES} times a day; make it one longer event"


def _strangers(calendar: Any) -> Iterator[str]:
    """What a freeze may have been written as that stops nothing."""
    for kind, what in _NO_EVENTS.items():
        for one in calendar.walk(kind):
            yield f"{what} {name_of(one)} is no event, so it would stop nothing; make one of it or delete it, and export the calendar again"


def _is_empty(event: Any) -> bool:
    length: timedelta = event["DURATION"].dt if "DURATION" in event else _DAY
    return (event["DTEND"].dt - event["DTSTART"].dt if "DTEND" in event else length) <= timedelta(0)


def _unknown_zones(event: Any) -> Iterator[tuple[str, str]]:
    """The properties of an event whose time zone nobody knows, so that their times came to have none, with its name."""
    for name in TIMED:
        for told in values(event, name):
            zone = told.params.get("TZID")
            times = [each.dt for each in told.dts] if hasattr(told, "dts") else [told.dt]
            first = times[0][0] if times and isinstance(times[0], tuple) else times[0] if times else None
            if zone and isinstance(first, datetime) and first.tzinfo is None:
                yield name, str(zone)
                return


def _is_folder(zone: str) -> bool:
    """Whether a name is that of a part of the time zone database, as ``Europe`` is: looking it up would fail, and name no event."""
    try:
        ZoneInfo(zone)
    except (ValueError, ZoneInfoNotFoundError):
        return False
    except OSError:
        return True
    return False


def _no_zone(name: str) -> str:
    return f"the time zone {name!a:.80}, which is not known here; {_SET_ZONE}"


def _culprit(text: str) -> str:
    """Which event can't be read, as far as that can be said: the first that can't be when it is alone."""
    for event in _EVENT.findall(text)[:_EVENTS]:
        try:
            alone = icalendar.Calendar.from_ical(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-\n{event}\nEND:VCALENDAR\n")
            recurring_ical_events.of(alone).at(2000)
        except Exception:  # that it fails is what is looked for
            lines = dict(line.partition(":")[::2] for line in event.splitlines())
            return f"the event {name_of(lines)} "
    return ""


def _mark_hours(calendar: Any) -> None:
    """Keep what is lost where the end of an occurrence is found by the clock: hours of a DURATION last as long when the clock changes."""
    for event in calendar.walk("VEVENT"):
        if "DURATION" in event and isinstance(event["DTSTART"].dt, datetime):
            event[_HOURS] = str(event["DURATION"].dt.total_seconds() % _DAY.total_seconds())


class _NoZone(Exception):
    """The calendar names a zone that nobody knows."""


def _zone(calendar: Any) -> tzinfo | None:
    """The zone for times that have none, and for whole days: the calendar's, or the only one that it describes."""
    told = str(calendar.get("X-WR-TIMEZONE", "")).strip()
    if told:
        zone = find_zone(told)
        if zone is None:
            raise _NoZone(f"its X-WR-TIMEZONE is {_no_zone(told)}")
        calendar["X-WR-TIMEZONE"] = str(zone)  # another library looks it up, and knows no other names
        return zone
    described = calendar.walk("VTIMEZONE")
    return described[0].to_tz() if len(described) == 1 else None


class _Reader:
    """Makes events of a calendar's occurrences and collects what is wrong with them."""

    def __init__(self, path: Path, zone: tzinfo | None, longer: bool) -> None:
        self.problems: list[str] = []
        self._file, self._zone, self._longer = path.name, zone, longer

    def read(self, occurrence: Any) -> Event | None:
        """The event; ``None`` when it was cancelled or something is wrong with it."""
        if str(occurrence.get("STATUS", "")).upper() == "CANCELLED" or is_excepted(occurrence):
            return None
        start = self._moment(occurrence, "DTSTART", "starts", fold=not self._longer)
        end = self._moment(occurrence, "DTEND", "ends", fold=self._longer) if start is not None else None
        if start is None or end is None:
            return None
        if end <= start:
            # Within an hour that comes twice a window may have nothing left; any other is a mistake.
            if self._longer or occurrence["DTEND"].dt <= occurrence["DTSTART"].dt:
                self.problems.append(f"the event {name_of(occurrence)} of {start.date().isoformat()} has no length; {_SET_ANEW}")
            return None
        categories = occurrence.get("CATEGORIES", [])
        listed = categories if isinstance(categories, list) else [categories]
        releases = frozenset(str(name).strip() for category in listed for name in category.cats) - {""}
        sites = frozenset(name.strip() for name in str(occurrence.get("LOCATION", "")).split(",")) - {""}
        return Event(str(occurrence.get("SUMMARY", "")), start, end, sites, releases, self._file)

    def _moment(self, occurrence: Any, which: str, does: str, *, fold: bool) -> datetime | None:
        """A time of an occurrence in UTC."""
        told: date | datetime = occurrence[which].dt
        moment = told if isinstance(told, datetime) else datetime.combine(told, time())
        zone = moment.tzinfo or self._zone
        if zone is None:
            what = f"the event {name_of(occurrence)} {does} ({which}) at {told.isoformat()} in no time zone"
            self.problems.append(f"{what}; write X-WR-TIMEZONE:Europe/Berlin, or the zone that is meant, below BEGIN:VCALENDAR")
            return None
        hours = timedelta(seconds=float(occurrence.get(_HOURS, 0))) if which == "DTEND" else timedelta(0)
        local = (moment - hours).replace(tzinfo=zone, fold=int(fold))
        utc = _utc(local)
        if utc is None and which == "DTEND":  # at the very moment of the change, it is what follows the last moment before
            last = _utc(local - _TICK)
            utc = last + _TICK if last else None
        if utc is None:
            what = f"the event {name_of(occurrence)} {does} ({which}) at {local.replace(tzinfo=None).isoformat()}"
            self.problems.append(f"{what}, an hour that {zone} skips when the clocks change; {_SET_ANEW}")
            return None
        return utc + hours


def _utc(local: datetime) -> datetime | None:
    """The moment of a local time; ``None`` when there is none, for its zone skips it."""
    utc = local.astimezone(UTC)
    return utc if utc.astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None) else None


def horizon(now: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Between which moments occurrences matter to a change that is to be done by ``end``."""
    return now, max(now, end) + timedelta(days=1)
