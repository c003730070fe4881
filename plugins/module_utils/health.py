# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks and hooks, each with a time limit that holds whatever the other side does."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .supervision import supervise

_PLACEHOLDER = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
_INTERVAL = 0.2  # seconds between two attempts
_BODY = 1 << 20  # bytes of an answer that are looked at
_TAIL = 2000  # bytes of a reason that are reported


class CheckError(Exception):
    """A hook or a check that did not succeed; the message is for a person."""


def fill(text: str, settings: Mapping[str, Any]) -> str:
    """Put the settings in place of ``${name}``; the manifest's loader has made sure that each is declared."""
    return _PLACEHOLDER.sub(lambda match: str(settings[match.group(1)]), text)


def run_command(command: list[str], timeout: float, tree: str, environment: Mapping[str, str], log: str = "") -> None:
    """Run ``command`` in ``tree``; raise :class:`CheckError` unless it ends with 0 within ``timeout`` seconds.

    The command is an argument list and no shell sees it. When it fails or time is up, everything that it started is ended with it. A
    daemon that it leaves when it succeeds lives on and does not hold this call up; ``log`` is the file for the output of both.
    """
    problem = supervise(command, timeout, tree, environment, log)
    if problem:
        raise CheckError(f"{command[0]} {problem}")


def wait_healthy(check: Mapping[str, Any], settings: Mapping[str, Any], tree: str, environment: Mapping[str, str]) -> None:
    """Repeat ``check`` (an entry of the manifest's ``health``) until it passes.

    Raises :class:`CheckError` with the last reason when its ``timeout`` (seconds, for all attempts together) is over.
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
        if time.monotonic() + _INTERVAL >= deadline:
            raise CheckError(f"health check {check['name']!r} did not pass within {check['timeout']:g} s: {reason}")
        time.sleep(_INTERVAL)


def attempt(check: Mapping[str, Any], seconds: float, settings: Mapping[str, Any], tree: str, environment: Mapping[str, str]) -> None:
    """Make ``check`` once; raises :class:`CheckError` with the reason unless it passes within ``seconds``."""
    if "command" in check:
        run_command(check["command"], seconds, tree, environment)
    else:
        _probe_within(seconds, check, settings)


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
