# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What RFC 5545 does not allow in the recurrence of an event, and what would take for ever to work out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from .times import values

_OFTEN = frozenset({"SECONDLY", "MINUTELY", "HOURLY"})
_TIMES = 24  # a day, at most
_WHOLE = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST")
_NUMBERS = {  # the greatest, and whether one may be counted from the end, as -1
    "BYMONTH": (12, False),
    "BYMONTHDAY": (31, True),
    "BYYEARDAY": (366, True),
    "BYWEEKNO": (53, True),
    "BYSETPOS": (366, True),
}
_CLOCK = {"BYHOUR": 23, "BYMINUTE": 59, "BYSECOND": 60}
_NOT_WITH = {  # RFC 5545, section 3.3.10
    "BYWEEKNO": ("DAILY", "WEEKLY", "MONTHLY"),
    "BYYEARDAY": ("DAILY", "WEEKLY", "MONTHLY"),
    "BYMONTHDAY": ("WEEKLY",),
}


def rule_problems(event: Any) -> Iterator[str]:
    """What is wrong with the recurrence and the length of an event, after ``has``."""
    if "EXRULE" in event:
        yield "an EXRULE, which RFC 5545 has no more and readers pass over"
    if "DTEND" in event and "DURATION" in event:
        yield "both a DTEND and a DURATION"
    if "RECURRENCE-ID" in event and str(event["RECURRENCE-ID"].params.get("RANGE", "THISANDFUTURE")).upper() != "THISANDFUTURE":
        yield "a RECURRENCE-ID with a RANGE other than THISANDFUTURE"
    if "RECURRENCE-ID" in event and not event.keys().isdisjoint(("RRULE", "RDATE")):
        yield "both a RECURRENCE-ID and a recurrence of its own, which readers pass over"
    for rule in values(event, "RRULE"):
        yield from _problems(rule)


def _problems(rule: Any) -> Iterator[str]:
    frequency = next((str(one).upper() for one in rule.get("FREQ", [])), "")
    if not frequency:
        yield "an RRULE without a FREQ"
        return
    _plain_scale(rule)
    strange = [name for name in rule if name not in (*_WHOLE, *_NUMBERS, *_CLOCK, "BYDAY")]
    if strange:
        yield f"an RRULE with {', '.join(strange)!a:.80}, which is not known here"
        return
    for name in ("INTERVAL", "COUNT"):
        if name in rule and min(rule[name]) < 1:
            yield f"an RRULE with {name} below 1"
    if "COUNT" in rule and "UNTIL" in rule:
        yield "an RRULE with both COUNT and UNTIL"
    yield from (f"an RRULE with {name} out of range" for name in (*_NUMBERS, *_CLOCK) if not _in_range(name, rule))
    yield from (f"an RRULE with {name} and FREQ={frequency}" for name, never in _NOT_WITH.items() if name in rule and frequency in never)
    if "BYSETPOS" in rule and not any(name.startswith("BY") and name != "BYSETPOS" for name in rule):
        yield "an RRULE with BYSETPOS and nothing that it could choose from"
    numbered = any(str(day).lstrip("+-")[:1].isdigit() for day in rule.get("BYDAY", []))
    if numbered and (frequency not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in rule):
        yield f"an RRULE with numbered days in BYDAY and {'BYWEEKNO' if 'BYWEEKNO' in rule else f'FREQ={frequency}'}"
    if frequency in _OFTEN or prod(len(rule.get(part, [0])) for part in _CLOCK) > _TIMES:
        yield f"an RRULE that recurs by the hour, or more often than {_TIMES} times a day, which is one longer event"


def _plain_scale(rule: Any) -> None:
    """Leave out what RFC 7529 added and says nothing new."""
    if [str(one).upper() for one in rule.get("RSCALE", [])] == ["GREGORIAN"]:
        del rule["RSCALE"]
        if [str(one).upper() for one in rule.get("SKIP", ["OMIT"])] == ["OMIT"]:
            rule.pop("SKIP", None)


def _in_range(name: str, rule: Mapping[str, Any]) -> bool:
    numbers = [int(str(number)) if str(number).lstrip("+-").isdigit() else 0 for number in rule.get(name, [])]
    if name in _CLOCK:
        return all(0 <= number <= _CLOCK[name] for number in numbers)
    most, backwards = _NUMBERS[name]
    return all(0 < (abs(number) if backwards else number) <= most for number in numbers)
