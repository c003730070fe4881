# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills the controller at a chosen write to the journal; for tests, see killed.py.

Python loads this module at start-up in every process whose PYTHONPATH has this folder. It watches what goes to SQLite, so the
code under test is the one that users run.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

EVENT = os.environ.get("KILL_EVENT", "")
HOST = os.environ.get("KILL_HOST", "")
WHEN = os.environ.get("KILL_WHEN", "before")
WHOM = os.environ.get("KILL_WHOM", "group")
_connect = sqlite3.connect
_armed = False


# Workers are forked and inherit it.
LEADER = int(os.environ.setdefault("KILL_LEADER", str(os.getpid())))


def kill() -> None:
    """End the controller: its main process alone, so that workers are orphaned, or all that it has started too."""
    for pid in [LEADER, *(descendants(LEADER) if WHOM == "group" else [])]:
        if pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if WHOM == "group" or os.getpid() == LEADER:
        os.kill(os.getpid(), signal.SIGKILL)


def descendants(leader: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [leader]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def watch(statement: str) -> None:
    global _armed  # noqa: PLW0603 - one flag per process, set between two statements of one transaction
    named = f"'{EVENT}', NULL" if HOST == "-" else f"'{EVENT}'"
    if statement.startswith("INSERT INTO journal") and named in statement and (HOST in ("", "-") or f"'{HOST}'" in statement):
        if WHEN == "before":
            kill()
        _armed = True
    elif statement == "ROLLBACK":  # it was only tried
        _armed = False


def committed() -> None:
    """The transaction is on the disk: end the controller so many seconds after that."""
    global _armed  # noqa: PLW0603 - as above
    if not _armed:
        return
    # In a process of its own, for this worker may be done before the time comes.
    _armed = False
    if os.fork() == 0:
        os.setsid()
        time.sleep(float(WHEN))
        kill()
        os._exit(0)


def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    class Watched(options.get("factory", sqlite3.Connection)):  # type: ignore[misc]  # whatever the code under test makes
        def commit(self) -> None:
            super().commit()
            committed()

    connection = _connect(*arguments, **{**options, "factory": Watched})
    connection.set_trace_callback(watch)
    return connection


if EVENT:
    sqlite3.connect = connect  # type: ignore[assignment]
