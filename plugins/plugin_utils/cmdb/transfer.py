# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CMDB in another database, as SQLite's in PostgreSQL or the other way round: the same rows and ids, and the same chain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import ConflictError, TidegateError
from . import engine as database
from . import sqlite
from .schema import schema
from .upgrade import make_ready

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from sqlalchemy.dialects.postgresql import REGCLASS

_ROWS = 5000  # that are in memory at a time
_SEEDS = ("chain",)  # tables in which a CMDB has rows from the beginning


@dataclass(frozen=True)
class CmdbTransfer:
    """What was copied, or would be: what the databases are called, and the number of rows by table."""

    label: str
    target: str
    rows: dict[str, int]


def transfer(url: str, target_url: str, now: datetime, *, dry_run: bool = False) -> CmdbTransfer:
    """Copy the CMDB at ``url`` to ``target_url``, where there is none yet or one without a row, in one transaction.

    Raises :class:`.errors.NotFoundError` when there is none at ``url``, :class:`ConflictError` while somebody drives a deployment, or when
    the target has rows, and :class:`TidegateError` for what can't be used.
    """
    source, target = database.DatabaseAddress.parse(url), database.DatabaseAddress.parse(target_url)
    if source.url == target.url or (source.path and target.path and source.path.resolve() == target.path.resolve()):
        raise TidegateError(f"{source.label} is to be copied to itself; name another database")
    try:
        return _transfer(source, target, now, dry_run)
    finally:
        for address in (source, target):
            if address.path is not None:
                sqlite.end(address.path)


def _transfer(source: database.DatabaseAddress, target: database.DatabaseAddress, now: datetime, dry_run: bool) -> CmdbTransfer:
    make_ready(source, database.engine(source), create=False)
    with database.reading(source, database.engine(source)) as connection:
        _refuse_driven(connection, source.label, now)
        counted = {table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in _tables()}
        if dry_run:
            return CmdbTransfer(source.label, target.label, counted)
        make_ready(target, database.engine(target), create=True)
        with database.writing(target, database.engine(target)) as there:
            _refuse_used(there, target.label)
            for table in _tables():
                for rows in _parts(connection, table):
                    there.execute(sa.insert(table), rows)
            _set_counters(connection, there)
    return CmdbTransfer(source.label, target.label, counted)


def _tables() -> list[sa.Table]:
    """All tables, those that others refer to first."""
    return list(schema().chain.metadata.sorted_tables)


def _refuse_driven(connection: sa.Connection, label: str, now: datetime) -> None:
    deployment = schema().deployment.c
    driven = sa.select(deployment.rfc, deployment.holder).where(deployment.lease_until > now)
    for rfc, holder in connection.execute(driven):
        raise ConflictError(
            f"the deployment of {rfc} is being driven by {holder}, who would go on in {label} alone; wait until it ends, and let nobody "
            "begin another before all use the copy"
        )


def _refuse_used(connection: sa.Connection, label: str) -> None:
    for table in _tables():
        if table.name not in _SEEDS and connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise ConflictError(f"the CMDB {label} has rows in {table.name} already, and a copy would mix both; name an empty database")
    for name in _SEEDS:
        connection.execute(sa.delete(_named(name)))


def _named(name: str) -> sa.Table:
    return schema().chain.metadata.tables[name]


def _parts(connection: sa.Connection, table: sa.Table) -> Iterator[list[dict[str, Any]]]:
    names = table.columns.keys()  # which is how a statement takes them, and not always what the database calls them
    for rows in connection.execution_options(yield_per=_ROWS).execute(sa.select(table)).partitions():
        yield [dict(zip(names, row, strict=True)) for row in rows]


def _set_counters(source: sa.Connection, target: sa.Connection) -> None:
    """Go on numbering where ``source`` has come to. SQLite counts from the highest number that there is."""
    if target.dialect.name == "sqlite":
        return
    last = sa.func.pg_sequence_last_value
    for table in _tables():
        if len(table.primary_key.columns) != 1:
            continue
        (column,) = table.primary_key
        sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
        if target.scalar(sa.select(sequence)) is None:
            continue
        given = source.scalar(sa.select(last(sa.cast(sequence, REGCLASS)))) if source.dialect.name == "postgresql" else None
        reached = max(given or 0, target.scalar(sa.select(sa.func.max(column))) or 0)
        if reached:
            target.execute(sa.select(sa.func.setval(sa.cast(sequence, REGCLASS), reached)))
