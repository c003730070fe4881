# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching the database: addresses, engines and transactions, the same on SQLite and PostgreSQL.

One process writes at a time on either database, so a transaction that read and then writes has missed nothing:
SQLite by ``BEGIN IMMEDIATE``, PostgreSQL by an advisory lock. Readers are never in the way and see one snapshot.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import ConflictError, TidegateError

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

# How long a writer waits for the one before it, in seconds.
PATIENCE = 30

_WRITES = "tidegate_writes"
_ADVISORY_LOCK = 0x7469646567617465  # "tidegate"
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


@dataclass(frozen=True)
class Address:
    """Where a CMDB is. ``label`` is what messages call it and never has a password in it; ``path`` is set for SQLite."""

    url: sa.URL
    label: str
    path: Path | None = None
    secrets: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read the path of an SQLite file or an SQLAlchemy URL; :class:`TidegateError` when it is neither."""
        if "://" not in text:
            return cls._file(Path(text))
        try:
            url = sa.make_url(text)
        except (sa.exc.ArgumentError, ValueError):
            raise TidegateError(
                "the CMDB's URL can't be read; write it like postgresql+psycopg://user@host/database, special characters percent-encoded"
            ) from None
        driver = _DRIVERS.get(url.drivername, url.drivername)
        backend = driver.partition("+")[0]
        if backend not in {"sqlite", "postgresql"}:
            raise TidegateError(f"{backend} can't be a CMDB; give the path of an SQLite file or a postgresql+psycopg:// URL")
        if backend == "sqlite":
            if not url.database or url.database == ":memory:":
                raise TidegateError("a CMDB in memory would be forgotten; give the path of a file")
            return cls._file(Path(url.database))
        secrets = [url.password, *(value for key, value in url.query.items() if "pass" in key)]
        return cls(
            url=url.set(drivername=driver),
            label=f"{backend}://{url.host or ''}/{url.database or ''}",
            secrets=tuple(str(secret) for secret in secrets if secret),
        )

    @classmethod
    def _file(cls, path: Path) -> Address:
        return cls(url=sa.URL.create("sqlite", database=str(path)), label=str(path), path=path)

    def masked(self, text: str) -> str:
        """``text`` without the address's secrets, on one line."""
        for secret in self.secrets:
            for form in (secret, quote(secret, safe="")):
                text = text.replace(form, "***")
        return " ".join(text.split())


@functools.cache
def engine(address: Address) -> sa.Engine:
    """An engine without a pool: connections must not travel into forked workers. Doesn't connect yet.

    One for each address in a process, so that workers inherit the statements that it has compiled.
    """
    if address.path is None:
        try:
            return sa.create_engine(address.url, poolclass=sa.NullPool, hide_parameters=True, connect_args={"connect_timeout": PATIENCE})
        except (ImportError, sa.exc.NoSuchModuleError) as error:
            raise TidegateError(
                f"the CMDB {address.label} needs a database driver that is missing ({address.masked(str(error))}); "
                "install it for the Python that runs Ansible, for instance with pip install 'psycopg[binary]'"
            ) from error
    file = f"file:{quote(str(address.path.absolute()))}?mode=rw"

    def connect() -> sqlite3.Connection:
        # isolation_level None: sqlite3 must not open transactions behind our back, the begin event does it.
        return sqlite3.connect(file, uri=True, timeout=PATIENCE, isolation_level=None)

    made = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool, hide_parameters=True)
    sa.event.listen(made, "connect", _foreign_keys_on)
    sa.event.listen(made, "begin", _begin_sqlite)
    return made


@contextlib.contextmanager
def writing(address: Address, source: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that may write: committed at the end, undone by an exception."""
    with translated(address), source.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        if address.path is None:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        yield connection


@contextlib.contextmanager
def reading(address: Address, source: sa.Engine) -> Iterator[sa.Connection]:
    """A connection whose reads all see the same moment."""
    options: dict[str, Any] = {} if address.path else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with translated(address), source.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn what the database says into a :class:`TidegateError`; broken constraints stay as they are."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as error:
        said = address.masked(str(error.orig))
        if "database is locked" in said or getattr(error.orig, "sqlstate", None) == "55P03":
            raise ConflictError(
                f"another process has been writing to the CMDB {address.label} for more than {PATIENCE} s; wait for it, then try again"
            ) from error
        if "not a database" in said or "malformed" in said:
            raise TidegateError(
                f"{address.label} is not a CMDB ({said}); give the path of a CMDB, or restore it from its backup"
            ) from error
        raise TidegateError(
            f"the CMDB {address.label} can't be used: {said}; check its address, its permissions and that it runs"
        ) from error


def _foreign_keys_on(connection: DBAPIConnection, _record: object) -> None:
    connection.cursor().execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")
