# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell people how a change goes. Whatever comes of that, no deployment stops or waits for it longer than :data:`.channels.LIMIT`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..cmdb import messages
from ..cmdb.messages import Message
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from ..policy.communication import Channel, Communication, Event, plain, without_mentions
from ..policy.model import Policy
from ..report.pages import published_page
from ..rfc.model import Rfc
from ..rollout.deployments import Deployment, Run
from ..rollout.journal import Journal
from ..rollout.states import DeploymentState
from .channels import SendingResult, Thread, send, usable

TOLD, CONCERNS = "told", "stakeholders"
Tell = Callable[[Journal, Run, Event, str, datetime], list[str]]  # returns what went wrong

_TITLES = {"cleared": "cleared", "start": "started", "wave": "wave", "hold": "held", "back_out": "backing out", "done": "done"}
_URGENT = frozenset({"hold", "back_out"})
_WELL = frozenset({DeploymentState.COMPLETED, DeploymentState.CANCELLED, DeploymentState.SUPPORTING})


def save_stakeholders(journal: Journal, run: Run, rfc: Rfc, now: datetime) -> None:
    """Keep whom the RFC, as it was cleared, concerns, so that telling them later asks no change system."""
    about = {"title": rfc.short_description, "stakeholders": list(rfc.stakeholders), "type": rfc.type}
    journal.note(run, CONCERNS, about, now)


def concerned(events: Iterable[Any]) -> dict[str, Any]:
    """What was kept in the events of a deployment: title, stakeholders and type of its RFC."""
    about = next((dict(one.data) for one in reversed(list(events)) if one.event == CONCERNS), {})
    return {"title": "", "stakeholders": [], "type": "", **about}


def warned(problems: list[str]) -> dict[str, Any]:
    """What a task's result says of problems that nothing waits for: warnings, when there are any."""
    return {"warnings": problems} if problems else {}


def make_notifier(policy: Callable[[], Policy]) -> Tell:
    """What tells the channels of the policy that ``policy`` loads, which is not called before there is something to tell."""

    def tell(journal: Journal, run: Run, event: Event, sentence: str, now: datetime) -> list[str]:
        try:
            communication = policy().communication
        except TidegateError as error:
            return [f"nobody was told of {event}: the policy can't be read: {str(error).splitlines()[0]}"]
        try:
            return _tell(communication, journal, run, event, sentence, now)
        except Exception as error:  # what was decided stands, whatever breaks here; the error itself could say an address
            return [f"nobody was told of {event}, or not everybody: {type(error).__name__}"]

    return tell


def _tell(communication: Communication, journal: Journal, run: Run, event: Event, sentence: str, now: datetime) -> list[str]:
    if event == "wave" and not communication.listeners(event, ()):
        return []
    deployment = journal.deployment(run.deployment)
    events = journal.events(run.deployment)
    about = concerned(events)
    if event == "done" and any(
        one.event == TOLD and one.data["state"] == deployment.state and one.data["event"] == event for one in events
    ):
        return []
    problems: list[str] = []
    if event == "cleared":
        without_channel = [name for name in about["stakeholders"] if name not in communication.channels]
        problems += [f"the stakeholder {plain(name)} has no channel in the policy, so nobody is told there" for name in without_channel]
    listeners = communication.listeners(event, about["stakeholders"])
    found = Delivered()
    if listeners:
        urgent = event in _URGENT or about["type"] == "emergency" or (event == "done" and deployment.state not in _WELL)
        message = about_change(
            communication,
            Message(event, _TITLES[event], sentence, f"{event} {deployment.id} {now.isoformat()}", thread_of(deployment, events), urgent),
            {**vars(deployment), "title": about["title"] or deployment.rfc},
        )
        found = deliver(journal.cmdb, communication, listeners, message, now)
    problems += found.problems
    if found.told or found.later or problems:
        told = {"channels": sorted(found.told), "problems": problems} | ({"later": sorted(found.later)} if found.later else {})
        journal.note(run, TOLD, {"event": event, "state": deployment.state, **told}, now)
    return problems


def about_change(communication: Communication, message: Message, change: Mapping[str, Any]) -> Message:
    """The message about a change as it is sent: ``message``, a few words as title and a sentence as body, with what the policy adds.

    ``change``: rfc, release, version and state, and the title of its RFC.
    """
    page = published_page(communication.pages, str(change["rfc"])) if communication.pages else ""
    values = {name: str(change.get(name, "")) for name in ("rfc", "release", "version", "title", "state")}
    body = communication.message(message.event, {**values, "sentence": message.body, "event": message.event, "page": page})
    title = without_mentions(plain(f"{change['rfc']} {change['release']} {change['version']}: {message.title}"))
    return replace(message, title=title, body=body)


def thread_of(deployment: Deployment, events: Sequence[Any]) -> str:
    """Which thread the messages about a deployment are; no other one, of this CMDB or another, has the same."""
    began = events[0].at.isoformat() if events else ""
    return hashlib.sha256(f"{deployment.rfc} {deployment.id} {deployment.digest} {began}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Delivered:
    """What became of a message: the channels that were ``told``, or were to be, as none of its addresses took it where it is ``untold``;
    those that will be ``later``; and what went wrong."""

    told: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def deliver(cmdb: Cmdb, communication: Communication, listeners: Iterable[str], message: Message, now: datetime) -> Delivered:
    """Tell channels; one that has its quiet hours is told when they are over, by the verb remind, of what is not urgent."""
    due = {name: due_at(communication.channels[name], message, now) for name in listeners}
    later = {name: at for name, at in due.items() if at > now}
    if later:
        with cmdb.begin() as connection:
            messages.keep(connection, message, later, now)
    addresses, why = usable(communication, [name for name in due if name not in later])
    untold = set(why)
    if addresses:
        outcome = send_in_thread(cmdb, addresses, message)
        why |= outcome.why
        untold |= set(outcome.untold)
    return Delivered(
        tuple(addresses), tuple(later), tuple(sorted(untold)), tuple(not_told(message, name, reason) for name, reason in why.items())
    )


def due_at(channel: Channel, message: Message, now: datetime) -> datetime:
    """From when on a channel is to be told of a message."""
    return now if message.urgent or channel.quiet is None else channel.quiet.over(now)


def not_told(message: Message, channel: str, why: str) -> str:
    """The sentence about a channel that was not told."""
    return f"the channel {channel} was not told of {message.event}: {why}"


def send_in_thread(cmdb: Cmdb, addresses: Mapping[str, list[str]], message: Message) -> SendingResult:
    """Send a message to the addresses of channels, in its thread where the service can."""
    if not message.thread:
        return send(addresses, message.title, message.body)
    with cmdb.read() as connection:
        known = messages.thread_roots(connection, message.thread, addresses)
    thread = Thread(f"<{message.thread}@tidegate.invalid>", message.title.rpartition(": ")[0], known)
    outcome = send(addresses, message.title, message.body, thread)
    new = {name: roots for name, roots in outcome.roots.items() if roots != known.get(name)}
    if new:
        with cmdb.begin() as connection:
            messages.keep_roots(connection, message.thread, new)
    return outcome
