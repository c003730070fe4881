# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP session with a registry that ends: each answer has a pace, a deadline and a size, and leads only where the scheme allows.

Rules, for every request, also those for a token:

- From a registry with TLS nothing leads to an address without. From one without, both are fine, for it sees no credentials.
- Credentials stay with the host that they were sent to.
- Nothing leads to this machine, or to an address that only this machine's own network segment has, unless the registry is there itself.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import ipaddress
import socket
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from ..errors import IntegrityError, TidegateError
from ..settings import without_login

BLOCK = 1 << 20
"""Bytes that are read at once."""
PATIENCE = 60.0
"""Seconds in which a registry has to begin to answer, and in which it has to bring or take :data:`PACE` bytes."""
PACE = 256 << 10
DEADLINE = 300.0
"""Seconds that a registry may take for a document, or for all pages of a list."""
IN_A_ROW = 100
HOPS = 10
"""Redirects in a row; what container tools follow."""

_CONNECT = 10.0  # seconds
_RETRY_AFTER = 30.0  # seconds that a registry may tell us to wait before the next attempt
_ANSWER = 1 << 20  # bytes of a token with what is around it
_REDIRECTS = (301, 302, 303, 307, 308)


class SlowError(TidegateError):
    """The registry took longer than anybody waits."""


class Allowance:
    """How long a registry may take for one thing that it is asked, all attempts and redirects together, and how much it may send.

    Only time in which we wait for it counts.
    """

    def __init__(self, who: str, size: int = _ANSWER, seconds: float | None = None) -> None:
        """``size`` in bytes; ``seconds`` are :data:`DEADLINE` unless given, and infinity where only the pace counts."""
        self._who = who
        self._seconds = DEADLINE if seconds is None else seconds
        self._waited = self._moved = 0.0
        self._stretch = self._brought = 0.0
        # What is around the content: headers, chunks, and the block that shows that it is too long.
        self._bytes = 2 * (size + BLOCK)

    @property
    def excess(self) -> float:
        """Seconds that it took beyond those in which it may bring what it brought."""
        return max(0.0, self._waited - self._moved / PACE * PATIENCE)

    def begin(self) -> None:
        """A new stretch, as between sending and the answer."""
        self._stretch, self._brought = self._waited, 0

    def patience(self) -> float:
        """How many seconds to wait now; raises :class:`SlowError` when it was too long already."""
        left = min(self._stretch + PATIENCE, self._seconds) - self._waited
        if left <= 0:
            raise self.slow()
        return left

    def waited(self, seconds: float) -> None:
        """Count time."""
        self._waited += seconds

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Count all the time of a request, be it for connections that fail, or because the registry wants to be left alone for a while."""
        begun, before = time.monotonic(), self._waited
        try:
            yield
        finally:
            uncounted = time.monotonic() - begun - (self._waited - before)
            self._waited += uncounted
            self._stretch += uncounted  # it is no time without a byte of the answer

    def moved(self, size: int) -> None:
        """Count bytes that were sent or received."""
        self._brought += size
        self._moved += size
        if self._brought >= PACE:
            self.begin()

    def received(self, size: int) -> None:
        """Count bytes that were received; raises :class:`IntegrityError` when they are too many."""
        self.moved(size)
        self._bytes -= size
        if self._bytes < 0:
            raise IntegrityError(f"{self._who} sends far more than it was asked for; look at what answers at that address")

    def slow(self) -> SlowError:
        """What went wrong when it took too long."""
        advice = "look at what answers at that address, and at the network to it"
        if self._waited >= self._seconds:
            return SlowError(f"{self._who} took more than {self._seconds:g} seconds for one document or list; {advice}")
        if not self._brought:
            return SlowError(f"{self._who} did not answer within {PATIENCE:g} seconds; {advice}")
        return SlowError(f"{self._who} is slower than {PACE >> 10} KiB in {PATIENCE:g} seconds; {advice}")


class Pace:
    """How long a registry took for what it was asked last, so that many slow answers have an end, too.

    For :data:`IN_A_ROW` things together it may take as long as for a document, and longer only for what it brings meanwhile.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._asked, self._seconds = 0, 0.0

    def check(self) -> None:
        """Raise :class:`SlowError` when it was too long already."""
        if self._seconds > DEADLINE:
            raise SlowError(
                f"{self._who} took more than {DEADLINE:g} seconds for {self._asked} things in a row, which nobody waits for when there are "
                "many; look at what answers at that address, and at the network to it"
            )

    def count(self, seconds: float) -> None:
        """Count one thing that it was asked."""
        if self._asked == IN_A_ROW:
            self._asked, self._seconds = 0, 0.0
        self._asked, self._seconds = self._asked + 1, self._seconds + seconds


