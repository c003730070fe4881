# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the CMDB had at a moment of the past, out of its history; and what it has, in the same form, so that both can be compared."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...module_utils.host_sets import digest_of
from ..documents import parse_time
from ..errors import TidegateError
from .replay import (
    PastCmdb,
    as_recorded,
    entitlement_record,
    model_record,
    release_record,
    replay,
    rule_record,
    set_record,
    unit_record,
)
from .schema import schema
from .store import Cmdb

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

_AT_ONCE = 5000  # lines that are read


def past_of(connection: sa.Connection, at: datetime, now: datetime) -> PastCmdb:
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


def present(cmdb: Cmdb, connection: sa.Connection) -> PastCmdb:
    """What the rows of the CMDB say, those that nobody could have written, too."""
    keys = ("version", "digest", "deployment_id")
    return PastCmdb(
        {row.pop("name"): row for row in _rows(connection, sa.select(*_columns(schema().ci)))},
        {(row["source"], row["target"], row["kind"]) for row in cmdb.relations(connection=connection)},
        {(row["ci"], row["release"]): {key: row[key] for key in keys} for row in cmdb.installations(connection=connection)},
        cmdb.write_offs(connection=connection),
        dict(_records(connection)),
    )


def _records(connection: sa.Connection) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """What the tables have on record besides, as :attr:`PastCmdb.records` has it."""
    t = schema()
    for row in _rows(connection, sa.select(*_columns(t.ci_model))):
        yield model_record(), as_recorded(row)
    for row in _rows(connection, sa.select(t.ci.c.name.label("ci"), *_columns(t.host_set)).join_from(t.host_set, t.ci)):
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            row["entries"] = digest_of(row["entries"])
        yield set_record(row["ci"], row["name"]), as_recorded(row)
    for row in _rows(connection, sa.select(*_columns(t.entitlement))):
        yield entitlement_record(row["name"]), as_recorded(row)
    for row in _rows(connection, sa.select(*_columns(t.stock_rule))):
        yield rule_record(row["model"], row["stockroom"]), as_recorded(row)
    of_unit = sa.select(sa.func.coalesce(t.ci.c.name, "").label("ci"), *_columns(t.asset)).select_from(t.asset.outerjoin(t.ci))
    for row in _rows(connection, of_unit):
        yield unit_record(row["tag"]), as_recorded(row | {"deployment": row["deployment_id"]})
    for row in _rows(connection, sa.select(*_columns(t.release_status))):
        yield release_record(row["release"], row["version"]), as_recorded(row)


def lines_of(connection: sa.Connection, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> Iterator[dict[str, Any]]:
    """The lines of the history or of the journal, in the order in which they were written; a few at once are in memory.

    What is no JSON or no time in a column that has such is the text that it is.
    """
    return _rows(connection, sa.select(*_columns(table)).where(*conditions).order_by(table.c.seq))


def _rows(connection: sa.Connection, select: sa.Select[Any]) -> Iterator[dict[str, Any]]:
    result = connection.execute(select, execution_options={"yield_per": _AT_ONCE})
    names = tuple(result.keys())
    for row in result:
        yield dict(zip(names, row, strict=True))


def _columns(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """The columns of a table, by their names, of which SQLite believes whatever is in them."""
    readers = dict.fromkeys(("at", "valid_from", "valid_until"), _as_moment())
    readers |= dict.fromkeys(("data", "attributes", "document", "entries", "substitutes"), _as_json())
    return [sa.type_coerce(column, readers.get(column.name, column.type)).label(column.name) for column in table.columns]


@functools.cache
def _as_json() -> TypeEngine[Any]:
    class JsonOrText(sa.types.TypeDecorator[Any]):
        impl = sa.String
        cache_ok = True

        def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(value) if dialect.name == "sqlite" and isinstance(value, str) else value
            return value

    return JsonOrText()


@functools.cache
def _as_moment() -> TypeEngine[Any]:
    class MomentOrText(sa.types.TypeDecorator[Any]):
        impl = sa.String
        cache_ok = True

        def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
            if isinstance(value, datetime):
                return value.astimezone(UTC)
            with contextlib.suppress(TypeError, ValueError):
                return datetime.fromisoformat(value).replace(tzinfo=UTC)
            return value

    return MomentOrText()


@contextlib.contextmanager
def undecoded(connection: sa.Connection) -> Iterator[None]:
    """Have SQLite give texts that are none, as a flipped bit makes them, too."""
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    before, raw.text_factory = raw.text_factory, lambda content: content.decode(errors="surrogateescape")
    try:
        yield
    finally:
        raw.text_factory = before
