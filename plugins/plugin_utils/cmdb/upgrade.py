# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a CMDB and bringing an older one up to date.

Alembic is imported only when there is something to do: opening a current CMDB costs one SELECT.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from ..errors import NotFoundError, TidegateError
from ..libs import require
from . import engine as database

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# The revision that this code reads and writes; the newest file of migrations/versions.
HEAD = "0007"

_MIGRATIONS = Path(__file__).parent / "migrations"
_REMEDY = "give the path or URL of a CMDB; tidegate.release.cmdb_ci makes one when it writes the first CI"


def make_ready(address: database.Address, source: sa.Engine, *, create: bool) -> None:
    """Leave the CMDB at :data:`HEAD`, or say why that can't be.

    Raises :class:`NotFoundError` when there is none and ``create`` is false, :class:`TidegateError` when it isn't a CMDB, is newer
    than this code or can't be reached.
    """
    if address.path is not None and not _exists(address.path):
        if not create:
            raise NotFoundError(f"there is no CMDB at {address.label}; {_REMEDY}")
        _create_file(address.path)
    found = _revision(address, source)
    if found == HEAD:
        return
    if found is None and address.path is not None:
        raise TidegateError(f"{address.label} is empty, not a CMDB; remove it or give another path")
    if found is None and not create:
        raise NotFoundError(f"there is no CMDB in {address.label} yet; {_REMEDY}")
    with database.writing(address, source) as connection:
        _migrate(connection)


def _revision(address: database.Address, source: sa.Engine) -> str | None:
    """The revision of a CMDB that this code can use or upgrade; ``None`` for a database without tables."""
    with database.reading(address, source) as connection:  # one moment: another process may be making it right now
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
            address = database.Address.parse(str(unnamed))
            with contextlib.closing(sqlite3.connect(unnamed)) as raw:
                raw.execute("PRAGMA journal_mode = WAL")
            with database.writing(address, database.engine(address)) as connection:
                _migrate(connection)
            with contextlib.suppress(FileExistsError):  # somebody else was faster: theirs it is
                os.link(unnamed, path)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TidegateError(f"the CMDB {path} can't be made: {reason}; check that {path.parent} is a directory you may write to") from error


def _migrate(connection: sa.Connection) -> None:
    """Run the migrations that ``connection``'s database lacks, if any, in its transaction."""
    require("alembic")
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(_MIGRATIONS))

    def steps(revision: Any, _context: Any) -> Any:
        return scripts._upgrade_revs(HEAD, revision)

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
