# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell people what is due now, each thing once however many schedules run this, and what has waited for their quiet hours to end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ..cmdb import messages
from ..cmdb.messages import Message, WaitingMessage
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..policy.communication import DUTY_DUE, HELD_SINCE, WINDOW_OPENS, Channel, Communication
from ..policy.model import Policy
from ..rfc.debts import debts
from ..rfc.register import planned
from ..rollout.deployments import Deployments, JournalEntry
from ..rollout.states import DeploymentState
from .channels import usable
from .reminders import BEFORE_WINDOW, HeldDeployment, Reminder, due_reminders
from .stock import tell_low
from .tell import about_change, concerned, due_at, not_told, send_in_thread, thread_of

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_AGAIN = timedelta(days=1)  # so long it is tried again to tell what nobody was told
_CHUNK = 500
_REMINDERS = frozenset({WINDOW_OPENS, HELD_SINCE, DUTY_DUE})


@dataclass(frozen=True)
class ToTell:
    """A message, of which channels are told now, and of which when their quiet hours are over."""

    title: str
    channels: tuple[str, ...]
    later: Mapping[str, datetime]


@dataclass(frozen=True)
class Reminded:
    """What was told, or would be in check mode; ``waiting``: how many messages wait for quiet hours to end; what went wrong."""

    told: tuple[ToTell, ...]
    waiting: int
    problems: tuple[str, ...]


def remind(cmdb: Cmdb, policy: Policy, actor: str, now: datetime, *, write: bool) -> Reminded:
    """Tell the policy's channels what is due by ``now``; without ``write`` only say what would be told."""
    communication = policy.communication
    problems: list[str] = []
    reminders = _messages(cmdb, communication, now)
    current = {message.about: message for message, _stakeholders in reminders}
    asked = [(one, listeners) for one in reminders if (listeners := _listeners(communication, *one))]
    if not write:
        told = _foreseen(cmdb, communication, [(message, listeners) for (message, _names), listeners in asked], current, now)
    else:
        if asked:
            with cmdb.begin() as connection:
                for (message, _names), listeners in asked:
                    due = {name: due_at(communication.channels[name], message, now) for name in listeners}
                    messages.keep(connection, message, due, now)
        told, more = send_waiting(cmdb, communication, current, now)
        title, low = tell_low(cmdb, policy, actor, now)  # behind the others, for what nobody takes of it is for the next run
        if took := tuple(name for name in low.told if name not in low.untold):
            told.append(ToTell(title, took, {}))
        problems += [*more, *low.problems]
    with cmdb.read() as connection:
        waiting = len(messages.waiting(connection))
    return Reminded(tuple(told), waiting, tuple(problems))


def send_waiting(cmdb: Cmdb, communication: Communication, current: Mapping[str, Message], now: datetime) -> tuple[list[ToTell], list[str]]:
    """Tell what is due, in the order in which it happened; return that, and what went wrong.

    ``current``: the reminders that are true now, by what they are about, as they are worded now. One that is not among them any more is
    told nobody, however long it has waited. Each is taken before it is told, so it is told at most once. One that no address of a channel
    took waits for the next run, for a day; a channel that failed is not tried again in this one.
    """
    with cmdb.read() as connection:
        due, over = _still_true(messages.waiting(connection, now), current)
    if over:
        with cmdb.begin() as connection:
            messages.take(connection, over, now)
    told: list[ToTell] = []
    problems: list[str] = []
    failed: set[str] = set()
    for alike in _alike(communication, due, now):
        wanted = [one for one in alike if one.channel not in failed]
        with cmdb.begin() as connection:
            mine = messages.take(connection, [one.number for one in wanted], now)
        group = [one for one in wanted if one.number in mine]
        if not group:
            continue
        message = group[0].message
        gone = {one.channel: "it is not in the policy any more" for one in group if one.channel not in communication.channels}
        addresses, why = usable(communication, [one.channel for one in group if one.channel not in gone])
        untold = set(why)
        if addresses:
            late = _note(communication.channels[group[0].channel], group[0])
            body = f"{message.body}\n{late}" if late else message.body
            outcome = send_in_thread(cmdb, addresses, Message(**{**vars(message), "body": body}))
            why |= outcome.why
            untold |= set(outcome.untold)
        again = [one.number for one in group if one.channel in untold and now - max(one.created, one.due) < _AGAIN]
        if again:
            with cmdb.begin() as connection:
                messages.put_back(connection, again)
        problems += [not_told(message, name, reason) for name, reason in (gone | why).items()]
        failed |= why.keys()
        good = tuple(one.channel for one in group if one.channel not in why and one.channel not in gone)
        if good:
            told.append(ToTell(message.title, good, {}))
    return told, problems


def _still_true(due: Iterable[WaitingMessage], current: Mapping[str, Message]) -> tuple[list[WaitingMessage], list[int]]:
    """What is still to be told, a reminder as it is worded now, and the numbers of those reminders that are not true any more.

    What happened stays true.
    """
    told: list[WaitingMessage] = []
    over: list[int] = []
    for one in due:
        if one.message.event not in _REMINDERS:
            told.append(one)
        elif one.message.about in current:
            told.append(replace(one, message=current[one.message.about]))
        else:
            over.append(one.number)
    return told, over


