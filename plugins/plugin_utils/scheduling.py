# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forward schedule of releases: RFCs are entered ahead of time, and what is to come is published as iCalendar."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from .cmdb.store import Cmdb
from .errors import ConflictError, DocumentError, NotFoundError, TidegateError
from .files import write_atomically
from .rfc.course import cleared_as, enter
from .rfc.model import REVIEW, SCHEDULED, STATES, Rfc
from .rfc.register import Planned, planned, withdraw
from .rfc.source import open_change
from .rollout import states
from .rollout.deployments import Deployments

with contextlib.suppress(ImportError):
    import icalendar

LIBRARIES = ("icalendar",)
_NAMED = 20  # CIs in a description


def schedule(cmdb: Cmdb, addresses: Iterable[str], now: datetime, write: bool) -> list[str]:
    """Enter RFCs in the register; return the numbers of those that were not there as they read now.

    Raises :class:`TidegateError` with everything that is wrong, and then enters none.
    """
    problems: list[str] = []
    wanted: list[tuple[Rfc, list[str]]] = []
    for address in addresses:
        try:
            rfc = open_change(address).read()
            if any(rfc.number == other.number for other, _cis in wanted):
                raise ConflictError(f"{rfc.number} is named by another of these RFCs too; leave one out, or number it anew")
            wanted.append((rfc, _selected(cmdb, rfc)))
        except DocumentError as error:
            problems.append(str(error))
        except TidegateError as error:
            problems.append(f"{address}: {error}")
    if problems:
        raise TidegateError("\n".join(problems))
    known = {change.number: (change.state, change.cis) for change in planned(cmdb, datetime.min.replace(tzinfo=now.tzinfo))}
    changed = [
        (rfc, cis)
        for rfc, cis in wanted
        if cleared_as(cmdb, rfc.number) != rfc.fingerprint or known.get(rfc.number) != (rfc.state, tuple(sorted(cis)))
    ]
    if write and changed:
        with cmdb.begin() as connection:
            for rfc, cis in changed:
                enter(connection, rfc, cis, now)
    return [rfc.number for rfc, _cis in changed]


def drop(cmdb: Cmdb, numbers: Sequence[str], now: datetime, write: bool) -> list[str]:
    """Withdraw changes that were entered and not begun; return those that were in the register."""
    known = {change.number for change in planned(cmdb, datetime.min.replace(tzinfo=now.tzinfo))}
    found = [number for number in dict.fromkeys(numbers) if number in known]
    begun = [number for number in found if _begun(cmdb, number)]
    if begun:
        raise ConflictError(f"{', '.join(begun)} can't be withdrawn, for a deployment of it is open; back it out or finish it first")
    if write and found:
        withdraw(cmdb, found)
    return found


def publish(cmdb: Cmdb, path: Path, now: datetime, write: bool) -> tuple[str, str]:
    """Write what is to come to an ``.ics`` file; return what it said before and what it says."""
    after = _calendar(planned(cmdb, now))
    try:
        before = path.read_bytes() if path.exists() else b""
        if write and before != after:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, after)
    except OSError as error:
        raise TidegateError(f"the schedule can't be written to {path}: {error.strerror}; give a file that can be") from error
    return before.decode(errors="replace"), after.decode()


def _selected(cmdb: Cmdb, rfc: Rfc) -> list[str]:
    if rfc.state >= REVIEW:
        raise ConflictError(f"{rfc.number} is {STATES[rfc.state]}, so there is nothing to be done; leave it out, or withdraw it")
    if _begun(cmdb, rfc.number):
        raise ConflictError(f"a deployment of {rfc.number} is open, which holds it to what was cleared; leave it out")
    names = [str(ci["name"]) for ci in cmdb.query(rfc.scope)]
    if not names:
        raise NotFoundError(f"the scope of {rfc.number} selects no CI; correct it, or enter the CIs in the CMDB")
    return names


def _begun(cmdb: Cmdb, number: str) -> bool:
    deployment = Deployments(cmdb).latest(number)
    return deployment is not None and deployment.state in states.OPEN


def _calendar(changes: Iterable[Planned]) -> bytes:
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//Tidegate//forward schedule of releases//EN")
    calendar.add("version", "2.0")
    for change in changes:
        event = icalendar.Event()
        more = f" and {len(change.cis) - _NAMED} more" if len(change.cis) > _NAMED else ""
        about = f"{change.short_description}\n{STATES[change.state]}\n{', '.join(change.cis[:_NAMED])}{more}"
        event.add("uid", f"{change.number}@tidegate")
        event.add("dtstamp", change.updated)
        event.add("dtstart", change.start)
        event.add("dtend", change.end)
        event.add("summary", f"{change.number}: {change.release} {change.version}")
        event.add("location", ", ".join(change.sites))
        event.add("categories", [change.release])
        event.add("description", about)
        event.add("status", "CONFIRMED" if change.state >= SCHEDULED else "TENTATIVE")
        calendar.add_component(event)
    return bytes(calendar.to_ical())
