# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read iCalendar files (RFC 5545): what occurs in them between two moments.

LOCATION has the sites that an event is for, CATEGORIES the releases, with commas between them; none is all. Recurrence, exceptions,
changed and cancelled occurrences, and time zones are the libraries' business. Two kinds of time are not left to chance: one that a change
of the clocks skips does not exist, so the file is refused; one that comes twice, or that a file's own description of its zone makes another
than the time zone database does, is taken so that a window is shorter and a freeze longer.

A cancelled event neither opens nor stops anything. A tentative one opens nothing and stops all the same. TRANSP is not looked at: holidays
never make anybody busy.
"""

from __future__ import annotations

import contextlib
import glob
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import TidegateError
from ..libs import require
from .limit import ProcessorTimeError, processor_time
from .model import CalendarFiles, Calendars, Event
from .rules import rule_problems
from .text import calendars, components, decode, find_zone, plain
from .times import is_excepted, name_of, one_kind, own_time, period_lengths, summary_of, values

with contextlib.suppress(ImportError):
    import icalendar
    import recurring_ical_events

_LIMIT = 8 << 20  # bytes of a calendar
_EVENTS = 10_000  # in a calendar, and of their occurrences that matter
_SECONDS = 20  # of processor time for one file
_SHOWN = 10  # problems of a file
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)  # more than any zone is from UTC
_NO_EVENTS = {"VTODO": "the task", "VJOURNAL": "the journal entry", "VFREEBUSY": "the busy time"}
_ONCE = ("UID", "DTSTART", "DTEND", "DURATION", "RECURRENCE-ID", "LOCATION", "STATUS", "SEQUENCE")
_MANY = ("RRULE", "RDATE", "EXDATE", "CATEGORIES")
_HOURS = "X-TIDEGATE-HOURS"  # set here: the seconds of a DURATION that are not whole days
_AGREED = ("", "PUBLISH", "REQUEST", "ADD")  # values of METHOD; any other is of a proposal or an answer
_SET_ANEW = "open the event in Outlook, Google Calendar or Exchange, set its times and recurrence anew, and export the calendar again"
_GIVE_ZONE = (
    "write X-WR-TIMEZONE:Europe/Berlin, or the zone that is meant, below BEGIN:VCALENDAR, or give the event a time zone in Outlook, "
    "Google Calendar or Exchange and export the calendar again"
)
_SET_ZONE = (
    "choose a zone such as Europe/Berlin (Outlook: Options, Calendar, Time zones; Google Calendar: Settings, Time zone; Exchange: "
    "the mailbox's regional settings) and export the calendar again, or correct the name in the file"
)


def read_calendars(files: CalendarFiles, start: datetime, end: datetime) -> Calendars:
    """What the policy's calendars have between two moments; raises :class:`TidegateError` with everything that is wrong in them."""
    if files.windows or files.freezes:
        require("calendars")
    problems: list[str] = []
    notes: list[str] = []
    kinds: dict[str, tuple[Event, ...] | None] = {}
    for kind, patterns in (("windows", files.windows), ("freezes", files.freezes)):
        found: list[Event] = []
        for path in _paths(patterns, problems):
            try:
                found += read_events(path, start, end, longer=kind == "freezes", notes=notes)
            except TidegateError as error:
                problems.append(str(error))
        kinds[kind] = tuple(found) if patterns else None
    if problems:
        raise TidegateError("\n".join(problems))
    return Calendars(kinds["windows"], kinds["freezes"], tuple(dict.fromkeys(notes)))


