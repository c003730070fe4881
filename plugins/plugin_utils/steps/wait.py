# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a step waits: with which clocks, until when, and as whose work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..activity import note
from ..errors import ConflictError, TidegateError
from ..rollout.deployments import Run
from ..rollout.journal import Journal

RENEWAL = 60.0
"""Seconds after which the lease is renewed, which is for ten minutes."""
_LOOK = 0.5  # seconds between two looks at whether somebody interrupted the run


@dataclass(frozen=True)
class Wait:
    """How a step waits: with which clocks, and until when.

    ``patience``: for how many seconds at most, ``None`` for as long as it takes. ``interrupted``: why somebody's interruption ends it.
    """

    now: Callable[[], datetime]
    interrupted: Callable[[], str]
    patience: float | None = None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def wait_until(journal: Journal, run: Run, moment: datetime, what: str, wait: Wait) -> None:
    """Wait until a moment of the wall clock, or until somebody interrupts it; ``what`` is waited for, in words.

    Raises :class:`ConflictError` when another controller has taken over meanwhile.
    """
    renewed = wait.monotonic()
    while not wait.interrupted() and (left := (moment - wait.now()).total_seconds()) > 0:
        note(what)
        wait.sleep(min(_LOOK, left))
        if wait.monotonic() - renewed >= RENEWAL:
            renewed = wait.monotonic()
            try:
                journal.renew(run, wait.now())
            except ConflictError:
                raise
            except TidegateError:
                continue  # a CMDB that is away for a moment is asked again, long before the lease is over
