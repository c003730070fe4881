# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever answers at the address of a Prometheus: it is waited for and read within limits, and no message says a secret."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics import prometheus
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.prometheus import PrometheusClient
from answering import Answering

TOKEN = "token-8f2d6c31b7"  # noqa: S105 - nobody's
GOOD = {"status": "success", "data": {"resultType": "vector", "result": []}}


class Served:
    """A server that answers every request as ``say`` does, and the requests that it got."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.say: Callable[[Answering], None] = lambda handler: handler.say(200, json.dumps(GOOD).encode())
        served = self

        class Handler(Answering):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                served.asked.append((self.path, parse_qs(body)["query"][0], dict(self.headers)))
                served.say(self)

            def do_GET(self) -> None:
                raise AssertionError("followed")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.server.shutdown()
    server.server.server_close()


def refused(served: Served, address: str = "") -> str:
    with pytest.raises(TidegateError) as error:
        PrometheusClient(address or served.url, TOKEN, "the environment variable PROMETHEUS_URL").query("up")
    said = str(error.value)
    assert TOKEN not in said
    assert "127.0.0.1" not in said
    return said


def test_a_query_is_asked_with_the_token(served: Served) -> None:
    assert PrometheusClient(f"{served.url}/prefix/", TOKEN).query('up{a="é"}') == GOOD
    path, query, headers = served.asked[0]
    assert (path, query, headers["Authorization"]) == ("/prefix/api/v1/query", 'up{a="é"}', f"Bearer {TOKEN}")


def test_who_logs_in_may_be_in_the_address_and_no_file_of_the_user_says_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password stolen\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    PrometheusClient(served.url).query("up")
    PrometheusClient(served.url.replace("//", "//rita:pass%20word@")).query("up")
    assert [headers.get("Authorization") for _path, _query, headers in served.asked] == [None, "Basic cml0YTpwYXNzIHdvcmQ="]


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (lambda handler: handler.say(401), "does not let us ask it (401); correct what the environment variable PROMETHEUS_URL has"),
        (lambda handler: handler.say(403, TOKEN.encode()), "does not let us ask it (403)"),
        (lambda handler: handler.say(302, b"", Location="/other"), "answers 302 and points elsewhere"),
        (lambda handler: handler.say(500, b"oops"), "answers 500"),
        (lambda handler: handler.say(200, b"<html>"), "not of its API, such as a page for people"),
        (lambda handler: handler.say(200, b'{"a": 1, "a": 2}'), "not of its API"),
        (lambda handler: handler.say(200, b'{"status": NaN}'), "not of its API"),
        (lambda handler: handler.say(200, b"[" * 200), "not of its API"),
        (lambda handler: handler.say(200, b" " * (50 << 20)), "sends more than 16 MiB; have the query give less"),
        (lambda handler: handler.say(200, b"packed", **{"Content-Encoding": "gzip"}), "is packed, unasked"),
    ],
)
def test_what_is_no_answer_is_said_in_one_sentence(served: Served, say: Callable[[Answering], None], why: str) -> None:
    served.say = say
    assert why in refused(served)
    assert len(served.asked) == 1


def test_why_a_query_can_not_be_evaluated_is_in_a_document_too(served: Served) -> None:
    document = {"status": "error", "errorType": "bad_data", "error": "parse error"}
    served.say = lambda handler: handler.say(400, json.dumps(document).encode())
    assert PrometheusClient(served.url).query("up{") == document


def test_what_an_answer_says_for_people_has_no_secret(served: Served) -> None:
    document = {"status": "error", "error": f"bad token {TOKEN}", "warnings": [f"{TOKEN} again"], "infos": 5}
    served.say = lambda handler: handler.say(400, json.dumps(document).encode())
    said = json.dumps(PrometheusClient(served.url, TOKEN).query("up"))
    assert "bad token" in said
    assert TOKEN not in said


def test_no_proxy_gets_what_goes_without_tls_to_this_machine(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert PrometheusClient(served.url, TOKEN).query("up") == GOOD


def test_one_that_sends_nothing_and_one_that_sends_byte_by_byte_are_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(prometheus, "_PATIENCE", (1.0, 0.3))
    served.say = lambda _handler: setattr(_handler, "close_connection", ended.wait(30))
    assert "did not answer in time" in refused(served)
    monkeypatch.setattr(prometheus, "_PATIENCE", (1.0, 30.0))
    monkeypatch.setattr(prometheus, "LIMIT", 0.5)
    assert "did not answer within 0.5 s" in refused(served)
    ended.set()

    def drip(handler: Answering) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _byte in range(1000):
            handler.wfile.write(b" ")
            if dripped.wait(0.05):
                return

    dripped = threading.Event()
    served.say = drip
    assert "did not answer within 0.5 s" in refused(served)
    dripped.set()


def test_nobody_at_the_address_is_said_without_it() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    with pytest.raises(TidegateError, match=r"can't be reached \(ConnectionError\); check what the file x has") as error:
        PrometheusClient(f"http://127.0.0.1:{port}", TOKEN, "the file x").query("up")
    assert str(port) not in str(error.value)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("prometheus:9090", "is no address of a Prometheus"),
        ("ftp://prometheus", "is no address of a Prometheus"),
        ("http://pro metheus", "is no address of a Prometheus"),
        ("https://prometheus/?token=secret", "goes on behind its path"),
        ("http://prometheus.example.org", "credentials are not sent without TLS"),
        ("http://10.0.0.1:9090", "credentials are not sent without TLS"),
    ],
)
def test_an_address_that_can_not_be_used_is_refused_without_being_said(address: str, why: str) -> None:
    with pytest.raises(TidegateError, match=why) as error:
        PrometheusClient(address, TOKEN, "the file x")
    assert address not in str(error.value)


def test_a_password_in_an_address_is_not_sent_without_tls_either() -> None:
    with pytest.raises(TidegateError, match="credentials are not sent without TLS"):
        PrometheusClient("http://rita:secret@prometheus.example.org")
    PrometheusClient("http://prometheus.example.org")
    PrometheusClient("http://localhost:9090", TOKEN)
    PrometheusClient("http://[::1]:9090", TOKEN)
