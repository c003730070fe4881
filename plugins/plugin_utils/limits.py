# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that nobody could interrupt, with a limit that holds: in a child that the kernel ends, or in a thread that is left behind.

A regular expression can take longer than the universe lasts, a number more memory than there is, and no code of Python's runs meanwhile.
Who waits for others has nothing of its own to end.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from .errors import TidegateError

CPU = 5
"""Seconds of CPU for one job."""
MEMORY = 512 << 20
"""Bytes for one job, beyond what this process has already."""
_ELAPSED = 60.0  # seconds for one job that waits for something instead
_T = TypeVar("_T")


class LimitError(TidegateError):
    """A job took more than it may; the message says what, and the caller which job."""


def run_within(seconds: float, ask: Callable[[], _T], alive: Callable[[], None] | None = None, every: float = 30.0) -> _T:
    """What ``ask`` returns, or what it raises; :class:`TimeoutError` when that takes longer.

    ``alive`` is called each time that ``every`` seconds have gone by, to say that somebody is still at work; what it raises ends the wait.
    ``ask`` runs in a thread that can be left behind: nothing else bounds a resolver, or a server that sends a byte now and then.
    """
    answers: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    end = time.monotonic() + seconds
    while alive is not None and end - time.monotonic() > every:
        thread.join(every)
        if not thread.is_alive():
            break
        alive()
    thread.join(max(0.0, end - time.monotonic()))
    if answers:
        return answers[0]
    if errors:
        raise errors[0]
    raise TimeoutError


def run_limited(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each of ``jobs`` returns, which has to be JSON, or a :class:`LimitError` in its place.

    They run one after the other in one child, and behind one that took too much in a new one. A job raises nothing.
    """
    results: list[Any] = []
    while len(results) < len(jobs):
        done, why = _run(jobs[len(results) :])
        results += done
        if len(results) < len(jobs):
            results.append(LimitError(why))
    return results


def _run(jobs: Sequence[Callable[[], Any]]) -> tuple[list[Any], str]:
    """What the first jobs return, and why the next one does not."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _prepare()
            for job in jobs:
                _start_clocks()
                line = json.dumps(job()).encode() + b"\n"
                while line:
                    line = line[os.write(writer, line) :]
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, "rb") as stream:
        lines = stream.read().splitlines(keepends=True)
    _pid, outcome = os.waitpid(child, 0)
    why = f"it needs more than {MEMORY >> 20} MiB of memory, or broke what evaluates it"
    if os.WIFSIGNALED(outcome) and os.WTERMSIG(outcome) == signal.SIGXCPU:
        why = f"it takes more than {CPU} s of computing"
    elif os.WIFSIGNALED(outcome) and os.WTERMSIG(outcome) == signal.SIGALRM:
        why = f"it takes more than {_ELAPSED:g} s"
    return [json.loads(line) for line in lines if line.endswith(b"\n")], why


def _prepare() -> None:
    """Let the child be ended by its limits alone, leave no trace of that, and say nothing meanwhile."""
    for number, action in ((signal.SIGALRM, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.SIG_IGN)):
        signal.signal(number, action)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    _limit(resource.RLIMIT_CORE, 0)
    with suppress(OSError):  # what is not Linux does without
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)


def _start_clocks() -> None:
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + CPU)
    signal.setitimer(signal.ITIMER_REAL, _ELAPSED)


def _limit(kind: int, wanted: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
