# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors: whatever one does, it costs a bounded time and never integrity; and what it did bring need not come again."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import mirror as subject
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from bed import Host, Package, package, sha

RANDOM = random.Random(8)  # noqa: S311 - only has to be incompressible
BIG = RANDOM.randbytes(1 << 20)
SMALL = {f"lib/{number:03}": RANDOM.randbytes(3000) for number in range(40)}
ONE = package("1.0", {"data/big": BIG, **SMALL})
TWO = package("2.0", {"data/big": BIG[:500_000] + b"new" + BIG[500_000:], **SMALL, "lib/000": b"x", "lib/039": b"y"})
OTHER = package("2.0", {"data/big": BIG[::-1], **SMALL, "lib/000": b"x", "lib/039": b"z"})

PATH = "/dsl/blobs/sha256/" + sha(TWO.payload)


class Server(ThreadingHTTPServer):
    """Serves one package's payload, well or badly: ``manner`` names a method of the handler."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, what: Package, manner: str, path: str = PATH) -> None:
        self.content, self.manner, self.path = what.payload, manner, path
        self.requests: list[str | None] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.path.partition('/blobs/')[0]}"

    def handle_error(self, *_: Any) -> None:
        """The client may go whenever it likes."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        if self.path != self.server.path:
            self.send_error(404)
            return
        getattr(self, self.server.manner)(wanted)

    def part(self, wanted: str | None) -> tuple[int, int]:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
        assert found
        return int(found[1]), int(found[2])

    def head(self, first: int, last: int, length: int | None = None) -> None:
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.server.content)}")
        self.send_header("Content-Length", str(last - first + 1 if length is None else length))
        self.end_headers()

    def well(self, wanted: str | None) -> None:
        first, last = self.part(wanted)
        self.head(first, last)
        self.wfile.write(self.server.content[first : last + 1])

    def whole(self, _wanted: str | None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def lying(self, wanted: str | None) -> None:
        first, last = self.part(wanted)
        self.head(first, last)
        self.wfile.write(bytes(last - first + 1))

    def lying_whole(self, _wanted: str | None) -> None:
        self.send_response(200)
        self.end_headers()
        for _block in itertools.repeat(None, 1 << 20):
            self.wfile.write(bytes(1 << 16))  # and on, and on
        self.close_connection = True

    def truncating(self, wanted: str | None) -> None:
        first, last = self.part(wanted)
        self.head(first, last)
        self.wfile.write(self.server.content[first : (first + last) // 2])
        self.close_connection = True

    def dropping(self, wanted: str | None) -> None:
        """Now and then."""
        if len(self.server.requests) % 2:
            self.truncating(wanted)
        else:
            self.well(wanted)

    def recovering(self, wanted: str | None) -> None:
        """Not at first."""
        if len(self.server.requests) <= 2:
            self.send_error(503)
        else:
            self.well(wanted)

    def vanishing(self, wanted: str | None) -> None:
        """After the first answer nobody is there any more."""
        self.well(wanted)
        self.server.socket.close()
        self.close_connection = True

    def stalling(self, wanted: str | None) -> None:
        first, last = self.part(wanted)
        self.head(first, last)
        self.wfile.write(self.server.content[first : first + 100])
        self.server.over.wait(60)

    def mute(self, _wanted: str | None) -> None:
        self.server.over.wait(60)

    def dripping(self, wanted: str | None) -> None:
        first, last = self.part(wanted)
        self.head(first, last)
        for byte in self.server.content[first : last + 1]:
            self.wfile.write(bytes([byte]))
            if self.server.over.wait(0.02):
                return

    def dripping_head(self, _wanted: str | None) -> None:
        for number in itertools.count():
            self.wfile.write(b"HTTP/1.1 206 Partial Content\r\nX-Filler: " if not number else b"x")
            if self.server.over.wait(0.02):
                return

    def redirecting(self, _wanted: str | None) -> None:
        self.send_response(307)
        self.send_header("Location", f"http://user:hunter2@127.0.0.1:{self.server.server_port}{self.server.path}?token=hunter2")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def elsewhere(self, wanted: str | None) -> None:
        _first, last = self.part(wanted)
        self.head(0, last)
        self.wfile.write(self.server.content[: last + 1])

    def longer(self, wanted: str | None) -> None:
        first, last = self.part(wanted)
        self.head(first, last, last - first + 101)
        self.wfile.write(self.server.content[first : last + 1] + bytes(100))

    def refusing(self, _wanted: str | None) -> None:
        self.send_error(403, "secret hunter2")

    def failing(self, _wanted: str | None) -> None:
        self.send_error(503)

    def babbling(self, _wanted: str | None) -> None:
        self.wfile.write(b"\0\xff" * 1000)
        self.close_connection = True

    def zipping(self, wanted: str | None) -> None:
        first, last = self.part(wanted)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.server.content)}")
        self.send_header("Content-Length", "-1")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(b"ffffffffffffffffffff\r\n" + bytes(1000))
        self.close_connection = True


@contextlib.contextmanager
def serving(manner: str, what: Package = TWO, path: str = PATH) -> Iterator[Server]:
    server = Server(what, manner, path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PATIENCE", 1.0)


def assert_falls_back(host: Host, answer: dict[str, Any]) -> None:
    """The answer asks for the rest, nothing is visible, and pushing completes it."""
    assert answer["state"] == "lacking"
    assert answer["mirror"]["problem"]
    assert "hunter2" not in str(answer)
    assert TWO.id not in (os.listdir(host.home.releases) if host.home.releases.exists() else [])
    pack = host.root.with_name("pack")
    pack.write_bytes(TWO.pack(answer["need"]))
    assert host.ask(TWO, pack)["state"] == "staged"
    host.assert_whole()


# -- mirrors that do ------------------------------------------------------------


def test_a_first_install_comes_from_the_mirror_in_one_request(host: Host) -> None:
    with serving("well") as server:
        answer = host.ask(TWO, mirror=server.url)
    assert answer["state"] == "staged"
    host.assert_whole()
    assert len(server.requests) == 1
    assert answer["mirror"]["bytes"] <= len(TWO.payload) + 4096


def test_an_upgrade_fetches_just_the_missing_ranges(host: Host) -> None:
    host.stage(ONE)
    need = host.ask(TWO)["need"]
    with serving("well") as server:
        answer = host.ask(TWO, mirror=server.url + "/")
    assert answer["state"] == "staged"
    host.assert_whole()
    assert len(server.requests) == 3  # chunks, a file with others around it, and a file and the version, which are near each other
    assert answer["mirror"]["bytes"] <= 1.2 * sum(len(TWO.pieces[name]) for name in need) + 4096


def test_a_host_that_lacks_nothing_does_not_ask_the_mirror(host: Host) -> None:
    same = package("3.0", {"version": b"1.0", "data/big": BIG, **SMALL})
    host.stage(ONE)
    assert host.ask(same, mirror="http://127.0.0.1:1/")["state"] == "staged"


def test_a_server_without_ranges_is_used_too(host: Host) -> None:
    host.stage(ONE)
    with serving("whole") as server:
        answer = host.ask(TWO, mirror=server.url)
    assert answer["state"] == "staged"
    host.assert_whole()
    assert len(server.requests) == 1


def test_a_registry_is_asked_in_its_own_way(host: Host) -> None:
    with serving("well", path=f"/v2/releases/hello/blobs/sha256:{sha(TWO.payload)}") as server:
        assert host.ask(TWO, mirror=server.url)["state"] == "staged"
    host.assert_whole()


def test_a_connection_that_breaks_is_taken_up_where_it_broke(host: Host) -> None:
    with serving("dropping") as server:
        answer = host.ask(TWO, mirror=server.url)
    assert answer["state"] == "staged"
    host.assert_whole()
    assert answer["mirror"]["bytes"] < 1.5 * len(TWO.payload)


def test_a_mirror_that_recovers_is_waited_for(host: Host) -> None:
    with serving("recovering") as server:
        assert host.ask(TWO, mirror=server.url)["state"] == "staged"


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs a system Python")
def test_a_plain_static_file_server_over_a_directory_will_do(host: Host, tmp_path: Path) -> None:
    blobs = tmp_path / "dsl" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / sha(TWO.payload)).write_bytes(TWO.payload)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["/usr/bin/python3", "-m", "http.server", "-b", "127.0.0.1", "-d", str(tmp_path), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _attempt in range(50):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        assert host.ask(TWO, mirror=f"http://127.0.0.1:{port}/dsl")["state"] == "staged"
    finally:
        server.terminate()
        server.wait(10)
    host.assert_whole()


# -- mirrors that don't ---------------------------------------------------------


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("lying", "it has other bytes than the package"),
        ("lying_whole", "it has other bytes than the package"),
        ("truncating", "it ends too early|can't be read"),
        ("stalling", "next to nothing for 1 s"),
        ("mute", "next to nothing for 1 s"),
        ("dripping", "next to nothing for 1 s"),
        ("dripping_head", "next to nothing for 1 s"),
        ("redirecting", "it points elsewhere"),
        ("elsewhere", "another part"),
        ("longer", "more than it was asked for"),
        ("refusing", "it answers 403"),
        ("failing", "it answers 503"),
        ("babbling", "it can't be read"),
        ("zipping", "."),
    ],
)
@pytest.mark.parametrize("upgrade", [False, True])
def test_a_bad_mirror_costs_a_bounded_time_and_the_rest_is_pushed(host: Host, manner: str, said: str, upgrade: bool) -> None:
    if upgrade:
        host.deploy(ONE)
    with serving(manner) as server:
        answer = host.ask(TWO, mirror=server.url)
        assert len(server.requests) <= (1 if said.endswith(" s") else 20)  # how long one may take, the answer says
    if answer["state"] == "staged":  # it sent more, but what was asked for first
        assert manner == "longer"
        host.assert_whole()
        return
    assert re.search(said, answer["mirror"]["problem"])
    assert_falls_back(host, answer)


