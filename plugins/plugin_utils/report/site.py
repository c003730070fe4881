# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site that a report is, behind its first page: changes, releases, the calendar of what is to come, and the search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ..calendar.model import Calendars, Event
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from ..evidence.approval import Matter
from ..policy.model import Policy
from ..rfc.register import Planned, forward_schedule
from .changes import change_pages, listed_changes, planned_change, time_text
from .library import LookedUp, evidence_page, look_up
from .model import Report
from .pages import NUMBER, change_page
from .releases import release_pages
from .search import search_pages

AHEAD = timedelta(days=90)
"""For about so long the calendar says what is to come."""
_COMING = 200  # changes in the calendar, the first, each of which has a page
_OCCURRENCES = 200  # of freezes, and of windows
_VERSIONS = 10  # of a release in the list
_NAMED = 200  # CIs of a change that its page names


def with_site(report: Report, cmdb: Cmdb, policy: Policy, now: datetime) -> Report:
    """A report with the pages of its site, but for what the library says. ``cmdb``: at the same moment as the report."""
    deployments = list(report.deployments.values())
    coming = forward_schedule(cmdb, now, _until(now))
    shown = coming[:_COMING]
    with cmdb.read() as connection:
        changes = change_pages(connection, shown, deployments)
        releases = release_pages(connection, (entry for page in report.hosts.values() for entry in page["hosts"]), deployments)
        listed = listed_changes(connection, [planned_change(change) for change in shown], changes)
    calendar = _calendar(shown, len(coming) - len(shown), _calendars(cmdb, policy, coming, now), changes, now)
    short = [
        {
            **{key: page[key] for key in ("release", "hosts")},
            "versions": [{"version": one["version"], "hosts": one["hosts"]} for one in page["versions"] if one["hosts"]][:_VERSIONS],
            "page": f"releases/{name}.html",
        }
        for name, page in releases.items()
    ]
    return replace(
        report,
        changes={f"changes/{number}": page for number, page in changes.items()},
        releases={f"releases/{name}": page for name, page in releases.items()},
        lists={"changes": {"changes": listed}, "releases": {"releases": short}, "calendar": calendar},
        search=search_pages(listed, short, report.hosts),
    )


def with_library(report: Report, dsl: str | None, policy: Policy, now: datetime) -> Report:
    """A report with what the library at the address ``dsl`` says of its packages and of what was signed; ``None`` for no library."""
    looked_up = look_up(dsl, _packages(report))
    changes = {name: {**page, **_looked_up(page, looked_up, policy, now)} for name, page in report.changes.items()}
    releases = {
        name: {
            **page,
            "library": looked_up.fault,
            "versions": [{**version, "package": looked_up.packages.get(version["digest"])} for version in page["versions"]],
        }
        for name, page in report.releases.items()
    }
    return replace(report, changes=changes, releases=releases)


def _packages(report: Report) -> Iterator[tuple[str, str]]:
    """The packages that pages speak of, by name and digest: of changes first, the newest before the others, then what is live."""
    changes = sorted(report.changes.values(), key=lambda page: str(page["updated"]), reverse=True)
    yield from ((page["release"], page["digest"]) for page in changes)
    yield from ((page["release"], version["digest"]) for page in report.releases.values() for version in page["versions"])


def _looked_up(page: Mapping[str, Any], looked_up: LookedUp, policy: Policy, now: datetime) -> dict[str, Any]:
    """What was signed about a change, and no more names of its CIs than there is room for."""
    names = page["cis"]["names"]
    cis = {**page["cis"], "names": names[:_NAMED]}
    found = looked_up.evidence.get(page["digest"])
    if found is None:
        fault = looked_up.packages.get(page["digest"], {}).get("fault") or looked_up.fault
        fault = fault or "its package is not among those that this report looked at; clear says what was signed about it"
        return {"cis": cis, "evidence": {"pieces": [], "more": 0, "unread": [], "fault": fault}}
    about = (page["number"], page["fingerprint"], page["release"], page["version"], page["digest"])
    return {"cis": cis, "evidence": evidence_page(found, policy, Matter(*about, tuple(names)), now)}


def _calendars(cmdb: Cmdb, policy: Policy, coming: Iterable[Planned], now: datetime) -> tuple[Calendars, str]:
    """The windows and freezes of the policy's calendars, or why they are not known."""
    files = policy.calendars
    if not (files.windows or files.freezes):
        return Calendars(), ""
    from ..calendar.ics import read_calendars  # noqa: PLC0415 - slow to import, and only for who has calendars

    try:
        found = read_calendars(files, now, _until(now))
        return found.matched(cmdb.sites(), {*cmdb.releases(), *(change.release for change in coming)}), ""
    except TidegateError as error:
        return Calendars(), str(error)


def _calendar(
    coming: Sequence[Planned], more: int, calendars: tuple[Calendars, str], pages: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """What is to come, and what stops it."""
    found, fault = calendars
    freezes, windows = found.freezes or (), found.windows or ()
    return {
        "from": time_text(now),
        "until": time_text(_until(now)),
        "changes": [
            {
                **planned_change(change),
                "stopped": sorted({event.summary for event in freezes if _stops(event, change)}),
                "page": change_page(change.number) if NUMBER.fullmatch(change.number) and change.number in pages else None,
            }
            for change in coming
        ],
        "more_changes": more,
        "freezes": [_occurrence(event) for event in sorted(freezes, key=_by_start)[:_OCCURRENCES]],
        "windows": [_occurrence(event) for event in sorted(windows, key=_by_start)[:_OCCURRENCES]],
        "more": max(0, len(freezes) - _OCCURRENCES) + max(0, len(windows) - _OCCURRENCES),
        "notes": [*([fault] if fault else []), *found.notes][:_OCCURRENCES],
    }


def _until(now: datetime) -> datetime:
    """As far as the calendar looks ahead: to the end of a day, so that it is the same when it is asked again."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + AHEAD


def _by_start(event: Event) -> tuple[datetime, datetime]:
    return event.start, event.end


def _stops(event: Event, change: Planned) -> bool:
    """Whether a freeze is in the time of a change, at one of its sites."""
    return (
        event.start < change.end and change.start < event.end and any(event.stops(site, change.release) for site in change.sites or (None,))
    )


def _occurrence(event: Event) -> dict[str, Any]:
    return {
        "summary": event.summary,
        "start": time_text(event.start),
        "end": time_text(event.end),
        "sites": sorted(event.sites),
        "releases": sorted(event.releases),
    }
