# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A limit of processor time for what a file from anywhere makes us compute."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_AGAIN = 1.0  # seconds of processor time, for code that swallows the first exception


class ProcessorTimeError(BaseException):
    """The time is up. No ``Exception``, so that a library's own handlers let it pass."""


@contextlib.contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raise :class:`ProcessorTimeError` inside once this process has used ``seconds`` of processor time.

    It needs signals, so it limits nothing outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise ProcessorTimeError

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
