# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A value of a host's settings is in nothing that the host answers or keeps, whoever prints it."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.logs import last_lines
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from bed import HEALTH, HOOKS, Host, package
from waiting import wait_until

SECRET = "canary-7f3a9b1c-d2e4"  # noqa: S105 - nobody's
FORMS = (SECRET, base64.b64encode(SECRET.encode()).decode()[:24], SECRET.encode().hex())
SETTINGS = {"token": None, "port": 8080}
ONE = package("1.0", settings=SETTINGS)


@pytest.fixture
def host(host: Host) -> Host:
    host.settings = {"token": SECRET, "port": 8080}
    host.deploy(ONE)
    return host


def assert_silent(host: Host, answer: dict[str, Any]) -> None:
    """Neither the answer nor what is in the home, but for what the service itself keeps in its state, has the secret in a form."""
    said = json.dumps(answer)
    files = [path for path in host.home.path.rglob("*") if path.is_file() and host.home.state not in path.parents]
    said += "".join(path.read_text(errors="replace") for path in files)
    assert [form for form in FORMS if form.lower() in said.lower()] == []
    assert SECRET[:12] not in said  # nor a part that was cut


def start(script: str) -> dict[str, Any]:
    return {**HOOKS, "start": {"command": ["sh", "-c", script], "timeout": 10}}


@pytest.mark.parametrize(
    "script",
    [
        'set -x; : "$TIDEGATE_TOKEN"; exit 1',
        'set -x; curl-that-is-not-there "https://user:$TIDEGATE_TOKEN@example/"',
        'echo "the token is $TIDEGATE_TOKEN" >&2; exit 3',
        'printf %s "$TIDEGATE_TOKEN" | base64; exit 3',
        'printf "user:%s" "$TIDEGATE_TOKEN" | base64; exit 3',
        "env; exit 1",
        # Cut where the tail that is reported begins.
        'printf "%s" "$TIDEGATE_TOKEN"; head -c 1990 /dev/zero | tr "\\0" x; exit 1',
        'printf %s "${TIDEGATE_TOKEN%d2e4}"; sleep 0.3; printf %s d2e4; exit 1',
        '"/no/such/$TIDEGATE_TOKEN"',
        'kill -9 $$ # "$TIDEGATE_TOKEN"',
        'echo "$TIDEGATE_TOKEN"; sleep 60',
    ],
)
def test_a_hook_that_fails_says_no_secret(host: Host, script: str) -> None:
    hooks = {**start(script), "start": {"command": ["sh", "-c", script], "timeout": 1}}
    two = package("2.0", settings=SETTINGS, hooks=hooks)
    answer = host.deploy(two, ONE)
    assert answer["state"] == "failed"
    assert_silent(host, answer)


def test_a_message_says_which_setting_it_was(host: Host) -> None:
    answer = host.deploy(package("2.0", settings=SETTINGS, hooks=start('echo "$TIDEGATE_TOKEN on $TIDEGATE_PORT"; exit 1')), ONE)
    assert "${token} on 8080" in answer["detail"]


@pytest.mark.parametrize("hook", ["prepare", "stop", "start"])
def test_each_hook_is_redacted(host: Host, hook: str) -> None:
    hooks = {**HOOKS, hook: {"command": ["sh", "-c", 'echo "$TIDEGATE_TOKEN"; exit 1'], "timeout": 5}}
    two = package("2.0", settings=SETTINGS, hooks=hooks)
    answer = host.deploy(two, ONE)
    assert_silent(host, answer)
    assert_silent(host, host.back_out(two, ONE))


@pytest.mark.parametrize(
    "check",
    [
        {"command": ["sh", "-c", 'echo "$TIDEGATE_TOKEN"; exit 1']},
        {"http": {"url": "http://127.0.0.1:1/${token}"}},
        {"http": {"url": "http://${token}.invalid/"}},
        {"http": {"url": "http://user:${token}@127.0.0.1:1/?t=${token}"}},
        {"http": {"url": "${token}://x"}},
        {"http": {"url": "http://127.0.0.1:${token}/"}},
        {"tcp": {"host": "${token}", "port": "1"}},
        {"tcp": {"host": "a b${token}", "port": "1"}},
    ],
    ids=str,
)
def test_a_check_that_fails_says_no_secret(host: Host, check: dict[str, Any]) -> None:
    two = package("2.0", settings=SETTINGS, health=[*HEALTH, {"name": "x", "timeout": 1, **check}])
    host.stage(two)
    try:
        answer = host.activate(two, ONE)
    except HostError as error:
        answer = {"msg": str(error)}
    assert_silent(host, answer)


