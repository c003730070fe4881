# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of changes: who asked for each and who decided, what it owes, and how its deployments went."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..cmdb.schema import schema
from ..rfc.model import CANCELED, STATES
from ..rfc.register import Planned
from ..rollout.bake_record import BAKE_EVENTS, DECIDED, MEASURED
from ..rollout.states import OPEN, DeploymentState
from .pages import NUMBER, change_page
from .progress import counted

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

LISTED = 1000
"""As many changes are in the list and in the search, the newest; their pages are those of their deployments."""
_CHUNK = 500  # numbers in one IN list
_NAMED = 200  # CIs that a page names, and events of a deployment that it has
_DECISIONS = {"rfc approved": "approved", "rfc rejected": "rejected"}
_COLUMNS = (
    "number",
    "type",
    "release",
    "version",
    "digest",
    "fingerprint",
    "requested_by",
    "assigned_to",
    "risk",
    "close_code",
    "close_notes",
)
_TIMES = ("start_date", "end_date", "work_start", "work_end", "updated")


def change_pages(
    connection: sa.Connection, coming: Iterable[Planned], deployments: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What there is to say of each change that is ``coming`` or has ``deployments``, pages of such, by its number."""
    t = schema()
    of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for deployment in deployments:
        of[deployment["rfc"]].append(deployment)
    planned = {change.number: change for change in coming}
    wanted = sorted(number for number in {*planned, *of} if NUMBER.fullmatch(number))
    rows = {row["number"]: row for row in _rows(connection, sa.select(t.change), t.change.c.number, wanted)}
    cis = _cis(connection, rows.keys() - planned.keys())
    cis |= {number: {"count": len(one.cis), "names": list(one.cis), "sites": list(one.sites)} for number, one in planned.items()}
    decisions = _decisions(connection, rows)
    debts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in _rows(connection, sa.select(t.debt).order_by(t.debt.c.due), t.debt.c.rfc, rows):
        debts[row["rfc"]].append(row)
    told = _told(connection, [one["id"] for number in rows for one in of[number]])
    return {
        number: {
            **{name: row[name] for name in _COLUMNS},
            "title": row["short_description"],
            "state": STATES.get(row["state"], str(row["state"])),
            **{name: time_text(row[name]) for name in _TIMES},
            "cis": cis[number],
            "decisions": [
                {"at": time_text(one.at), "by": one.actor, **_said(one.data), "decision": _DECISIONS[one.event]}
                | {"current": one.data.get("fingerprint") == row["fingerprint"]}
                for one in decisions[number]
            ],
            "debts": [
                {"duty": debt["duty"], "by": debt["actor"], "note": debt["note"]}
                | {name: time_text(debt[name]) for name in ("incurred", "due", "settled")}
                for debt in debts[number]
            ],
            "deployments": [_deployment(one, told[one["id"]]) for one in reversed(of[number])],
            "audits": _audits(connection, of[number]),
            "evidence": None,
        }
        for number, row in rows.items()
    }


def listed_changes(connection: sa.Connection, coming: Sequence[Mapping[str, Any]], pages: Collection[str]) -> list[dict[str, Any]]:
    """The changes in short, what is to come first, then the newest that have a deployment; ``pages``: those that have a page."""
    t = schema()
    d, change = t.deployment.c, t.change.c
    newest = sa.select(d.id, d.rfc, d.release, d.version, d.state, d.started, d.finished).order_by(d.id.desc()).limit(LISTED).subquery()
    joined = newest.outerjoin(t.change, change.number == newest.c.rfc)
    columns = (*newest.c, change.short_description, change.requested_by, change.start_date, change.close_code)
    found = {
        one["number"]: {key: one[key] for key in ("number", "title", "release", "version", "requested_by", "start", "state")}
        for one in coming
    }
    for row in connection.execute(sa.select(*columns).select_from(joined).order_by(newest.c.id.desc())).mappings():
        state = row["state"] if row["state"] in OPEN or not row["close_code"] else f"{row['state']}, closed as {row['close_code']}"
        about = {"number": row["rfc"], "title": row["short_description"] or "", "requested_by": row["requested_by"] or ""}
        about |= {"release": row["release"], "version": row["version"], "start": time_text(row["started"] or row["start_date"])}
        if row["rfc"] not in found or row["state"] in OPEN:
            found[row["rfc"]] = {**about, "state": state}
    return [one | {"page": change_page(number) if number in pages else None} for number, one in found.items()]


def time_text(moment: datetime | None) -> str | None:
    """A moment as the documents of a report have it."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _chunks(names: Iterable[Any]) -> Iterator[list[Any]]:
    listed = sorted(names)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))


def _rows(
    connection: sa.Connection, select: sa.Select[Any], column: sa.ColumnElement[Any], names: Iterable[Any]
) -> list[Mapping[Any, Any]]:
    return [dict(row) for chunk in _chunks(names) for row in connection.execute(select.where(column.in_(chunk))).mappings()]


def _cis(connection: sa.Connection, numbers: Iterable[str]) -> dict[str, dict[str, Any]]:
    t = schema()
    of = t.change_ci.c
    select = sa.select(of.number, of.ci, t.ci.c.site).select_from(sa.outerjoin(t.change_ci, t.ci, t.ci.c.name == of.ci))
    found: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for chunk in _chunks(numbers):
        for number, name, site in connection.execute(select.where(of.number.in_(chunk))):
            found[number].append((name, site))
    return {
        number: {
            "count": len(found[number]),
            "names": sorted(name for name, _site in found[number]),
            "sites": sorted({site for _name, site in found[number] if site}),
        }
        for number in numbers
    }


