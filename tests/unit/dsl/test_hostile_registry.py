# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever answers in place of a registry costs neither memory nor disk beyond what was asked for, and is not believed."""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import json
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import registry as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.home import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.oci import Descriptor
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.wire import Wire
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError, TidegateError

ENOUGH = 256 << 20  # bytes that it has
DIGEST = f"sha256:{hashlib.sha256(b'x').hexdigest()}"


@functools.cache
def bomb() -> bytes:
    return gzip.compress(bytes(ENOUGH), 1)


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_request: object) -> None:
        """That nobody reads on is the point."""


class Answer(BaseHTTPRequestHandler):
    """One that says yes to everything, and goes on."""

    protocol_version = "HTTP/1.1"
    manner = "endless"
    numbers = itertools.count()

    def do_GET(self) -> None:
        getattr(self, self.manner)()

    def endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        block = bytes(1 << 20)
        try:
            for _block in range(ENOUGH >> 20):
                self.wfile.write(block)
        except OSError:
            return

    def packed(self) -> None:
        body = bomb()
        self.send_response(200 if "blobs" in self.path else 404)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            return

    def pages(self) -> None:
        number = next(self.numbers)
        body = json.dumps({"tags": [f"1.{number}"]}).encode()
        self.send_response(200)
        self.send_header("Link", f"</v2/releases/hello/tags/list?n=1&last={number}>; rel=next")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def astray(self) -> None:
        body = b'{"tags": []}'
        self.send_response(200)
        self.send_header("Link", "<http://[::1>; rel=next")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.send_response(202)
        self.send_header("Location", "http://[::1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[subject.Repository]:
    """The repository of a release at one that answers in the manner of the parameter."""
    handler = type("Handler", (Answer,), {"manner": request.param, "numbers": itertools.count()})
    bomb()
    server = Quiet(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        library = open_library(f"oci+http://127.0.0.1:{server.server_port}/releases")
        repository = library.repository("hello")
        assert isinstance(repository, subject.Repository)
        tracemalloc.start()
        yield repository
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 128 << 20
    finally:
        tracemalloc.stop()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("home", ["endless"], indirect=True)
def test_a_blob_without_end_is_cut_off_at_the_size_that_was_promised(
    home: subject.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spools: list[int] = []
    make = tempfile.TemporaryFile

    def spool(**options: str) -> object:
        stream = make(**options)
        write = stream.write
        monkeypatch.setattr(stream, "write", lambda block: spools.append(len(block)) or write(block), raising=False)
        return stream

    monkeypatch.setattr(subject.tempfile, "TemporaryFile", spool)
    with pytest.raises(IntegrityError, match="more than the 1000 bytes"):
        home.open_blob(DIGEST, 1000)
    assert sum(spools) <= 1000
    for ask in (lambda: home.read_blob(DIGEST, 1000), lambda: home.verify_blob(Descriptor("x", DIGEST, 1000))):
        with pytest.raises(IntegrityError, match="more than the 1000 bytes"):
            ask()


@pytest.mark.parametrize("home", ["endless"], indirect=True)
def test_documents_without_end_are_cut_off(home: subject.Repository) -> None:
    for ask in (lambda: home.read_manifest(DIGEST), lambda: home.resolve("hello", "1.0"), lambda: home.referrers(DIGEST), home.tags):
        with pytest.raises(IntegrityError, match="sends more than the"):
            ask()


@pytest.mark.parametrize("home", ["packed"], indirect=True)
def test_what_comes_packed_is_not_unpacked(home: subject.Repository) -> None:
    for ask in (lambda: home.open_blob(DIGEST, 1000), lambda: home.read_manifest(DIGEST)):
        with pytest.raises(TidegateError, match="sends packed bytes"):
            ask()


@pytest.mark.parametrize("home", ["pages"], indirect=True)
def test_a_list_that_never_ends_is_left(home: subject.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PAGES", 50)
    with pytest.raises(IntegrityError, match="more than 50 pages"):
        home.tags()


@pytest.mark.parametrize("home", ["astray"], indirect=True)
def test_an_address_that_is_none_is_told(home: subject.Repository) -> None:
    for ask in (home.tags, lambda: home.put_blob(b"x", "text/plain")):
        with pytest.raises(IntegrityError, match="which is no address"):
            ask()


def test_nothing_is_sent_without_tls_to_where_a_registry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one behind a proxy does that was not told its own address: it would get the blob, and the credentials, in the clear."""
    wire = Wire("registry.example", secure=True)
    monkeypatch.setattr(wire, "_send", lambda *_request: pytest.fail("it was sent"))
    upload = "http://registry.example/v2/releases/hello/blobs/uploads/1"
    with pytest.raises(TidegateError, match=r"on to http://registry\.example, without TLS"), wire.ask("PUT", upload, data=b"x"):
        pass
