# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of changes: entering them, what is planned when and for which CIs, and what would get in each other's way."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..cmdb.chain import append_history
from ..cmdb.impact import impact
from ..cmdb.schema import schema
from ..rollout.holder import Holder
from ..rollout.states import OPEN, DeploymentState
from .course import Course
from .coverage import APPROVED, Span, window
from .model import CANCELED, REVIEW, SCHEDULED, Rfc

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from ..cmdb.store import Cmdb

ENTERED = "rfc entered"
"""In the history: that a change got into the register, or reads otherwise there."""
_TOLD = ("release", "version", "digest", "fingerprint", "state")  # of a change in the history
PUBLISHED = {"start": "start_date", "end": "end_date", "release": "release", "version": "version", "short_description": "short_description"}
"""When and what a change is, as calendars show it: the names here and in the CMDB.

Another value makes another ``sequence``, and so does another status: RFC 5546 (section 2.1.4) asks for it.
"""

_NAMED = 3  # places where two changes meet
_CHUNK = 500  # numbers in one IN list


def status_of(state: int) -> str:
    """What calendars say of a change in a state."""
    return "CANCELLED" if state == CANCELED else "CONFIRMED" if state >= SCHEDULED else "TENTATIVE"


@dataclass(frozen=True)
class Planned:
    """A change in the register that is still to be done; ``sites`` are those of its ``cis``.

    ``updated``: when the register learned of it last. ``sequence``: how often it was given other dates, another title or another status.
    ``cancelled``: it will not be done, or not before somebody deploys it again.
    """

    number: str
    state: int
    release: str
    version: str
    short_description: str
    start: datetime
    end: datetime
    updated: datetime
    cis: tuple[str, ...]
    sites: tuple[str, ...]
    sequence: int = 0
    cancelled: bool = False

    @property
    def status(self) -> str:
        """Its status as calendars say it."""
        return "CANCELLED" if self.cancelled else status_of(self.state)

    def sentence(self) -> str:
        """What it is and when, for a person."""
        return f"{self.number} ({self.release} {self.version}, {self.start.isoformat()} to {self.end.isoformat()})"


@dataclass(frozen=True)
class Overlap:
    """A change whose window overlaps with another's, and how they meet: at a CI of both, or at two that are related."""

    other: Planned
    meeting: tuple[str, ...]

    def sentence(self) -> str:
        """Which it is and where they meet, after the number of the one and before what to do."""
        more = f" and {len(self.meeting) - _NAMED} more" if len(self.meeting) > _NAMED else ""
        return f"{self.other.sentence()} meets it at {'; '.join(self.meeting[:_NAMED])}{more}"


def planned(cmdb: Cmdb, after: datetime, before: datetime | None = None) -> list[Planned]:
    """The changes that are not done, cancelled or over by ``after``, and start before ``before``; in order of their start.

    One whose last deployment was cancelled is not, until its next one begins. One whose deployment is open is not over.
    """
    return [change for change in forward_schedule(cmdb, after, before) if not change.cancelled]


def forward_schedule(cmdb: Cmdb, after: datetime, before: datetime | None = None) -> list[Planned]:
    """The same, with those that were cancelled: who has them in a calendar has to learn of it."""
    t = schema()
    c, d = t.change.c, t.deployment.c
    with cmdb.read() as connection:
        under_way = set(connection.scalars(sa.select(d.rfc).where(d.state.in_(OPEN))))
        starting = _to_do() if before is None else _to_do().where(c.start_date < before)
        found = {row.number: row for row in connection.execute(starting.where(c.end_date > after))}
        found |= _by_number(connection, starting, under_way - found.keys())
        return _planned(connection, found)


def registered(cmdb: Cmdb, numbers: Collection[str]) -> dict[str, Planned]:
    """The changes with these numbers that are in the register and not done, however long their time has been over."""
    with cmdb.read() as connection:
        found = _by_number(connection, _to_do(), numbers)
        return {change.number: change for change in _planned(connection, found)}


def _to_do() -> sa.Select[Any]:
    c = schema().change.c
    return sa.select(schema().change).where(c.work_end.is_(None), sa.or_(c.state < REVIEW, c.state == CANCELED))


