# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks and hooks, each with a time limit that holds whatever the other side does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

from .endpoint import OWN, Endpoint, EndpointError, fill, read_host, read_port, read_url
from .redaction import NOTHING, Redactor
from .supervision import NONE, Precautions, supervise

_INTERVAL = 0.2  # seconds between two attempts
_BODY = 1 << 20  # bytes of an answer that are looked at
_TAIL = 2000  # bytes of a reason that are reported


class CheckError(Exception):
    """A hook or a check that did not succeed; the message is for a person."""


def where(check: Mapping[str, Any], settings: Mapping[str, Any], redactor: Redactor = NOTHING) -> Optional[Endpoint]:
    """Where ``check`` (an entry of the manifest's ``health``) connects to with these settings; nothing when it is a command.

    Raises :class:`CheckError` when that is no address, so that it can be found out before anything is touched.
    """
    try:
        if "tcp" in check:
            host, port = (fill(str(check["tcp"][key]), settings) for key in ("host", "port"))
            return Endpoint(False, read_host(host), read_port(port), "")
        return read_url(check["http"]["url"], settings) if "http" in check else None
    except EndpointError as error:
        raise CheckError(f"health check {check['name']!r} can't be made: {redactor.text(str(error))[:_TAIL]}") from None


def filled(check: Mapping[str, Any], settings: Mapping[str, Any], redactor: Redactor = NOTHING) -> Mapping[str, Any]:
    """``check`` with values in its command and in the text that an answer has to contain; raises :class:`CheckError` as above.

    In a command only what each release has is filled in: everybody on the host sees its arguments, so no setting gets there.
    """
    try:
        if "command" in check:
            own = {name: settings[name] for name in OWN if name in settings}
            return {**check, "command": [fill(part, own) for part in check["command"]]}
        if "contains" in check.get("http", {}):
            return {**check, "http": {**check["http"], "contains": fill(check["http"]["contains"], settings)}}
    except EndpointError as error:
        raise CheckError(f"health check {check['name']!r} can't be made: {redactor.text(str(error))[:_TAIL]}") from None
    return check


def run_command(
    command: list[str],
    timeout: float,
    tree: str,
    environment: Mapping[str, str],
    log: str = "",
    precautions: Precautions = NONE,
    stdout: Optional[int] = None,
) -> None:
    """Run ``command`` in ``tree``; raise :class:`CheckError` unless it ends with 0 within ``timeout`` seconds.

    The command is an argument list and no shell sees it. When it fails or time is up, everything that it started is ended with it. A
    daemon that it leaves when it succeeds lives on and does not hold this call up; ``log`` is the file for the output of both, and
    ``stdout`` an open one for the command's standard output, if that is to go elsewhere.
    """
    problem = supervise(command, timeout, tree, environment, log, precautions, stdout)
    if problem:
        raise CheckError(f"{precautions.redactor.text(command[0])} {problem}")


def printable(text: str) -> str:
    """``text`` as a terminal can show it, which must not obey it; lines stay lines."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def wait_healthy(
    check: Mapping[str, Any],
    settings: Mapping[str, Any],
    tree: str,
    environment: Mapping[str, str],
    ended: Callable[[], str] = lambda: "",
    precautions: Precautions = NONE,
) -> None:
    """Repeat ``check`` (an entry of the manifest's ``health``) until it passes.

    ``ended`` says in words that what is checked is dead, nothing while it may still come up.
    Raises :class:`CheckError` with the last reason when its ``timeout`` (seconds, for all attempts together) is over, as soon as what is
    checked is dead, and at once when it can't be made.
    """
    where(check, settings, precautions.redactor)
    filled(check, settings, precautions.redactor)
    deadline = time.monotonic() + check["timeout"]
    reason = ""
    while True:
        left = max(deadline - time.monotonic(), 0.01)
        try:
            attempt(check, left, settings, tree, environment, precautions)
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


def attempt(
    check: Mapping[str, Any],
    seconds: float,
    settings: Mapping[str, Any],
    tree: str,
    environment: Mapping[str, str],
    precautions: Precautions = NONE,
) -> None:
    """Make ``check`` (an entry of the manifest's ``health``) once; raise :class:`CheckError` unless it passes within ``seconds``."""
    there = where(check, settings, precautions.redactor)
    check = filled(check, settings, precautions.redactor)
    if there is None:
        run_command(check["command"], seconds, tree, environment, precautions=precautions)
    else:
        _probe_within(seconds, check, there, precautions.redactor)


def _probe_within(seconds: float, check: Mapping[str, Any], there: Endpoint, redactor: Redactor) -> None:
    """Probe in a child that the kernel ends in time.

    A socket's own timeout starts anew with every byte that a slow server sends, and nothing in this process could interrupt
    the resolver.
    """
    means = _means(check)  # imported here and not in the child, for there is another one for each attempt
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            os.close(reader)
            try:
                _probe(check, there, seconds, means)
                status = 0
            except Exception as error:
                reason = redactor.text(str(error) or type(error).__name__)  # before it is cut: a part of a value is not found any more
                os.write(writer, reason.encode("utf-8", "backslashreplace")[:_TAIL])
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


def _means(check: Mapping[str, Any]) -> Callable[..., Any]:
    """What makes the connection for ``check``. It takes longer to import than a step takes, and many releases have only commands."""
    if "tcp" in check:
        from socket import create_connection  # noqa: PLC0415 - see above

        return create_connection
    from .web import get  # noqa: PLC0415 - see above

    return get


def _probe(check: Mapping[str, Any], there: Endpoint, timeout: float, means: Callable[..., Any]) -> None:
    if "tcp" in check:
        means((there.host, there.port), timeout=timeout).close()
        return
    wanted = check["http"]
    status, body, whole = means(there, timeout, _BODY)
    if not whole:
        raise CheckError(f"{there.shown} broke its answer off")
    if status != wanted.get("status", 200):
        raise CheckError(f"{there.shown} answered {status}, not {wanted.get('status', 200)}")
    if wanted.get("contains") and wanted["contains"] not in body.decode("utf-8", "replace"):
        raise CheckError(f"{there.shown} answered without {wanted['contains']!r}")