def read_events(path: Path, start: datetime, end: datetime, longer: bool, notes: list[str] | None = None) -> list[Event]:
    """What occurs in a calendar between two moments.

    ``longer``: these are freezes; of what can be taken in two ways, take what stops more. ``notes`` gets a sentence for each event that
    counts otherwise than it may look. Raises :class:`TidegateError` with everything that is wrong in the file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise TidegateError(f"the calendar {path} can't be read: it is no file; correct calendars in the policy")
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as error:
        raise TidegateError(f"the calendar {path} can't be read: {error.strerror}; correct calendars in the policy") from error
    if len(content) > _LIMIT:
        raise TidegateError(f"the calendar {path} has more than {_LIMIT} bytes; leave out what is past")
    texts = calendars(decode(content))
    if texts is None:
        raise TidegateError(f"the calendar {path} has something that is in no complete VCALENDAR; export it again as iCalendar")
    reading = _Reading(path, (start, end), longer)
    try:
        with processor_time(_SECONDS):
            events = reading.events(texts)
    except ProcessorTimeError:
        where = f" at the event {reading.at}" if reading.at else ""
        reading.problems.append(
            f"to work out what occurs takes more than {_SECONDS} seconds of processor time{where}; "
            "let its series begin later or end, and leave out what is past"
        )
    if reading.problems:
        shown = list(dict.fromkeys(reading.problems))
        more = [f"and {len(shown) - _SHOWN} more of its events"] if len(shown) > _SHOWN else []
        raise TidegateError("\n".join(f"{path}: {problem}" for problem in (*shown[:_SHOWN], *more)))
    if notes is not None:
        notes += dict.fromkeys(f"{path.name}: {note}" for note in reading.notes)
    return events


class _Reading:
    """One reading of a file: what is wrong with it, and what has to be said of it. ``at``: the event that is being worked out."""

    def __init__(self, path: Path, between: tuple[datetime, datetime], longer: bool) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.at = ""
        self._path, self._between, self._longer = path, between, longer
        self._revoked: dict[str, list[_Revoked]] = defaultdict(list)

    def events(self, texts: Iterable[str]) -> list[Event]:
        """What occurs in the VCALENDARs of the file."""
        parsed = [one for one in map(self._parse, texts) if one is not None]
        return [event for calendar, reader in parsed for event in self._occurring(calendar, reader)]

    def _parse(self, text: str) -> tuple[Any, _Reader] | None:
        """A calendar whose times are of one kind, and what reads its occurrences; ``None`` when something is wrong with it."""
        text, faults = plain(text)
        if faults:
            unknown = {fault.zone: fault for fault in reversed(faults) if fault.zone}  # each is said once
            self.problems += [f"the event {name_of(fault.event)} has {fault.what} in {_no_zone(zone)}" for zone, fault in unknown.items()]
            self.problems += [f"the event {name_of(fault.event)} has {fault.what}; {_SET_ANEW}" for fault in faults if not fault.zone]
            return None
        try:
            icalendar.timezone.tzp.use_default()  # which forgets the zones that the calendar before has described
            calendar = icalendar.Calendar.from_ical(text)
            zone = _zone(calendar)
            found = [*_refusals(calendar), *(_no_events(calendar) if self._longer else ())]
            if not found:
                found = [f"{problem}; {_SET_ANEW}" for problem in one_kind(calendar.walk("VEVENT"), zone, self._longer)]
                found += [f"the event {name_of(event)} has no length; {_SET_ANEW}" for event in calendar.walk("VEVENT") if _is_empty(event)]
            if not found:
                _mark_hours(calendar)
                if _method(calendar) == "CANCEL":
                    for event in calendar.walk("VEVENT"):
                        self._revoked[str(event.get("UID", ""))].append(_Revoked.by(event, zone))
                return calendar, _Reader(self._path, zone, self._longer, _described(calendar), _method(calendar), self._revoked)
        except _NoZone as error:
            found = [str(error)]
        except Exception as error:  # a file from anywhere meets three parsers
            found = [f"{_culprit(text)}can't be read: {' '.join(str(error).split())!a:.200}; {_SET_ANEW}"]
        self.problems += found
        return None

    def _occurring(self, calendar: Any, reader: _Reader) -> Iterator[Event]:
        start, end = self._between
        count = 0
        for series in _series(calendar):
            self.at = name_of(series.walk("VEVENT")[0])
            try:
                reader.lost = set() if self._longer else _lost(series.walk("VEVENT"))
                # It takes whole days for those of UTC, and a period that was added for one as long as the event.
                before = max(chain([_DAY], *map(period_lengths, series.walk("VEVENT"))))
                occurrences = recurring_ical_events.of(series).between(start - before, end + _DAY)
                count += len(occurrences)
                events = [reader.read(occurrence, self._between) for occurrence in occurrences[:_EVENTS]]
            except Exception as error:  # its own and two parsers' below it
                self.problems.append(f"the event {self.at} can't be read: {' '.join(str(error).split())!a:.200}; {_SET_ANEW}")
                continue
            yield from filter(None, events)
            if count > _EVENTS:
                between = f"between {start.isoformat()} and {end.isoformat()}"
                self.problems.append(f"it has more than {_EVENTS} events {between}; leave some out")
                break
        self.problems += reader.problems
        self.notes += reader.notes


def _paths(patterns: Iterable[str], problems: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        paths = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not paths:
            problems.append(f"no calendar is named {pattern}; correct calendars in the policy, or put one there")
        yield from map(Path, paths)


def _refusals(calendar: Any) -> Iterator[str]:
    """What nobody means, what can be taken in many ways, and what would keep the machine busy."""
    events = calendar.walk("VEVENT")
    if len(events) > _EVENTS:
        yield f"it has more than {_EVENTS} events; leave out what is past"
        return
    descriptions: dict[str, set[bytes]] = defaultdict(set)
    for described in calendar.walk("VTIMEZONE"):
        descriptions[str(described["TZID"])].add(described.to_ical())
        yield from (
            f"its description of the time zone {str(described.get('TZID', ''))!a:.80} has an RRULE that is not yearly; {_SET_ZONE}"
            for part in described.subcomponents
            for rule in values(part, "RRULE")
            if [str(one).upper() for one in rule.get("FREQ", [])] != ["YEARLY"]
        )
    yield from (
        f"it describes the time zone {name!a:.80} in more than one way; {_SET_ZONE}"
        for name, different in descriptions.items()
        if len(different) > 1 and find_zone(name) is None
    )
    sound = []
    for event in events:
        unread = [(name, what) for name, what in event.errors if name is None or name in (*_ONCE, *_MANY)]
        if unread:
            where = f"can't be read in its {unread[0][0]}" if unread[0][0] else "has a line that can't be read"
            yield f"the event {name_of(event)} {where}: {unread[0][1]!a:.200}; {_SET_ANEW}"
            continue
        many = [name for name in _ONCE if isinstance(event.get(name), list)]
        if many:
            yield f"the event {name_of(event)} has more than one {many[0]}; {_SET_ANEW}"
            continue
        odd = [name for name in ("DTSTART", "DTEND", "RECURRENCE-ID") if name in event and not isinstance(event[name].dt, date)]
        if odd:
            yield f"the event {name_of(event)} has a {odd[0]} that is no time; {_SET_ANEW}"
            continue
        sound.append(event)
        yield from (f"the event {name_of(event)} has {problem}; {_SET_ANEW}" for problem in rule_problems(event))
    yield from _superseded(calendar, sound)


def _superseded(calendar: Any, events: Iterable[Any]) -> Iterator[str]:
    """Leave only the last revision of each event in a calendar; yield the events of which that can't be said."""
    revisions: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for event in events:
        if "UID" in event:
            which = event["RECURRENCE-ID"].to_ical().decode() if "RECURRENCE-ID" in event else ""
            revisions[str(event["UID"]), which].append(event)
    gone: set[int] = set()
    for (uid, _which), same in revisions.items():
        last = max(_revision(event) for event in same)
        kept = [event for event in same if _revision(event) == last]
        if len({event.to_ical() for event in kept}) > 1:
            yield (
                f"two events have the UID {uid!a:.80} and the same SEQUENCE, so one would take the other's place; delete one in Outlook, "
                "Google Calendar or Exchange and export the calendar again, or give one another UID in the file"
            )
        gone.update(id(event) for event in same if event is not kept[0])
    calendar.subcomponents = [one for one in calendar.subcomponents if id(one) not in gone]


