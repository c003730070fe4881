# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(what: Callable[[], Seen], seconds: float = 60) -> Seen:
    """What ``what`` returns once that is true. The limit is for what never comes: it says nothing of how quick it should be.

    Raises :class:`TimeoutError` when it is over.
    """
    deadline = time.monotonic() + seconds
    while not (seen := what()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)
    return seen
