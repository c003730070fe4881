# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell people how a change goes. Whatever comes of that, no deployment stops or waits for it longer than :data:`LIMIT`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from ..activity import note
from ..errors import TidegateError
from ..libs import require
from ..policy.communication import Channel, Communication, Event, plain, without_mentions
from ..policy.model import Policy
from ..rfc.model import Rfc
from ..rollout.deployments import Run
from ..rollout.journal import Journal

LIMIT = 10.0
"""Seconds that all messages about an event together may take."""

TOLD, CONCERNS = "told", "stakeholders"
Tell = Callable[[Journal, Run, Event, str, datetime], list[str]]  # returns what went wrong

_LARGEST = 64 << 10  # bytes of a file with addresses
_TITLES = {"cleared": "cleared", "start": "started", "hold": "held", "back_out": "backing out", "done": "done"}


def save_stakeholders(journal: Journal, run: Run, rfc: Rfc, now: datetime) -> None:
    """Keep whom the RFC, as it was cleared, concerns, so that telling them later asks no change system."""
    journal.note(run, CONCERNS, {"title": rfc.short_description, "stakeholders": list(rfc.stakeholders)}, now)


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


def unusable(communication: Communication) -> dict[str, str]:
    """Why each channel can't be used, empty when its addresses are there. Nobody is told anything."""
    found = {}
    for name, channel in communication.channels.items():
        try:
            _addresses(channel)
            found[name] = ""
        except TidegateError as error:
            found[name] = str(error)
    return found


def _tell(communication: Communication, journal: Journal, run: Run, event: Event, sentence: str, now: datetime) -> list[str]:
    deployment = journal.deployment(run.deployment)
    events = journal.events(run.deployment)
    about: dict[str, Any] = next((dict(one.data) for one in reversed(events) if one.event == CONCERNS), {"title": "", "stakeholders": []})
    if event == "done" and any(
        one.event == TOLD and one.data["state"] == deployment.state and one.data["event"] == event for one in events
    ):
        return []
    problems = []
    if event == "cleared":
        without_channel = [name for name in about["stakeholders"] if name not in communication.channels]
        problems += [f"the stakeholder {plain(name)} has no channel in the policy, so nobody is told there" for name in without_channel]
    addresses, without = _usable(communication, communication.listeners(event, about["stakeholders"]), event)
    problems += without
    if addresses:
        values = {"rfc": deployment.rfc, "release": deployment.release, "version": deployment.version, "title": about["title"]}
        body = communication.message(event, {**values, "sentence": sentence, "event": event, "state": str(deployment.state)})
        title = without_mentions(f"{deployment.rfc} {deployment.release} {deployment.version}: {_TITLES[event]}")
        problems += [f"the channel {name} was not told of {event}: {why}" for name, why in _send(addresses, title, body).items()]
    if addresses or problems:
        journal.note(run, TOLD, {"event": event, "state": deployment.state, "channels": sorted(addresses), "problems": problems}, now)
    return problems


def tell_channels(communication: Communication, listeners: Iterable[str], event: str, title: str, body: str) -> list[str]:
    """Tell channels of something that no deployment did, which rings nobody; return what went wrong."""
    addresses, problems = _usable(communication, listeners, event)
    if addresses:
        title, body = without_mentions(title), without_mentions(body)
        problems += [f"the channel {name} was not told of {event}: {why}" for name, why in _send(addresses, title, body).items()]
    return problems


def try_channels(communication: Communication, person: str) -> dict[str, str]:
    """Send each channel a message that says that it is a test, by a ``person``; why each did not take it, empty when it did."""
    addresses, why = {}, dict.fromkeys(communication.channels, "")
    for name, channel in communication.channels.items():
        try:
            addresses[name] = _addresses(channel)
        except TidegateError as error:
            why[name] = str(error)
    body = without_mentions(f"{plain(person)} tries whether messages about releases arrive here. There is nothing to do.")
    return why | (_send(addresses, "Tidegate: a test", body) if addresses else {})


def _usable(communication: Communication, listeners: Iterable[str], event: str) -> tuple[dict[str, list[str]], list[str]]:
    """The addresses of each channel that has any, and a sentence for each that has none."""
    addresses, problems = {}, []
    for name in listeners:
        try:
            addresses[name] = _addresses(communication.channels[name])
        except TidegateError as error:
            problems.append(f"the channel {name} was not told of {event}: {error}")
    return addresses, problems


def _addresses(channel: Channel) -> list[str]:
    where, words = read_channel(channel)
    found = [word for word in words if "://" in word]
    if not found:
        raise TidegateError(f"{where} has no address")
    return found


def read_channel(channel: Channel) -> tuple[str, list[str]]:
    """Where a channel has its secrets, in words that are none, and the words that are there.

    Raises :class:`TidegateError` when they can't be read.
    """
    if channel.environment:
        where, text = f"the environment variable {channel.environment}", os.environ.get(channel.environment, "")
    else:
        where, path = f"the file {channel.file}", Path(os.path.expanduser(channel.file))  # Path's own breaks on a user that is not there
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
                raise TidegateError(f"{channel.file} is not a file")
            with path.open("rb") as stream:
                text = stream.read(_LARGEST).decode()
        except (OSError, ValueError) as error:
            raise TidegateError(f"{where} can't be read ({getattr(error, 'strerror', None) or 'it is no text'})") from None
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return where, [word for line in lines for word in line.split()]


def _send(addresses: dict[str, list[str]], title: str, body: str) -> dict[str, str]:
    """Send to all channels at once, in a process that can be ended whatever it waits for; return why one was not reached.

    What it says of itself is not looked at: there could be addresses in it.
    """
    try:
        require("communication")
    except TidegateError as error:
        return dict.fromkeys(addresses, str(error))
    note("telling people how it goes")
    order = json.dumps({"addresses": addresses, "title": title, "body": body}).encode()
    script = str(Path(__file__).with_name("messenger.py"))
    try:
        with subprocess.Popen(
            [sys.executable, "-P", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                output, _errors = process.communicate(order, LIMIT)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                output, _errors = process.communicate()
    except OSError as error:
        return dict.fromkeys(addresses, f"no process could be started ({error.strerror})")
    outcomes: dict[str, list[bool]] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            name, good = json.loads(line)
            outcomes.setdefault(name, []).append(bool(good))
    why = {}
    for name, listed in addresses.items():
        answers = outcomes.get(name, [])
        if not all(answers):
            why[name] = "an address refused the message, or is none; try it with the command apprise"
        elif len(answers) < len(listed):
            why[name] = f"an address did not answer within {LIMIT:g} s"
    return why
