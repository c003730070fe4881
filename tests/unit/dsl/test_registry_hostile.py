# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever answers in place of a registry costs neither memory nor disk beyond what was asked for, and is not believed."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import itertools
import json
import re
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import registry as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import registry_session as session
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import Descriptor
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry_requests import Wire
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
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

    def _drip(self, text: bytes) -> None:
        """A byte now and then, without end."""
        self.close_connection = True
        try:
            for index in itertools.count():
                self.wfile.write(text[index % len(text) :][:1])
                time.sleep(0.02)
        except OSError:
            return

    def slow_body(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self._drip(b" ")

    def slow_chunks(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._drip(b"1\r\n{\r\n")

    def slow_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._drip(b"X: y\r\n")

    def never_final(self) -> None:
        self._drip(b"HTTP/1.1 100 Continue\r\n\r\n")

    def slow_pages(self) -> None:
        time.sleep(0.15)
        self.pages()

    def busy(self) -> None:
        self.send_response(503)
        self.send_header("Retry-After", "86400")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def busy_pages(self) -> None:
        """Each page only after a while, which it says to wait."""
        if next(self.numbers) % 3:  # a page counts, too
            self.pages()
        else:
            self.busy()

    def own_tags(self) -> None:
        """Says of very many tags that each is evidence."""
        number = next(self.numbers)
        tags = [f"{DIGEST.replace(':', '-')}.{tag:032x}" for tag in range(2000)]
        body = json.dumps({"tags": tags}).encode() if "/tags/" in self.path else b""
        assert number < 100, "it was asked for each"
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def leisurely(self) -> None:
        """Each manifest in a time that one may take."""
        time.sleep(0.15)
        self.send_error(404)

    def round_and_round(self) -> None:
        self.send_response(307)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

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
def home(request: pytest.FixtureRequest) -> Iterator[subject.RegistryRepository]:
    """The repository of a release at one that answers in the manner of the parameter."""
    handler = type("Handler", (Answer,), {"manner": request.param, "numbers": itertools.count()})
    bomb()
    server = Quiet(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        library = open_library(f"oci+http://127.0.0.1:{server.server_port}/releases")
        repository = library.repository("hello")
        assert isinstance(repository, subject.RegistryRepository)
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
    home: subject.RegistryRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
def test_documents_without_end_are_cut_off(home: subject.RegistryRepository) -> None:
    for ask in (lambda: home.read_manifest(DIGEST), lambda: home.resolve("hello", "1.0"), lambda: home.referrers(DIGEST), home.tags):
        with pytest.raises(IntegrityError, match="sends more than the"):
            ask()


@pytest.mark.parametrize("home", ["packed"], indirect=True)
def test_what_comes_packed_is_not_unpacked(home: subject.RegistryRepository) -> None:
    for ask in (lambda: home.open_blob(DIGEST, 1000), lambda: home.read_manifest(DIGEST)):
        with pytest.raises(TidegateError, match="sends packed bytes"):
            ask()


@pytest.mark.parametrize("home", ["pages"], indirect=True)
def test_a_list_that_never_ends_is_left(home: subject.RegistryRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PAGES", 50)
    with pytest.raises(IntegrityError, match="more than 50 pages"):
        home.tags()


@pytest.mark.parametrize("home", ["astray"], indirect=True)
def test_an_address_that_is_none_is_told(home: subject.RegistryRepository) -> None:
    for ask in (home.tags, lambda: home.put_blob(b"x", "text/plain")):
        with pytest.raises(IntegrityError, match="which is no address"):
            ask()


def test_nothing_is_sent_without_tls_to_where_a_registry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one behind a proxy does that was not told its own address: it would get the blob, and the credentials, in the clear."""
    wire = Wire("registry.example", secure=True)
    monkeypatch.setattr(requests.Session, "request", lambda *_request, **_options: pytest.fail("it was sent"))
    upload = "http://registry.example/v2/releases/hello/blobs/uploads/1"
    with pytest.raises(TidegateError, match=r"on to http://registry\.example, without TLS"), wire.ask("PUT", upload, data=b"x"):
        pass


SLOW = ["slow_body", "slow_chunks", "slow_headers", "never_final"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has a minute."""
    monkeypatch.setattr(session, "PATIENCE", 0.3)
    monkeypatch.setattr(session, "DEADLINE", 0.8)
    monkeypatch.setattr(session, "IN_A_ROW", 1)


@pytest.mark.parametrize("home", SLOW, indirect=True)
def test_a_byte_now_and_then_is_not_waited_for_without_end(home: subject.RegistryRepository, hasty: None) -> None:
    asked = [lambda: home.resolve("hello", "1.0"), lambda: home.open_blob(DIGEST, 1000), home.tags, lambda: home.referrers(DIGEST)]
    for ask in asked:
        with pytest.raises(TidegateError, match=r"the registry 127\.0\.0\.1:\d+ is slower than 256 KiB in 0.3 seconds; look at"):
            ask()


@pytest.mark.parametrize("home", ["slow_pages"], indirect=True)
def test_all_pages_of_a_list_have_one_deadline(home: subject.RegistryRepository, hasty: None) -> None:
    with pytest.raises(TidegateError, match=r"took more than 0\.8 seconds for one document or list"):
        home.tags()


@pytest.mark.parametrize("home", ["slow_body"], indirect=True)
def test_one_that_brings_enough_may_take_as_long_as_it_needs_for_a_blob_but_not_for_a_document(
    home: subject.RegistryRepository, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PACE", 1)
    with pytest.raises(IntegrityError, match="more than the 60 bytes"):
        home.open_blob(DIGEST, 60)
    with pytest.raises(TidegateError, match=r"took more than 0\.8 seconds"):
        home.read_manifest(DIGEST)


def test_what_is_sent_has_to_be_taken_at_a_pace(hasty: None) -> None:
    data = session.Upload(io.BytesIO(bytes(1000)), 1000, session.Allowance("the registry"))
    assert len(data.read(1)) == 1
    time.sleep(0.4)
    with pytest.raises(TidegateError, match=r"the registry is slower than 256 KiB in 0\.3 seconds"):
        data.read(1)


@pytest.mark.parametrize("home", ["busy"], indirect=True)
def test_how_long_a_registry_wants_to_be_left_alone_has_a_limit(home: subject.RegistryRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(session.urllib3.util.retry.time, "sleep", pauses.append)
    with pytest.raises(TidegateError, match="answered 503"):
        home.resolve("hello", "1.0")
    assert pauses
    assert max(pauses) <= 30


@pytest.mark.parametrize("home", ["busy_pages"], indirect=True)
def test_to_be_left_alone_before_each_page_counts_as_well(home: subject.RegistryRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PAGES", 50)
    clock = Clock(monkeypatch)
    with pytest.raises(TidegateError, match=r"took more than 300 seconds for one document or list"):
        home.tags()
    assert clock.slept == [30] * 10


@pytest.mark.parametrize("home", ["busy"], indirect=True)
def test_a_pause_is_no_time_without_a_byte(home: subject.RegistryRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    allowance = home.library.wire.allowance(1000)
    with pytest.raises(TidegateError, match="answered 503"), home.library.wire.ask("GET", "blob", allowance=allowance):
        pass
    assert sum(clock.slept) == 120
    assert allowance.patience() == session.PATIENCE


class Clock:
    """Time that passes only where a pause is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        moment = SimpleNamespace(monotonic=lambda: sum(self.slept), sleep=self.slept.append)
        monkeypatch.setattr(session, "time", moment)
        monkeypatch.setattr(session.urllib3.util.retry, "time", moment)


@pytest.mark.parametrize("home", ["own_tags"], indirect=True)
def test_no_more_evidence_is_asked_for_than_anybody_means(home: subject.RegistryRepository) -> None:
    with pytest.raises(IntegrityError, match=r"2000 tags of .* refer to .* and no list has them, more than 1000; find out who set them"):
        home.referrers(DIGEST)


@pytest.mark.parametrize("home", ["leisurely"], indirect=True)
def test_many_slow_answers_have_a_limit_together(home: subject.RegistryRepository, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "IN_A_ROW", 100)
    with pytest.raises(TidegateError, match=r"took more than 0\.8 seconds for \d things in a row"):
        _resolve_all(home)


def _resolve_all(home: subject.RegistryRepository) -> None:
    for number in range(20):
        home.resolve("hello", f"1.{number}")


def test_what_is_brought_meanwhile_may_take_its_time() -> None:
    pace = session.Pace("the registry")
    for _blob in range(1000):
        allowance = session.Allowance("the registry", 1 << 30, float("inf"))
        allowance.waited(600)
        allowance.received(3 << 20)
        pace.count(allowance.excess)
        pace.check()
    for _document in range(1000):
        pace.count(2)
        pace.check()


@pytest.mark.parametrize("home", ["round_and_round"], indirect=True)
def test_a_registry_that_sends_its_clients_round_and_round_is_left(home: subject.RegistryRepository) -> None:
    for ask in (lambda: home.resolve("hello", "1.0"), lambda: home.open_blob(DIGEST, 1000)):
        with pytest.raises(TidegateError, match="sends its clients on more than 10 times, last to http://127"):
            ask()


class Somewhere:
    """In place of the network: by address, status and headers of the answer; what was sent is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, tuple[int, dict[str, str]]], **near: bool) -> None:
        self.answers, self.sent, self.forms = answers, [], list[Any]()
        monkeypatch.setattr(requests.Session, "request", lambda _me, *request, **options: self.answer(*request, **options))
        monkeypatch.setattr(session, "_is_near", lambda host: near.get(host.replace(".", "_"), False))
        monkeypatch.setattr(Wire, "_log_in", lambda _self, _challenge: "Bearer secret")

    def answer(self, _method: str, url: str, headers: dict[str, str], **options: object) -> requests.Response:
        self.sent.append((url, headers.get("Authorization")))
        self.forms.append(options.get("data"))
        response = requests.Response()
        response.status_code, more = self.answers[url]
        response.headers.update(more)
        response.url, response.raw = url, io.BytesIO(b'{"access_token": "for-a-while"}')
        return response


HERE, STORE = "https://registry.example/v2/blob", "https://store.example/blob?signed=yes"
LOGIN = {"Www-Authenticate": 'Bearer realm="https://login.example/token"'}


def test_a_blob_may_be_elsewhere_but_our_credentials_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """As registries do whose blobs are in an object store, which takes a signed address and refuses one with credentials besides."""
    there = Somewhere(monkeypatch, {HERE: (401, LOGIN), STORE: (200, {})})
    wire = Wire("registry.example", secure=True)
    with pytest.raises(TidegateError, match="does not let this user"), wire.ask("GET", "blob"):
        pass
    there.answers[HERE] = (307, {"Location": STORE})
    with wire.ask("GET", "blob"):
        assert there.sent[-2:] == [(HERE, "Bearer secret"), (STORE, None)]
    there.answers[HERE] = (302, {"Location": "https://registry.example:443/v2/other"})
    there.answers["https://registry.example:443/v2/other"] = (200, {})
    with wire.ask("GET", "blob"):
        assert there.sent[-1][1] == "Bearer secret"


def test_what_a_registry_repeats_of_our_credentials_is_not_shown() -> None:
    wire = Wire("registry.example", secure=True)
    basic = base64.b64encode(b"rita:hidden-1").decode()
    wire._secrets = [basic, "hidden-token-2"]
    said = json.dumps({"errors": [{"code": f"Bearer hidden-token-2 {'x' * 60}", "message": f"{'x' * 170} Basic {basic}"}]}).encode()
    for status in (403, 500):
        response: Any = SimpleNamespace(status_code=status, reason="no hidden-1", iter_content=lambda _size: iter([said]))
        message = wire._refused("GET", HERE, response)
        assert "${password}" in message
        assert "hidden" not in message
        assert basic[:8] not in message


def test_nobody_else_says_where_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Somewhere(monkeypatch, {HERE: (307, {"Location": STORE}), STORE: (401, LOGIN)})
    monkeypatch.setattr(Wire, "_log_in", lambda *_arguments: pytest.fail("it logged in"))
    with pytest.raises(TidegateError, match="401"), Wire("registry.example", secure=True).ask("GET", "blob"):
        pass
    assert [auth for _url, auth in there.sent] == [None, None]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://store.example/blob", "on to http://store.example, without TLS"),
        ("http://registry.example/v2/blob", "on to http://registry.example, without TLS"),
        ("file:///etc/shadow", "which is no http or https"),
        ("ftp://store.example/blob", "which is no http or https"),
        ("https://internal.example/", "which is this machine or only its own network segment"),
    ],
)
def test_a_redirect_leads_only_where_the_scheme_allows(monkeypatch: pytest.MonkeyPatch, address: str, why: str) -> None:
    there = Somewhere(monkeypatch, {HERE: (307, {"Location": address})}, internal_example=True)
    with pytest.raises(TidegateError, match=re.escape(why)), Wire("registry.example", secure=True).ask("GET", "blob"):
        pass
    assert [url for url, _auth in there.sent] == [HERE]


def test_a_registry_without_tls_may_send_its_clients_to_one_with(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Somewhere(monkeypatch, {"http://registry.example/v2/blob": (301, {"Location": HERE}), HERE: (200, {})})
    with Wire("registry.example", secure=False).ask("GET", "blob"):
        assert len(there.sent) == 2


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_what_was_sent_is_sent_again_only_when_the_registry_says_so(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    there = Somewhere(monkeypatch, {HERE: (302, {"Location": STORE}), STORE: (200, {})})
    with pytest.raises(TidegateError, match="answered 302"), Wire("registry.example", secure=True).ask(method, "blob", data=b"x"):
        pass
    there.answers[HERE] = (308, {"Location": STORE})
    with Wire("registry.example", secure=True).ask(method, "blob", data=b"x"):
        assert there.sent[-1][0] == STORE


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("localhost", True), ("169.254.169.254", True), ("2852039166", True), ("0", True), ("::1", True),
     ("fe80::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False), ("192.0.2.1", False), ("no such host", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine_or_its_segment(host: str, near: bool) -> None:
    assert session._is_near(host) == near


@pytest.mark.parametrize("realm", ["http://login.example/token", "https://internal.example/token"])
def test_a_password_goes_nowhere_without_tls_or_into_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, realm: str) -> None:
    auths = {"auths": {"registry.example": {"auth": "cml0YTpvcGVuc2VzYW1l"}}}
    (tmp_path / "auth.json").write_text(json.dumps(auths))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    log_in = Wire._log_in
    there = Somewhere(monkeypatch, {HERE: (401, {"Www-Authenticate": f'Bearer realm="{realm}"'})}, internal_example=True)
    monkeypatch.setattr(Wire, "_log_in", log_in)
    with pytest.raises(TidegateError, match="sends its clients on to"), Wire("registry.example", secure=True).ask("GET", "blob"):
        pass
    assert there.sent == [(HERE, None)]


TOKENS = "https://login.example/token"
BEARER, BASIC = f'Bearer realm="{TOKENS}",service="registry",scope="repository:a:pull,push"', 'Basic realm="registry"'


class LoggedIn(Somewhere):
    """The same with a registry that wants to know who asks, and an entry for it among the credentials."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, entry: dict[str, str], challenge: str) -> None:
        (folder / "auth.json").write_text(json.dumps({"auths": {"registry.example": entry}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(folder / "auth.json"))
        monkeypatch.setenv("HOME", str(folder))
        log_in = Wire._log_in
        super().__init__(monkeypatch, {HERE: (401, {"Www-Authenticate": challenge}), TOKENS: (200, {})})
        monkeypatch.setattr(Wire, "_log_in", log_in)

    def ask(self) -> str:
        """What was said when it did not let us in, as nobody gets in."""
        with pytest.raises(TidegateError) as caught, Wire("registry.example", secure=True).ask("GET", "blob"):
            pass
        return str(caught.value)


PASSWORD = {"auth": "cml0YTpvcGVuc2VzYW1l"}
IDENTITY = {"auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode(), "identitytoken": "hidden-identity"}


@pytest.mark.parametrize("challenge", [f"{BEARER}, {BASIC}", f"{BASIC}, {BEARER}", f"Negotiate, {BASIC}, {BEARER}"])
def test_of_several_ways_to_log_in_a_token_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, challenge: str) -> None:
    there = LoggedIn(monkeypatch, tmp_path, PASSWORD, challenge)
    there.ask()
    assert there.sent == [(HERE, None), (TOKENS, f"Basic {PASSWORD['auth']}"), (HERE, "Bearer for-a-while")]


def test_of_several_ways_to_log_in_a_password_is_taken_where_no_token_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = LoggedIn(monkeypatch, tmp_path, PASSWORD, f"Negotiate, {BASIC}")
    there.ask()
    assert there.sent == [(HERE, None), (HERE, f"Basic {PASSWORD['auth']}")]


@pytest.mark.parametrize("realm", ["registry", "login.example/token", "/token", "//login.example/token", "", "mailto:rita", "https:/token"])
def test_a_realm_that_is_no_address_gets_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, realm: str) -> None:
    there = LoggedIn(monkeypatch, tmp_path, PASSWORD, f'Bearer realm="{realm}", {BASIC}')
    assert there.ask() == (
        f"the registry registry.example has tokens at '{realm}', which is no https address; correct the realm in its settings"
    )
    assert there.sent == [(HERE, None)]


def test_an_identity_token_is_exchanged_where_the_registry_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = LoggedIn(monkeypatch, tmp_path, IDENTITY, f"{BASIC}, {BEARER}")
    assert "hidden" not in there.ask()
    assert there.sent == [(HERE, None), (TOKENS, None), (HERE, "Bearer for-a-while")]
    assert there.forms[1] == {
        "grant_type": "refresh_token",
        "refresh_token": "hidden-identity",
        "client_id": "tidegate",
        "service": "registry",
        "scope": "repository:a:pull,push",
    }


def test_an_identity_token_stays_with_the_host_that_it_was_sent_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = LoggedIn(monkeypatch, tmp_path, IDENTITY, BEARER)
    there.answers |= {TOKENS: (307, {"Location": STORE}), STORE: (400, {})}
    assert "does not let this user GET" in there.ask()
    assert [url for url, _auth in there.sent] == [HERE, TOKENS, STORE]
    assert there.forms[2] is None


def test_an_identity_token_is_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = LoggedIn(monkeypatch, tmp_path, IDENTITY, BASIC)
    assert "is an identity token, which it does not take; log in with docker login and a password" in there.ask()
    assert there.sent == [(HERE, None)]


def test_credentials_are_not_those_of_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They would take the place of those that somebody logged in with, at every host that a registry sends us to."""
    (tmp_path / "netrc").write_text("machine registry.example login rita password opensesame\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    here = session.Session("registry.example", True)
    assert "Authorization" not in here.prepare_request(requests.Request("GET", HERE)).headers
