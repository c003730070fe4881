# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts are on record to have besides releases, by name of the set: who said so, when, why, and each entry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .chain import append_history
from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_EVENT = "set recorded"


@dataclass(frozen=True)
class RecordedSet:
    """A set of a host as it is on record: by the ``sha256`` that the host is told, and by its ``entries``."""

    sha256: str
    actor: str
    reason: str
    at: datetime
    entries: Mapping[str, str] = field(default_factory=dict)


def recorded_digests(connection: sa.Connection) -> dict[str, dict[str, str]]:
    """The sha256 of each set that is on record, by host and name of the set."""
    tables = schema()
    of = tables.host_set.c
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(sa.select(tables.ci.c.name.label("ci"), of.name, of.sha256).join_from(tables.host_set, tables.ci)):
        found.setdefault(row.ci, {})[row.name] = row.sha256
    return found


def recorded_sets(connection: sa.Connection, hosts: Iterable[str]) -> dict[str, dict[str, RecordedSet]]:
    """The sets of ``hosts`` that are on record, by host and name of the set."""
    tables = schema()
    of = tables.host_set.c
    query = sa.select(tables.ci.c.name.label("ci"), of.name, of.sha256, of.actor, of.reason, of.at, of.entries)
    found: dict[str, dict[str, RecordedSet]] = {}
    names = sorted(set(hosts))
    for start in range(0, len(names), 500):
        some = query.join_from(tables.host_set, tables.ci).where(tables.ci.c.name.in_(names[start : start + 500]))
        for row in connection.execute(some):
            found.setdefault(row.ci, {})[row.name] = RecordedSet(row.sha256, row.actor, row.reason, row.at, row.entries)
    return found


def record_sets(
    connection: sa.Connection,
    host: str,
    sets: Mapping[str, tuple[str, Mapping[str, str]]],
    actor: str,
    reason: str,
    now: datetime,
    rfc: str | None = None,
) -> list[str]:
    """Put ``sets``, sha256 and entries by name, on record for ``host``, in a transaction that may write; return which were not so before.

    A host that the CMDB does not have has no record. The history says who did it, why, by which ``rfc``, and what was on record before.
    """
    tables = schema()
    table = tables.host_set
    ci_id = connection.execute(sa.select(tables.ci.c.id).where(tables.ci.c.name == host)).scalar()
    if ci_id is None:
        return []
    before = {row.name: row.sha256 for row in connection.execute(sa.select(table.c.name, table.c.sha256).where(table.c.ci_id == ci_id))}
    changed = sorted(name for name, (sha256, _entries) in sets.items() if before.get(name) != sha256)
    for name in changed:
        sha256, entries = sets[name]
        connection.execute(sa.delete(table).where(table.c.ci_id == ci_id, table.c.name == name))
        row = {"ci_id": ci_id, "name": name, "sha256": sha256, "entries": dict(entries), "actor": actor, "reason": reason, "at": now}
        connection.execute(sa.insert(table), row)
    said = [
        {"set": name, "sha256": sets[name][0], "was": before.get(name), "count": len(sets[name][1]), "reason": reason}
        | ({"rfc": rfc} if rfc else {})
        for name in changed
    ]
    append_history(connection, [{"at": now, "actor": actor, "ci": host, "event": _EVENT, "data": data} for data in said])
    return changed


def all_sets(connection: sa.Connection) -> list[dict[str, Any]]:
    """Every set that is on record, by host and name of the set: ``ci``, ``name``, and what :class:`RecordedSet` has."""
    tables = schema()
    of = tables.host_set.c
    columns = (tables.ci.c.name.label("ci"), of.name, of.sha256, of.entries, of.actor, of.reason, of.at)
    rows = connection.execute(sa.select(*columns).join_from(tables.host_set, tables.ci)).mappings()
    return sorted(map(dict, rows), key=lambda row: (str(row["ci"]), str(row["name"])))


def enter_sets(connection: sa.Connection, rows: Sequence[Mapping[str, Any]], ids: Mapping[str, int]) -> None:
    """Enter sets that another CMDB had on record, as :func:`all_sets` gives them, in a transaction that may write. None of them is here;
    ``ids``: those of the CIs, by name."""
    if not rows:
        return
    columns = ("name", "sha256", "entries", "actor", "reason", "at")
    connection.execute(sa.insert(schema().host_set), [{"ci_id": ids[row["ci"]], **{name: row[name] for name in columns}} for row in rows])
    data = [
        {"set": row["name"], "sha256": row["sha256"], "was": None, "count": len(row["entries"]), "reason": row["reason"], "imported": True}
        for row in rows
    ]
    lines = [{"at": row["at"], "actor": row["actor"], "ci": row["ci"], "event": _EVENT} for row in rows]
    append_history(connection, [line | {"data": said} for line, said in zip(lines, data, strict=True)])