_ALLOWANCE: ContextVar[Allowance] = ContextVar("_ALLOWANCE")


class _Incoming(io.RawIOBase):
    """What arrives on a socket, as long as the allowance lasts."""

    def __init__(self, raw: Any, sock: Any, allowance: Allowance) -> None:
        self._raw, self._sock, self._allowance = raw, sock, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._allowance.patience())
        begun = time.monotonic()
        try:
            size: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            self._allowance.waited(time.monotonic() - begun)
            raise self._allowance.slow() from None
        self._allowance.waited(time.monotonic() - begun)
        self._allowance.received(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """One whose status line and headers are under the allowance as well."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        allowance = _ALLOWANCE.get()  # of the request that this is the answer to
        allowance.begin()
        self.fp = io.BufferedReader(_Incoming(self.fp.detach(), sock, allowance), 1 << 16)


class Upload:
    """A file that is sent; how fast it goes counts against the allowance."""

    def __init__(self, stream: BinaryIO, size: int, allowance: Allowance) -> None:
        self._stream, self._size, self._allowance = stream, size, allowance
        self._since: float | None = None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(functools.partial(self.read, BLOCK), b"")

    def read(self, size: int = -1) -> bytes:
        """The next bytes; raises :class:`SlowError` when those before were taken too slowly."""
        if self._since is not None:
            self._allowance.waited(time.monotonic() - self._since)
            self._allowance.patience()
        block = self._stream.read(size)
        self._allowance.moved(len(block))
        self._since = time.monotonic()
        return block

    def seek(self, position: int, whence: int = 0) -> int:
        """As that of a file."""
        self._since = None
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        """As that of a file."""
        return self._stream.tell()


# Without these libraries nobody gets here, but the file can be imported.
with contextlib.suppress(ImportError):
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter

    class _Plain(urllib3.connection.HTTPConnection):
        response_class = _Response

    class _Secure(urllib3.connection.HTTPSConnection):
        response_class = _Response

    class _PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = _Plain

    class _SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = _Secure

    class _Retry(urllib3.util.Retry):
        def get_retry_after(self, response: Any) -> float | None:
            wanted = super().get_retry_after(response)
            return None if wanted is None else min(wanted, _RETRY_AFTER)

    class _Adapter(HTTPAdapter):
        """Connections whose answers are under the allowance, through a proxy too."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = _POOLS

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **options)
            if not proxy.lower().startswith("socks"):  # one of those has connections of its own
                manager.pool_classes_by_scheme = _POOLS
            return manager

    _POOLS = {"http": _PlainPool, "https": _SecurePool}

    class Session(requests.Session):
        """Requests to one registry and to where it sends its clients on to, by the rules above."""

        def __init__(self, host: str, secure: bool) -> None:
            super().__init__()
            self.who = f"the registry {host}"
            self._home = _origin(f"{'https' if secure else 'http'}://{host}")
            again = _Retry(
                total=4,
                connect=2,
                backoff_factor=0.3,
                status_forcelist=(429, 500, 502, 503, 504),
                allowed_methods=("GET", "HEAD"),
                raise_on_status=False,
            )
            for scheme in ("https://", "http://"):
                self.mount(scheme, _Adapter(max_retries=again))
            # As it is: what a blob is was settled when it got its digest.
            self.headers["Accept-Encoding"] = "identity"
            # Else credentials out of ~/.netrc would take the place of ours, at every host that has some there.
            self.auth = _as_it_is

        def at_home(self, url: str) -> bool:
            """Whether an address is the registry's own."""
            return _origin(url) == self._home

        def request(  # type: ignore[override]  # what its methods would add is not asked for
            self, method: str, url: str, allowance: Allowance | None = None, headers: Any = None, **options: Any
        ) -> requests.Response:
            """The response after all redirects, whose content was not read yet."""
            headers, first = dict(headers or {}), _origin(url)
            options |= {"stream": True, "allow_redirects": False, "timeout": (_CONNECT, PATIENCE)}
            allowance = allowance or Allowance(self.who)
            token = _ALLOWANCE.set(allowance)
            try:
                for _hop in range(HOPS + 1):
                    self._check(url)
                    with allowance.asking():
                        response = super().request(method, url, headers=headers, **options)
                    if response.headers.get("Content-Encoding", "identity") != "identity":
                        response.close()
                        # A block of it could come to a thousand times its size before anybody counts.
                        raise TidegateError(f"{self.who} sends packed bytes, unasked; look at what answers there")
                    there = self._leads_to(method, response)
                    if there is None:
                        return response
                    response.close()
                    url = there
                    options.pop("params", None)
                    if _origin(url) != first:
                        headers.pop("Authorization", None)
                        if isinstance(options.get("data"), dict):  # a form, with an identity token in it
                            del options["data"]
                    if hasattr(options.get("data"), "seek"):
                        options["data"].seek(0)
            finally:
                _ALLOWANCE.reset(token)
            raise TidegateError(f"{self.who} sends its clients on more than {HOPS} times, last to {_shown(url)}; look at its log")

        def _leads_to(self, method: str, response: requests.Response) -> str | None:
            status = response.status_code
            there = response.headers.get("Location")
            if there is None or status not in _REDIRECTS or (method not in ("GET", "HEAD") and status not in (307, 308)):
                return None
            return joined(response.url, there)

        def _check(self, url: str) -> None:
            """Refuse an address that no request may go to."""
            scheme, host, _port = _origin(url)
            if scheme not in ("http", "https") or not host:
                raise TidegateError(f"{self.who} sends its clients on to {_shown(url)}, which is no http or https; look at its log")
            if self._home[0] == "https" and scheme != "https":
                raise TidegateError(
                    f"{self.who} sends its clients on to {_shown(url)}, without TLS; tell it its own address (for "
                    "Distribution, http.host: https://...), or have its proxy send X-Forwarded-Proto"
                )
            if not self.at_home(url) and _is_near(host) and not _is_near(self._home[1]):
                raise TidegateError(
                    f"{self.who} sends its clients on to {_shown(url)}, which is this machine or only its own network segment; nobody goes "
                    "there for a registry that is elsewhere; look at its log"
                )


def joined(base: str, address: str) -> str:
    """Where an address leads that was found at ``base``; raises :class:`IntegrityError` when it is none."""
    try:
        found = urljoin(base, address)
        _origin(found)
    except ValueError as error:
        raise IntegrityError(
            f"the registry at {urlsplit(base).netloc} sends its clients on to {without_login(address)!a:.100}, which is no address; "
            "look at its log"
        ) from error
    return found


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port; raises :class:`ValueError` for what is no address."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or (443 if parts.scheme.lower() == "https" else 80)


def _is_near(host: str) -> bool:
    """Whether a host is this machine, or at an address that routers don't pass on, as those that tell a cloud's machines their secrets."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False  # a proxy may know it
    addresses = [ipaddress.ip_address(one.partition("%")[0]) for one in found]
    plain = [getattr(one, "ipv4_mapped", None) or one for one in addresses]
    return any(one.is_loopback or one.is_link_local or one.is_unspecified for one in plain)


def _shown(url: str) -> str:
    """An address without what may be secret or long in it."""
    scheme, host, _port = _origin(url)
    return f"{scheme}://{host}"[:100].encode("ascii", "backslashreplace").decode()


def _as_it_is(request: Any) -> Any:
    return request
