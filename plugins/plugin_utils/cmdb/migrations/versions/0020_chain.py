# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each line of the history and of the journal has the sha256 of what it says and of the line before; the lines of before get theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.links import link

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0020"
down_revision = "0019"

_TABLES = ("history", "journal")
_CHUNK = 10_000


def upgrade() -> None:
    """Make the columns and the table; chain the lines that are there, and say in the history which these were."""
    connection = op.get_bind()
    for table in _TABLES:
        op.add_column(table, sa.Column("sha256", sa.String, nullable=False, server_default="none"))
    chain = op.create_table(
        "chain",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_chain"),
    )
    said = {table: _chain(connection, table) for table in _TABLES}
    number, previous = said["history"]["seq"], said["history"]["sha256"]
    if any(one["lines"] for one in said.values()):
        line = {"seq": number + 1, "at": datetime.now(UTC), "actor": "cmdb_upgrade", "event": "chained", "data": said}
        number, previous = line["seq"], link(line, previous)
        connection.execute(sa.insert(_table("history", *line, "sha256")), line | {"sha256": previous})
    heads = {**said, "history": {"seq": number, "sha256": previous}}
    op.bulk_insert(chain, [{"name": table, "seq": heads[table]["seq"], "sha256": heads[table]["sha256"]} for table in _TABLES])


def _table(name: str, *columns: str) -> sa.TableClause:
    """A table as it is at this revision; its moments come as each database has them."""
    types: dict[str, Any] = {"at": sa.DateTime(timezone=True), "data": sa.JSON}
    return sa.table(name, *(sa.column(column, types.get(column)) for column in columns))


def _chain(connection: sa.Connection, name: str) -> dict[str, Any]:
    """Give each line its sha256; return how many there are, the number of the last one, and its sha256."""
    columns = [column["name"] for column in sa.inspect(connection).get_columns(name)]
    table = _table(name, *columns)
    last, previous, lines = 0, "", 0
    with _writable(connection, name):
        while rows := connection.execute(sa.select(table).where(table.c.seq > last).order_by(table.c.seq).limit(_CHUNK)).mappings().all():
            found = []
            for row in rows:
                at = row["at"] if row["at"].tzinfo else row["at"].replace(tzinfo=UTC)
                previous = link({**row, "at": at}, previous)
                found.append((previous, row["seq"]))
            _write(connection, name, found)
            last, lines = rows[-1]["seq"], lines + len(rows)
    return {"lines": lines, "seq": max(last, _numbered(connection, name)), "sha256": previous}


def _write(connection: sa.Connection, name: str, found: list[tuple[str, int]]) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"UPDATE {name} SET sha256 = ? WHERE seq = ?", found)  # noqa: S608 - the name is ours
        return
    values = "unnest(CAST(:sha256 AS text[]), CAST(:seq AS bigint[])) AS new(sha256, seq)"
    sql = f"UPDATE {name} SET sha256 = new.sha256 FROM {values} WHERE {name}.seq = new.seq"  # noqa: S608 - the name is ours
    connection.execute(sa.text(sql), {"sha256": [one[0] for one in found], "seq": [one[1] for one in found]})


def _numbered(connection: sa.Connection, name: str) -> int:
    """The highest number that the database gave to a line, which may be in an archive or was never committed; 0 where it keeps none."""
    if connection.dialect.name == "sqlite":
        return 0
    return int(connection.scalar(sa.text(f"SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence('{name}', 'seq')), 0)")))


@contextlib.contextmanager
def _writable(connection: sa.Connection, name: str) -> Iterator[None]:
    """The table without what refuses changes to its lines, until this transaction goes on."""
    if connection.dialect.name == "sqlite":
        trigger = f"{name}_refuses_update"
        sql = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?", (trigger,)).scalar_one()
        connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        yield
        connection.exec_driver_sql(sql)
    else:
        connection.exec_driver_sql(f"ALTER TABLE {name} DISABLE TRIGGER {name}_append_only")
        yield
        connection.exec_driver_sql(f"ALTER TABLE {name} ENABLE TRIGGER {name}_append_only")


def downgrade() -> None:
    """Take them away. An upgrade gives the lines the same sha256 again, so what documents saw of them can be verified then, too."""
    op.drop_table("chain")
    for table in _TABLES:
        op.drop_column(table, "sha256")
