# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks and hooks, each with a time limit that holds whatever the other side does."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

_PLACEHOLDER = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
_INTERVAL = 0.2  # seconds between two attempts
_BODY = 1 << 20  # bytes of an answer that are looked at
_LOOK = 0.05  # seconds between two looks at a running command's output
_OUTPUT = 64 << 20  # bytes that a command may write: they go to a file system that others need
_TAIL = 2000  # bytes of a command's output that are reported


class CheckError(Exception):
    """A hook or a check that did not succeed; the message is for a person."""


def fill(text: str, settings: Mapping[str, Any]) -> str:
    """Put the settings in place of ``${name}``; the manifest's loader has made sure that each is declared."""
    return _PLACEHOLDER.sub(lambda match: str(settings[match.group(1)]), text)


def run_command(command: list[str], timeout: float, tree: str, environment: Mapping[str, str]) -> None:
    """Run ``command`` in ``tree``; raise :class:`CheckError` unless it ends with 0 within ``timeout`` seconds.

    The command is an argument list and no shell sees it. What it leaves in its process group when time is up is killed;
    a daemon that it started in a session of its own lives on, and does not hold this call up: output goes to a file.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=tree,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CheckError(f"{command[0]} can't be run: {getattr(error, 'strerror', None) or error}") from error
        try:
            how = _wait(process, timeout, output.fileno())
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if how:
            raise CheckError(f"{command[0]} {how}{_tail(output.fileno())}")


def _wait(process: subprocess.Popen[bytes], timeout: float, output: int) -> str:
    """What was wrong about the command's end, nothing when it was good; one that still runs is over a limit."""
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(max(0, min(left, _LOOK)))
            if status == 0:
                return ""
            return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        if left <= 0:
            return f"did not end within {timeout:g} s"
        if os.fstat(output).st_size > _OUTPUT:
            return f"wrote more than {_OUTPUT >> 20} MiB"


def _tail(output: int) -> str:
    # Not by seek: a daemon that the command left behind may share the position.
    text = os.pread(output, _TAIL, max(0, os.fstat(output).st_size - _TAIL)).decode("utf-8", "replace").strip()
    return f": {printable(text)}" if text else ""


def printable(text: str) -> str:
    """``text`` as a terminal can show it, which must not obey it; lines stay lines."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def attempt(check: Mapping[str, Any], seconds: float, settings: Mapping[str, Any], tree: str, environment: Mapping[str, str]) -> None:
    """Make ``check`` (an entry of the manifest's ``health``) once; raise :class:`CheckError` unless it passes within ``seconds``."""
    if "command" in check:
        run_command(check["command"], seconds, tree, environment)
    else:
        _probe_within(seconds, check, settings)


def wait_healthy(
    check: Mapping[str, Any],
    settings: Mapping[str, Any],
    tree: str,
    environment: Mapping[str, str],
    ended: Callable[[], str] = lambda: "",
) -> None:
    """Repeat ``check`` (an entry of the manifest's ``health``) until it passes.

    ``ended`` says in words that what is checked is dead, nothing while it may still come up.
    Raises :class:`CheckError` with the last reason when its ``timeout`` (seconds, for all attempts together) is over, or as soon as what is
    checked is dead.
    """
    deadline = time.monotonic() + check["timeout"]
    reason = ""
    while True:
        left = max(deadline - time.monotonic(), 0.01)
        try:
            attempt(check, left, settings, tree, environment)
            return
        except CheckError as error:
            # An attempt that the limit cut short says less than the one before.
            if not reason or time.monotonic() < deadline:
                reason = str(error)
        dead = ended()
        if dead:
            raise CheckError(f"health check {check['name']!r} can't pass any more, {dead}: {reason}")
        if time.monotonic() + _INTERVAL >= deadline:
            raise CheckError(f"health check {check['name']!r} did not pass within {check['timeout']:g} s: {reason}")
        time.sleep(_INTERVAL)


def _probe_within(seconds: float, check: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Probe in a child that the kernel ends in time.

    A socket's own timeout starts anew with every byte that a slow server sends, and nothing in this process could interrupt
    the resolver.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            os.close(reader)
            try:
                _probe(check, settings, seconds)
                status = 0
            except Exception as error:
                os.write(writer, (str(error) or type(error).__name__).encode("utf-8", "backslashreplace")[:_TAIL])
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as stream:
        reason = stream.read().decode("utf-8", "replace")
    _pid, outcome = os.waitpid(child, 0)
    if os.WIFSIGNALED(outcome):
        raise CheckError(f"no complete answer within {seconds:.1f} s")
    if os.WEXITSTATUS(outcome) != 0:
        raise CheckError(reason or "the check broke")


def _probe(check: Mapping[str, Any], settings: Mapping[str, Any], timeout: float) -> None:
    if "tcp" in check:
        address = (fill(str(check["tcp"]["host"]), settings), int(fill(str(check["tcp"]["port"]), settings)))
        socket.create_connection(address, timeout=timeout).close()
        return
    wanted = check["http"]
    url = urlsplit(fill(wanted["url"], settings))
    shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"  # a query can have secrets in it too
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=timeout)
    try:
        connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""))
        answer = connection.getresponse()
        body = answer.read(_BODY)
        if answer.length and len(body) < _BODY:
            raise CheckError(f"{shown} broke its answer off")
    finally:
        connection.close()
    if answer.status != wanted.get("status", 200):
        raise CheckError(f"{shown} answered {answer.status}, not {wanted.get('status', 200)}")
    if wanted.get("contains") and wanted["contains"] not in body.decode("utf-8", "replace"):
        raise CheckError(f"{shown} answered without {wanted['contains']!r}")
