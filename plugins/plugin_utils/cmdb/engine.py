# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching the database: addresses, engines and transactions, the same on SQLite and PostgreSQL.

One process writes at a time on either database, so a transaction that read and then writes has missed nothing:
SQLite by ``BEGIN IMMEDIATE``, PostgreSQL by an advisory lock. Readers are never in the way and see one snapshot.

A server that is full or restarts is asked again for a while, until the transaction has begun: up to there nothing can be done twice.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..activity import waiting
from ..errors import ConflictError, LostConnectionError, TidegateError
from ..libs import require
from ..settings import has_login
from . import sqlite
from .lock_holder import application_name, holder_in_postgresql, holder_of_file

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# How long a writer waits for the one before it, and everybody for a server that is full, in seconds.
PATIENCE = 30
# How long for one that is not there, which may be restarting and may be a wrong address.
ABSENCE = 5

# The option of a transaction that may write, and the channel on which PostgreSQL says so when it was committed.
WRITES = "tidegate_writes"
_ADVISORY_LOCK = 0x7469646567617465  # "tidegate"
# What PostgreSQL, or a pooler before it, says when it takes nobody for a moment; before a login there is no code for it.
_FULL = ("too many clients", "too many connections", "connection slots are reserved", "no more connections allowed", "database system is ")
_ABSENT = ("closed the connection unexpectedly",)
# The same of the kernel, whose words are those of the user's language: its queue is full; nobody is there, or no longer.
_FULL_ERRORS = (errno.EAGAIN,)
_ABSENT_ERRORS = (errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET)
_FULL_CODES = ("53300", "57P03")
_GONE_CODES = ("57P01", "57P02")
_LOCK_TIMEOUT = "55P03"
# A connection whose other end vanished is noticed, by the kernel, within a minute.
SOCKET = {"connect_timeout": PATIENCE, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
# The servers that this process waited for in vain, and what was said of them then.
_MISSED: dict[DatabaseAddress, str] = {}
_AGAIN = "see to it that it runs, and run the same command again"
_PSYCOPG = "postgresql+psycopg"
_DRIVERS = {"sqlite": "sqlite", "postgresql": _PSYCOPG, "postgres": _PSYCOPG}


@dataclass(frozen=True)
class DatabaseAddress:
    """Where a CMDB is. ``label`` is what messages call it and never has a password in it; ``path`` is set for SQLite."""

    url: sa.URL
    label: str
    path: Path | None = None
    secrets: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> DatabaseAddress:
        """Read the path of an SQLite file or an SQLAlchemy URL; :class:`TidegateError` when it is neither."""
        if "://" not in text and not has_login(text):
            return cls._file(Path(text))
        try:
            url = sa.make_url(text)
            if "@" in (url.host or ""):
                raise ValueError("a password with an @ in it")
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
    def _file(cls, path: Path) -> DatabaseAddress:
        return cls(url=sa.URL.create("sqlite", database=str(path)), label=str(path), path=path)

    def masked(self, text: str) -> str:
        """``text`` without the address's secrets, on one line."""
        for secret in self.secrets:
            for form in (secret, quote(secret, safe="")):
                text = text.replace(form, "***")
        return " ".join(text.split())


@functools.cache
def engine(address: DatabaseAddress) -> sa.Engine:
    """An engine without a pool: connections must not travel into forked workers. Doesn't connect yet.

    One for each address in a process, so that workers inherit the statements that it has compiled.
    """
    if address.path is None:
        if address.url.drivername == _PSYCOPG:
            require("postgres")
        try:
            named = {} if "PGAPPNAME" in os.environ else {"application_name": application_name()}
            settings = {name: value for name, value in (SOCKET | named).items() if name not in address.url.query}
            return sa.create_engine(address.url, poolclass=sa.NullPool, hide_parameters=True, connect_args=settings)
        except (ImportError, sa.exc.NoSuchModuleError) as error:
            raise TidegateError(
                f"the CMDB {address.label} needs a database driver that is missing ({address.masked(str(error))}); "
                "install it for the Python that runs Ansible, for instance with pip install 'psycopg[binary]'"
            ) from error
    path = address.path
    made = sa.create_engine("sqlite://", creator=lambda: sqlite.connect(path, PATIENCE), poolclass=sa.NullPool, hide_parameters=True)
    sa.event.listen(made, "begin", lambda connection: _begin_sqlite(path, connection))
    return made


@dataclass
class _Stage:
    """How far a transaction that may write has come: whether the database was asked to keep what it wrote."""

    ends: bool = False


@contextlib.contextmanager
def writing(address: DatabaseAddress, source: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that may write: committed at the end, undone by an exception.

    Raises :class:`LostConnectionError` when the database went away in it.
    """
    stage = _Stage()
    with translated(address, stage), _transaction(address, source, {WRITES: True}) as connection:
        yield connection
        stage.ends = True


@contextlib.contextmanager
def reading(address: DatabaseAddress, source: sa.Engine) -> Iterator[sa.Connection]:
    """A connection whose reads all see the same moment."""
    options: dict[str, Any] = {} if address.path else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with translated(address), _transaction(address, source, options) as connection:
        yield connection


@contextlib.contextmanager
def reading_within(address: DatabaseAddress, connection: sa.Connection) -> Iterator[sa.Connection]:
    """A part of what :func:`reading` began. When it fails, the parts after it can be read all the same, unless the connection is lost."""
    if connection.invalidated:
        raise TidegateError(f"the CMDB {address.label} went away while it was read; see to it that it runs, and run the same command again")
    # After an error PostgreSQL answers nothing more in a transaction, but for what is behind a savepoint.
    with translated(address), contextlib.nullcontext() if address.path else connection.begin_nested():
        yield connection


@contextlib.contextmanager
def _transaction(address: DatabaseAddress, source: sa.Engine, options: dict[str, Any]) -> Iterator[sa.Connection]:
    with waiting(f"the CMDB {address.label}, which others write to" if options.get(WRITES) else f"the CMDB {address.label}"):
        connection, transaction = _begin(address, source, options) if address.path else _begin_patiently(address, source, options)
    with connection, transaction:
        yield connection


def _begin(address: DatabaseAddress, source: sa.Engine, options: dict[str, Any]) -> tuple[sa.Connection, sa.RootTransaction]:
    connection = source.connect().execution_options(**options)
    try:
        transaction = connection.begin()
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
        if connection.dialect.name == "postgresql" and options.get(WRITES):
            _take_turn(address, connection, transaction)
    except BaseException:
        connection.close()
        raise
    return connection, transaction


def _take_turn(address: DatabaseAddress, connection: sa.Connection, transaction: sa.RootTransaction) -> None:
    """Wait until no other writes; whoever came before has its turn before. Raises :class:`ConflictError` when that takes too long."""
    # Whoever listens hears of it when, and if, this is committed; said here it costs no round trip of its own.
    free = f"SELECT pg_try_advisory_xact_lock({_ADVISORY_LOCK}), pg_notify('{WRITES}', '')"
    if connection.exec_driver_sql(free).scalar():
        return
    holder = holder_in_postgresql(connection, _ADVISORY_LOCK)
    try:
        with waiting(f"{holder or 'whoever wrote before'}, who writes to the CMDB {address.label}"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_TIMEOUT:
            raise
        transaction.rollback()
        raise _too_long(address, holder_in_postgresql(connection, _ADVISORY_LOCK)) from error


def _too_long(address: DatabaseAddress, holder: str) -> ConflictError:
    return ConflictError(
        f"{holder or 'another process'} has been writing to the CMDB {address.label} for more than {PATIENCE} s, or others after each "
        "other; wait for it, then try again"
    )


def _begin_patiently(address: DatabaseAddress, source: sa.Engine, options: dict[str, Any]) -> tuple[sa.Connection, sa.RootTransaction]:
    """Begin a transaction, as soon as a server lets us that is full or restarts.

    One that was waited for in vain is asked just once whenever this process needs it again.
    """
    began = seen = time.monotonic()
    attempts = 0
    while True:
        attempts += 1
        try:
            begun = _begin(address, source, options)
            _MISSED.pop(address, None)
            return begun
        except sa.exc.DBAPIError as error:
            full, absent = _is_full(error), _is_absent(error)
            now = time.monotonic()
            if full:
                seen = now  # there it is
            if not full and not absent:
                raise
            if full and now - began >= PATIENCE:
                raise ConflictError(
                    f"the CMDB {address.label} took nobody in for {PATIENCE} s, {_times(attempts)}: {address.masked(str(error.orig))}; "
                    "give it more connections (max_connections), or let fewer processes ask at once (forks), and run this again"
                ) from error
            if absent and (address in _MISSED or now - seen >= ABSENCE):
                sentence = (
                    f"the CMDB {address.label} can't be reached, {_times(attempts)} in {now - began:.0f} s: "
                    f"{address.masked(str(error.orig))}; check its address and that it runs"
                )
                raise TidegateError(_MISSED.setdefault(address, sentence)) from error
        # Not all at the same moment again.
        time.sleep(random.uniform(0.5, 1) * min(0.05 * 2**attempts, 1))  # noqa: S311 - no secret


def _is_full(error: sa.exc.DBAPIError) -> bool:
    return _says(error, _FULL_CODES, _FULL, _FULL_ERRORS)


def _is_absent(error: sa.exc.DBAPIError) -> bool:
    return _says(error, _GONE_CODES, _ABSENT, _ABSENT_ERRORS)


def _says(error: sa.exc.DBAPIError, codes: Collection[str], words: Iterable[str], errors: Iterable[int]) -> bool:
    said = str(error.orig)
    return getattr(error.orig, "sqlstate", None) in codes or any(word in said for word in (*words, *map(os.strerror, errors)))


def _times(attempts: int) -> str:
    return f"tried {attempts} times" if attempts > 1 else "tried once"


@contextlib.contextmanager
def translated(address: DatabaseAddress, stage: _Stage | None = None) -> Iterator[None]:
    """Turn what the database says into a :class:`TidegateError`; broken constraints stay as they are. ``stage``: of who may write."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as error:
        said = address.masked(str(error.orig))
        if "database is locked" in said or getattr(error.orig, "sqlstate", None) == _LOCK_TIMEOUT:
            raise _too_long(address, holder_of_file(address.path) if address.path else "") from error
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _GONE_CODES:
            if stage is None:
                raise TidegateError(f"the CMDB {address.label} went away while it was read ({said}); {_AGAIN}") from error
            raise lost(address, said, may_be_written=stage.ends) from error
        if "not a database" in said or "malformed" in said:
            raise TidegateError(
                f"{address.label} is not a CMDB ({said}); give the path of a CMDB, or restore it from its backup"
            ) from error
        raise TidegateError(
            f"the CMDB {address.label} can't be used: {said}; check its address, its permissions and that it runs"
        ) from error


def lost(address: DatabaseAddress, said: str, *, may_be_written: bool) -> LostConnectionError:
    """What to raise when the database went away in a transaction that may write, ``said`` what the driver says of that."""
    if may_be_written:
        what = f"while it was to keep what was written ({said}); whether it has all of that or nothing can't be known"
    else:
        what = f"in the middle of a transaction ({said}); nothing was written"
    return LostConnectionError(f"the CMDB {address.label} went away {what}: {_AGAIN}", said, may_be_written=may_be_written)


def _begin_sqlite(path: Path, connection: sa.Connection) -> None:
    if not connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql("BEGIN")
        return
    raw: Any = connection.connection.dbapi_connection
    raw.execute("PRAGMA busy_timeout = 0")
    try:
        raw.execute("BEGIN IMMEDIATE")
        return
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
    finally:
        raw.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000}")
    with waiting(f"{holder_of_file(path) or 'whoever wrote before'}, who writes to the CMDB {path}"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