def _no_events(calendar: Any) -> Iterator[str]:
    """What a freeze may have been written as that stops nothing."""
    for kind, what in _NO_EVENTS.items():
        for one in calendar.walk(kind):
            yield f"{what} {name_of(one)} is no event, so it would stop nothing; make one of it or delete it, and export the calendar again"


def _is_empty(event: Any) -> bool:
    length: timedelta = event["DURATION"].dt if "DURATION" in event else _DAY
    return (event["DTEND"].dt - event["DTSTART"].dt if "DTEND" in event else length) <= timedelta(0)


def _no_zone(name: str) -> str:
    return f"the time zone {name!a:.80}, which is not known here; {_SET_ZONE}"


def _culprit(text: str) -> str:
    """Which event can't be read, as far as that can be said: the first that can't be when it is alone."""
    for event in components(text, "VEVENT")[0][:_EVENTS]:
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
    """The zone for times that have none, and for whole days: the calendar's, or the only one that it describes.

    The calendar forgets its own: another library would move times in UTC there.
    """
    names = {str(name).strip() for name in values(calendar, "X-WR-TIMEZONE")} - {""}
    calendar.pop("X-WR-TIMEZONE", None)
    if len(names) > 1:
        raise _NoZone(f"it has more than one X-WR-TIMEZONE: {', '.join(sorted(names))!a:.80}; {_SET_ZONE}")
    described = calendar.walk("VTIMEZONE")
    if not all(one.get("TZID") for one in described):
        raise _NoZone(f"can't be read, for it has a VTIMEZONE without a TZID; {_SET_ZONE}")
    for named in names:
        zone = find_zone(named) or next((one.to_tz(lookup_tzid=False) for one in described if one["TZID"] == named), None)
        if zone is None:
            raise _NoZone(f"its X-WR-TIMEZONE is {_no_zone(named)}")
        return zone
    return find_zone(str(described[0]["TZID"])) or described[0].to_tz(lookup_tzid=False) if len(described) == 1 else None


