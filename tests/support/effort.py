# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What work costs this process, however busy the machine is: nothing here looks at a clock on the wall."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

_STEPS = 10  # between two counts


def cpu_seconds(work: Callable[[], object], tries: int = 3) -> float:
    """The processor time that the work takes, in seconds: the least of a few tries."""
    return min(_once(work) for _try in range(tries))


def growth(work: Callable[[int], object], size: int, factor: int = 8) -> float:
    """By how much more the processor time grows than the work when there is ``factor`` times as much of it.

    About 1 for work in proportion to its size, about ``factor`` for work that is quadratic. ``work`` gets the size.
    """
    return cpu_seconds(lambda: work(size * factor)) / cpu_seconds(lambda: work(size)) / factor


def _once(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


@contextmanager
def sqlite_steps() -> Iterator[list[int]]:
    """Counts what SQLite does meanwhile for connections that are opened now: the list has how many steps its virtual machine took.

    They are the same on every machine, some ten for a row that is looked at.
    """
    counted = [0]

    def count() -> int:
        counted[0] += _STEPS
        return 0

    def watch(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_progress_handler(count, _STEPS)

    sa.event.listen(sa.Engine, "connect", watch)
    try:
        yield counted
    finally:
        sa.event.remove(sa.Engine, "connect", watch)
