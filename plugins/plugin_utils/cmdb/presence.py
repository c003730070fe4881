# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what a run shows that it is there: something that a kernel or a server takes away when its last process has ended, and not before.

On PostgreSQL that is a session, beside an SQLite file a lock on one byte of a file. Whoever can ask the same server, or the same kernel,
sees whether it is there, in whatever container it runs and however long it stands still. A run without a mark, or one whose mark can't
be seen from here, may be there or not.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import secrets
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import engine as database

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# A session ends with its run and for nothing else: idle as long as it likes, and cut off for eleven minutes, which is longer than a lease.
# The own end never gives up, for a server that hears of a closed connection takes that for an end.
_SOCKET = {"connect_timeout": 5, "keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 30, "keepalives_count": 127}
_SOCKET |= {"tcp_user_timeout": 0}
_SETTINGS = {"idle_session_timeout": "0", "tcp_keepalives_idle": "60", "tcp_keepalives_interval": "30", "tcp_keepalives_count": "20"}
_SETTINGS |= {"tcp_user_timeout": "0"}
# Which life of a server: the second time is another one when it went down and came up within itself, as after the crash of a session.
_SERVER = (
    "(SELECT extract(epoch FROM pg_postmaster_start_time())::text || ' ' || extract(epoch FROM stats_reset)::text FROM pg_stat_bgwriter)"
)
_SINCE = "extract(epoch FROM backend_start)::text"
_OWN = f"SELECT pid, {_SINCE} AS since, {_SERVER} AS server FROM pg_stat_activity WHERE pid = pg_backend_pid()"  # noqa: S608 - of constants
# The start of a session of another user's is nothing that everybody may see, but its number is.
_THERE = f"EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = :pid AND coalesce({_SINCE} = :since, true))"  # noqa: S608 - of constants
_WANTED = ", ".join(f"('{name}', '{value}')" for name, value in _SETTINGS.items())
# Of those that this version of the server has.
_SET = f"SELECT set_config(name, wanted, false) FROM pg_settings JOIN (VALUES {_WANTED}) AS own (name, wanted) USING (name)"  # noqa: S608 - of constants
# Where a lock is the kernel's own affair and no server's elsewhere.
_LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"})
_LOCK = "hhqqi0q"  # struct flock of fcntl(2): type, whence, start, length, process

_HELD: list[object] = []  # what must stay open until this process ends; forked workers have it too
_MARK: dict[str, Any] = {}


def mark() -> Mapping[str, Any]:
    """By what this run can be seen, as JSON has it; empty when by nothing."""
    return _MARK


def enter(url: str) -> None:
    """Let others see, until this process has ended, that it is there; ``url`` is that of the CMDB. For the process that forks workers.

    Without a mark it goes on all the same: others wait for its lease then.
    """
    if _MARK or multiprocessing.parent_process() is not None:
        return
    address = database.DatabaseAddress.parse(url)
    with suppress(ImportError, OSError, AttributeError, sa.exc.SQLAlchemyError):
        _MARK.update(_open_session(address) if address.path is None else _lock_byte(address.path))


def is_there(address: database.DatabaseAddress, connection: sa.Connection, of: Mapping[str, Any]) -> bool | None:
    """Whether a run with a mark is there still; ``None`` when that can't be seen from here."""
    try:
        if address.path is not None:
            return _is_locked(address.path, str(of["file"]), str(of["boot"]), int(of["byte"]))
        return _has_session(connection, str(of["server"]), int(of["session"]), str(of["since"]))
    except (KeyError, TypeError, ValueError, OSError, AttributeError):
        return None


def _open_session(address: database.DatabaseAddress) -> dict[str, Any]:
    source = sa.create_engine(
        address.url, poolclass=sa.NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT", connect_args=dict(_SOCKET)
    )
    connection = source.connect()
    driver: Any = connection.connection.driver_connection
    connection.exec_driver_sql(_SET).all()
    row = connection.exec_driver_sql(_OWN).one()
    # A pooler gives its sessions to one client after the other, and ends them when it likes.
    if driver.info.backend_pid != row.pid or not row.since or not row.server:
        connection.close()
        return {}
    _HELD.append(connection)
    return {"session": row.pid, "since": row.since, "server": row.server}


def _has_session(connection: sa.Connection, server: str, pid: int, since: str) -> bool | None:
    row = connection.execute(sa.text(f"SELECT {_SERVER} AS server, {_THERE} AS there"), {"pid": pid, "since": since}).one()
    return bool(row.there) if row.server == server else None


def _lock_byte(database_file: Path) -> dict[str, Any]:
    path = _beside(database_file)
    if _file_system(path.parent) not in _LOCAL:
        return {}
    descriptor = _open(path, database_file.stat())
    byte = secrets.randbits(62)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    except BaseException:
        os.close(descriptor)
        raise
    _HELD.append(descriptor)
    return {"file": _identity(descriptor), "boot": _boot(), "byte": byte}


def _is_locked(database_file: Path, file: str, boot: str, byte: int) -> bool | None:
    descriptor = os.open(_beside(database_file), os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if (file, boot) != (_identity(descriptor), _boot()):
            return None  # another machine's, or another file by now
        asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        kind: int = struct.unpack(_LOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0]
    finally:
        os.close(descriptor)
    return kind != fcntl.F_UNLCK


def _beside(database_file: Path) -> Path:
    """Not the database itself: whoever closes that once gives up what SQLite has locked in it."""
    path = Path(os.path.realpath(database_file))
    return path.with_name(f"{path.name}-runs")


def _open(path: Path, like: os.stat_result) -> int:
    """Open the file of locks, made for all who may write to the database."""
    with suppress(FileExistsError):
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with suppress(PermissionError):
            os.fchown(made, like.st_uid, like.st_gid)
        os.fchmod(made, like.st_mode & 0o666)
        return made
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW)


def _identity(descriptor: int) -> str:
    found = os.fstat(descriptor)
    return f"{found.st_dev}:{found.st_ino}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _file_system(folder: Path) -> str:
    """The kind of the file system that has a folder; see mountinfo in proc(5)."""
    found = (0, "")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted, _dash, kind = line.partition(" - ")
        at = mounted.split()[4].encode().decode("unicode_escape")
        if folder.is_relative_to(at) and len(at) >= found[0]:
            found = (len(at), kind.split()[0])
    return found[1]
