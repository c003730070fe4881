# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs of life of long work: any code notes what it is at, and a :class:`Heartbeat` says so when it takes long.

Quick work says nothing. Of many processes that work at the same time, as those for the hosts of a wave, one speaks for all.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

EVERY = 10.0  # seconds after which work that has said nothing says that it goes on
_LOOK = 1.0  # seconds between two looks at the clock
_EARLY = 2.0  # seconds before its first word at which a process tells the others what it is at
_LISTED = 5  # hosts that a line names

_current = ""
_waits: list[str] = []
_T = TypeVar("_T")


def note(what: str, done: int | None = None, total: int | None = None) -> None:
    """Note what this process is at, as in ``reading blobs, 1200 of 6800``; that costs next to nothing."""
    global _current  # noqa: PLW0603 - one process does one work
    _current = what if done is None else f"{what}, {done:,}{'' if total is None else f' of {total:,}'}"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Note what this process, or a thread of it, waits for, as in ``the CMDB``; afterwards it is at what it was at before."""
    _waits.append(what)
    try:
        yield
    finally:
        _waits.remove(what)


def noted(what: str, items: Iterable[_T], total: int) -> Iterator[_T]:
    """The ``items``, each noted with its number as it is asked for."""
    for number, item in enumerate(items):
        note(what, number, total)
        yield item


def elapsed(seconds: float) -> str:
    """``20 s``, ``3 min 35 s``, ``2 h 5 min``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def listed(hosts: Iterable[str], most: int = _LISTED) -> str:
    """``web1 web2``, and how many more there are than ``most``."""
    names = list(hosts)
    return " ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True)
class Board:
    """Where the processes of one run see when one of them last spoke, and who else is at the same step; ``folder`` need not exist.

    Times are seconds of the monotonic clock, which all processes of a machine share.
    """

    folder: Path

    def claim(self, now: float, began: float, every: float) -> bool:
        """Whether the caller, at work since ``began``, is to speak now; then no other is for the next ``every`` seconds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "said").open("a+", encoding="ascii") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            stream.seek(0)
            if now - max(began, float(stream.read() or 0.0)) < every:
                return False
            stream.truncate(0)
            stream.write(str(now))
            return True

    def enter(self, step: str, host: str, began: float) -> Path:
        """Let the others know that this process is at ``step`` on ``host``; the file is to be removed at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"at-{os.getpid()}"
        path.write_text(f"{step}\n{began}\n{host}", encoding="utf-8")
        return path

    def under_way(self, step: str) -> tuple[list[str], float]:
        """The hosts on which processes are at ``step``, and since when the first of them is."""
        hosts: list[tuple[float, str]] = []
        for path in self.folder.glob("at-*"):
            with suppress(OSError, ValueError):  # it has just ended, or is being written
                what, began, host = path.read_text(encoding="utf-8").split("\n", 2)
                if what == step:
                    hosts.append((float(began), host))
        return [host for _began, host in sorted(hosts)], min((began for began, _host in hosts), default=0.0)


class Heartbeat:
    """Says by ``say`` what a step is at, each time that ``every`` seconds have gone by without a word.

    ``host``: for a step that many processes do, each on one host; then one line names the hosts. The clock gives monotonic seconds.
    """

    def __init__(
        self,
        step: str,
        say: Callable[[str], None],
        board: Board,
        host: str = "",
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step, self._say, self._board, self._host, self._every, self._clock = step, say, board, host, every, clock
        self._began = clock()
        self._entry: Path | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        note("")
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._stop.set()
        self._thread.join()
        self.end()

    def end(self) -> None:
        """Leave the board."""
        if self._entry is not None:
            self._entry.unlink(missing_ok=True)

    def beat(self) -> None:
        """Look at the clock, and speak if it is time to."""
        now = self._clock()
        if self._host and self._entry is None and now - self._began >= self._every - _EARLY:
            self._entry = self._board.enter(self._step, self._host, self._began)
        if self._board.claim(now, self._began, self._every):
            self._say(self._line(now))

    def _line(self, now: float) -> str:
        if not self._host:
            at = next((f"waiting for {what}" for what in reversed(_waits)), _current or "still at work")
            return f"{self._step}: {at}, {elapsed(now - self._began)}"
        hosts, began = self._board.under_way(self._step)
        return f"{self._step}: {listed(hosts)} under way, {elapsed(now - began)}"

    def _run(self) -> None:
        pause = max(self._every - _EARLY, 0.0)
        while not self._stop.wait(pause):
            pause = _LOOK
            with suppress(OSError, ValueError):  # no room for the board: the work itself matters more than that it is talked of
                self.beat()
