# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a CMDB, and bringing an older one up to date, or back, when somebody asks for that.

Opening migrates nothing: colleagues whose collection is older could no longer read what they work with. Alembic is imported only when
there is something to do: opening a current CMDB costs one SELECT.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import ConflictError, NotFoundError, TidegateError
from ..files import rights, write
from . import engine as database
from . import sqlite
from .schema import schema
from .team_model import model_in, notes_on_upgrade, shipped_model

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# The revision that this code reads and writes; the newest file of migrations/versions.
HEAD = "0022"

_DERIVED = frozenset({"chain", "sha256"})  # what an upgrade makes anew of the lines that are there
_WITH_MODEL = "0019"  # and later revisions keep the model of CIs
_MIGRATIONS = Path(__file__).parent / "migrations"
_REMEDY = "give the path or URL of a CMDB; tidegate.release.cmdb_ci makes one when it writes the first CI"


class RevisionError(TidegateError):
    """A CMDB that this version of the collection does not understand, which waiting does not mend."""


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade, or the way back, did, or would do: the revisions before and after, what the CMDB is called, and sentences on what
    means something else than before or is lost."""

    label: str
    before: str
    after: str
    notes: tuple[str, ...] = ()


def make_ready(address: database.DatabaseAddress, source: sa.Engine, *, create: bool) -> None:
    """Make sure that the CMDB is at :data:`HEAD`; with ``create`` one is made where there is none.

    Raises :class:`NotFoundError` when there is none and ``create`` is false, :class:`TidegateError` when it isn't a CMDB, is older or
    newer than this code or can't be reached.
    """
    if address.path is not None and create and not _exists(address.path):
        _create_file(address.path)
    try:
        found = _existing(address, source)
    except NotFoundError:
        if not create:
            raise
        with database.writing(address, source) as connection:
            _migrate(connection)
        return
    if found != HEAD:
        raise RevisionError(
            f"the CMDB {address.label} is of revision {found} and this collection needs {HEAD}; nothing was changed. "
            "Make a backup and run ansible-playbook tidegate.release.cmdb_upgrade, after which older collections can't use it any more"
        )


def upgrade(url: str, now: datetime, *, back_to: str | None = None, lose: bool = False, dry_run: bool = False) -> Upgrade:
    """Bring the CMDB at ``url``, the path of an SQLite file or an SQLAlchemy URL, to :data:`HEAD`, or ``back_to`` an older revision, in one
    transaction. On the way back rows go only if one says that they are to be lost, ``lose``.

    Raises :class:`NotFoundError` when there is none, :class:`ConflictError` while somebody drives a deployment, whose collection would be
    locked out in the middle of it, or for rows that would be lost, and :class:`TidegateError` when it isn't a CMDB, is newer than this
    code or can't be reached.
    """
    address = database.DatabaseAddress.parse(url)
    try:
        if back_to is not None:
            return _take_back(address, database.engine(address), now, back_to, lose, dry_run)
        return _upgrade(address, database.engine(address), now, dry_run)
    finally:
        if address.path is not None:
            sqlite.end(address.path)


def _upgrade(address: database.DatabaseAddress, source: sa.Engine, now: datetime, dry_run: bool) -> Upgrade:
    before = _existing(address, source)
    if before == HEAD:
        return Upgrade(address.label, before, HEAD)
    with database.reading(address, source) if dry_run else database.writing(address, source) as connection:
        before = _revision(address, connection) or before  # another process may have upgraded it meanwhile
        _refuse_driven(connection, now)
        if not dry_run:
            _migrate(connection)
        # An upgrade that only would be made finds no model of the team's yet.
        model = shipped_model() if dry_run and before < _WITH_MODEL else model_in(connection)
        notes = notes_on_upgrade(connection, model)
    return Upgrade(address.label, before, HEAD, tuple(notes))


def _take_back(address: database.DatabaseAddress, source: sa.Engine, now: datetime, to: str, lose: bool, dry_run: bool) -> Upgrade:
    if not re.fullmatch(r"\d{4}", to) or not "0001" <= to <= HEAD:
        raise TidegateError(f"there is no revision {to!a:.20} of a CMDB; give one from 0001 to {HEAD}, which older collections name")
    before = _existing(address, source)
    if before < to:
        raise TidegateError(f"the CMDB {address.label} is of revision {before}, so {to} is no way back; leave it out to upgrade")
    if before == to:
        return Upgrade(address.label, before, to)
    with database.writing(address, source) as connection:
        before = _revision(address, connection) or before
        _refuse_driven(connection, now)
        lost = _lost_at(connection, to)
        if lost and not lose:
            raise ConflictError(
                f"the CMDB {address.label} was not taken back to revision {to}, for that has no place for {', '.join(lost)}; make a "
                "backup, and say that this is to be lost with lose: true"
            )
        if not dry_run:
            _migrate(connection, to)
    return Upgrade(address.label, before, to, tuple(f"lost: {one}" for one in lost))


def _refuse_driven(connection: sa.Connection, now: datetime) -> None:
    deployment = schema().deployment
    driven = sa.select(deployment.c.rfc, deployment.c.holder, deployment.c.lease_until).where(deployment.c.lease_until > now)
    for rfc, holder, until in connection.execute(driven):
        raise ConflictError(
            f"the deployment of {rfc} is being driven by {holder}, whose collection could not go on after an upgrade of the CMDB; "
            f"wait until it ends, or until {until.isoformat(timespec='seconds')} if that process is gone"
        )


def _lost_at(connection: sa.Connection, to: str) -> list[str]:
    """What an older revision has no place for: tables with so many rows, and columns in which so many have something."""
    tables = schema().metadata.tables
    there = _columns(connection)
    with connection.begin_nested() as trial:
        _migrate(connection, to)
        left = _columns(connection)
        trial.rollback()
    counts = ((connection.scalar(sa.select(sa.func.count()).select_from(tables[name])), name) for name in there.keys() - left.keys())
    found = sorted(f"{count} {name}" for count, name in counts if count and name not in _DERIVED)
    for name in sorted(there.keys() & left.keys()):
        for column in tables[name].columns:
            if column.name not in there[name] - left[name] - _DERIVED:
                continue
            default: Any = column.server_default
            usual = sa.true() if default is None else column != sa.cast(default.arg, column.type)
            if count := connection.scalar(sa.select(sa.func.count()).select_from(tables[name]).where(column.is_not(None), usual)):
                found.append(f"{column.name} of {count} {name}")
    return found


def _columns(connection: sa.Connection) -> dict[str, set[str]]:
    look = sa.inspect(connection)
    names = schema().metadata.tables.keys() & set(look.get_table_names())
    return {table: {column["name"] for column in look.get_columns(table)} for table in names}


def _existing(address: database.DatabaseAddress, source: sa.Engine) -> str:
    """The revision of the CMDB that is there, at most :data:`HEAD`; raises :class:`NotFoundError` when there is none."""
    if address.path is not None and not _exists(address.path):
        raise NotFoundError(f"there is no CMDB at {address.label}; {_REMEDY}")
    with database.reading(address, source) as connection:  # one moment: another process may be making it right now
        found = _revision(address, connection)
    if found is None and address.path is not None:
        raise TidegateError(f"{address.label} is empty, not a CMDB; remove it or give another path")
    if found is None:
        raise NotFoundError(f"there is no CMDB in {address.label} yet; {_REMEDY}")
    return found


def _revision(address: database.DatabaseAddress, connection: sa.Connection) -> str | None:
    """The revision of a CMDB that this code can use or upgrade; ``None`` for a database without tables."""
    tables = sa.inspect(connection).get_table_names()
    rows = connection.exec_driver_sql("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
    found = [str(row[0]) for row in rows]
    if not tables:
        return None
    if len(found) != 1 or not re.fullmatch(r"\d{4}", found[0]):
        raise TidegateError(f"{address.label} is a database, but not a Tidegate CMDB; {_REMEDY}")
    if found[0] > HEAD:
        raise TidegateError(
            f"the CMDB {address.label} is newer ({found[0]}) than this collection knows ({HEAD}); upgrade the collection tidegate.release"
        )
    return found[0]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise TidegateError(f"the CMDB {path} can't be reached ({error.strerror}); give this user the right to its directory") from error


def _create_file(path: Path) -> None:
    """Make an SQLite CMDB aside and give it its name in one step, so that nobody ever sees half of one."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
            unnamed = Path(directory).absolute() / "cmdb"
            address = database.DatabaseAddress.parse(str(unnamed))
            # SQLite gives what it puts beside the file the rights of the file.
            write(unnamed, b"", 0o666)
            unnamed.chmod(0o666 & rights(path.parent))  # the directory is of this process alone
            with contextlib.closing(sqlite3.connect(unnamed)) as raw:
                raw.execute("PRAGMA journal_mode = WAL")
            with database.writing(address, database.engine(address)) as connection:
                _migrate(connection)
            sqlite.close(unnamed)  # which copies the log into it
            with contextlib.suppress(FileExistsError):  # somebody else was faster: theirs it is
                os.link(unnamed, path)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TidegateError(f"the CMDB {path} can't be made: {reason}; check that {path.parent} is a directory you may write to") from error


def _migrate(connection: sa.Connection, back_to: str | None = None) -> None:
    """Run the migrations that ``connection``'s database lacks, if any, or those back to an older revision, in its transaction."""
    # Only a database that has to be upgraded pays for the import.
    from alembic.config import Config  # noqa: PLC0415 - see above
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415 - see above
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

    scripts = ScriptDirectory(str(_MIGRATIONS))

    def steps(revision: Any, _context: Any) -> Any:
        return scripts._upgrade_revs(HEAD, revision) if back_to is None else scripts._downgrade_revs(back_to, revision)

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
