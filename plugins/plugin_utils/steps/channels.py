# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The channels of people: where their addresses are, and sending them a message, which takes no longer than :data:`LIMIT`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..activity import note
from ..errors import TidegateError
from ..libs import require
from ..policy.communication import Channel, Communication, plain, without_mentions

LIMIT = 10.0
"""Seconds that all messages about an event together may take."""

_LARGEST = 64 << 10  # bytes of a file with addresses


@dataclass(frozen=True)
class Thread:
    """What makes messages one thread: ``key``, a Message-ID, and ``topic``, what all of them are about. ``roots``: the first messages as
    services called them, by channel, of each address by place."""

    key: str
    topic: str
    roots: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class SendingResult:
    """What became of a message: ``why`` a channel was not told, or not at all its addresses; ``untold``: those of them where nobody was;
    ``roots`` of the thread as they are now."""

    why: Mapping[str, str] = field(default_factory=dict)
    untold: Collection[str] = ()
    roots: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)


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


def try_channels(communication: Communication, person: str) -> dict[str, str]:
    """Send each channel a message that says that it is a test, by a ``person``; why each did not take it, empty when it did."""
    addresses, why = {}, dict.fromkeys(communication.channels, "")
    for name, channel in communication.channels.items():
        try:
            addresses[name] = _addresses(channel)
        except TidegateError as error:
            why[name] = str(error)
    body = without_mentions(f"{plain(person)} tries whether messages about releases arrive here. There is nothing to do.")
    return why | (dict(send(addresses, "Tidegate: a test", body).why) if addresses else {})


def usable(communication: Communication, listeners: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The addresses of each channel that has any, and why each other one has none."""
    addresses, why = {}, {}
    for name in listeners:
        try:
            addresses[name] = _addresses(communication.channels[name])
        except TidegateError as error:
            why[name] = str(error)
    return addresses, why


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


def send(addresses: Mapping[str, list[str]], title: str, body: str, thread: Thread | None = None) -> SendingResult:
    """Send to all channels at once, in a process that can be ended whatever it waits for.

    What it says of itself is not looked at: there could be addresses in it.
    """
    try:
        require("communication")
    except TidegateError as error:
        return SendingResult(dict.fromkeys(addresses, str(error)), frozenset(addresses))
    note("telling people how it goes")
    about = {"key": thread.key, "topic": thread.topic} if thread else None
    order = {"addresses": addresses, "title": title, "body": body, "thread": about, "roots": thread.roots if thread else {}}
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
                output, _errors = process.communicate(json.dumps(order).encode(), LIMIT)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                output, _errors = process.communicate()
    except OSError as error:
        return SendingResult(dict.fromkeys(addresses, f"no process could be started ({error.strerror})"), frozenset(addresses))
    return _outcome(addresses, output, thread)


def _outcome(addresses: Mapping[str, list[str]], output: bytes, thread: Thread | None) -> SendingResult:
    """What the lines say that the process wrote, one for each address that took the message or refused it."""
    answers: dict[str, dict[int, bool]] = {name: {} for name in addresses}
    roots: dict[str, list[dict[str, str]]] = {}
    for line in output.splitlines():
        with contextlib.suppress(ValueError, TypeError, LookupError):  # a library may have said something, too
            name, position, good, found = json.loads(line)
            answers[name][position] = bool(good)
            if thread and found:
                before = thread.roots.get(name, [])
                here = roots.setdefault(name, [dict(before[at]) if at < len(before) else {} for at in range(len(addresses[name]))])
                here[position] = found
    why = {}
    for name, listed in addresses.items():
        if not all(answers[name].values()):
            why[name] = "an address refused the message, or is none; try it with the command apprise"
        elif len(answers[name]) < len(listed):
            why[name] = f"an address did not answer within {LIMIT:g} s"
    untold = {name for name in why if len(answers[name]) == len(addresses[name]) and not any(answers[name].values())}
    return SendingResult(why, untold, roots)
