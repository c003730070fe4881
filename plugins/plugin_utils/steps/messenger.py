# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of its own: sends the message on its standard input, and says on its standard output how it went, a line for each address.

Apprise has no threads, so what it sends is completed on its way: a reply names the first message of its thread, as the service called it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import smtplib
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

with contextlib.suppress(ImportError):
    import apprise
    import requests

_LONGEST = 255  # letters of what a service calls a message
_MAIL = "mail"
_GONE = ("thread_not_found", "message_not_found", "cannot_reply_to_message")  # as Slack says that there is nothing to answer
_MESSAGE_ID = re.compile(r"^Message-ID:.*(?:\n[ \t].*)*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class _Service:
    """How a chat threads: ``posts`` picks the requests that are messages, the answer has the new message's name at ``named``."""

    posts: re.Pattern[str]
    place: str
    named: str
    reply: Callable[[str], dict[str, Any]]


def _matrix_reply(root: str) -> dict[str, Any]:
    relation = {"rel_type": "m.thread", "event_id": root, "is_falling_back": True, "m.in_reply_to": {"event_id": root}}
    return {"m.relates_to": relation}


_SLACK = _Service(re.compile(r"/api/chat\.postMessage$"), "channel", "ts", lambda root: {"thread_ts": root})
_MATTERMOST = _Service(re.compile(r"/api/v4/posts$"), "channel_id", "id", lambda root: {"root_id": root})
_MATRIX = _Service(re.compile(r"/rooms/([^/]+)/send/m\.room\.message/"), "", "event_id", _matrix_reply)
_SERVICES = {"slack": _SLACK, "mmost": _MATTERMOST, "mmosts": _MATTERMOST, "matrix": _MATRIX, "matrixs": _MATRIX}


@dataclass
class _Thread:
    """One address's part of a thread. ``key``: its Message-ID in mails. ``roots``: what its first messages are called, by place."""

    key: str
    service: _Service | None
    roots: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mail_is_first = _MAIL not in self.roots

    def request(self, send: Callable[..., Any], url: str, data: object, more: Mapping[str, Any]) -> Any:
        """Send what may be a message; one that is goes into the thread, or begins it."""
        found = self.service.posts.search(url) if self.service else None
        payload = _json(data) if found else None
        if self.service is None or found is None or payload is None or self.service.reply("").keys() & payload.keys():
            return send(data=data, **more)  # no message, or one whose address names a thread of its own
        place = found[1] if found.groups() else str(payload.get(self.service.place, ""))
        root = self.roots.get(place)
        if root:
            response = send(data=json.dumps({**payload, **self.service.reply(root)}), **more)
            if not _says_gone(response):
                return response  # else this one begins anew
        response = send(data=data, **more)
        name = (_json(response.content) or {}).get(self.service.named) if _is_taken(response) else None
        if isinstance(name, str) and 0 < len(name) <= _LONGEST and name.isprintable():
            self.roots[place] = name
        return response

    def mail(self, text: str) -> str:
        """A mail that begins the thread, or is in it."""
        head, gap, body = text.partition("\n\n")
        if self.mail_is_first:
            head = _MESSAGE_ID.sub(lambda _found: f"Message-ID: {self.key}", head, count=1)
        else:
            head += f"\nIn-Reply-To: {self.key}\nReferences: {self.key}"
        return f"{head}{gap}{body}"

    def sent(self) -> None:
        """A mail was taken."""
        self.roots[_MAIL] = self.key


class _Here(threading.local):
    """What a thread of this process sends for."""

    thread: _Thread | None = None


_here = _Here()


def _sending(thread: _Thread | None, plain: Callable[..., Any]) -> Callable[..., Any]:
    """The method of an address that sends, in whichever thread of the process Apprise calls it."""

    def sends(*given: Any, **named: Any) -> Any:
        _here.thread = thread
        try:
            return plain(*given, **named)
        finally:
            _here.thread = None

    return sends


def _json(content: Any) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = json.loads(content)
        return found if isinstance(found, dict) else None
    return None


def _is_taken(response: Any) -> bool:
    return bool(response.ok) and (_json(response.content) or {}).get("ok", True) is not False


def _says_gone(response: Any) -> bool:
    """Whether a chat refuses a reply as its first message is not there; after any other error the reply may be there all the same."""
    if response.ok:
        return (_json(response.content) or {}).get("error") in _GONE
    return response.status_code in (400, 404)


@contextlib.contextmanager
def _threading() -> Any:
    """Have requests and mails of Apprise go through the thread that they are for."""
    session: Any = requests.Session
    smtp: Any = smtplib.SMTP
    request, sendmail = session.request, smtp.sendmail

    def complete(self: requests.Session, method: str, url: str, **more: Any) -> Any:
        def send(**these: Any) -> Any:
            return request(self, method, url, **these)

        if _here.thread is None or "data" not in more:
            return send(**more)
        return _here.thread.request(send, url, more.pop("data"), more)

    def complete_mail(self: smtplib.SMTP, from_addr: str, to_addrs: Any, msg: Any, *more: Any, **named: Any) -> Any:
        thread = _here.thread
        if thread is None or not isinstance(msg, str):
            return sendmail(self, from_addr, to_addrs, msg, *more, **named)
        refused = sendmail(self, from_addr, to_addrs, thread.mail(msg), *more, **named)
        thread.sent()
        return refused

    session.request, smtp.sendmail = complete, complete_mail
    try:
        yield
    finally:
        session.request, smtp.sendmail = request, sendmail


def send(order: Mapping[str, Any], address: str, roots: Mapping[str, str]) -> tuple[bool, dict[str, str]]:
    """Send the message of an ``order`` to an address; return whether it was taken, and the first messages of the thread by their places."""
    about, title, body = order["thread"], order["title"], order["body"]
    scheme = address.partition("://")[0].lower()
    thread = _Thread(about["key"], _SERVICES.get(scheme), dict(roots)) if about else None
    good = False
    with contextlib.suppress(Exception):
        server = apprise.Apprise()
        good = bool(server.add(address))
        if about and scheme == "zulip":  # whose topics are threads
            title, body = about["topic"], f"{title}\n{body}"
        for one in server if about else ():
            sender: Any = one
            sender.send = _sending(thread, sender.send)
            if scheme == "gchat":  # which takes any name of a thread
                sender.thread_key = getattr(one, "thread_key", None) or about["key"].strip("<>").partition("@")[0]
        good = good and bool(server.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT))
    return good, thread.roots if thread else {}


def main() -> None:
    """One address after the other could let a slow one keep the others from being told, so all at once."""
    order = json.load(sys.stdin)

    def tell(channel: str, position: int, address: str, roots: Mapping[str, str]) -> None:
        good, found = send(order, address, roots)
        os.write(1, f"{json.dumps([channel, position, good, found])}\n".encode())

    with _threading():
        threads = []
        for channel, addresses in order["addresses"].items():
            roots = order["roots"].get(channel, [])
            for position, address in enumerate(addresses):
                known = roots[position] if position < len(roots) else {}
                threads.append(threading.Thread(target=tell, args=(channel, position, address, known), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    os._exit(0)  # whatever a library has left running


if __name__ == "__main__":
    main()
