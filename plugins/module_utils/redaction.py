# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the values of a host's settings out of text: whatever prints one, and however it is written there.

In place of a value stands ``${name}``, as in a manifest, so a message says which setting it was. Its source also runs on a host as a
program of its own (see :mod:`hook_output`), so it imports no other file of this collection.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Optional

SHORTEST = 6  # characters of a value that is redacted; shorter ones are no secrets, and part of every other sentence
_SHORTEST_SECRET = 4  # the same where the setting's name says that it is one
_SECRET = re.compile("pass|pwd|secret|token|credential|key|pin$", re.IGNORECASE)
_ANYWHERE = 8  # characters of a value that is redacted inside a word too
_SEGMENT = 12  # characters of a part of a path or host name that is redacted by itself; also a shorter one with a digit in it
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SETTING, _HELD = "SETTING_", "HELD"  # how variables of another process's environment begin, and the name of one
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(?:([^/?#]*)@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE | re.DOTALL)
# The same without its scheme: a port or a password says that it is an address.
_ADDRESS = re.compile(r"(?:[^\s/?#@]+@)?[^\s/?#@:]+:[0-9]{1,5}(?:[/?]\S*)?|[^\s/?#@:]+:[^\s/@]+@\S+")
_ASSIGNED = re.compile(r"(?:pass|pwd|secret|token|key)\w*\s*[=:]\s*([^\s;,&]+)", re.IGNORECASE)
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_WRAPPED = (76, 64)  # characters of a line as base64 and openssl write them


class Redactor:
    """Knows the values of ``settings`` (of one host, nested ones included) in the forms in which they may be printed.

    Everything counts as secret but what can't be: yes and no, addresses, and values shorter than :data:`SHORTEST`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._forms: dict[bytes, bytes] = {}
        for name, setting in settings.items():
            shown = b"${%s}" % (str(name).encode() if _NAME.fullmatch(str(name)) else b"...")
            for value, secret in _leaves(setting, bool(_SECRET.search(str(name)))):
                for form in _forms(value, _SHORTEST_SECRET if secret else SHORTEST):
                    self._forms.setdefault(form.lower(), shown)

    def text(self, text: str) -> str:
        """``text`` without the values, in whatever case they are written."""
        if not self._forms:
            return text
        return self.data(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    def data(self, data: bytes) -> bytes:
        """The same for what a process wrote."""
        pattern = self._pattern(data)
        return pattern.sub(lambda match: self._forms[match.group().lower()], data) if pattern else data

    def _pattern(self, data: bytes) -> Optional["re.Pattern[bytes]"]:
        """What matches the values that are in ``data``, of two that begin at one place the longer one; nothing when there are none."""
        lowered = data.lower()  # looking for each by itself is much faster than an expression of them all
        found = sorted((form for form in self._forms if form in lowered), key=len, reverse=True)
        return re.compile(b"|".join(map(_expression, found)), re.IGNORECASE) if found else None

    def whole(self, data: bytes) -> int:
        """How many of the bytes of ``data`` can be redacted by themselves: in the others a value may begin whose rest is still to come."""
        most = 0
        for form in self._forms:
            tail = data[-(len(form) - 1) :].lower()
            start = tail.find(form[:1])
            while start >= 0 and len(tail) - start > most:
                if form.startswith(tail[start:]):
                    most = len(tail) - start
                    break
                start = tail.find(form[:1], start + 1)
        end = len(data) - most
        pattern = self._pattern(data) if most else None
        return next((match.end() for match in (pattern.finditer(data) if pattern else ()) if match.start() < end < match.end()), end)

    @property
    def longest(self) -> int:
        """How many bytes the longest form of a value has."""
        return max(map(len, self._forms), default=0)


NOTHING = Redactor({})


class Stream:
    """Redacts what comes in pieces: a value may be cut anywhere between two of them. ``held`` is what came before and was not shown yet."""

    def __init__(self, redactor: Redactor, held: bytes = b"") -> None:
        self._redactor = redactor
        self._held = held

    def feed(self, data: bytes) -> bytes:
        """What can be shown after ``data``; no data means that this was the end."""
        there = self._held + data
        end = self._redactor.whole(there) if data else len(there)
        self._held = there[end:]
        return self._redactor.data(there[:end])

    def environment(self) -> dict[str, str]:
        """What :func:`stream` makes this stream again of, as variables of a process's environment."""
        values = {f"{_SETTING}{number}": json.dumps(pair) for number, pair in enumerate(self._redactor.settings.items())}
        return {**values, _HELD: self._held.hex()}


def stream(environment: Mapping[str, str]) -> Stream:
    """The stream that another process went away from, by the variables that :meth:`Stream.environment` gave it."""
    pairs = [json.loads(text) for name, text in environment.items() if name.startswith(_SETTING)]
    return Stream(Redactor(dict(pairs)), bytes.fromhex(environment.get(_HELD, "")))


def _expression(form: bytes) -> bytes:
    expression = re.escape(form)
    return expression if len(form) >= _ANYWHERE else b"(?<![a-z0-9])" + expression + b"(?![a-z0-9])"


def _leaves(value: Any, secret: bool) -> Iterator[tuple[str, bool]]:
    """The single values in a setting, and whether the name of one, or of what it is in, says that it is secret."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(part, secret or bool(_SECRET.search(str(name))))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part, secret)
    elif value is not None and not isinstance(value, bool):
        yield str(value), secret


def _forms(value: str, least: int) -> Iterator[bytes]:
    """How ``value``, its lines and its telling parts may be printed, in UTF-8; nothing for what is shorter than ``least``."""
    texts = {value, value.strip(), " ".join(value.split()), *(line.strip() for line in value.splitlines())}
    for text in {*texts, *_parts(value)}:
        if len(text) < least or _is_harmless(text):
            continue
        for case in {text} if text.isascii() else {text, text.lower(), text.upper()}:
            yield from (form.encode("utf-8", "surrogatepass") for form in _spellings(case))
        yield from (form for form in _numbers(text.encode("utf-8", "surrogatepass")) if len(form) >= _ANYWHERE)


def _spellings(text: str) -> Iterator[str]:
    """A text as it is, and as programs quote it."""
    yield text
    for escaped in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], ascii(text)[1:-1]):
        yield escaped
        yield escaped.replace("/", "\\/")
        yield json.dumps(escaped)[1:-1]
        yield escaped.replace("'", "\\'")  # as $'…' of a shell
        yield escaped.replace('"', '\\"')
    for left in (b"", b"/", b"!$&'()*+,;=:@", b"!$&'()*+,;=:@/", b"!$&'()*+,;=:@/?"):
        quoted = "".join(chr(byte) if byte in _PLAIN or byte in left else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
        yield quoted
        yield quoted.replace("%20", "+")
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", text)
    octal = "".join(chr(byte) if byte < 0x80 else f"\\{byte:03o}" for byte in text.replace("\\", "\\\\").encode("utf-8", "surrogatepass"))
    yield octal.replace("'", "\\'")  # as $'…' of a shell in the locale C
    yield octal.replace('"', '\\"')  # as git writes a name
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield escaped
    yield from (escaped.replace('"', "&quot;").replace("'", quoted) for quoted in ("'", "&#x27;", "&#39;", "&apos;"))
    yield "".join(sign if sign.isprintable() else "?" for sign in text)


def _numbers(raw: bytes) -> Iterator[bytes]:
    """The same bytes in base64, wherever in the encoded text they begin, and in hexadecimal digits."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset, skipped in ((0, 0), (1, 2), (2, 3)):
            # Only the digits that no neighbour of the value has a part in.
            whole = (offset + len(raw)) * 8 // 6
            digits = encode(bytes(offset) + raw)[skipped:whole]
            yield digits
            for width in _WRAPPED:
                if len(digits) > width and not offset:
                    yield from (digits[start : start + width] for start in range(0, len(digits), width))
    yield raw.hex().encode()


def _parts(value: str) -> Iterator[str]:
    """What is telling in a value that has more in it: of a URL user, password, host, path and query; what is assigned to a password."""
    yield from _ASSIGNED.findall(value)
    text = value.strip()
    match = _URL.fullmatch(f"address://{text}" if _ADDRESS.fullmatch(text) else text)
    if match is None:
        return
    scheme, login, place, path, query = (part or "" for part in match.groups())
    yield from (f"{scheme}://{place}{path}", f"{scheme}://{place}", place, place.rpartition(":")[0], path)
    user, _colon, password = login.partition(":")
    yield from (login, user, password)
    yield query
    yield from (argument.rpartition("=")[2] for argument in query.split("&"))
    for segment in (*path.split("/"), *place.split(".")):
        if len(segment) >= _SEGMENT or re.search("[0-9]", segment):
            yield segment


def _is_harmless(text: str) -> bool:
    """Whether this is an address, which messages can't do without, or a yes or no."""
    bare = text.strip("[]").partition("%")[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, bare)
        except (OSError, ValueError):
            continue
        return True
    return bare.lower() in ("localhost", "true", "false", "none", "null")
