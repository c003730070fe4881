# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to SQLite files: a worker has one for all its transactions, as each new one reads the schema anew.

The process that forks workers closes each after its transaction: SQLite must not be carried into a fork, where it would take for its
own the locks of the process that it was forked from.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

# What this worker has open and does not use at the moment, by file.
_IDLE: dict[str, list[_File]] = {}


class _File(sqlite3.Connection):
    left_open = False
    path = ""

    def close(self) -> None:
        if multiprocessing.parent_process() is None or self.in_transaction:
            super().close()
        else:
            _IDLE.setdefault(self.path, []).append(self)


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """A connection to the file at ``path``, which has to be there; a writer waits for others for ``patience`` seconds."""
    file = str(path.absolute())
    with suppress(KeyError, IndexError):
        return _IDLE[file].pop()
    # isolation_level None: sqlite3 must not open transactions behind our back.
    made = sqlite3.connect(
        f"file:{quote(file)}?mode=rw", uri=True, timeout=patience, isolation_level=None, check_same_thread=False, factory=_File
    )
    made.path = file
    made.execute("PRAGMA foreign_keys = ON")
    return made


def close(path: Path) -> None:
    """Close what this worker has open and does not use."""
    for connection in _IDLE.pop(str(path.absolute()), ()):
        sqlite3.Connection.close(connection)


def end(path: Path) -> None:
    """The work with a file is over: close what is open, unless :func:`leave_open` has been called in this worker."""
    if not _File.left_open:
        close(path)


def leave_open() -> None:
    """Let the end of this worker take with it what it has open: it is one of many that write for a moment each.

    Whoever is the last to close a file copies the log into it and removes the log, which takes longer than what a step of one host has
    to write. What is committed is in the log, on the disk; who reads next finds it there, and who closes next, as a gate does, copies it.
    """
    _File.left_open = True
