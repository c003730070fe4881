# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance windows and freezes, and whether the waves of a plan fit into them, one after the other. Pure.

Times are aware. A window or freeze is from its start until before its end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce

Span = tuple[datetime, datetime]
Sites = frozenset[str | None]  # of the CIs of one wave; None for CIs without one


@dataclass(frozen=True)
class Event:
    """One occurrence in a calendar. ``sites`` and ``releases`` are those it is for; none named is all."""

    summary: str
    start: datetime
    end: datetime
    sites: frozenset[str] = frozenset()
    releases: frozenset[str] = frozenset()
    file: str = ""

    def opens(self, site: str | None, release: str) -> bool:
        """Whether a window is one for a site and a release. A CI without a site has only those that are for every site."""
        return (not self.sites or site in self.sites) and (not self.releases or release in self.releases)

    def stops(self, site: str | None, release: str) -> bool:
        """Whether a freeze stops a release at a site, however their names are written. A CI of which no site is known may be anywhere."""
        here = not self.sites or site is None or _alike(site) in map(_alike, self.sites)
        return here and (not self.releases or _alike(release) in map(_alike, self.releases))

    def sentence(self) -> str:
        """What it is, for a person."""
        where = f" at {', '.join(sorted(self.sites))}" if self.sites else ""
        return f"{self.summary!a:.80} ({self.file}){where} from {self.start.isoformat()} to {self.end.isoformat()}"


@dataclass(frozen=True)
class Calendars:
    """The occurrences that matter now. ``windows`` is ``None`` when the policy has no calendar of them: then any time is one.

    ``notes``: a sentence for each event that counts otherwise than it may look, and each name that no release or site of ours has.
    """

    windows: tuple[Event, ...] | None = None
    freezes: tuple[Event, ...] | None = None
    notes: tuple[str, ...] = ()

    def matched(self, sites: Collection[str], releases: Collection[str]) -> Calendars:
        """The same for the ``sites`` and ``releases`` that there are: other names may be a category that a program gave, or be misspelt.

        A freeze with such a name counts for all, for a freeze that is lost is an outage. A window counts for none by it.
        """
        of = {"LOCATION": sites, "CATEGORIES": releases}
        lost = {
            (event.file, kind, name, is_freeze)
            for is_freeze, events in ((True, self.freezes), (False, self.windows))
            for event in events or ()
            for kind, names in (("LOCATION", event.sites), ("CATEGORIES", event.releases))
            for name in _strange(names, of[kind], exact=not is_freeze)
        }
        freezes = self.freezes and tuple(
            replace(
                event,
                sites=frozenset() if _strange(event.sites, sites) else event.sites,
                releases=frozenset() if _strange(event.releases, releases) else event.releases,
            )
            for event in self.freezes
        )
        return replace(self, freezes=freezes, notes=(*self.notes, *(_unmatched(*one) for one in sorted(lost))))


@dataclass(frozen=True)
class Timetable:
    """When each wave starts at the earliest, as far as they fit; ``fault`` says why the next one does not, empty when all do.

    ``opens``: when the first can begin, if that alone is the fault.
    """

    starts: tuple[datetime, ...]
    end: datetime
    fault: str = ""
    opens: datetime | None = None


def _strange(names: Iterable[str], ours: Collection[str], exact: bool = False) -> list[str]:
    """Those of ``names`` that none of ours is called, however it is written unless ``exact``."""
    known = set(ours) if exact else set(map(_alike, ours))
    return [name for name in names if (name if exact else _alike(name)) not in known]


def _unmatched(file: str, kind: str, name: str, is_freeze: bool) -> str:
    what, where = ("site", "CMDB") if kind == "LOCATION" else ("release", "library or CMDB")
    effect = f"its freezes count for every {what}" if is_freeze else f"its windows count for no {what} by it"
    return f"{file} has the {kind} {name!a:.80}, which no {what} in the {where} is called, so {effect}"


def _alike(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())


def merge(spans: Iterable[Span]) -> list[Span]:
    """The same times in as few spans as can be, in order."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def common(left: Iterable[Span], right: Iterable[Span]) -> list[Span]:
    """The times that are in both."""
    right = list(right)
    return merge((max(a, c), min(b, d)) for a, b in left for c, d in right)


def timetable(whole: Span, waves: Sequence[Sites], lengths: Sequence[timedelta], calendars: Calendars, release: str) -> Timetable:
    """Put the waves, each as long as its one of ``lengths``, one after the other into ``whole`` and the windows of their sites, each as
    early as it can be."""
    at = whole[0]
    starts: list[datetime] = []
    for number, (sites, length) in enumerate(zip(waves, lengths, strict=True), 1):
        name = f"wave {number} of {len(waves)} ({', '.join(sorted(site or 'no site' for site in sites))})"
        spans = open_spans(sites, whole, calendars, release)
        start = next((max(at, first) for first, last in spans if max(at, first) + length <= last), None)
        if start is None:
            between = f"between {at.isoformat()} and {whole[1].isoformat()}"
            why = "no window of its sites is long enough" if calendars.windows is not None else "there is no more time"
            return Timetable(tuple(starts), at, f"{name} can't be done {between}: it may take {duration(length)}, and {why}")
        if number == 1 and start > at:
            fault = f"no window of {name} is open; the next one that is long enough opens at {start.isoformat()}"
            return Timetable((), at, fault, start)
        starts.append(start)
        at = start + length
    return Timetable(tuple(starts), at)


def open_spans(sites: Sites, whole: Span, calendars: Calendars, release: str) -> list[Span]:
    """The times in ``whole`` in which windows of all the sites are open."""
    windows = calendars.windows
    if windows is None:
        return [whole]
    of_sites = ([(event.start, event.end) for event in windows if event.opens(site, release)] for site in sorted(sites, key=str))
    return reduce(common, of_sites, [whole])


def duration(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


@dataclass(frozen=True)
class CalendarFiles:
    """Absolute paths of iCalendar files, or patterns of them: maintenance windows, and freezes."""

    windows: tuple[str, ...] = ()
    freezes: tuple[str, ...] = ()