def _described(calendar: Any) -> dict[str, list[tzinfo]]:
    """What the calendar itself says of zones that the database has too, by the database's name."""
    found: dict[str, list[tzinfo]] = defaultdict(list)
    for one in calendar.walk("VTIMEZONE"):
        zone = find_zone(str(one["TZID"]))
        if zone is not None:
            found[zone.key].append(one.to_tz(lookup_tzid=False))
    return found


def _method(calendar: Any) -> str:
    return str(calendar.get("METHOD", "")).strip().upper()


@dataclass(frozen=True)
class _Revoked:
    """What an event in a calendar with METHOD:CANCEL cancels: all of an event, or one occurrence, and those after it with ``onward``.

    ``day``: the one that ``moment`` stands for where an event has whole days.
    """

    moment: date | datetime | None
    day: date | None
    onward: bool
    revision: int

    @classmethod
    def by(cls, event: Any, zone: tzinfo | None) -> _Revoked:
        """What one such event cancels."""
        which = event.get("RECURRENCE-ID")
        if which is None:
            return cls(None, None, False, _revision(event))
        return cls(which.dt, _day(which.dt, zone), "RANGE" in which.params, _revision(event))

    def has(self, own: date | datetime, longer: bool) -> bool:
        """Whether the occurrence that an event has, or would have had, at ``own`` is cancelled.

        A day does for a time on it, and a time for its day, but for a freeze (``longer``).
        """
        if self.moment is None:
            return True
        mixed = isinstance(own, datetime) != isinstance(self.moment, datetime)
        same = not longer and self.day == _day(own, None) if mixed else _instant(self.moment) == _instant(own)
        return same or (self.onward and _instant(self.moment) < _instant(own))