def _decisions(connection: sa.Connection, numbers: Iterable[str]) -> dict[str, list[Any]]:
    """What the history says of who decided, in order."""
    h = schema().history.c
    number = h.data["rfc"].as_string()
    select = sa.select(h.at, h.actor, h.event, h.data, h.seq).where(h.ci.is_(None), h.event.in_(sorted(_DECISIONS)))
    found: dict[str, list[Any]] = defaultdict(list)
    for chunk in _chunks(numbers):
        for row in connection.execute(select.where(number.in_(chunk)).order_by(h.seq)):
            found[row.data["rfc"]].append(row)
    return found


def _said(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": str(data.get("role", "")), "complete": data.get("complete") is True}


def _told(connection: sa.Connection, deployments: Iterable[int]) -> dict[int, list[Any]]:
    """The lines of the journal about deployments as a whole and their gates, in order."""
    j = schema().journal.c
    events = sorted({*DeploymentState, *BAKE_EVENTS})
    select = sa.select(j.deployment_id, j.at, j.event, j.wave, j.data).where(j.host.is_(None), j.event.in_(events))
    found: dict[int, list[Any]] = defaultdict(list)
    for chunk in _chunks(deployments):
        for row in connection.execute(select.where(j.deployment_id.in_(chunk)).order_by(j.seq)):
            found[row.deployment_id].append(row)
    return found


def _deployment(page: Mapping[str, Any], lines: Sequence[Any]) -> dict[str, Any]:
    kept = ("id", "state", "reason", "started", "finished", "close_code", "objectives", "unrecorded")
    figures: dict[int, dict[str, str]] = defaultdict(dict)
    for line in lines:
        if line.wave is not None and line.event in (MEASURED, DECIDED):
            _add_figures(figures[line.wave], line)
    waves = [
        {
            **{name: wave[name] for name in ("number", "gate", "reason", "opened", "decided")},
            "hosts": len(wave["hosts"]),
            "states": dict(sorted(Counter(result["state"] for result in wave["results"].values()).items())),
            "figures": [{"what": what, "value": value} for what, value in figures[wave["number"]].items()][:_NAMED],
        }
        for wave in page["waves"]
    ]
    events = [
        {"at": time_text(line.at), "event": line.event, "reason": str(line.data.get("reason") or "")}
        for line in lines
        if line.event not in BAKE_EVENTS
    ]
    return {**{name: page[name] for name in kept}, "page": f"deployments/{page['id']}.html", "waves": waves, "events": events[-_NAMED:]}


def _add_figures(known: dict[str, str], line: Any) -> None:
    """Add what a gate went by to what is known of it: the last value of each metric, and what it counted."""
    data = line.data
    if line.event == MEASURED:
        values = ", ".join(f"{name} {value}" for name, value in sorted(_mapping(data.get("values")).items()))
        known[str(data.get("metric"))] = (str(data.get("error") or data.get("unclear") or "") or values or "nothing")[:_NAMED]
        return
    inputs = _mapping(data.get("inputs"))
    counts, rollout = _mapping(inputs.get("counts")), _mapping(inputs.get("rollout"))
    if counts:
        parts = (f"{counts[name]} {name}" for name in ("active", "failed", "lost", "undone") if counts.get(name))
        known["hosts of the wave"] = f"{', '.join(parts) or 'none'} of {counts.get('size')}"
        known["bad so far"] = f"{inputs.get('bad_so_far')} of {counted(int(inputs.get('total') or 0), 'host')}"
    for name in ("wave_budget", "total_budget"):
        if share := _mapping(rollout.get(name)):
            known[f"{name.partition('_')[0]} may fail"] = f"{share.get('value')}{'%' if share.get('percent') else ''}"
    if metrics := _mapping(inputs.get("metrics")):
        known["metrics"] = f"{metrics.get('outcome')}: {metrics.get('reason')}"[:_NAMED]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _audits(connection: sa.Connection, deployments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first audit after the last deployment of a change, if there was one."""
    finished = [one["finished"] for one in deployments if one["finished"]]
    if not finished:
        return []
    h = schema().history.c
    after = datetime.fromisoformat(max(finished))
    select = sa.select(h.at, h.actor, h.data).where(h.event == "audited", h.ci.is_(None), h.at >= after).order_by(h.seq).limit(1)
    return [
        {"at": time_text(row.at), "by": row.actor, **{name: int(row.data.get(name) or 0) for name in ("compared", "hosts", "count")}}
        for row in connection.execute(select)
    ]


def planned_change(change: Planned) -> dict[str, Any]:
    """A change that is to come, as the calendar has it."""
    state = STATES[CANCELED] if change.cancelled else STATES.get(change.state, str(change.state))
    return {
        "number": change.number,
        "title": change.short_description,
        "release": change.release,
        "version": change.version,
        "start": time_text(change.start),
        "end": time_text(change.end),
        "state": state,
        "requested_by": "",
        "sites": list(change.sites),
        "cis": len(change.cis),
    }
