# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event source of ansible-rulebook over the CMDB."""

from __future__ import annotations

DOCUMENTATION = r"""
short_description: Events of changes and deployments, out of the CMDB
description:
  - Tells a rulebook that an RFC was entered, approved or rejected, what a gate decided, in which state a deployment is, and that an audit
    found differences.
  - Each event is told once. How far it has come is in the file O(position), so a rulebook that is started again goes on where it was.
  - That is written when ansible-rulebook has taken the event, with O(feedback) when its rule engine has stored it. When it is killed
    between the two, the event is told again, with the same C(id). What it has taken and not acted upon when it is killed, it does not do
    later, unless it stores its events.
  - At PostgreSQL it is told of what is written. Into an SQLite file it looks now and then.
  - It only reads. Nothing is migrated.
options:
  cmdb:
    description:
      - The CMDB, the path of an SQLite file or a C(postgresql+psycopg://) URL.
      - Taken from the environment variable E(TIDEGATE_CMDB), when it is not given. A password belongs there.
    type: str
  position:
    description:
      - The file that holds how far the events are told. Each rulebook has one of its own, in a directory that lasts.
      - When there is none it is made, and nothing is told that happened before.
    type: str
    required: true
  interval:
    description:
      - For how many seconds it waits between two looks. At PostgreSQL that is a precaution.
    type: float
    default: 5
  feedback:
    description:
      - Whether the position is written only when the rule engine has the event. ansible-rulebook 1.3 and newer can do so, for a source that
        has a name, when it is run with C(--persistence-id), and then it stores events in a database.
    type: bool
    default: false
author:
  - Tidegate maintainers (@tidegate)
version_added: 0.1.0
"""

EXAMPLES = r"""
- name: What the CMDB has to tell
  hosts: all
  sources:
    - name: cmdb
      tidegate.release.cmdb:
        position: /var/lib/tidegate/rulebook.position
  rules:
    - name: Say what is held
      condition: event.tidegate.event == "deployment" and event.tidegate.state == "held"
      action:
        debug:
          msg: "{{ event.tidegate.sentence }}"
"""

import asyncio
import contextlib
import fcntl
import importlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# ansible-rulebook runs this file by its path, and others' collections may be in a package ansible_collections that has not this one.
_COLLECTIONS = Path(__file__).absolute().parents[6]
if str(_COLLECTIONS.parent) not in sys.path:
    sys.path.append(str(_COLLECTIONS.parent))
_PACKAGE = importlib.import_module("ansible_collections")
if str(_COLLECTIONS) not in _PACKAGE.__path__:
    _PACKAGE.__path__.append(str(_COLLECTIONS))

from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.listen import listening
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.upgrade import RevisionError
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.files import locked
from ansible_collections.tidegate.release.plugins.plugin_utils.libs import require
from ansible_collections.tidegate.release.plugins.plugin_utils.report.events import (
    FeedPosition,
    PositionError,
    Told,
    newest,
    read_events,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import expanded, library_needs

LOGGER = logging.getLogger("tidegate.release.cmdb")
_OPTIONS = {"cmdb", "position", "interval", "feedback", "eda_feedback_queue"}
_SAVED = 60.0  # seconds after which a position is written that nothing was told at: what is behind it need not be looked through again
_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts to reach a CMDB
_REST = 0.5  # seconds in which what is written at the same time gathers


def _read_options(args: Mapping[str, Any]) -> tuple[str, Path, float]:
    """The CMDB, the position and the interval; raises :class:`TidegateError`."""
    if unknown := sorted(args.keys() - _OPTIONS):
        raise TidegateError(
            f"the source tidegate.release.cmdb has no {', '.join(unknown)}; its options are cmdb, position, interval, feedback"
        )
    url = args.get("cmdb") or os.environ.get("TIDEGATE_CMDB")
    position, interval = args.get("position"), args.get("interval", 5)
    if not isinstance(url, str) or not url:
        raise TidegateError("no CMDB is given; give the source its cmdb, or set TIDEGATE_CMDB")
    if not isinstance(position, str) or not position:
        raise TidegateError("no position is given; give the source the path of a file that lasts, in which it keeps how far it has come")
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0 < interval <= 3600:
        raise TidegateError(f"interval is {interval!r:.40}; give a number of seconds, 3600 at most")
    return expanded(url), Path(position).expanduser().absolute(), float(interval)


def _begin(url: str, path: Path) -> FeedPosition:
    """Where to go on, or, with a new file, the end of all that there is; raises :class:`TidegateError`.

    With a position a CMDB that is away is waited for; without one nobody has seen yet that the address is right.
    """
    require("base", *library_needs({"cmdb": url}))
    position = FeedPosition.load(path)
    if position is None:
        with Cmdb.open(url) as cmdb:
            with cmdb.read() as connection:
                position = newest(connection)
            position.save(path)
            LOGGER.warning("there was no position %s, so what happens in the CMDB %s is told from now on", path, cmdb.label)
    return position


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep the position from others: two that write one would skip what the other was told."""
    lock = path.with_name(f"{path.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            raise PositionError(f"the position {path} is that of another rulebook, which runs; give each one of its own") from None
        except OSError as error:
            raise PositionError(f"{lock} can't be written ({error.strerror}); give this user the right to its directory") from error
        yield


def _read(cmdb: Cmdb, position: FeedPosition) -> tuple[list[Told], FeedPosition, bool]:
    with cmdb.read() as connection:
        return read_events(connection, position)


class _Teller:
    """Hands events on, and keeps how far they are told."""

    def __init__(self, queue: asyncio.Queue[Any], feedback: asyncio.Queue[Any] | None, path: Path, position: FeedPosition) -> None:
        self._queue, self._feedback, self._path = queue, feedback, path
        self.position = position
        self._saved = time.monotonic()

    async def tell(self, told: list[Told], end: FeedPosition) -> None:
        for one in told:
            if one.fault:
                LOGGER.warning(one.fault)
            else:
                await self._queue.put(one.event)
                if self._feedback is not None:
                    await self._feedback.get()
            await self._reach(one.after)
        if end != self.position and time.monotonic() - self._saved > _SAVED:
            await self._reach(end)
        self.position = end

    async def _reach(self, position: FeedPosition) -> None:
        self.position, self._saved = position, time.monotonic()
        await asyncio.to_thread(position.save, self._path)


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Tell events until this is cancelled; raises :class:`TidegateError` for what waiting does not mend."""
    url, path, interval = _read_options(args)
    with _alone(path):
        await _tell(queue, args, url, path, interval)


async def _tell(queue: asyncio.Queue[Any], args: Mapping[str, Any], url: str, path: Path, interval: float) -> None:
    teller = _Teller(queue, args.get("eda_feedback_queue"), path, await asyncio.to_thread(_begin, url, path))
    pause, away = _PAUSE, False
    while True:
        try:
            async with listening(url) as wait:
                cmdb = await asyncio.to_thread(Cmdb.open, url)
                while True:
                    told, end, more = await asyncio.to_thread(_read, cmdb, teller.position)
                    if away:
                        LOGGER.warning("the CMDB %s is there again", cmdb.label)
                    pause, away = _PAUSE, False
                    await teller.tell(told, end)
                    if not more:
                        await wait(interval)
                        await asyncio.sleep(_REST)
        except (PositionError, RevisionError):
            raise
        except TidegateError as error:
            if not away:
                LOGGER.warning("%s; until then no event is told, and none is lost", error)
            away = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