def _revision(event: Any) -> int:
    return int(event.get("SEQUENCE", 0))


def _instant(moment: date | datetime) -> datetime:
    """A moment in UTC, or a day's first as if it were, so that they can be compared."""
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _day(moment: date | datetime, zone: tzinfo | None) -> date:
    """The day of a moment in ``zone``, or in its own where there is none or its midnight is meant."""
    if not isinstance(moment, datetime):
        return moment
    here = moment.astimezone(zone) if moment.tzinfo and zone else moment
    return moment.date() if moment.time() == time() != here.time() else here.date()


def _series(calendar: Any) -> Iterator[Any]:
    """A calendar for each event with all that changes it, so that what is said of one is not said of all."""
    by_name: dict[str, list[Any]] = defaultdict(list)
    for number, event in enumerate(calendar.walk("VEVENT")):
        by_name[str(event["UID"]) if "UID" in event else f"\n{number}"].append(event)
    for events in by_name.values():
        one = icalendar.Calendar({key: value for key, value in calendar.items() if key == "CALSCALE"})
        one.subcomponents = events
        yield one


def _lost(events: list[Any]) -> set[datetime]:
    """Which occurrences some of ``events`` change although the series, another of them, does not have them."""
    series = [event for event in events if "RECURRENCE-ID" not in event]
    if len(series) != 1 or len(events) == 1:
        return set()
    alone = icalendar.Calendar()
    alone.subcomponents = series
    query = recurring_ical_events.of(alone)
    changed = [event["RECURRENCE-ID"].dt for event in events if "RECURRENCE-ID" in event]
    has = {moment: {_instant(one["DTSTART"].dt) for one in query.between(moment, moment + _DAY)} for moment in changed}
    return {_instant(moment) for moment in changed if _instant(moment) not in has[moment]}


