# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a check or a mirror connects to: hosts, IPv6 literals with and without zone among them, ports and URLs, read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

PLACEHOLDER = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
OWN = ("release", "version", "digest", "tree", "state")  # what each release has on its host, in texts as ``${name}``
_ONLY_PLACEHOLDER = re.compile(r"\[?" + PLACEHOLDER.pattern + r"\]?")
# Of a URL: scheme, user and password, host with brackets if it has some, port, and all that follows.
_URL = re.compile(r"(https?)://(?:([^/?#]*)@)?(\[[^/?#\[\]]*\]|[^/?#\[\]:@]*)(?::([^/?#\[\]@]*))?([/?#].*)?", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}")
_ZONE = re.compile(r"[!-~]+")


class EndpointError(Exception):
    """A host, a port or a URL that is none; the message is for a person and repeats no user, password or query."""


class Endpoint(NamedTuple):
    """Where to connect to. ``host`` may have a zone (``fe80::1%eth0``), which is this machine's own; ``target`` is path and query."""

    secure: bool
    host: str
    port: int
    target: str

    @property
    def name(self) -> str:
        """The host as its certificate and other machines have it: without a zone."""
        return self.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """The host as a URL and the Host header have it: IPv6 in brackets, the port unless it is the usual one."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == (443 if self.secure else 80) else f"{name}:{self.port}"

    @property
    def shown(self) -> str:
        """Scheme, authority and path: a query can have secrets in it."""
        return f"{'https' if self.secure else 'http'}://{self.authority}{re.split('[?#]', self.target)[0]}"


def fill(text: str, settings: Mapping[str, Any]) -> str:
    """Put the settings in place of ``${name}``. Raises :class:`EndpointError` for one that there is not."""

    def value(match: "re.Match[str]") -> str:
        if match.group(1) not in settings:
            raise EndpointError(f"{match.group()} is not one of the settings")
        return str(settings[match.group(1)])

    return PLACEHOLDER.sub(value, text)


def read_host(text: str) -> str:
    """A name, an IPv4 address or an IPv6 literal, the latter without the brackets it may have. Raises :class:`EndpointError`."""
    literal = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in literal or literal != text:
        address, percent, zone = literal.partition("%")
        if not _is_ipv6(address) or (percent and not _ZONE.fullmatch(zone)):
            raise EndpointError(f"{_quoted(text)} is neither a name nor an address")
        return literal
    try:
        text.encode("idna")
    except UnicodeError:
        raise EndpointError(f"{_quoted(text)} is neither a name nor an address") from None
    if not text or not text.isprintable() or set(text) & set(' /?#@[]\\%"<>'):
        raise EndpointError(f"{_quoted(text)} is neither a name nor an address")
    return text


def read_port(text: str) -> int:
    """A port from 1 to 65535. Raises :class:`EndpointError`."""
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise EndpointError(f"{_quoted(text)} is not a port from 1 to 65535")
    return int(text)


def read_url(text: str, settings: Optional[Mapping[str, Any]] = None) -> Endpoint:
    """An URL with http or https, ``${name}`` in it replaced by the settings. Raises :class:`EndpointError`.

    An IPv6 literal that a setting has gets its brackets where it stands for the whole host.
    """
    settings = settings or {}
    parts = _URL.fullmatch(text)
    alone = parts is not None and parts.group(4) is None and _ONLY_PLACEHOLDER.fullmatch(parts.group(3))
    if parts is not None and alone and not _is_ipv6(fill(parts.group(3), settings).strip("[]").partition("%")[0]):
        # A setting may have more than the host in it, such as a port.
        parts, settings = _URL.fullmatch(fill(text, settings)), {}
    if parts is None:
        raise EndpointError("it is not http://host[:port][/path], or the same with https")
    secure = parts.group(1) == "https"
    # Each part by itself: the colons of an address must not be taken for the one before a port.
    host, port, target = (fill(part or "", settings) for part in parts.group(3, 4, 5))
    if parts.group(3).startswith("["):
        host = host[1:-1].strip("[]")
        if not _is_ipv6(host.partition("%")[0]):
            raise EndpointError(f"{_quoted(host)} is not an IPv6 address, but stands in brackets")
        if "${" not in parts.group(3):
            host = re.sub("%25(?=.)", "%", host)  # as RFC 6874 has a zone in URLs
    target = target.partition("#")[0]
    if not target.isascii() or not target.isprintable() or " " in target:
        raise EndpointError("its path or query has a space, or a sign that no URL has")
    if not target.startswith("/"):
        target = f"/{target}"
    return Endpoint(secure, read_host(host), read_port(port) if port else (443 if secure else 80), target)


def _is_ipv6(text: str) -> bool:
    if ":" not in text:
        return False
    import socket  # noqa: PLC0415 - needed for this alone

    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


def _quoted(text: str) -> str:
    return ascii(text)  # all of it: whoever shows this takes the values of settings out first