def _planned(connection: sa.Connection, found: Mapping[str, Any]) -> list[Planned]:
    """Changes, by their numbers in the register, with the CIs and the course that each has; in order of their start."""
    t = schema()
    d, of = t.deployment.c, t.change_ci.c
    cis: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    states: dict[str, list[str]] = defaultdict(list)
    listed = sa.select(of.number, of.ci, t.ci.c.site).select_from(sa.outerjoin(t.change_ci, t.ci, t.ci.c.name == of.ci))
    # First the numbers, of which there are few, then what belongs to them: of what is over there are millions.
    for numbers in _chunks(found):
        for number, name, site in connection.execute(listed.where(of.number.in_(numbers))):
            cis[number].append((name, site))
        for number, state in connection.execute(sa.select(d.rfc, d.state).where(d.rfc.in_(numbers)).order_by(d.id)):
            states[number].append(state)
    return [
        Planned(
            row.number,
            row.state,
            row.release,
            row.version,
            row.short_description,
            row.start_date,
            row.end_date,
            row.updated,
            tuple(sorted(name for name, _site in cis[row.number])),
            tuple(sorted({site for _name, site in cis[row.number] if site})),
            row.sequence + _turns(states[row.number]),
            row.state == CANCELED or states[row.number][-1:] == [DeploymentState.CANCELLED],
        )
        for row in sorted(found.values(), key=lambda row: (row.start_date, row.number))
    ]


def _turns(states: Sequence[str]) -> int:
    """How often a change was given up or taken up again: each of its deployments but the last was cancelled."""
    return max(0, len(states) + states.count(DeploymentState.CANCELLED) - 1)


def _by_number(connection: sa.Connection, changes: sa.Select[Any], numbers: Iterable[str]) -> dict[str, Any]:
    number = schema().change.c.number
    rows = (row for chunk in _chunks(numbers) for row in connection.execute(changes.where(number.in_(chunk))))
    return {row.number: row for row in rows}


def _chunks(numbers: Iterable[str]) -> Iterator[list[str]]:
    listed = sorted(numbers)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))


def overlapping(cmdb: Cmdb, rfc: Rfc, cis: Collection[str], instead: Collection[Planned] = ()) -> list[Overlap]:
    """The planned changes whose window overlaps with that of ``rfc``, or that are still under way, and that meet it.

    ``instead``: changes that are about to be entered or cancelled, in place of those of their numbers in the register.

    They do at one of ``cis``, or at a CI that hits one or is hit by one, over however many relations. A deployment that is open meets
    nobody at hosts that it has given up.
    """
    numbers = {rfc.number, *(other.number for other in instead)}
    others = [other for other in planned(cmdb, rfc.start_date, rfc.end_date) if other.number not in numbers]
    others += [
        other
        for other in instead
        if other.number != rfc.number and not other.cancelled and other.start < rfc.end_date and rfc.start_date < other.end
    ]
    if not others:
        return []
    near: dict[str, str] = {name: name for name in cis}
    with cmdb.read() as connection:
        model = cmdb.model(connection)
        for upstream in (False, True):
            for name, hit in impact(connection, model, cis, upstream=upstream).items():
                near.setdefault(name, ", ".join(hit.chain))
    locked = _locked(cmdb)
    found = (
        Overlap(other, tuple(dict.fromkeys(near[name] for name in other.cis if name in near and name in has)))
        for other, has in ((other, locked.get(other.number, other.cis)) for other in others)
    )
    return [overlap for overlap in found if overlap.meeting]


def _locked(cmdb: Cmdb) -> dict[str, set[str]]:
    """The CIs that the deployment of each change has locked, for changes that have one which is open."""
    t = schema()
    d = t.deployment.c
    rows = sa.select(d.rfc, t.lock.c.ci).outerjoin(t.lock, t.lock.c.deployment_id == d.id).where(d.state.in_(OPEN))
    found: dict[str, set[str]] = defaultdict(set)
    with cmdb.read() as connection:
        for rfc, name in connection.execute(rows):
            found[rfc].update([name] if name else [])
    return dict(found)


def entered(cmdb: Cmdb, rfc: Rfc) -> tuple[str, ...] | None:
    """The CIs that an RFC, as it reads, was entered with; ``None`` when it was not, or was withdrawn."""
    t = schema()
    with cmdb.read() as connection:
        same = sa.select(t.change.c.number).where(
            t.change.c.number == rfc.number, t.change.c.fingerprint == rfc.fingerprint, t.change.c.state != CANCELED
        )
        if connection.scalar(same) is None:
            return None
        return tuple(connection.scalars(sa.select(t.change_ci.c.ci).where(t.change_ci.c.number == rfc.number).order_by(t.change_ci.c.ci)))


def withdraw(connection: sa.Connection, numbers: Iterable[str], now: datetime) -> None:
    """Say of changes in the register that they will not be done. They stay, for those who have them in a calendar."""
    change = schema().change
    which = (change.c.number.in_(list(numbers)), change.c.state != CANCELED)
    columns = [change.c.number, *(change.c[name] for name in _TOLD)]
    rows = [{**row, "state": CANCELED} for row in connection.execute(sa.select(*columns).where(*which)).mappings()]
    connection.execute(change.update().where(*which).values(state=CANCELED, updated=now, sequence=change.c.sequence + 1))
    _record(connection, rows, now)


