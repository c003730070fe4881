# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the values of a host's settings out of text: whatever prints one, and however it is written there.

In place of a value stands ``${name}``, as in a manifest, so a message says which setting it was. Its source also runs on a host as a
program of its own (see :mod:`hook_output`), so it imports no other file of this collection.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

# A host without settings, or an action that has nothing to hide, has no use for sockets and URLs.
# ruff: noqa: PLC0415

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
# What a password is called in a file within a setting, and how it may be quoted; or what an Authorization header has behind its scheme.
_ASSIGNED = re.compile(
    r"""(?:pass|pwd|secret|token|key|auth)[\w.-]*["']?\s*[=:]\s*(?:"([^"]+)"|'([^']+)'|\{([^}]+)\}|([^\s;,&"'{][^\s;,&]*))"""
    r"|^\s*(?:Basic|Bearer|Token)\s+(\S+)\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_LOGIN = re.compile(r"""(?:^|[\s,;"'=(\[]|//)([^\s/:@,;"'=]+):([^\s/@,;"']+)@""")  # who logs in, in an address within a longer text
_WORDS = re.compile("[A-Za-z]+([ _.-]+[A-Za-z]+)*")  # what an entry of a mapping is called; another key may be a secret
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
# What else is not encoded in a URL: by RFC 3986 in what part, by JavaScript, by Go, by Java; the last one encodes ~, too.
_RFC_3986 = (b"", b"/", b"!$&'()*+,;=:@", b"!$&'()*+,;=:@/", b"!$&'()*+,;=:@/?", b"!$&'()*+,;=")
_UNENCODED = (*_RFC_3986, b"!*'()", b"!*'();/?:@&=+$,#", b"$&+=:@", b"*")
_BASH = re.compile(r"""([][ '"\\|&;()<>!{}*?^$`,]|^[#~]|(?<=[:=])~)""")  # what its printf %q puts a backslash before
# What some write as \\u0026 in JSON, because it may end up in a page: Go, Gson, .NET.
_IN_PAGES = ("<>&", "<>&='", "<>&'\"+`")
_BREAKS = b"\r\n"


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
                    self._forms.setdefault(_flat(form), shown)

    def text(self, text: str) -> str:
        """``text`` without the values, in whatever case they are written."""
        if not self._forms:
            return text
        return self.data(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    def data(self, data: bytes) -> bytes:
        """The same for what a process wrote."""
        pattern = self._pattern(data)
        return pattern.sub(lambda match: self._forms[_flat(match.group())], data) if pattern else data

    def _pattern(self, data: bytes) -> Optional["re.Pattern[bytes]"]:
        """What matches the values that are in ``data``, of two that begin at one place the longer one; nothing when there are none."""
        flat = _flat(data)  # looking for each by itself is much faster than an expression of them all
        found = sorted((form for form in self._forms if form in flat), key=len, reverse=True)
        return re.compile(b"|".join(map(_expression, found)), re.IGNORECASE) if found else None

    def whole(self, data: bytes) -> int:
        """How many of the bytes of ``data`` can be redacted by themselves: in the others a value may begin whose rest is still to come."""
        most = 0
        flat = _flat(data)
        least = _ANYWHERE if data[-1:] in (b"\r", b"\n") else 1  # else no line could be shown whose last letter is the first of a value
        for form in self._forms:
            tail = flat[-(len(form) - 1) :]
            start = tail.find(form[:1])
            while start >= 0 and len(tail) - start >= max(most + 1, least):
                if form.startswith(tail[start:]):
                    most = len(tail) - start
                    break
                start = tail.find(form[:1], start + 1)
        end, left = len(data), most
        while left:
            end -= 1
            left -= data[end] not in _BREAKS
        pattern = self._pattern(data) if most else None
        return next((match.end() for match in (pattern.finditer(data) if pattern else ()) if match.start() < end < match.end()), end)

    @property
    def longest(self) -> int:
        """How many bytes the longest form of a value has, in lines of whatever length."""
        return 2 * max(map(len, self._forms), default=0)


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


def _flat(data: bytes) -> bytes:
    """What is compared: case and where a line ends don't count, as a program may write a long value in lines of whatever length."""
    return data.translate(None, _BREAKS).lower()


def _expression(form: bytes) -> bytes:
    expression = b"[\r\n]*".join(re.escape(form[place : place + 1]) for place in range(len(form)))
    return expression if len(form) >= _ANYWHERE else b"(?<![a-z0-9])" + expression + b"(?![a-z0-9])"


def _leaves(value: Any, secret: bool) -> Iterator[tuple[str, bool]]:
    """The single values in a setting, and whether the name of one, or of what it is in, says that it is secret."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not _WORDS.fullmatch(str(name)):  # an entry may be found by its secret, as a user by a token
                yield from _leaves(name, secret)
            yield from _leaves(part, secret or bool(_SECRET.search(str(name))))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part, secret)
    elif value is not None and not isinstance(value, bool):
        yield str(value), secret
        with contextlib.suppress(ValueError, RecursionError):  # a file in a setting, as docker's with who logs in where
            inside = json.loads(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else None
            if isinstance(inside, (dict, list)):
                yield from _leaves(inside, secret)


def _forms(value: str, least: int) -> Iterator[bytes]:
    """How ``value``, its lines and its telling parts may be printed, in UTF-8; nothing for what is shorter than ``least``."""
    texts = {value, value.strip(), " ".join(value.split()), *(line.strip() for line in value.splitlines()), *_parts(value)}
    secrets = {*_passwords(value), *(password for text in _decoded(value) for password in (text, *_passwords(text)))}
    for text in texts | secrets:
        if len(text) < (_SHORTEST_SECRET if text in secrets else least) or _is_harmless(text):
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
    for signs in _IN_PAGES:
        plain = text.replace("\\", "\\\\").replace('"', '"' if '"' in signs else '\\"')
        yield "".join(f"\\u{ord(sign):04x}" if sign in signs else sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in plain)
    for left in _UNENCODED:
        quoted = "".join(chr(byte) if byte in _PLAIN or byte in left else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
        yield quoted
        yield quoted.replace("%20", "+")
        yield quoted.replace("%20", "+").replace("~", "%7E")
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", text)
    yield _BASH.sub(r"\\\1", text)
    octal = "".join(chr(byte) if byte < 0x80 else f"\\{byte:03o}" for byte in text.replace("\\", "\\\\").encode("utf-8", "surrogatepass"))
    yield octal.replace("'", "\\'")  # as $'…' of a shell in the locale C
    yield octal.replace('"', '\\"')  # as git writes a name
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield escaped
    for double in ("&quot;", "&#34;"):
        yield from (escaped.replace('"', double).replace("'", quoted) for quoted in ("'", "&#x27;", "&#39;", "&apos;"))
    yield "".join(sign if sign.isprintable() else "?" for sign in text)


def _numbers(raw: bytes) -> Iterator[bytes]:
    """The same bytes in base64, wherever in the encoded text they begin, and in hexadecimal digits."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset, skipped in ((0, 0), (1, 2), (2, 3)):
            # Only the digits that no neighbour of the value has a part in.
            whole = (offset + len(raw)) * 8 // 6
            yield encode(bytes(offset) + raw)[skipped:whole]
    yield raw.hex().encode()


def _parts(value: str) -> Iterator[str]:
    """What is telling in a URL, or in an address without a scheme: user, host, path and query."""
    text = value.strip()
    match = _URL.fullmatch(f"address://{text}" if _ADDRESS.fullmatch(text) else text)
    if match is None:
        return
    scheme, login, place, path, query = (part or "" for part in match.groups())
    yield from (f"{scheme}://{place}{path}", f"{scheme}://{place}", place, place.rpartition(":")[0], path)
    yield from (login, login.partition(":")[0])
    yield query
    yield from (argument.rpartition("=")[2] for argument in query.split("&"))
    for segment in (*path.split("/"), *place.split(".")):
        if len(segment) >= _SEGMENT or re.search("[0-9]", segment):
            yield segment


def _passwords(value: str) -> Iterator[str]:
    """Passwords in a value that has more in it, as they stand there and decoded: in addresses, or assigned to what is called so."""
    from urllib.parse import unquote

    match = _URL.fullmatch(value.strip())
    there = [(match[2] or "").partition(":")[2]] if match else []
    there += [password for _user, password in _LOGIN.findall(value)]
    there += ["".join(found) for found in _ASSIGNED.findall(value)]
    for password in there:
        yield from (password, unquote(password), *_decoded(password))


def _decoded(text: str) -> Iterator[str]:
    """What a text in base64 says, if it is one, and the password in it behind a user's name and a colon."""
    with contextlib.suppress(ValueError, binascii.Error):
        said = base64.b64decode(text.strip(), validate=True).decode()
        if said.isprintable():
            yield from (said, said.partition(":")[2])


def _is_harmless(text: str) -> bool:
    """Whether this is an address, which messages can't do without, or a yes or no."""
    import socket

    bare = text.strip("[]").partition("%")[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, bare)
        except (OSError, ValueError):
            continue
        return True
    return bare.lower() in ("localhost", "true", "false", "none", "null")
