# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forward schedule of releases: RFCs are entered ahead of time, and what is to come is published as iCalendar."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..cmdb.store import Cmdb
from ..errors import ConflictError, DocumentError, NotFoundError, TidegateError
from ..files import make_folder, write_atomically
from ..report.progress import words
from ..rfc.model import CANCELED, REVIEW, STATES, Rfc
from ..rfc.register import (
    PUBLISHED,
    Overlap,
    Planned,
    cleared_fingerprint,
    forward_schedule,
    overlapping,
    register_change,
    registered,
    status_of,
    withdraw,
)
from ..rfc.source import open_change
from ..rollout import states
from ..rollout.deployments import Deployments

with contextlib.suppress(ImportError):
    import icalendar

Ci = Mapping[str, Any]
_NAME = "Forward schedule of releases"
_REFRESH = timedelta(minutes=15)  # so often a calendar that has subscribed is to look again
_NAMED = 20  # CIs in a description
_UNFIT = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # what RFC 5545 allows in no text
_SAID = 3  # CIs in a line of the result
_APART = "have one of them rescheduled, take those CIs out of the scope of one, or withdraw one"


@dataclass(frozen=True)
class Done:
    """What was done to the register, or would be in check mode: numbers of RFCs, and what has to be said, line by line.

    ``conflicts``: pairs of an RFC and the planned change that it meets. ``changes``: those that were entered or withdrawn, as they are now.
    """

    entered: tuple[str, ...]
    withdrawn: tuple[str, ...]
    unchanged: tuple[str, ...]
    conflicts: tuple[tuple[str, Overlap], ...]
    changes: tuple[Planned, ...]
    lines: tuple[str, ...]


def schedule(cmdb: Cmdb, addresses: Iterable[str], numbers: Sequence[str], now: datetime, write: bool) -> Done:
    """Enter RFCs in the register and withdraw those with ``numbers``; an RFC that was cancelled is withdrawn too.

    Raises :class:`TidegateError` with everything that is wrong, and then does nothing.
    """
    asked, problems = _read(addresses)
    before = registered(cmdb, {*numbers, *(rfc.number for rfc in asked.values())})
    wanted: list[tuple[Rfc, list[Ci]]] = []
    for address, rfc in asked.items():
        try:
            withdrawn = rfc.state == CANCELED and rfc.number in before
            wanted.append((rfc, [] if withdrawn else _selected(cmdb, rfc)))
        except TidegateError as error:
            problems.append(f"{address}: {error}")
    both = [rfc.number for rfc, _cis in wanted if rfc.number in numbers]
    problems += [f"{number} is to be entered and to be withdrawn; leave one out" for number in both]
    cancelled = [rfc.number for rfc, _cis in wanted if rfc.state == CANCELED]
    gone = [number for number in dict.fromkeys((*numbers, *cancelled)) if number in before]
    begun = [number for number in gone if _begun(cmdb, number)]
    if begun:
        problems.append(f"{', '.join(begun)} can't be withdrawn, for a deployment of it is open; back it out or finish it first")
    if problems:
        raise TidegateError("\n".join(problems))

    over = {rfc.number: state for rfc, _cis in wanted if (state := _over(cmdb, rfc.number))}
    to_come = [(rfc, cis) for rfc, cis in wanted if rfc.state != CANCELED and rfc.number not in over]
    coming = [(rfc, _as_planned(rfc, cis, before.get(rfc.number), now)) for rfc, cis in to_come]
    same = {rfc.number for rfc, _after in coming if cleared_fingerprint(cmdb, rfc.number) == rfc.fingerprint}
    reasons = {rfc.number: _difference(before.get(rfc.number), after, rfc.number not in same) for rfc, after in coming}
    dropped = [_withdrawn(before[number], now) for number in gone if before[number].state != CANCELED]
    conflicts = [
        (rfc.number, one)
        for rfc, after in coming
        for one in overlapping(cmdb, rfc, after.cis, [*(each for _rfc, each in coming), *dropped])
    ]
    if write and (dropped or any(reasons.values())):
        with cmdb.begin() as connection:
            for rfc, after in coming:
                if reasons[rfc.number]:
                    register_change(connection, rfc, after.cis, now)
            withdraw(connection, [change.number for change in dropped], now)

    lines: list[str] = []
    for rfc, after in coming:
        lines.append(_line(after, reasons[rfc.number], rfc.number in before, write))
        lines += [f"  conflict: {one.sentence()}; {_APART}" for number, one in _once(conflicts) if number == rfc.number]
    lines += [f"{number} is over, its deployment is {words(state)}, so it is not entered" for number, state in over.items()]
    lines += [f"{change.sentence()} {'is' if write else 'would be'} withdrawn" for change in dropped]
    lines += [f"{number} is withdrawn already" for number in gone if before[number].state == CANCELED]
    lines += [f"{number} is not in the register, so it is not withdrawn" for number in dict.fromkeys(numbers) if number not in before]
    return Done(
        entered=tuple(number for number, reason in reasons.items() if reason),
        withdrawn=tuple(change.number for change in dropped),
        unchanged=(*(number for number, reason in reasons.items() if not reason), *over),
        conflicts=tuple(conflicts),
        changes=(*(after for rfc, after in coming if reasons[rfc.number]), *dropped),
        lines=tuple(lines),
    )