def test_what_a_server_answers_says_no_secret(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = os.fork()
        if child == 0:
            try:
                while True:
                    connection, _address = server.accept()
                    connection.recv(65536)
                    connection.sendall(f"HTTP/1.0 200 {SECRET}\r\n\r\n{SECRET}".encode())
                    connection.close()
            finally:
                os._exit(0)
        try:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/${{token}}"
            check = {"name": "x", "timeout": 1, "http": {"url": url, "contains": f"not {SECRET}"}}
            two = package("2.0", health=[*HEALTH, check], settings=SETTINGS)
            host.stage(two)
            answer = host.activate(two, ONE)
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
    assert "answered without" in answer["detail"]
    # What a check asks for stands in the manifest, where everybody reads it.
    assert SECRET not in answer["detail"]


@pytest.mark.parametrize("before", ["", "x" * 1995, "x" * 3000, "y\n" * 2000 + "x" * 1995])
def test_the_lines_of_a_log_say_no_secret(host: Host, before: str) -> None:
    (host.home.state / "log").write_text(f"{before}{SECRET} and more\nlast line, {SECRET}\n")
    two = package("2.0", settings=SETTINGS, hooks=start("exit 1"), logs=["log"])
    answer = host.deploy(two, ONE)
    assert "last line, ${token}" in answer["detail"]
    assert_silent(host, answer)


@pytest.mark.parametrize("offset", range(len(SECRET)))
def test_where_a_log_is_cut_no_part_of_a_secret_is_left(tmp_path: Path, offset: int) -> None:
    """What is redacted gets shorter, so more of the file comes into view: up to where its end was cut out of it."""
    log = tmp_path / "log"
    log.write_text(f"{SECRET} " * 300 + "x" * offset)
    said = last_lines([str(log)], {}, tmp_path, tmp_path, Redactor({"token": SECRET}))
    assert "${token} ${token}" in said
    assert SECRET[-6:] not in said


def test_the_name_of_a_log_says_no_secret(host: Host) -> None:
    answer = host.deploy(package("2.0", settings=SETTINGS, hooks=start("exit 1"), logs=["${token}/log"]), ONE)
    assert "${token}/log says" in answer["detail"]
    assert_silent(host, answer)


def test_what_a_watch_saw_says_no_secret(host: Host) -> None:
    host.stable = 30
    dies = 'if [ -e "$TIDEGATE_STATE/looked" ]; then echo "$TIDEGATE_TOKEN"; exit 1; fi; touch "$TIDEGATE_STATE/looked"'
    two = package("2.0", settings=SETTINGS, health=[{"name": "x", "timeout": 5, "command": ["sh", "-c", dies]}])
    host.stage(two)
    assert host.start(two, ONE)["state"] == "started"
    wait_until(lambda: "exit" in host.home.watch.read_text() or "failed" in host.home.watch.read_text())
    time.sleep(0.6)
    assert SECRET not in host.home.watch.read_text()
    answer = host.confirm(two, ONE)
    assert answer["state"] == "failed"
    assert_silent(host, answer)


def test_what_a_daemon_writes_later_says_no_secret(host: Host) -> None:
    program = (
        "import os, sys, time\n"
        "while not os.path.exists('../../../state/go'): time.sleep(0.02)\n"
        "token = os.environ['TIDEGATE_TOKEN']\n"
        "for part in ('a ', token[:7], token[7:], ' b\\n', token, '\\n'): print(part, end='', flush=True); time.sleep(0.05)\n"
        "open('../../../state/done', 'w').close()\n"
    )
    # The hook itself ends in the middle of a value.
    script = 'printf %s "${TIDEGATE_TOKEN%d2e4}"; setsid "$1" -c "$2" & echo 2.0 >"$TIDEGATE_STATE/running"'
    hooks = {**HOOKS, "start": {"command": ["sh", "-c", script, "sh", sys.executable, program], "timeout": 10}}
    answer = host.deploy(package("2.0", settings=SETTINGS, hooks=hooks), ONE)
    assert answer["state"] == "active"
    (host.home.state / "go").touch()
    log = host.home.output_of("start")
    wait_until(lambda: "${token}\n" in log.read_text())
    assert log.read_text().endswith("a ${token} b\n${token}\n")
    assert SECRET not in log.read_text()


def test_no_argument_of_a_process_has_a_secret(host: Host) -> None:
    look = 'for file in /proc/[0-9]*/cmdline; do tr "\\0" " " <"$file"; echo; done >"$TIDEGATE_STATE/seen" 2>/dev/null'
    script = f"{look}; {HOOKS['start']['command'][0]}"
    answer = host.deploy(package("2.0", settings=SETTINGS, hooks=start(script)), ONE)
    assert answer["state"] == "active"
    seen = (host.home.state / "seen").read_text(errors="replace")
    assert "/proc/[0-9]*/cmdline" in seen
    assert SECRET not in seen


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_the_login_s_umask_changes_no_mode(tmp_path: Path, mask: int, umask: Callable[[int], None]) -> None:
    def modes(name: str, mask: int) -> dict[str, int]:
        umask(mask)
        (tmp_path / name).mkdir(mode=0o755)
        host = Host(tmp_path / name / "root", settings={"token": SECRET})
        assert host.deploy(package("1.0", settings=SETTINGS))["state"] == "active"
        assert host.deploy(package("2.0", settings=SETTINGS), package("1.0", settings=SETTINGS))["state"] == "active"
        found = {str(path.relative_to(host.root)): path.lstat().st_mode & 0o7777 for path in host.root.rglob("*") if not path.is_symlink()}
        return {**found, ".": host.root.stat().st_mode & 0o7777}

    assert modes("one", mask) == modes("other", 0o022)


@pytest.fixture
def umask() -> Any:
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)
