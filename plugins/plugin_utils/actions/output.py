# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What steps say to whoever watches, under any stdout callback.

A callback of Ansible's own shows of a task that ended well no more than that it did. So what a person wants to know, the plan, what a gate
decided, how it ended, the action says itself, by Ansible's display; the callback ``progress`` reads it from the results instead.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.utils.display import Display

from ..activity import EVERY, Board, Heartbeat
from .interrupt import interrupted, outlive_readers
from .invocation import next_commands
from .poll import poll_less

_C: Any = constants  # made when they are imported, so nothing has types for them


@dataclass
class Audience:
    """Who watches this run; found out in the main process, and inherited by every worker.

    ``terminal``: a person, and no log. ``callback``: ours prints plans, gates and verdicts. ``live``: it has a line that it draws anew.
    ``ending``: the verdict is said when the process ends.
    """

    terminal: bool
    callback: bool = False
    live: bool = False
    ending: bool = False


def is_terminal() -> bool:
    """Whether a person watches. ansible-runner, and so AWX, lets Ansible have a terminal, and makes a log of what it says there."""
    return os.isatty(1) and "AWX_ISOLATED_DATA_DIR" not in os.environ


# Asked when this is first imported: a worker has no terminal any more.
AUDIENCE = Audience(is_terminal())


class Beat(str):
    """A line of a heartbeat, which a callback with a bar shows there."""

    __slots__ = ()


def stamped(line: str) -> str:
    """The line, in a log with the time: ``2026-11-28T14:02:11Z wave 1 of 4: …``."""
    return line if AUDIENCE.terminal else f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}"


def announce(text: str) -> None:
    """Say something of a step, each line as a sentence of its own; nothing where our callback does."""
    if not AUDIENCE.callback:
        _display(text)


def advise(text: str) -> None:
    """Say what would make this run better, whatever the callback."""
    _display(text)


def say_last(text: str) -> None:
    """Say the verdict: as the last of this run, after Ansible's recap, where something of ours runs in the main process to do so."""
    if not AUDIENCE.ending:
        announce(text)
        return
    unfinished = _verdict().with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(_verdict())


def heartbeat(step: str, host: str = "") -> Heartbeat:
    """Signs of life of a step, on a line of the terminal that is drawn anew or as lines of a log."""
    board = Board(Path(_C.DEFAULT_LOCAL_TMP) / "tidegate-activity")
    return Heartbeat(step, _beat, board, host, 1.0 if AUDIENCE.live else EVERY)


def prepare_main() -> None:
    """Let the main process say things when they are said, whether or not anybody reads them, and the verdict last.

    Call it where Ansible evaluates the hosts of a play.
    """
    speak_at_once()
    outlive_readers()
    poll_less()
    if not AUDIENCE.ending:
        AUDIENCE.ending = True
        atexit.register(_say_verdict)


def speak_at_once() -> None:
    """Without a terminal Python keeps output until there are kilobytes of it, which would hold back every sign of life."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _say_verdict() -> None:
    with suppress(OSError):
        if _verdict().exists():
            announce(_verdict().read_text(encoding="utf-8"))
        elif stop := interrupted():
            sentence = f"The run was {stop} and came to no verdict; the journal knows how far it got."
            _display("\n".join((sentence, *next_commands(undo=True))))


def _verdict() -> Path:
    return Path(_C.DEFAULT_LOCAL_TMP) / "tidegate-verdict"


def _beat(line: str) -> None:
    _print(Beat(line if AUDIENCE.live else stamped(f"… {line}")))


def _display(text: str) -> None:
    first, *more = text.splitlines() or [""]
    _print("\n".join((stamped(first), *more)))


def _print(text: str) -> None:
    # What is to be read by a program stays whole.
    document = str(_C.DEFAULT_STDOUT_CALLBACK).rpartition(".")[2].startswith("json")
    Display().display(text, stderr=document)
