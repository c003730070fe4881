# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are to be reminded of at a moment, each with a name by which it is told once. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..policy.communication import DUTY_DUE, HELD_SINCE, WINDOW_OPENS

if TYPE_CHECKING:
    from ..rfc.debts import Debt
    from ..rfc.register import Planned

BEFORE_WINDOW = timedelta(hours=1)
BEFORE_DUE = timedelta(days=1)
HELD_FIRST = timedelta(hours=1)
HELD_AGAIN = timedelta(days=1)


@dataclass(frozen=True)
class Reminder:
    """What somebody is to be told about a change now. ``about`` names it, so that it is told once; ``title``: in a few words.

    ``change``: the title of the change, where it is known.
    """

    event: str
    about: str
    rfc: str
    release: str
    version: str
    title: str
    sentence: str
    urgent: bool = False
    change: str = ""


@dataclass(frozen=True)
class HeldDeployment:
    """A deployment that is held, ``since`` when and why."""

    number: int
    rfc: str
    release: str
    version: str
    since: datetime
    reason: str


def due_reminders(
    changes: Iterable[Planned],
    begun: Collection[str],
    held: Iterable[HeldDeployment],
    owed: Iterable[Debt],
    emergencies: Collection[str],
    now: datetime,
) -> list[Reminder]:
    """What is due by ``now``. ``begun``: the changes whose hosts are being changed, or were; ``emergencies``: those that are one."""
    return [
        *_windows(changes, begun, emergencies, now),
        *_held(held, now),
        *_duties(owed, now),
    ]


def _windows(changes: Iterable[Planned], begun: Collection[str], emergencies: Collection[str], now: datetime) -> Iterator[Reminder]:
    for one in changes:
        if one.status != "CONFIRMED" or one.number in begun or not one.start - BEFORE_WINDOW <= now < one.end:
            continue
        opens = f"its window {'opens at' if now < one.start else 'is open since'} {_moment(one.start)} and closes at {_moment(one.end)}"
        title = "its window opens soon" if now < one.start else "its window is open"
        about = f"{WINDOW_OPENS} {one.number} {one.start.astimezone(UTC).isoformat()}"
        sentence, urgent = f"{one.number}: {opens}", one.number in emergencies
        yield Reminder(WINDOW_OPENS, about, one.number, one.release, one.version, title, sentence, urgent, one.short_description)


def _held(held: Iterable[HeldDeployment], now: datetime) -> Iterator[Reminder]:
    for one in held:
        passed = now - one.since
        if passed < HELD_FIRST:
            continue
        about = f"{HELD_SINCE} {one.number} {one.since.astimezone(UTC).isoformat()} {passed // HELD_AGAIN}"
        sentence = f"{one.rfc} is held since {_moment(one.since)}: {one.reason}"
        yield Reminder(HELD_SINCE, about, one.rfc, one.release, one.version, "still held", sentence, urgent=True)


def _duties(owed: Iterable[Debt], now: datetime) -> Iterator[Reminder]:
    for one in owed:
        if one.settled is not None or now < one.due - BEFORE_DUE:
            continue
        late = one.overdue(now)
        about = f"{DUTY_DUE} {one.rfc} {one.duty} {one.due.astimezone(UTC).isoformat()} {'overdue' if late else 'soon'}"
        sentence = f"{one.rfc} owes {one.duty}, which {'was' if late else 'is'} due at {_moment(one.due)}"
        title = f"{one.duty} {'is overdue' if late else 'is due soon'}"
        yield Reminder(DUTY_DUE, about, one.rfc, one.release, one.version, title, sentence)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
