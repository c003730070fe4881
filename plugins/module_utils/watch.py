# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch over a release that has just come up: a process of its own that looks at its health until somebody takes over."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional

from . import beside
from .home_log import now_in_utc

_INTERVAL = 0.5  # seconds between two looks
_LONGER = 60.0  # seconds that it goes on after the time that it was asked for: the last of a large wave come up late


class Watched(NamedTuple):
    """What a watch saw. ``about`` is what it was started with; ``whole``: it saw all the time that it was asked for, or up to now.

    ``failed``: what was wrong when the first look failed and when that was, empty when none did.
    """

    about: str
    whole: bool
    failed: str


def start(path: Path, about: str, seconds: float, look: Callable[[], str]) -> None:
    """Begin to watch, for ``seconds`` and some more; ``look`` says what is wrong, nothing when all is well. Raises :class:`OSError`."""
    beside.start(path, lambda record: _watch(record, about, seconds, look))


def end(path: Path) -> Optional[Watched]:
    """End the watch, if there is one, and return what it saw; nothing when there was none, or it can't be told."""
    seen, alive = beside.end(path)
    try:
        return Watched(str(seen["about"]), alive or seen["seconds"] >= seen["wanted"], str(seen.get("failed") or ""))
    except (KeyError, TypeError):
        return None


def _watch(record: int, about: str, seconds: float, look: Callable[[], str]) -> None:
    began = time.monotonic()
    seen: dict[str, Any] = {"about": about, "group": os.getpgrp(), "wanted": seconds, "seconds": 0.0, "failed": None}
    os.pwrite(record, json.dumps(seen).encode(), 0)
    while beside.wanted(record) and seen["seconds"] <= seconds + _LONGER:
        reason = look()
        if reason and not seen["failed"]:
            seen["failed"] = f"{reason} (at {now_in_utc()})"
        seen["seconds"] = round(time.monotonic() - began, 1)
        os.pwrite(record, json.dumps(seen).encode(), 0)  # never shorter than before
        time.sleep(_INTERVAL)
