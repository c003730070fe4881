# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be told to channels later, or at most once: kept here, so that no two runs tell the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .schema import schema

with contextlib.suppress(ImportError):
    import sqlalchemy as sa


@dataclass(frozen=True)
class Message:
    """What is said to channels of an event. ``about``: what is said at most once to each channel has the same one.

    ``thread``: messages of one belong together; empty for those that stand alone. ``urgent``: it waits for no quiet hours. Nothing in it
    rings anybody whom the policy does not ring, or is a secret.
    """

    event: str
    title: str
    body: str
    about: str
    thread: str = ""
    urgent: bool = False


@dataclass(frozen=True)
class WaitingMessage:
    """A message that a channel is to be told from ``due`` on; ``created``: when it was kept, ``number``: its own."""

    number: int
    channel: str
    message: Message
    created: datetime
    due: datetime


def keep(connection: sa.Connection, message: Message, due: Mapping[str, datetime], now: datetime) -> list[str]:
    """Keep a message for channels, each with the moment from which on it is to be told; return those to which nobody has told or kept it.

    In a transaction that may write.
    """
    table = schema().message
    known = set(connection.scalars(sa.select(table.c.channel).where(table.c.about == message.about)))
    new = [channel for channel in due if channel not in known]
    if new:
        connection.execute(sa.insert(table), [{**vars(message), "channel": name, "created": now, "due": due[name]} for name in new])
    return new


def known(connection: sa.Connection, about: str) -> set[str]:
    """The channels for which a message was kept, told meanwhile or not."""
    table = schema().message
    return set(connection.scalars(sa.select(table.c.channel).where(table.c.about == about)))


def waiting(connection: sa.Connection, now: datetime | None = None) -> list[WaitingMessage]:
    """The messages that nobody has taken, in the order in which they were kept: all, or those that are due by ``now``."""
    table = schema().message
    select = sa.select(table).where(table.c.taken.is_(None)).order_by(table.c.created, table.c.id)
    rows = connection.execute(select if now is None else select.where(table.c.due <= now))
    return [WaitingMessage(row.id, row.channel, _message(row), row.created, row.due) for row in rows]


def _message(row: Any) -> Message:
    return Message(row.event, row.title, row.body, row.about, row.thread, row.urgent)


def take(connection: sa.Connection, numbers: Iterable[int], now: datetime) -> set[int]:
    """Take messages, so that nobody else tells them; return the numbers of those that nobody was faster with."""
    table = schema().message
    return {
        number
        for number in numbers
        if connection.execute(sa.update(table).where(table.c.id == number, table.c.taken.is_(None)).values(taken=now)).rowcount == 1
    }


def put_back(connection: sa.Connection, numbers: Iterable[int]) -> None:
    """Have messages wait again that were taken and that nobody was told."""
    table = schema().message
    connection.execute(sa.update(table).where(table.c.id.in_(list(numbers))).values(taken=None))


def thread_roots(connection: sa.Connection, thread: str, channels: Iterable[str]) -> dict[str, list[Any]]:
    """What services called the first messages of a thread, by channel, in the order of its addresses."""
    table = schema().message_thread
    rows = connection.execute(sa.select(table).where(table.c.thread == thread, table.c.channel.in_(list(channels))))
    return {row.channel: row.roots for row in rows}


def keep_roots(connection: sa.Connection, thread: str, roots: Mapping[str, list[Any]]) -> None:
    """Keep what services called the first messages of a thread, for those that come after."""
    table = schema().message_thread
    connection.execute(sa.delete(table).where(table.c.thread == thread, table.c.channel.in_(list(roots))))
    if roots:
        connection.execute(sa.insert(table), [{"thread": thread, "channel": name, "roots": one} for name, one in roots.items()])
