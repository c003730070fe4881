# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of an iCalendar file, before a parser sees it: its encoding, its lines, its calendars, and the names of its time zones."""

from __future__ import annotations

import codecs
import contextlib
import functools
import re
import zoneinfo
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

with contextlib.suppress(ImportError):
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

TIMED = ("DTSTART", "DTEND", "RECURRENCE-ID", "RDATE", "EXDATE")  # properties that have times
_FOLD = re.compile(rb"\r\n?[ \t]|\n[ \t]")
# Programs write a name such as (UTC+01:00) Berlin without quotation marks; then a day tells where the value begins.
_BARE = r'[^";:]*(?:(?::(?!\d{8})[^";:]*)+(?=(?:;[^":]*)?:\d{8}))?'
_ZONED = re.compile(rf'(?P<head>(?P<name>{"|".join(TIMED)});(?:[^:"]*;)?TZID=)(?P<zone>"[^"]*"|{_BARE})', re.IGNORECASE)
_RULE = re.compile(r"RRULE(?:;[^:]*)?:", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([\\;,])")
_SPECIAL = re.compile(r"[\\;,]")
_OF_ZONES = frozenset({"BEGIN", "END", "DTSTART", "RRULE", "RDATE", "TZOFFSETFROM", "TZOFFSETTO"})
_EXCHANGE = {"tzone://microsoft/utc": "UTC"}
_MACHINE = frozenset({"localtime", "posixrules", "Factory"})  # what the database's directory may have besides zones
_HERE = " as described"  # added to a name that is also that of a part of the database


def decode(content: bytes) -> str:
    """The text with whole lines, which end with a newline. A long line may be cut anywhere, inside a letter too."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode()
    content = _FOLD.sub(b"", content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")  # as programs wrote it before they wrote UTF-8
    return text.replace("\r\n", "\n").replace("\r", "\n")


def calendars(text: str) -> list[str] | None:
    """Each VCALENDAR of a file; ``None`` when there is none, or something that is in none."""
    found, rest = components(text, "VCALENDAR")
    return found if found and not rest.strip() else None


def components(text: str, kind: str) -> tuple[list[str], str]:
    """Each component of a kind, such as VEVENT, from its BEGIN to the END that follows, and all that is in none of them."""
    found: list[str] = []
    rest: list[str] = []
    current: list[str] = []
    for line in text.split("\n"):
        end = line.rstrip(" \t").upper()
        if current or end == f"BEGIN:{kind}":
            current.append(line)
        else:
            rest.append(line)
        if current and end == f"END:{kind}":
            found.append("\n".join(current))
            current = []
    return found, "\n".join(rest + current)


def find_zone(name: str) -> ZoneInfo | None:
    """The time zone of a name as calendar programs write it; ``None`` when nobody knows it.

    It is one of the time zone database, in capitals or not, with the name or address of a vendor before it or not; or one of Windows'.
    """
    name = name.strip().strip('"').strip()
    name = _EXCHANGE.get(name.casefold(), WINDOWS_TO_OLSON.get(name, name))
    parts = name.strip("/").split("/")
    tails = ["/".join(parts[first:]) for first in range(1, len(parts))] if name.startswith("/") or "://" in name else [name]
    for one in tails:
        with contextlib.suppress(ValueError, OSError, ZoneInfoNotFoundError):
            known = one if _loads(one) else _every_zone().get(one.casefold(), "")
            if known and known not in _MACHINE:
                return ZoneInfo(known)
    return None


def _loads(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True


@functools.cache
def _every_zone() -> dict[str, str]:
    return {name.casefold(): name for name in zoneinfo.available_timezones()}


@dataclass(frozen=True)
class Fault:
    """A line of an event that can't be taken as it is. ``event``: its UID and SUMMARY. ``zone``: one that nobody knows, if that is it."""

    event: Mapping[str, str]
    what: str
    zone: str = ""


def plain(text: str) -> tuple[str, list[Fault]]:
    """One VCALENDAR without its alarms, with zone names that every library understands, and what is wrong with its events.

    A name that the time zone database has under another spelling gets that; any other has to be described by a VTIMEZONE of the calendar.
    A time in UTC has no other zone, as RFC 5545 says (section 3.2.19).
    """
    lines = text.split("\n")
    described = {_unescaped(value) for name, value in _in(lines, "VTIMEZONE") if name == "TZID"}
    faults: list[Fault] = []
    event: dict[str, str] = {}
    within: list[str] = []
    kept: list[str] = []
    for line in lines:
        name, _colon, value = line.partition(":")
        name = name.strip().upper()
        if name == "BEGIN":
            within.append(value.strip().upper())
            if within[-1] == "VEVENT":
                event = {}
        if name.partition(";")[0] in ("UID", "SUMMARY") and within[-1:] == ["VEVENT"]:
            event[name.partition(";")[0]] = value
        if "VTIMEZONE" in within:
            kept += _of_zone(name.partition(";")[0], line, value)
        elif "VALARM" not in within:
            kept.append(_plain_line(line, described, event, faults) if within[-1:] == ["VEVENT"] else line)
        if name == "END" and within:
            within.pop()
    return "\n".join(kept), faults


def _plain_line(line: str, described: Collection[str], event: Mapping[str, str], faults: list[Fault]) -> str:
    """A line of an event with a plain zone; what is wrong with it goes to ``faults``."""
    if rule := _RULE.match(line):
        parts = [part.partition("=")[0].strip().upper() for part in line[rule.end() :].split(";")]
        twice = sorted({part for part in parts if part and parts.count(part) > 1})
        if twice:
            faults.append(Fault(event, f"an RRULE with {twice[0]!a:.40} twice"))
        return line
    found = _ZONED.match(line)
    if not found:
        return line
    head, zone = found["head"], _unescaped(found["zone"])
    params, _colon, value = line[found.end() :].partition(":")
    by_zone: dict[bool, list[str]] = {False: [], True: []}
    for moment in value.split(","):
        by_zone[not zone or moment.strip().upper().endswith("Z")].append(moment)
    known = find_zone(zone)
    if known is None and by_zone[False] and zone not in described:
        faults.append(Fault(event, found["name"].upper(), zone))
    starts = {False: f'{head}"{known.key if known else _plain(zone)}"{params}', True: head.removesuffix("TZID=").rstrip(";") + params}
    return "\n".join(f"{starts[alone]}:{','.join(moments)}" for alone, moments in by_zone.items() if moments)


def _of_zone(name: str, line: str, value: str) -> Iterator[str]:
    """A line of a VTIMEZONE if a parser needs it: all that programs add besides, RFC 7808 among them, some parser refuses."""
    if name == "TZID":
        yield f"TZID:{_escaped(_plain(_unescaped(value)))}"
    elif name in _OF_ZONES:
        yield line


def _unescaped(name: str) -> str:
    """The name of a zone, which a VTIMEZONE has as a text, with a backslash before a comma, and a parameter in quotation marks."""
    return _ESCAPED.sub(r"\1", name.strip().strip('"').strip())


def _escaped(name: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", name)


def _plain(described: str) -> str:
    """The name of a zone that a calendar describes: not one that opens a directory of the database."""
    try:
        ZoneInfo(described)
    except (ValueError, ZoneInfoNotFoundError):
        return described
    except OSError:
        return described + _HERE
    return described


def _in(lines: list[str], component: str) -> Iterator[tuple[str, str]]:
    """Name and value of the lines of each such component."""
    inside = False
    for line in lines:
        name, _colon, value = line.partition(":")
        if value.strip().upper() == component and name.upper() in ("BEGIN", "END"):
            inside = name.upper() == "BEGIN"
        elif inside:
            yield name.partition(";")[0].strip().upper(), value
