# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks: each ends within its limit, whatever the other side does, and says why it did not pass."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import health
from ansible_collections.tidegate.release.plugins.module_utils.endpoint import EndpointError, fill, read_host, read_url
from ansible_collections.tidegate.release.plugins.module_utils.health import CheckError, wait_healthy

OK = b"HTTP/1.0 200 OK\r\n\r\nall is well"


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback that gives every connection to ``answer``; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _address = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)


def says(*parts: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        for part in parts:
            connection.sendall(part)

    return answer


def hangs(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.recv(65536)


def drips(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.0 200 OK\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def check(settings: Mapping[str, Any] | None = None, **what: Any) -> None:
    wait_healthy({"name": "answers", "timeout": 1, **what}, settings or {}, "/", {})


def get(port: int, **wanted: Any) -> dict[str, Any]:
    return {"http": {"url": f"http://127.0.0.1:{port}/health", **wanted}}


def _children() -> set[str]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in found if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(os.getpid())}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process, no alarm, no handler and no descriptor of a check outlives it."""
    before, children = (signal.getsignal(signal.SIGALRM), _pipes()), _children()
    yield
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert _children() <= children  # what tests of other files left is not the check's
    assert before == (signal.getsignal(signal.SIGALRM), _pipes())


def _pipes() -> set[str]:
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return {target for link in links if os.path.lexists(link) and (target := os.readlink(link)).startswith("pipe:")}


def test_the_text_that_an_answer_has_to_contain_is_filled_in() -> None:
    with serving(says(b"HTTP/1.0 200 OK\r\n\r\nversion 2.0 on 81")) as port:
        wanted = get(port, contains="version ${version} on ${port}")
        check(**wanted, settings={"version": "2.0", "port": 81})
        with pytest.raises(CheckError, match=r"answered without 'version 1\.0 on 81'"):
            check(**wanted, settings={"version": "1.0", "port": 81})
        with pytest.raises(CheckError, match=r"can't be made: \$\{port\} is not one of the settings"):
            check(**wanted, settings={"version": "1.0"})


def test_a_good_answer_passes() -> None:
    with serving(says(OK)) as port:
        check(**get(port))
        check(**get(port, status=200, contains="is well"))
        check(tcp={"host": "127.0.0.1", "port": port})


@pytest.mark.parametrize(
    ("answer", "wanted", "reason"),
    [
        (OK, {"status": 204}, "answered 200, not 204"),
        (OK, {"contains": "sick"}, "answered without 'sick'"),
        (b"HTTP/1.0 500 no\r\n\r\n", {}, "answered 500, not 200"),
        (b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", {}, "answered 302, not 200"),
        (b"SSH-2.0-OpenSSH\r\n", {}, "SSH-2.0"),
        (b"", {}, "Remote end closed connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", {}, "broke its answer off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {}, "IncompleteRead"),
    ],
)
def test_another_answer_does_not(answer: bytes, wanted: dict[str, Any], reason: str) -> None:
    with serving(says(answer)) as port, pytest.raises(CheckError, match=f"check 'answers' did not pass within 0.5 s: .*{reason}"):
        check(timeout=0.5, **get(port, **wanted))


@pytest.mark.parametrize("answer", [b"HTTP/1.0 500 no\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", OK])
def test_what_an_address_may_hold_in_secret_is_not_said(answer: bytes) -> None:
    http = {"url": "http://me:${key}@127.0.0.1:${port}/health?key=${key}", "contains": "sick"}
    what = {"name": "answers", "timeout": 0.5, "http": http}
    with serving(says(answer)) as port, pytest.raises(CheckError) as caught:
        wait_healthy(what, {"key": "s3cret", "port": port}, "/", {})
    assert f"http://127.0.0.1:{port}/health " in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    with serving(says(OK, *([bytes(1 << 20)] * 64))) as port:
        check(**get(port, contains="is well"))


def test_a_refused_connection_is_tried_again_until_somebody_listens() -> None:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        timer = threading.Timer(0.7, server.listen)
        timer.start()
        check(tcp={"host": "127.0.0.1", "port": port}, timeout=10)
        timer.join()


def test_a_service_that_never_listens_is_said_within_the_limit() -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        _ends_in_time({"tcp": {"host": "127.0.0.1", "port": unused.getsockname()[1]}}, "Connection refused")


def _ends_in_time(what: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckError, match=reason):
        check(**what)  # which waits for good if nothing ends it


@pytest.mark.parametrize("answer", [hangs, drips])
def test_a_server_that_never_finishes_is_left_in_time(answer: Callable[[socket.socket], None]) -> None:
    with serving(answer) as port:
        _ends_in_time(get(port), "no complete answer|timed out")


def test_a_resolver_that_never_answers_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep_in_the_kernel(*_args: object, **_options: object) -> None:
        # Python code could be interrupted by a signal handler, a resolver in C goes on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        subprocess.run(["sleep", "3"], check=False)

    monkeypatch.setattr(socket, "getaddrinfo", sleep_in_the_kernel)
    _ends_in_time({"tcp": {"host": "service.invalid", "port": 1}}, "no complete answer")


def test_a_certificate_that_nobody_vouches_for_is_a_failure_in_words(tmp_path: Path) -> None:
    names = (str(tmp_path / "key"), str(tmp_path / "certificate"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", names[0], "-out", names[1]],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(names[1], names[0])

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            says(OK)(secure)

    with serving(answer) as port, pytest.raises(CheckError, match="certificate verify failed"):
        check(http={"url": f"https://127.0.0.1:{port}/"}, timeout=2)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:x/", "'x' is not a port"),
        ("http://[::/", "it is not http://host"),
        ("http://${address}/", "space, or a sign that no URL has"),
        ("http:///path", "'' is neither a name nor an address"),
        ("http://127.0.0.1:0/", "'0' is not a port"),
        ("http://127.0.0.1:99999/", "'99999' is not a port"),
        ("http://::1/", "'' is neither a name nor an address"),
        ("http://[127.0.0.1]/", "is not an IPv6 address"),
        ("http://[::1/", "it is not http://host"),
        ("http://[::1%]/", "is neither a name nor an address"),
        ("http://a..b/", "'a..b' is neither a name nor an address"),
        ("http://host/ü", "a sign that no URL has"),
        ("http://[${v4}]/", "'192.0.2.1' is not an IPv6 address, but stands in brackets"),
        ("http://${address}:80/", "is neither a name nor an address"),
        ("http://host:${address}/", "is not a port"),
        ("http://${none}/", "is not one of the settings"),
    ],
)
def test_a_url_that_is_none_is_a_failure_in_words(url: str, reason: str) -> None:
    what = {"name": "answers", "timeout": 60, "http": {"url": url}}
    with pytest.raises(CheckError, match=reason):
        wait_healthy(what, {"address": "127.0.0.1:1/a b\r\nHost: evil", "v4": "192.0.2.1"}, "/", {})


def test_a_placeholder_without_a_setting_is_a_failure_not_a_pass() -> None:
    with pytest.raises(CheckError, match="is not one of the settings"):
        check(tcp={"host": "${none}", "port": 1}, timeout=0.3)


def test_a_check_that_breaks_is_a_failure_not_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_args: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(health, "_probe", stop)
    with pytest.raises(CheckError, match="the check broke"):
        check(tcp={"host": "127.0.0.1", "port": 1}, timeout=0.3)


def test_placeholders_are_filled_and_nothing_else_is_touched() -> None:
    assert fill("http://${address}:${port}/$x/${A}/$${port}", {"address": "h", "port": 80}) == "http://h:80/$x/${A}/$80"


def test_a_setting_that_looks_like_a_placeholder_is_not_filled_again() -> None:
    assert fill("${a}", {"a": "${b}", "b": "x"}) == "${b}"


def test_settings_reach_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(says(OK)) as port:
        wait_healthy({"name": "x", "timeout": 2, "tcp": {"host": "${a}", "port": "${p}"}}, {"a": "127.0.0.1", "p": port}, "/", {})
        wait_healthy({"name": "x", "timeout": 2, "http": {"url": "http://${a}:${p}"}}, {"a": "127.0.0.1", "p": port}, "/", {})


def test_a_command_is_repeated_until_it_passes(tmp_path: Path) -> None:
    script = "echo x >>count; [ $(wc -l <count) -ge 3 ]"
    wait_healthy({"name": "x", "timeout": 10, "command": ["sh", "-c", script]}, {}, str(tmp_path), {})
    assert (tmp_path / "count").read_text() == "x\n" * 3


def test_a_command_that_hangs_is_left_in_time() -> None:
    _ends_in_time({"command": ["sleep", "60"]}, "did not end within")


def test_the_reason_is_not_that_of_an_attempt_cut_short(tmp_path: Path) -> None:
    script = "[ -e once ] && exec sleep 60; touch once; echo telling; exit 3"
    with pytest.raises(CheckError, match="ended with status 3: telling"):
        wait_healthy({"name": "x", "timeout": 1, "command": ["sh", "-c", script]}, {}, str(tmp_path), {})


def test_a_command_gets_the_release_s_environment() -> None:
    wait_healthy({"name": "x", "timeout": 2, "command": ["sh", "-c", '[ "$TIDEGATE_X" = "a b" ]']}, {}, "/", {"TIDEGATE_X": "a b"})


@pytest.mark.parametrize("command", [["/none"], ["/"], ["a\0b"]])
def test_a_command_that_can_not_be_run_is_a_failure_in_words(command: list[str]) -> None:
    with pytest.raises(CheckError, match="can't be run"):
        check(command=command, timeout=0.2)


# -- IPv6 ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address", "host", "authority"),
    [
        ("http://${address}:${port}/", "2001:db8::15", "2001:db8::15", "[2001:db8::15]:8080"),
        ("http://${address}:${port}/", "[2001:db8::15]", "2001:db8::15", "[2001:db8::15]:8080"),
        ("http://[${address}]:${port}/", "2001:db8::15", "2001:db8::15", "[2001:db8::15]:8080"),
        ("http://[${address}]:${port}/", "[2001:db8::15]", "2001:db8::15", "[2001:db8::15]:8080"),
        ("http://${address}:8080", "fe80::1%eth0", "fe80::1%eth0", "[fe80::1]:8080"),
        ("http://${address}:8080", "[fe80::1%25]", "fe80::1%25", "[fe80::1]:8080"),
        ("http://${address}/x", "::ffff:192.0.2.1", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]"),
        ("https://user:pass@${address}/x", "::1", "::1", "[::1]"),
        ("https://${address}?q=${address}", "::1", "::1", "[::1]"),
        ("http://[fe80::1%25eth0]:8080/", "", "fe80::1%eth0", "[fe80::1]:8080"),
        ("http://[fe80::1%eth0]:8080/", "", "fe80::1%eth0", "[fe80::1]:8080"),
        ("http://${address}:${port}/", "192.0.2.1", "192.0.2.1", "192.0.2.1:8080"),
        ("http://${address}:${port}/", "web1.example", "web1.example", "web1.example:8080"),
        ("http://${address}/", "web1:8080", "web1", "web1:8080"),
        ("http://${address}/", "[::1]:8080", "::1", "[::1]:8080"),
        ("http://www.${address}/", "example.org", "www.example.org", "www.example.org"),
    ],
)
def test_an_address_stands_in_a_url_as_it_is(url: str, address: str, host: str, authority: str) -> None:
    there = read_url(url, {"address": address, "port": 8080})
    assert (there.host, there.authority) == (host, authority)


def test_user_password_and_query_are_not_shown() -> None:
    there = read_url("https://user:pass@host/path?token=x#y")
    assert (there.shown, there.target) == ("https://host/path", "/path?token=x")


@pytest.mark.parametrize(
    "text", ["", "a b", "a\n", "[web1]", "::1]", "fe80::1%", "fe80::1%a b", "1:2", "web1:80", "http://x", "a/b", "a" * 64]
)
def test_what_is_neither_a_name_nor_an_address_is_refused(text: str) -> None:
    with pytest.raises(EndpointError, match="neither a name nor an address"):
        read_host(text)


@contextmanager
def serving6(address: str) -> Iterator[tuple[int, list[bytes]]]:
    """A server on an IPv6 address; yields its port and the requests that it gets."""
    requests: list[bytes] = []
    where = socket.getaddrinfo(address, 0, socket.AF_INET6, socket.SOCK_STREAM)[0][4]
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
        server.bind(where)
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _address = server.accept()
                except OSError:
                    return
                with connection:
                    requests.append(connection.recv(65536))
                    connection.sendall(OK)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server.getsockname()[1], requests
        finally:
            server.shutdown(socket.SHUT_RDWR)


def _link_local() -> list[str]:
    """Link-local addresses of this machine with their zones, as the kernel lists them."""
    found = []
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _index, _length, scope, _flags, name = line.split()
        if scope == "20":
            found.append(f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))}%{name}")
    return found


def _loopback6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not _loopback6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("address", ["::1", "[::1]", *(_link_local() if _loopback6() else [])[:1]])
def test_a_server_with_an_ipv6_address_is_reached_and_asked_for_by_it(address: str) -> None:
    bare = address.strip("[]")
    with serving6(bare) as (port, requests):
        settings = {"address": address, "port": port}
        wait_healthy({"name": "x", "timeout": 5, "http": {"url": "http://${address}:${port}/health"}}, settings, "/", {})
        wait_healthy({"name": "x", "timeout": 5, "tcp": {"host": "${address}", "port": "${port}"}}, settings, "/", {})
        # What listens on any address is asked for by the one that was used, without the zone.
        assert f"Host: [{bare.partition('%')[0]}]:{port}\r\n".encode() in requests[0]