def register_change(connection: sa.Connection, rfc: Rfc, cis: Iterable[str], now: datetime) -> None:
    """Enter a change, as it reads now, in the register; other dates, another title or another status raise its ``sequence``.

    The history says so when it reads otherwise than before, or has another status.
    """
    t = schema()
    values = {
        **{name: getattr(rfc, name) for name in ("type", "release", "version", "digest", "fingerprint", "short_description")},
        **{name: getattr(rfc, name) for name in ("requested_by", "assigned_to", "state", "risk", "start_date", "end_date")},
        "updated": now,
    }
    before = connection.execute(sa.select(t.change).where(t.change.c.number == rfc.number)).mappings().one_or_none()
    if before is None:
        connection.execute(t.change.insert().values(number=rfc.number, **values))
    else:
        again = any(before[name] != values[name] for name in PUBLISHED.values())
        again = again or status_of(before["state"]) != status_of(values["state"])
        sequence = t.change.c.sequence + int(again)
        connection.execute(t.change.update().where(t.change.c.number == rfc.number).values(**values, sequence=sequence))
    connection.execute(t.change_ci.delete().where(t.change_ci.c.number == rfc.number))
    rows = [{"number": rfc.number, "ci": name} for name in sorted(set(cis))]
    if rows:
        connection.execute(t.change_ci.insert(), rows)
    told = before is not None and before["fingerprint"] == rfc.fingerprint and status_of(before["state"]) == status_of(rfc.state)
    if not told:
        _record(connection, [{"number": rfc.number, **values}], now)


def _record(connection: sa.Connection, changes: Iterable[Mapping[str, Any]], now: datetime) -> None:
    """Have the history say how changes, rows of the register, read now."""
    run = Holder.this_run()
    actor = f"{run.user}@{run.machine}"
    lines = [
        {"at": now, "actor": actor, "event": ENTERED, "data": {"rfc": one["number"], **{name: one[name] for name in _TOLD}}}
        for one in changes
    ]
    append_history(connection, lines)


def update_register(cmdb: Cmdb, number: str, course: Course, now: datetime) -> None:
    """Bring the register to a course; a change that is not in it is left out."""
    table = schema().change
    values = {name: value for name, value in vars(course).items() if name != "state" or value is not None}
    with cmdb.begin() as connection:
        before = connection.scalar(sa.select(table.c.state).where(table.c.number == number))
        again = before is not None and status_of(before) != status_of(values.get("state", before))
        values |= {"sequence": table.c.sequence + int(again), "updated": now}
        connection.execute(table.update().where(table.c.number == number).values(**values))


def spans(connection: sa.Connection, hosts: Iterable[str], after: datetime) -> list[Span]:
    """When changes and their deployments might touch ``hosts``, of what was not over before ``after``.

    A change might not before the register knew that it was approved, whatever window it was given later.
    """
    t = schema()
    c, of, d, h = t.change.c, t.change_ci.c, t.deployment.c, t.deployment_host.c
    changes = sa.select(c.number, of.ci, c.state, c.start_date, c.end_date, c.work_end).join(t.change_ci, of.number == c.number)
    changes = changes.where(c.end_date >= after, sa.or_(c.work_end.is_(None), c.work_end >= after))
    deployments = sa.select(d.rfc, h.host, d.started, d.finished).join(t.deployment_host, h.deployment_id == d.id)
    deployments = deployments.where(d.started.is_not(None), sa.or_(d.finished.is_(None), d.finished >= after))
    found: list[Span] = []
    rows: list[Any] = []
    for some in _chunks(set(hosts)):
        rows += connection.execute(changes.where(of.ci.in_(some))).all()
        found += [Span(row.rfc, row.host, row.started, row.finished) for row in connection.execute(deployments.where(h.host.in_(some)))]
    approved = _approved_since(connection, {row.number for row in rows})
    for row in rows:
        start = max(row.start_date, approved.get(row.number, row.start_date))
        found += window(row.number, row.ci, row.state, start, row.end_date, row.work_end)
    return found


def _approved_since(connection: sa.Connection, numbers: Collection[str]) -> dict[str, datetime]:
    """When the history first said of each of these changes that it was approved."""
    h = schema().history.c
    number = h.data["rfc"].as_string()
    lines = sa.select(h.at, number.label("number"), h.data["state"].as_integer().label("state")).where(h.ci.is_(None), h.event == ENTERED)
    found: dict[str, datetime] = {}
    for some in _chunks(numbers):
        for row in connection.execute(lines.where(number.in_(some)).order_by(h.seq)):
            if row.state in APPROVED:
                found.setdefault(row.number, row.at)
    return found


def cleared_fingerprint(cmdb: Cmdb, number: str) -> str | None:
    """The fingerprint that the RFC had when it was cleared, if the register has it."""
    table = schema().change
    with cmdb.read() as connection:
        found = connection.scalar(sa.select(table.c.fingerprint).where(table.c.number == number))
    return None if found is None else str(found)
