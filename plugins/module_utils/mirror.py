# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching what a host lacks from a mirror near it, by HTTP.

Nobody trusts a mirror. It is asked for ranges of the payload blob, each piece counts only with the right sha256, and whatever else it does
costs a bounded time: every wait for it, and all of it together, has a limit. What it did not bring is pushed by the controller.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from .endpoint import EndpointError, read_url
from .package_documents import Payload
from .pieces import Assembly
from .release_record import HostError

_PATIENCE = 10.0  # seconds for the mirror to get on
_PACE = 256 << 10  # bytes that it has to bring in that time, or a whole piece
_START = 30.0  # seconds that a fetch may take, and more with what there is to fetch:
_RATE = 128 << 10  # bytes per second
_ATTEMPTS = 3  # connections in a row that bring nothing
_GAP = 16 << 10  # bytes between two pieces that are read rather than asked around
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

# Where a piece starts in the payload, its length, its sha256.
_Piece = tuple[int, int, str]


class _Broken(Exception):
    """The connection gave out; another one may do better."""


class UnusableMirror(Exception):
    """The mirror is too slow, does not have it, or has something else: no use in asking again."""


class Mirror:
    """A static file server over an OCI layout, or a repository of a registry: ``http[s]://host[:port][/path]``.

    A path with ``v2`` in it is a registry's. Raises :class:`HostError` for another URL, without repeating what may be secret.
    """

    def __init__(self, url: str) -> None:
        try:
            self._there = read_url(url if url.isascii() and not set(url) & set("?#@\\") else "")
        except EndpointError:
            raise HostError(
                "the mirror is not http://host[:port][/path], or the same with https, without user, password and query; correct its URL"
            ) from None
        self._path = self._there.target.rstrip("/")

    def fetch(self, payload: Payload, assembly: Assembly) -> dict[str, Any]:
        """Fetch what ``assembly`` needs; return ``bytes``, how many came, and ``problem``, why not all that is needed did, if so."""
        deadline = _Deadline(sum(assembly.need.values()))
        problem = ""
        failures = 0
        while assembly.need and failures < _ATTEMPTS:
            before = len(assembly.need)
            try:
                self._session(payload, assembly, deadline)
            except UnusableMirror as error:
                problem = str(error)
                break
            except _Broken as error:
                problem = str(error)
            failures = 0 if len(assembly.need) < before else failures + 1
        return {"bytes": deadline.bytes, "problem": problem} if assembly.need else {"bytes": deadline.bytes}

    def _session(self, payload: Payload, assembly: Assembly, deadline: _Deadline) -> None:
        """Fetch as much as one connection brings."""
        separator = ":" if "v2" in self._path.split("/") else "/"
        path = f"{self._path}/blobs/{payload.digest.replace(':', separator)}"
        pieces = sorted((assembly.starts[sha], size, sha) for sha, size in assembly.need.items())
        with _network():
            sock = self._connect(deadline)
        connection = http.client.HTTPConnection(self._there.name, self._there.port)
        connection.sock = _Wire(sock, deadline)
        try:
            for group in _groups(pieces):
                first, last = group[0][0], group[-1][0] + group[-1][1] - 1
                with _network():
                    wanted = {"Range": f"bytes={first}-{last}"} if last >= first else {}
                    connection.request("GET", path, headers={"Host": self._there.authority, **wanted})
                    response = connection.getresponse()
                if response.status == http.client.PARTIAL_CONTENT:
                    found = _CONTENT_RANGE.fullmatch(response.getheader("Content-Range", ""))
                    if not found or (int(found[1]), int(found[2])) != (first, last):
                        raise UnusableMirror("it sends another part than it was asked for")
                    _receive(response, first, group, assembly, deadline)
                    with _network():
                        if response.read(1):
                            raise UnusableMirror("it sends more than it was asked for")
                elif response.status == http.client.OK:
                    # It knows no ranges. What is needed is picked out of the whole as that passes by.
                    deadline.allow(payload.size)
                    _receive(response, 0, [piece for piece in pieces if piece[2] in assembly.need], assembly, deadline)
                    return
                elif response.status >= http.client.INTERNAL_SERVER_ERROR:
                    raise _Broken(f"it answers {response.status}")
                elif 300 <= response.status < 400:
                    raise UnusableMirror("it points elsewhere, where nobody follows")
                else:
                    raise UnusableMirror(f"it answers {response.status}")
        finally:
            connection.close()

    def _connect(self, deadline: _Deadline) -> socket.socket:
        sock = socket.create_connection((self._there.host, self._there.port), deadline.patience())
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._there.secure:
                return ssl.create_default_context().wrap_socket(sock, server_hostname=self._there.name)
        except BaseException:
            sock.close()
            raise
        return sock


def _groups(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces, in order of their starts, that one request fetches: those with little between them."""
    group: list[_Piece] = []
    for piece in pieces:
        end = group[-1][0] + group[-1][1] if group else 0
        if group and not end <= piece[0] <= end + _GAP:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _receive(response: http.client.HTTPResponse, position: int, pieces: list[_Piece], assembly: Assembly, deadline: _Deadline) -> None:
    """Take the pieces out of a body that starts at ``position`` of the payload."""

    def read(count: int) -> bytes:
        with _network():
            block = response.read(min(count, 1 << 16))
        if not block:
            raise _Broken("it ends too early")
        return block

    for start, size, sha in pieces:
        if start < position:
            continue  # overlaps with the one before; the next round asks for it
        while position < start:
            position += len(read(start - position))
        if not assembly.take(sha, read):
            raise UnusableMirror("it has other bytes than the package")
        position += size
        deadline.progressed()


class _Deadline:
    """How long the mirror may take, and how much it has brought, over all connections to it."""

    def __init__(self, size: int) -> None:
        self.bytes = 0
        self._begun = time.monotonic()
        self.allow(size)
        self.progressed()

    def allow(self, size: int) -> None:
        """There are ``size`` bytes to bring."""
        self._end = self._begun + _START + size / _RATE

    def progressed(self) -> None:
        """It brought something worth having."""
        self._since = time.monotonic()
        self._lately = 0

    def arrived(self, count: int) -> None:
        """It brought so many bytes of whatever."""
        self.bytes += count
        self._lately += count
        if self._lately >= _PACE:
            self.progressed()

    def patience(self) -> float:
        """Seconds to wait for it now; raises :class:`UnusableMirror` when there are none left."""
        now = time.monotonic()
        if now >= self._end:
            raise UnusableMirror(f"it did not bring everything within {now - self._begun:.0f} s")
        if now >= self._since + _PATIENCE:
            raise UnusableMirror(f"it brought next to nothing for {_PATIENCE:g} s")
        return min(self._end, self._since + _PATIENCE) - now


class _Wire(io.RawIOBase):
    """A socket for ``http.client`` that never waits longer than the line allows, however the bytes drip in."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What the response is read from."""
        return io.BufferedReader(_Wire(self._sock, self._deadline), 1 << 16)

    def sendall(self, data: bytes) -> None:
        """Send the request."""
        self._sock.settimeout(self._deadline.patience())
        self._sock.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._sock.settimeout(self._deadline.patience())
            with contextlib.suppress(socket.timeout):
                count = self._sock.recv_into(buffer)
                self._deadline.arrived(count)
                return count


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Failures of the network, apart from those of the disk."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(f"it can't be read ({getattr(error, 'strerror', None) or type(error).__name__})") from error