class _Reader:
    """Makes events of a calendar's occurrences and collects what is wrong with them, and what has to be said."""

    def __init__(
        self,
        path: Path,
        zone: tzinfo | None,
        longer: bool,
        described: dict[str, list[tzinfo]],
        method: str,
        revoked: Mapping[str, list[_Revoked]],
    ) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.lost: set[datetime] = set()  # occurrences that the series which is read does not have
        self._file, self._zone, self._longer, self._described = path.name, zone, longer, described
        self._method, self._revoked = method, revoked

    def read(self, occurrence: Any, between: tuple[datetime, datetime]) -> Event | None:
        """The event; ``None`` when it does not count, is not in ``between``, or something is wrong with it."""
        if is_excepted(occurrence):
            return None
        notes: list[str] = []
        start = self._moment(occurrence, "DTSTART", "starts", notes)
        end = self._moment(occurrence, "DTEND", "ends", notes) if start is not None else None
        if start is None or end is None:
            return None
        if end <= start:
            # Within an hour that comes twice a window may have nothing left; any other is a mistake.
            if self._longer or occurrence["DTEND"].dt <= occurrence["DTSTART"].dt:
                self.problems.append(f"the event {name_of(occurrence)} of {start.date().isoformat()} has no length; {_SET_ANEW}")
            return None
        if not (start < between[1] and between[0] < end):
            return None
        counts = self._counts(occurrence, notes)
        self.notes += notes
        if not counts:
            return None
        categories = occurrence.get("CATEGORIES", [])
        listed = categories if isinstance(categories, list) else [categories]
        releases = frozenset(str(name).replace("\\,", ",").strip() for category in listed for name in category.cats) - {""}
        sites = frozenset(name.strip() for name in str(occurrence.get("LOCATION", "")).split(",")) - {""}
        return Event(summary_of(occurrence), start, end, sites, releases, self._file)

    def _counts(self, occurrence: Any, notes: list[str]) -> bool:
        """Whether an event opens or stops what it is for."""
        uid, own = str(occurrence.get("UID", "")), own_time(occurrence)
        changed = occurrence.get("RECURRENCE-ID", occurrence["DTSTART"]).dt
        status = str(occurrence.get("STATUS", "")).strip().upper()
        by = [one for one in (self._revoked.get(uid, ()) if uid else ()) if one.has(own, self._longer)]
        # A freeze that was set anew after another calendar of the file had cancelled it stops.
        revoked = any(not self._longer or one.revision >= _revision(occurrence) for one in by)
        if status == "CANCELLED" or self._method == "CANCEL" or revoked:
            how = "STATUS:CANCELLED" if status == "CANCELLED" else "METHOD:CANCEL"
            notes.append(f"the event {name_of(occurrence)} is cancelled ({how}), so it {'stops' if self._longer else 'opens'} nothing")
            return False
        if _instant(changed) in self.lost:
            what = "changes an occurrence (RECURRENCE-ID) that its series does not have"
            notes.append(f"the event {name_of(occurrence)} {what}, so it opens nothing")
            return False
        if status not in ("", "CONFIRMED") or self._method not in _AGREED:
            how = f"METHOD:{self._method}" if status in ("", "CONFIRMED") else f"STATUS:{status}"
            effect = "it stops what it is for all the same" if self._longer else "it opens nothing until it is confirmed"
            notes.append(f"the event {name_of(occurrence)} is not confirmed ({how[:40]!a}), and {effect}")
            return self._longer
        return True

    def _moment(self, occurrence: Any, which: str, does: str, notes: list[str]) -> datetime | None:
        """A time of an occurrence in UTC: of two that it may be, the earlier for the start of a freeze and the end of a window."""
        written: date | datetime = occurrence[which].dt
        moment = written if isinstance(written, datetime) else datetime.combine(written, time())
        zone = moment.tzinfo or self._zone
        if zone is None:
            what = f"the event {name_of(occurrence)} {does} ({which}) at {written.isoformat()} in no time zone"
            self.problems.append(f"{what}; {_GIVE_ZONE}")
            return None
        earlier = self._longer == (which == "DTSTART")
        hours = timedelta(seconds=float(occurrence.get(_HOURS, 0))) if which == "DTEND" else timedelta(0)
        local = (moment - hours).replace(tzinfo=zone, fold=int(not earlier))
        utc, tick = _utc(local), timedelta(0)
        if utc is None and (which == "DTEND" or not isinstance(written, datetime)):
            # What ends, or a day that begins, at the very moment of the change does so right behind the last moment before.
            utc, tick = _utc(local - _TICK), _TICK
        if utc is None:
            what = f"the event {name_of(occurrence)} {does} ({which}) at {local.replace(tzinfo=None).isoformat()}"
            self.problems.append(f"{what}, an hour that {zone} skips when the clocks change; {_SET_ANEW}")
            return None
        utc += tick
        others = [(local - tick).replace(tzinfo=one).astimezone(UTC) + tick for one in self._described.get(str(zone), [])]
        notes += [
            f"the event {name_of(occurrence)} {does} ({which}) at {utc.isoformat()} by the time zone {zone}, "
            f"and at {other.isoformat()} by the file's own VTIMEZONE of it; the {'earlier' if earlier else 'later'} one counts"
            for other in dict.fromkeys(others)
            if other != utc
        ]
        return (min if earlier else max)([utc, *others]) + hours


def _utc(local: datetime) -> datetime | None:
    """The moment of a local time; ``None`` when there is none, for its zone skips it."""
    utc = local.astimezone(UTC)
    return utc if utc.astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None) else None


def horizon(now: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Between which moments occurrences matter to a change that is to be done by ``end``."""
    return now, max(now, end) + timedelta(days=1)