def _alike(communication: Communication, due: Iterable[WaitingMessage], now: datetime) -> list[list[WaitingMessage]]:
    """Those that are told in the same words, together; without those whose channel has its quiet hours now, again."""
    found: dict[tuple[str, ...], list[WaitingMessage]] = {}
    for one in due:
        channel = communication.channels.get(one.channel)
        if channel is None:
            found.setdefault((one.message.about, "", one.channel), []).append(one)
        elif due_at(channel, one.message, now) <= now:
            found.setdefault((one.message.about, _note(channel, one)), []).append(one)
    return list(found.values())


def _note(channel: Channel, one: WaitingMessage) -> str:
    """What is said with a message that has waited: when it was so."""
    if one.due <= one.created or channel.quiet is None:
        return ""
    return f"This waited for the end of quiet hours; it is of {channel.quiet.local(one.created):%Y-%m-%d %H:%M} ({channel.quiet.zone})."


def _foreseen(
    cmdb: Cmdb,
    communication: Communication,
    asked: Iterable[tuple[Message, Sequence[str]]],
    current: Mapping[str, Message],
    now: datetime,
) -> list[ToTell]:
    told = []
    with cmdb.read() as connection:
        for message, listeners in asked:
            new = [name for name in listeners if name not in messages.known(connection, message.about)]
            later = {name: at for name in new if (at := due_at(communication.channels[name], message, now)) > now}
            if new:
                told.append(ToTell(message.title, tuple(name for name in new if name not in later), later))
        alike = _alike(communication, _still_true(messages.waiting(connection, now), current)[0], now)
    return [*told, *(ToTell(group[0].message.title, tuple(one.channel for one in group), {}) for group in alike)]


def _listeners(communication: Communication, message: Message, stakeholders: Sequence[str]) -> tuple[str, ...]:
    return communication.listeners(message.event, stakeholders)


def _messages(cmdb: Cmdb, communication: Communication, now: datetime) -> list[tuple[Message, Sequence[str]]]:
    """What is due, as it is sent, each with the stakeholders of the change."""
    with cmdb.at_one_moment() as moment:
        changes = planned(moment, now, now + BEFORE_WINDOW + timedelta(seconds=1))
        held = _held(moment)
        reminders = due_reminders(
            changes, _begun(moment, [one.number for one in changes]), held, debts(moment, settled=False), _emergencies(moment, changes), now
        )
        return [_message(moment, communication, one) for one in reminders]


def _message(cmdb: Cmdb, communication: Communication, one: Reminder) -> tuple[Message, Sequence[str]]:
    deployments = Deployments(cmdb)
    deployment = deployments.latest(one.rfc)
    events: list[JournalEntry] = deployments.events(deployment.id) if deployment else []
    about = concerned(events)
    thread = thread_of(deployment, events) if deployment and events else ""
    urgent = one.urgent or about["type"] == "emergency"
    change = {"rfc": one.rfc, "release": one.release, "version": one.version, "title": about["title"] or one.change or one.rfc}
    message = Message(one.event, one.title, one.sentence, one.about, thread, urgent)
    return about_change(communication, message, {**change, "state": str(deployment.state) if deployment else ""}), about["stakeholders"]


def _begun(cmdb: Cmdb, numbers: Sequence[str]) -> set[str]:
    """Those of some changes whose last deployment has opened a wave."""
    deployment = schema().deployment.c
    found: set[str] = set()
    with cmdb.read() as connection:
        for start in range(0, len(numbers), _CHUNK):
            some = numbers[start : start + _CHUNK]
            found.update(connection.scalars(sa.select(deployment.rfc).where(deployment.rfc.in_(some), deployment.started.is_not(None))))
    return found


def _emergencies(cmdb: Cmdb, changes: Sequence[Any]) -> set[str]:
    change, numbers = schema().change.c, [one.number for one in changes]
    found: set[str] = set()
    with cmdb.read() as connection:
        for start in range(0, len(numbers), _CHUNK):
            some = numbers[start : start + _CHUNK]
            found.update(connection.scalars(sa.select(change.number).where(change.number.in_(some), change.type == "emergency")))
    return found


def _held(cmdb: Cmdb) -> list[HeldDeployment]:
    """The deployments that are held, each since the last time that the journal says so."""
    t = schema()
    d, j, last = t.deployment.c, t.journal.c, t.journal.alias("last")
    held = (last.c.deployment_id == d.id, last.c.host.is_(None), last.c.event == str(DeploymentState.HELD))
    since = sa.select(sa.func.max(last.c.seq)).where(*held).correlate(t.deployment)
    rows = (
        sa.select(d.id, d.rfc, d.release, d.version, d.reason, j.at)
        .join_from(t.deployment, t.journal, j.seq == since.scalar_subquery())
        .where(d.state == DeploymentState.HELD)
        .order_by(d.id)
    )
    with cmdb.read() as connection:
        return [HeldDeployment(row.id, row.rfc, row.release, row.version, row.at, row.reason) for row in connection.execute(rows)]
