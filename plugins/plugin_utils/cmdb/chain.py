# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Appending to the history and to the journal, each line with the sha256 of what it says and of the line before.

Writers take turns on either database, see :mod:`.engine`, so that whoever appends has the last line before its eyes until it commits. That
line's number and sha256 are in the table ``chain``: the journal's last lines may have gone into an archive.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from .links import Head, link, plain
from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

TABLES = ("history", "journal")


def append_history(connection: sa.Connection, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append lines to the history, in a transaction that may write. Each has ``at``, ``actor``, ``event`` and ``data``, and ``ci`` or
    ``asset`` when it is about one."""
    _append(connection, schema().history, lines)


def append_journal(connection: sa.Connection, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append lines to the journal, in a transaction that may write. Each has ``deployment_id``, ``at``, ``event`` and ``data``, and
    ``host`` and ``wave`` when it is about one."""
    _append(connection, schema().journal, lines)


def heads(connection: sa.Connection) -> dict[str, Head]:
    """The last line that was ever written to each of :data:`TABLES`."""
    return {row.name: Head(row.seq, row.sha256) for row in connection.execute(sa.select(schema().chain))}


def is_in_chain(connection: sa.Connection, ends: Mapping[str, Head]) -> bool:
    """Whether each of these lines, by table, was written: it is the last one, or there."""
    now = heads(connection)
    for name, head in ends.items():
        table = schema().metadata.tables[name].c
        there = sa.select(table.seq).where(table.seq == head.seq, table.sha256 == head.sha256)
        if now.get(name) != head and connection.execute(there).first() is None:
            return False
    return True


def heads_document(connection: sa.Connection) -> dict[str, Any]:
    """The same, as documents have it."""
    return {name: head.to_json() for name, head in sorted(heads(connection).items())}


def _append(connection: sa.Connection, table: sa.Table, lines: Iterable[Mapping[str, Any]]) -> None:
    lines = list(lines)
    if not lines:
        return
    find, move = _statements(table)
    seq, sha256, last = connection.execute(find, {"name_of": table.name}).one()
    seq = max(seq, last or 0)  # something else may have written a line
    rows = []
    for line in lines:
        seq += 1
        # A word of an enumeration is a text to the database, and has to be one here.
        said = {column: str(value) if isinstance(value, str) else value for column, value in line.items()}
        row = {**dict.fromkeys(table.columns.keys()), **said, "seq": seq, "data": plain(line["data"])}
        sha256 = link(row, sha256)
        rows.append({**row, "sha256": sha256})
    connection.execute(sa.insert(table), rows)
    connection.execute(move, {"name_of": table.name, "to_seq": seq, "to_sha256": sha256})


@functools.cache
def _statements(table: sa.Table) -> tuple[sa.Select[Any], sa.Update]:
    """What finds the end of a table, and what moves it."""
    chain = schema().chain
    of = chain.c.name == sa.bindparam("name_of")
    last = sa.select(sa.func.max(table.c.seq)).scalar_subquery()
    values: dict[str, Any] = {"seq": sa.bindparam("to_seq"), "sha256": sa.bindparam("to_sha256")}
    return sa.select(chain.c.seq, chain.c.sha256, last).where(of), sa.update(chain).where(of).values(values)
