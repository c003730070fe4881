# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who writes to a CMDB at the moment, for those who wait for their turn; as far as the database, or the kernel, tells others that."""

from __future__ import annotations

import getpass
import os
import pwd
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

_LONGEST = 63  # bytes of an application's name in PostgreSQL
_HOLDER = """
SELECT a.pid, a.usename, a.application_name
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()
AND (l.classid::bigint << 32 | l.objid::bigint) = {}
"""
# What a writer has locked: a byte of the log's index, or with a journal that is no log one of the file itself; see SQLite's file format.
_WAL_WRITER = 120
_RESERVED = 0x40000001
_LOCKS = Path("/proc/locks")


def application_name() -> str:
    """What PostgreSQL tells others of this process: who runs it where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # nobody that this machine knows, as in a container
        user = str(os.getuid())
    return f"tidegate {user}@{socket.gethostname()} {os.getpid()}".encode("ascii", "replace")[:_LONGEST].decode()


def holder_in_postgresql(connection: sa.Connection, lock: int) -> str:
    """Who holds an advisory lock, empty when nobody does any more; in a transaction in which nothing went wrong."""
    rows = connection.exec_driver_sql(_HOLDER.format(lock)).all()
    return f"{rows[0].application_name or 'somebody'} (user {rows[0].usename}, session {rows[0].pid})" if rows else ""


def holder_of_file(path: Path) -> str:
    """Who writes to an SQLite file; empty when nobody does, or it can't be seen from here, as in another container.

    The file is not opened for that: whoever closes it gives up what this process itself has locked there.
    """
    with suppress(OSError, ValueError):
        locks = _LOCKS.read_text(encoding="ascii")
        for file, byte in ((path.with_name(f"{path.name}-shm"), _WAL_WRITER), (path, _RESERVED)):
            with suppress(FileNotFoundError):
                if pid := _who(locks, os.stat(file), byte):
                    return _described(pid)
    return ""


def _who(locks: str, file: os.stat_result, byte: int) -> int:
    """The process that has locked a byte of a file to write; see proc_locks(5)."""
    inode = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in locks.splitlines():
        words = line.split()
        if words[1] != "POSIX" or words[3] != "WRITE" or words[5] != inode:
            continue
        first, last = int(words[6]), float("inf") if words[7] == "EOF" else int(words[7])
        if first <= byte <= last and int(words[4]) not in (0, os.getpid()):
            return int(words[4])
    return 0


def _described(pid: int) -> str:
    """A process by its user and program; not by its arguments, which may have a secret."""
    said = []
    with suppress(OSError, KeyError):
        said.append(f"of {pwd.getpwuid(Path(f'/proc/{pid}').stat().st_uid).pw_name}")
    with suppress(OSError):
        said.append(f"({Path(f'/proc/{pid}/comm').read_text(encoding='utf-8', errors='replace').strip()})")
    return " ".join([f"process {pid}", *said])