def test_a_mirror_that_vanishes_leaves_the_host_with_what_it_brought(host: Host) -> None:
    host.stage(ONE)
    before = host.ask(TWO)["need"]
    with serving("vanishing") as server:
        answer = host.ask(TWO, mirror=server.url)
    assert set(answer["need"]) < set(before)
    assert_falls_back(host, answer)


def test_a_mirror_with_a_valid_other_package_under_this_name_is_found_out(host: Host) -> None:
    with serving("well", OTHER) as server:
        answer = host.ask(TWO, mirror=server.url)
    assert answer["mirror"]["problem"] == "it has other bytes than the package"
    assert_falls_back(host, answer)


def test_a_mirror_without_this_package_is_said(host: Host) -> None:
    with serving("well", path="/dsl/blobs/sha256/" + "0" * 64) as server:
        answer = host.ask(TWO, mirror=server.url)
    assert answer["mirror"]["problem"] == "it answers 404"
    assert_falls_back(host, answer)


def test_a_mirror_that_is_not_there_is_said(host: Host) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer = host.ask(TWO, mirror=f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert answer["mirror"]["problem"] == "it can't be read (Connection refused)"
    assert_falls_back(host, answer)


def test_a_mirror_without_tls_is_no_https_mirror(host: Host) -> None:
    with serving("well") as server:
        answer = host.ask(TWO, mirror=server.url.replace("http:", "https:"))
    assert_falls_back(host, answer)


def test_all_of_a_fetch_has_a_limit_however_the_mirror_spreads_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_START", 1.5)
    monkeypatch.setattr(subject, "_RATE", 1 << 30)
    monkeypatch.setattr(subject, "_PACE", 10)  # which dripping keeps up with
    with serving("dripping") as server:
        answer = host.ask(TWO, mirror=server.url)
        assert len(server.requests) == 1
    assert "did not bring everything within" in answer["mirror"]["problem"]
    assert_falls_back(host, answer)


def test_a_full_disk_is_not_blamed_on_the_mirror(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with serving("well") as server, pytest.raises(HostError, match=r"No space left on device.*make room"):
        host.ask(TWO, mirror=server.url)
    assert os.listdir(host.home.staging) == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://mirror/dsl",
        "gopher://mirror",
        "/srv/dsl",
        "http://",
        "http:///dsl",
        "http://user:hunter2@mirror/dsl",
        "http://hunter2@mirror/dsl",
        "https://mirror/dsl?token=hunter2",
        "https://mirror/dsl#hunter2",
        "http://mirror:hunter2/dsl",
        "http://mirror:99999/dsl",
        "http://mir ror/dsl",
        "http://mirror/dsl\r\nX-Header: hunter2",
        "http://[::1/dsl",
        "http://mïrror/",
        "",
    ],
)
def test_another_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(HostError, match="correct its URL") as refusal:
        subject.Mirror(url)
    assert "hunter2" not in str(refusal.value)
