# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the CMDB had at a moment of the past, out of its history; and what it has, in the same form, so that both can be compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..documents import parse_time
from ..errors import TidegateError
from .replay import Past, replay
from .schema import schema
from .store import Cmdb

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_AT_ONCE = 5000  # lines that are read


def past_of(connection: sa.Connection, at: datetime, now: datetime) -> Past:
    """What the CMDB had at a moment: what was written with that time or an earlier one.

    Raises :class:`TidegateError` for a moment that is not over.
    """
    if at > now:
        raise TidegateError(f"{at.isoformat()} is not over yet, so nobody knows what the CMDB will have then; ask for a moment of the past")
    history = schema().history
    return replay(lines_of(connection, history, history.c.at <= at, history.c.ci.is_not(None)))


def time_option(options: Mapping[str, Any], name: str) -> datetime | None:
    """An option that is a time, ``None`` when it is not given; raises :class:`TidegateError` when it is none."""
    if options[name] is None:
        return None
    try:
        return parse_time(options[name])
    except ValueError as error:
        raise TidegateError(f"{name} is {options[name]!r:.80}, {error}; write it as 2027-03-01T20:00:00Z") from error


def present(cmdb: Cmdb, connection: sa.Connection) -> Past:
    """What the rows of the CMDB say."""
    keys = ("version", "digest", "deployment_id")
    return Past(
        {row.pop("name"): row for row in cmdb.cis(connection=connection)},
        {(row["source"], row["target"], row["kind"]) for row in cmdb.relations(connection=connection)},
        {(row["ci"], row["release"]): {key: row[key] for key in keys} for row in cmdb.installations(connection=connection)},
        cmdb.write_offs(connection=connection),
    )


def lines_of(connection: sa.Connection, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> Iterator[Mapping[str, Any]]:
    """The lines of the history or of the journal, in the order in which they were written; a few at once are in memory."""
    select = sa.select(table).where(*conditions).order_by(table.c.seq)
    names = table.columns.keys()
    for row in connection.execute(select, execution_options={"yield_per": _AT_ONCE}):
        yield dict(zip(names, row, strict=True))
