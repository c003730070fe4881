# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C, SIGTERM and a closed terminal hold a deployment: nothing new is started, and what is under way is waited for.

Ansible's own answer is to end every worker, which leaves hosts in between and nobody told. The lookups, which run in the main process,
put :func:`hold_on_signals` before it. What a signal leaves is a file in the run's own temporary directory, which every worker can see.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ansible import constants as C
from ansible.utils.display import Display

from ..rollout.holder import user_name

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAYS = "\nInterrupted: no further host is started; hosts under way are waited for. Press Ctrl-C again to stop at once.\n"
_BOUNCE = 1.0  # seconds: timeout(1) and others send one signal to the process and to its group


def interrupted() -> str:
    """Why nothing more may be started, as a sentence goes on with it; empty as long as nobody has interrupted this run."""
    with suppress(OSError):
        return _flag().read_text(encoding="utf-8")
    return ""


def hold_on_signals() -> None:
    """Let the first signal only leave its mark, and the second one do what it would have done; nothing outside the main process.

    A signal that is ignored, as nohup has it, stays ignored.
    """
    if multiprocessing.parent_process() is not None or threading.current_thread() is not threading.main_thread():
        return
    outlive_readers()
    for number in _SIGNALS:
        before = signal.getsignal(number)
        if before is not signal.SIG_IGN and before is not None and not isinstance(before, _Hold):
            signal.signal(number, _Hold(before))


def outlive_readers() -> None:
    """Let what nobody reads any more leave the mark too, as with ``| head`` or a log collector that ended.

    Of ansible-core the thread that takes results ends by the failed write, and the run waits for it for ever.
    """
    display: Any = Display()
    write = display.display
    if getattr(write, "outlives", False):
        return

    def outliving(*args: Any, **options: Any) -> None:
        try:
            write(*args, **options)
        except BrokenPipeError:
            _leave_mark("nobody reads what it says any more")
            _silence([descriptor for descriptor in (1, 2) if _is_unread(descriptor)])

    outliving.outlives = True  # type: ignore[attr-defined]  # it is asked above
    display.display = outliving


def _is_unread(descriptor: int) -> bool:
    """Whether it is a pipe or socket whose other end is closed."""
    look = select.poll()
    look.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _descriptor, event in look.poll(0))


def _silence(descriptors: Iterable[int]) -> None:
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in descriptors:
            os.dup2(nowhere, descriptor)


class _Hold:
    """The handler of a signal, in place of ``before``."""

    first: float | None = None  # when the first signal came, monotonic seconds, whichever it was

    def __init__(self, before: Callable[[int, FrameType | None], Any] | int) -> None:
        self._before = before
        self._process = os.getpid()
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def __call__(self, number: int, frame: FrameType | None) -> None:
        again = _Hold.first is not None and time.monotonic() > _Hold.first + _BOUNCE
        if number == signal.SIGHUP:
            # What is written to a terminal that is gone would end the run.
            _silence(self._terminals)
        elif again and os.getpid() == self._process:
            signal.signal(number, self._before)
            if callable(self._before):
                self._before(number, frame)
            else:
                os.kill(self._process, number)
            return
        if _Hold.first is None:
            _Hold.first = time.monotonic()
            _leave_mark(f"interrupted by {signal.Signals(number).name} ({_who()})")
            if os.getpid() == self._process:  # and not a worker that was forked a moment ago
                with suppress(OSError):
                    os.write(2, _SAYS.encode())  # not by sys.stderr, which the signal may have interrupted


def _leave_mark(why: str) -> None:
    """Write the flag, whole or not at all."""
    unfinished = _flag().with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        unfinished.write_text(why, encoding="utf-8")
        unfinished.replace(_flag())


def _who() -> str:
    return f"{user_name()}@{socket.gethostname()}"


def _flag() -> Path:
    return Path(C.DEFAULT_LOCAL_TMP) / "tidegate-interrupted"  # type: ignore[attr-defined]  # constants are made when they are imported