def publish(cmdb: Cmdb, path: Path, changed: Iterable[Planned], now: datetime, write: bool) -> tuple[str, str, str]:
    """Write what is to come to an ``.ics`` file; return what the file said before, what it says, and a sentence about it.

    ``changed``: what would be in the register in place of what is, in check mode.
    """
    by_number = {change.number: change for change in (*forward_schedule(cmdb, now), *changed)}
    changes = sorted(by_number.values(), key=lambda change: (change.start, change.number))
    after = _calendar(changes)
    try:
        before = path.read_bytes() if path.exists() else b""
        if write and before != after:
            make_folder(path.parent)
            write_atomically(path, after)
    except OSError as error:
        raise TidegateError(f"the schedule can't be written to {path}: {error.strerror}; give a file that can be") from error
    cancelled = sum(change.cancelled for change in changes)
    what = "is as it was" if before == after else "is written" if write else "would be written"
    many = "1 event" if len(changes) == 1 else f"{len(changes) or 'no'} events"
    more = f", {cancelled} of them cancelled" if cancelled else ""
    return before.decode(errors="replace"), after.decode(), f"{path} {what}: {many}{more}"


def _read(addresses: Iterable[str]) -> tuple[dict[str, Rfc], list[str]]:
    """Each RFC by its address, and what is wrong."""
    problems: list[str] = []
    wanted: dict[str, Rfc] = {}
    for address in dict.fromkeys(addresses):
        try:
            rfc = open_change(address).read()
            if any(rfc.number == other.number for other in wanted.values()):
                raise ConflictError(f"{rfc.number} is named by another of these RFCs too; leave one out, or number it anew")
            wanted[address] = rfc
        except DocumentError as error:
            problems.append(str(error))
        except TidegateError as error:
            problems.append(f"{address}: {error}")
    return wanted, problems


def _selected(cmdb: Cmdb, rfc: Rfc) -> list[Ci]:
    if rfc.state >= REVIEW:
        raise ConflictError(f"{rfc.number} is {STATES[rfc.state]}, so there is nothing to be done; leave it out, or withdraw it")
    if _begun(cmdb, rfc.number):
        raise ConflictError(f"a deployment of {rfc.number} is open, which holds it to what was cleared; leave it out")
    cis = cmdb.query(rfc.scope)
    if not cis:
        raise NotFoundError(f"the scope of {rfc.number} selects no CI; correct it, or enter the CIs in the CMDB")
    return list(cis)


def _begun(cmdb: Cmdb, number: str) -> bool:
    deployment = Deployments(cmdb).latest(number)
    return deployment is not None and deployment.state in states.OPEN


def _over(cmdb: Cmdb, number: str) -> str:
    """How the deployment of a change ended, after which nothing of it is to come; empty when there is something to come."""
    deployment = Deployments(cmdb).latest(number)
    ended = (states.DeploymentState.COMPLETED, states.DeploymentState.BACKED_OUT)
    return deployment.state if deployment is not None and deployment.state in ended else ""


