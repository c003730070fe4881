# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told how a change goes, and in which words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import time
from pathlib import Path
from string import Template
from typing import Any, Literal

from ..calendar.quiet import QuietHours, is_zone
from ..documents import Document

Event = Literal["cleared", "start", "wave", "hold", "back_out", "done"]
STOCK_LOW = "stock_low"
"""What channels are told of besides how changes go: that spares came down to the threshold of a stock rule."""
WINDOW_OPENS, HELD_SINCE, DUTY_DUE = "window_opens", "held_since", "duty_due"
"""What they are told of when its time has come, not when something happens."""
_IN_DETAIL = ("wave", DUTY_DUE)  # told to the policy's channels alone, not to every stakeholder
_WORDS = ("rfc", "release", "version", "title", "sentence", "event", "state", "page")
_USUAL = "$title: $sentence"
_LONGEST = 4000  # characters of a message
_OTHERS = "\0"  # before a sign of somebody else's words, which have no such character
# What rings everybody in a chat, or whomever it names by a number: Slack, Discord, Mattermost, Rocket.Chat, Matrix, Zulip, Webex, Teams.
_EVERYBODY = re.compile(
    rf"{_OTHERS}(?:(@)(?=&|[0-9]{{15}}|_?\**(?:all|channel|everyone|here|online|room|stream|team|topic))"
    rf"|(<)(?={_OTHERS}?[!@]|users/|at\b|/?mention))",
    re.IGNORECASE,
)
_PUBLISHED = re.compile(r"https?://[^\s?#@<>\"]+")
_GAP = "\u200b"  # which nobody sees


@dataclass(frozen=True)
class Channel:
    """Where addresses or a token are; they are secrets or hold some, so they are never in a document. One of the two is set.

    ``quiet``: when whoever reads it is not to be disturbed.
    """

    environment: str = ""
    file: str = ""
    quiet: QuietHours | None = None


@dataclass(frozen=True)
class Communication:
    """``tell``: the channels that are told of each event. ``templates``: what is said of it in place of the usual words.

    ``pages``: where the report's site is published, empty when it is not.
    """

    required: bool = False
    channels: Mapping[str, Channel] = field(default_factory=dict)
    tell: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    pages: str = ""

    def listeners(self, event: str, stakeholders: Iterable[str]) -> tuple[str, ...]:
        """The channels that are told of an event: those of the policy, and those stakeholders of the RFC that are channels."""
        concerned = () if event in _IN_DETAIL else stakeholders
        return tuple(dict.fromkeys((*self.tell.get(event, ()), *(name for name in concerned if name in self.channels))))

    def message(self, event: str, values: Mapping[str, str]) -> str:
        """What is said of an event. The values are put in once, so nothing in them is ever taken for a template.

        A template may ring everybody, the values never do, whatever is put together of them. A page that the template does not place
        stands on a line of its own at the end, and is never cut.
        """
        marked = {word: _mark_signs(plain(values.get(word, ""))) for word in _WORDS}
        template = Template(self.templates.get(event, _USUAL))
        text = _break_mentions(template.substitute(marked))
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        page = plain(values.get("page", ""))
        return f"{text}\n{page}" if page and "page" not in template.get_identifiers() else text


def communication_of(given: Mapping[str, Any], folder: Path) -> Communication:
    """The section ``communication`` of a policy that was checked; files are in ``folder`` where their paths are relative."""
    return Communication(
        given.get("required", False),
        {name: _channel_of_people(folder, **where) for name, where in given.get("channels", {}).items()},
        {event: tuple(names) for event, names in given.get("tell", {}).items()},
        given.get("templates", {}),
        given.get("pages", ""),
    )


def _channel_of_people(folder: Path, quiet: Mapping[str, str] | None = None, **where: str) -> Channel:
    channel = channel_of(folder, **where)
    if quiet is None:
        return channel
    return replace(channel, quiet=QuietHours(time.fromisoformat(quiet["from"]), time.fromisoformat(quiet["to"]), quiet["time_zone"]))


def channel_of(folder: Path, environment: str = "", file: str = "") -> Channel:
    """Where something is that is never in a document; a file is in ``folder`` where its path is relative."""
    return Channel(environment, str(folder / file) if file and not file.startswith("~") else file)


def check_communication(document: Document) -> None:
    """Note a channel of the section ``communication`` that is not there, and a template that can't be filled in."""
    given = document.data.get("communication", {})
    if not isinstance(given, dict):
        return  # and that was said already
    where: tuple[str, ...] = ("communication", "pages")
    if "pages" in given and document.is_good(where) and not _PUBLISHED.fullmatch(given["pages"]):  # which is not shown: it may have a login
        what = "communication.pages is not a plain address: it has a login, a query or a space"
        document.problem(where, what, "write it like https://reports.example/tidegate")
    channels, tell, templates = (given.get(name, {}) for name in ("channels", "tell", "templates"))
    if document.is_good(("communication", "channels")) or "channels" not in given:
        for event, names in tell.items() if isinstance(tell, dict) else ():
            for index, name in enumerate(names if isinstance(names, list) else ()):
                place: tuple[str | int, ...] = ("communication", "tell", event, index)
                if document.is_good(place) and name not in channels:
                    document.problem(place, f"{name!a} is not one of the channels", "enter it under communication.channels, or correct it")
    for name, channel in channels.items() if isinstance(channels, dict) else ():
        quiet = channel.get("quiet") if isinstance(channel, dict) else None
        place = ("communication", "channels", name, "quiet")
        if not isinstance(quiet, dict) or not document.is_good(place):
            continue
        if not is_zone(quiet["time_zone"]):
            document.problem((*place, "time_zone"), f"there is no time zone {quiet['time_zone']!a}", "write it like Europe/Berlin")
        if quiet["from"] == quiet["to"]:
            document.problem((*place, "to"), f"the quiet hours of {name} are no hours, or all", "give another end, or leave quiet out")
    for event, text in templates.items() if isinstance(templates, dict) else ():
        where = ("communication", "templates", event)
        if document.is_good(where) and (wrong := _wrong(text)):
            words = ", ".join(f"${word}" for word in _WORDS)
            document.problem(where, f"the template of {event} has {wrong}", f"use {words}, and $$ for a dollar")


def plain(text: str) -> str:
    """A text on one line, without signs that do something."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def without_mentions(text: str) -> str:
    """A text of others that rings nobody: it reads the same, but what a service would take for a mention has a gap that is not seen."""
    return _break_mentions(_mark_signs(text.replace(_OTHERS, "")))


def _mark_signs(text: str) -> str:
    return re.sub("[@<]", rf"{_OTHERS}\g<0>", text)


def _break_mentions(text: str) -> str:
    return _EVERYBODY.sub(rf"\g<1>\g<2>{_GAP}", text).replace(_OTHERS, "")


def _wrong(text: str) -> str:
    template = Template(text)
    if not template.is_valid():
        return "a $ that stands for nothing"
    unknown = [name for name in template.get_identifiers() if name not in _WORDS]
    return f"${unknown[0]}, which stands for nothing" if unknown else ""