def _as_planned(rfc: Rfc, cis: Iterable[Ci], before: Planned | None, now: datetime) -> Planned:
    """What the register will say of an RFC; ``before`` is what it says."""
    about = (rfc.number, rfc.state, rfc.release, rfc.version, rfc.short_description, rfc.start_date, rfc.end_date, now)
    names, sites = {str(ci["name"]) for ci in cis}, {str(ci["site"]) for ci in cis if ci.get("site")}
    after = Planned(*about, tuple(sorted(names)), tuple(sorted(sites)))
    if before is None:
        return after
    again = any(getattr(before, name) != getattr(after, name) for name in PUBLISHED) or status_of(before.state) != status_of(after.state)
    # One whose deployment was cancelled is so until its next one begins.
    return replace(after, sequence=before.sequence + again, cancelled=before.cancelled and before.state != CANCELED)


def _withdrawn(change: Planned, now: datetime) -> Planned:
    return replace(change, state=CANCELED, cancelled=True, updated=now, sequence=change.sequence + 1)


def _once(conflicts: Iterable[tuple[str, Overlap]]) -> list[tuple[str, Overlap]]:
    """Of two changes that are both asked for and meet, what is found for the first."""
    pairs = {frozenset((number, one.other.number)): (number, one) for number, one in reversed(list(conflicts))}
    return list(reversed(pairs.values()))


def _difference(before: Planned | None, after: Planned, reads_otherwise: bool) -> str:
    """Why an RFC has to be entered; empty when the register has it as it is."""
    if before is None:
        return "it is new"
    parts = {
        "it was withdrawn": before.state == CANCELED,
        "its dates": (before.start, before.end) != (after.start, after.end),
        "its release": (before.release, before.version) != (after.release, after.version),
        "its title": before.short_description != after.short_description,
        f"its state, {STATES[before.state]} to {STATES[after.state]}": CANCELED != before.state != after.state,
        "its CIs": before.cis != after.cis,
    }
    found = [part for part, differs in parts.items() if differs]
    return ", ".join(found) or ("something else in it" if reads_otherwise else "")


def _line(change: Planned, reason: str, entered: bool, write: bool) -> str:
    if not reason:
        return f"{change.sentence()} is unchanged, for {_counted(change.cis)}"
    anew = f"entered anew ({reason})" if entered else "entered"
    return f"{change.sentence()} {'is' if write else 'would be'} {anew}, for {_counted(change.cis)}"


def _counted(cis: Sequence[str]) -> str:
    more = f" and {len(cis) - _SAID} more" if len(cis) > _SAID else ""
    return f"{'1 CI' if len(cis) == 1 else f'{len(cis)} CIs'}: {', '.join(cis[:_SAID])}{more}"


def _calendar(changes: Sequence[Planned]) -> bytes:
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//Tidegate//forward schedule of releases//EN")
    calendar.add("version", "2.0")
    calendar.add("name", _NAME)
    calendar.add("x-wr-calname", _NAME)
    calendar.add("method", "PUBLISH")
    calendar.add("refresh-interval", _REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", icalendar.vDuration(_REFRESH))  # the same, for programs that are older than RFC 7986
    if not changes:
        calendar.add_component(_utc())
    for change in changes:
        event = icalendar.Event()
        more = f" and {len(change.cis) - _NAMED} more" if len(change.cis) > _NAMED else ""
        state = STATES[CANCELED if change.cancelled else change.state]
        event.add("uid", f"{change.number}@tidegate")
        event.add("sequence", change.sequence)
        event.add("dtstamp", change.updated)
        event.add("last-modified", change.updated)
        event.add("dtstart", change.start)
        event.add("dtend", change.end)
        event.add("summary", f"{change.number}: {change.release} {change.version}")
        if change.sites:
            event.add("location", ", ".join(change.sites))
        event.add("categories", [change.release])
        event.add("description", _UNFIT.sub(" ", f"{change.short_description}\n{state}\n{', '.join(change.cis[:_NAMED])}{more}"))
        event.add("status", change.status)
        calendar.add_component(event)
    return bytes(calendar.to_ical())


def _utc() -> icalendar.Timezone:
    """RFC 5545 asks for at least one component in a calendar; this is one that no reader shows."""
    zone, standard = icalendar.Timezone(), icalendar.TimezoneStandard()
    zone.add("tzid", "UTC")
    standard.add("dtstart", datetime(1970, 1, 1))  # noqa: DTZ001 a local time, as the specification has it
    standard.add("tzoffsetfrom", timedelta(0))
    standard.add("tzoffsetto", timedelta(0))
    zone.add_component(standard)
    return zone
