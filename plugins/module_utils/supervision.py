# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command so that everything it started ends when it fails, and whatever it leaves when it succeeds can go on writing.

Each command gets a supervisor, a fork of this process: whatever loses its parent below it becomes its child, so it knows all of the
command's processes and none of another's. It is a process of its own so that it reaps them, and so that it ends the command when
this one is killed; until then it has the home's lock, as it inherited the open file.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, Optional

from . import hook_output, redaction
from .account import Account
from .hook_output import BLOCK, BoundedLog
from .processes import MARK, Processes, adopt_orphans, below, end, find_prctl, marked
from .redaction import NOTHING, Redactor, Stream

_OUTPUT = 64 << 20  # bytes that a command may write: whoever writes more is out of order
_TAIL = 2000  # bytes of a command's output that are reported
_REST = 1 << 20  # bytes that a pipe can hold, unless somebody has enlarged it
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How variables of whoever logged in begin: who that is, and where what is that user's alone is.
_OF_A_LOGIN = ("SUDO_", "XDG_", "SSH_", "DBUS_", "KRB5", "GNUPG", "MAIL", "SHELL", "PWD", "OLDPWD", "TMP", "TEMP")
_UMASK = 0o022  # whatever the login's is
# Short, as people see it in the list of processes, where no setting may stand.
_PROGRAM = 'import os, sys; exec(os.environ.pop("REDACTION")); exec(os.environ.pop("OUTPUT")); copy(sys.argv[1], stream(os.environ).feed)'


class Precautions(NamedTuple):
    """What is minded when something runs that came with a release or an RFC.

    ``redactor`` knows what must not be shown of its output. ``account``: the user as whom commands run, ``None`` for this process's.
    ``clean``: commands get nothing of this process's environment, which may hold secrets of its own.
    """

    redactor: Redactor = NOTHING
    account: Optional[Account] = None
    clean: bool = False

    def environment(self) -> dict[str, str]:
        """What a command finds in its environment before anything is added for it."""
        if self.clean:
            return {"PATH": _PATH, "LANG": "C.UTF-8"}
        if self.account is None:
            return dict(os.environ)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_LOGIN)}
        return {**kept, **self.account.environment}


NONE = Precautions()


def supervise(
    command: list[str],
    timeout: float,
    tree: str,
    environment: Mapping[str, str],
    log: str = "",
    precautions: Precautions = NONE,
    stdout: Optional[int] = None,
) -> str:
    """Run ``command`` in ``tree``; return what was wrong about its end, nothing when it ended with 0 within ``timeout`` seconds.

    When something was wrong none of its descendants is left, or the answer names those that can't be ended. What it leaves when
    it ends well lives on and holds nothing up. ``log`` is the file for its output, and for that of what it leaves; empty for none.
    Neither the answer nor the file has what ``precautions`` redact. ``stdout``: where its standard output goes instead, an open file.
    """
    answer, writer = os.pipe()
    alive, lifeline = os.pipe()
    environment = {MARK: os.urandom(8).hex(), **environment}
    find_prctl()  # here, and not in each of the children that come from here
    child = os.fork()
    if child == 0:
        os.close(answer)
        os.close(lifeline)
        _run_supervisor(_Supervisor(timeout, alive, environment, log, precautions, stdout), command, tree, writer)
    os.close(writer)
    os.close(alive)
    try:
        with open(answer, "rb") as stream:
            problem = stream.read().decode("utf-8", "replace")
    finally:
        os.close(lifeline)  # what takes this process away closes it too
        _pid, outcome = os.waitpid(child, 0)
    if outcome != 0:
        left = end(lambda: marked(environment[MARK]))
        return f"was ended, because somebody killed the process that supervises it{_clause(left)}"
    return problem


def _run_supervisor(supervisor: _Supervisor, command: list[str], tree: str, writer: int) -> NoReturn:
    status = 1
    try:
        try:
            problem = supervisor.run(command, tree)
        except BaseException as error:  # whatever it is, nothing of the command may go on
            problem = f"can't be supervised: {str(error) or type(error).__name__}{supervisor.end_all()}"
        os.write(writer, problem.encode("utf-8", "backslashreplace"))
        status = 0
    finally:
        os._exit(status)


def _interrupt(number: int, _frame: object) -> NoReturn:
    raise SystemExit(f"it got signal {number}")


def _clause(text: str) -> str:
    return f"; {text}" if text else ""


class _Supervisor:
    """The supervisor's side: it has nothing else to do, and no child but the command and those that it adopts."""

    def __init__(
        self, timeout: float, alive: int, environment: Mapping[str, str], log: str, precautions: Precautions, stdout: Optional[int]
    ) -> None:
        self._precautions = precautions
        self._stdout = stdout
        self._shown = Stream(precautions.redactor)
        self._timeout = timeout
        self._alive = alive
        self._environment = environment
        self._log_path = log
        self._log = BoundedLog(log)
        self._tail = b""
        self._written = 0
        self._children: list[subprocess.Popen[bytes]] = []  # reaped here, so they must not be collected and complain
        self._adopting = True

    def run(self, command: list[str], tree: str) -> str:
        os.setsid()
        self._adopting = adopt_orphans()
        signal.signal(signal.SIGTERM, _interrupt)
        woken, waker = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        output, writer = os.pipe()
        try:
            pid = self._start(command, tree, writer)
        except (OSError, ValueError) as error:
            return f"can't be run: {getattr(error, 'strerror', None) or error}"
        os.close(writer)
        problem = self._wait(pid, output, woken)
        if not problem:
            if not self._read_rest(output):
                self._start_reader(output)
            return ""
        left = self.end_all()
        self._read_rest(output)
        return f"{problem}{self._last_output()}{left}"

    def end_all(self) -> str:
        """End the command and all that is below it; return what a person has to know about that."""

        def find() -> Processes:
            self._reap(0)
            return {**below([os.getpid()]), **marked(self._environment[MARK])}

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        lost = "" if self._adopting else "; this kernel does not say which processes it left, so look for them with ps"
        return f"{_clause(end(find))}{lost}"

    def _wait(self, pid: int, output: int, woken: int) -> str:
        """What was wrong about the command's end, nothing when it was good; one that still runs is over a limit."""
        deadline = time.monotonic() + self._timeout
        poll = select.poll()
        for descriptor in (output, woken, self._alive):
            poll.register(descriptor, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            for descriptor, _event in poll.poll(math.ceil(max(0, left) * 1000)):
                if descriptor == self._alive:
                    return "was ended, because the process that had started it was killed"
                if descriptor == woken:
                    os.read(woken, BLOCK)
                elif not self._read(output):
                    poll.unregister(output)
            status = self._reap(pid)
            if status is not None:
                return "" if status == 0 else _how(status)
            if left <= 0:
                return f"did not end within {self._timeout:g} s"
            if self._written > _OUTPUT:
                return f"wrote more than {_OUTPUT >> 20} MiB"

    @staticmethod
    def _reap(pid: int) -> Optional[int]:
        """Wait for every child that has ended, as adopted ones would be taken for running; return the status of ``pid`` if it is one."""
        status = None
        while True:
            try:
                ended, outcome = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return status
            if ended == 0:
                return status
            if ended == pid:
                status = outcome

    def _read(self, output: int) -> bool:
        """Read a block of the command's output; false when nobody is left who could write."""
        data = os.read(output, BLOCK)
        self._written += len(data)
        shown = self._shown.feed(data)  # before it is cut: a part of a value is not found any more
        self._tail = (self._tail + shown)[-_TAIL:]
        self._log.write(shown)
        return bool(data)

    def _read_rest(self, output: int) -> bool:
        """Read what has been written up to now; return whether nobody is left who could write more."""
        os.set_blocking(output, False)
        try:
            for _block in range(_REST // BLOCK):
                if not self._read(output):
                    return True
        except BlockingIOError:
            pass
        return False

    def _start_reader(self, output: int) -> None:
        """Leave a process that reads what daemons of the command write, until the last of them is gone."""
        os.set_blocking(output, True)
        sources = {}
        for module in (redaction, hook_output):
            loader: Any = module.__loader__  # Ansible runs modules out of a zip file
            sources[module] = loader.get_source(module.__name__)
        environment = {"REDACTION": sources[redaction], "OUTPUT": sources[hook_output]}
        for log, known in ((self._log_path, self._shown.environment()), ("", {})):
            try:
                self._popen([sys.executable, "-I", "-S", "-c", _PROGRAM, log], "/", {**environment, **known}, output, subprocess.DEVNULL)
                return
            except OSError:  # more than an environment may hold: then the output is thrown away, for nothing in it could be redacted
                continue

    def _start(self, command: list[str], tree: str, output: int) -> int:
        """Start the command with the rights of its user, in its environment."""
        account = self._precautions.account
        rights: dict[str, Any] = {}
        if account is not None and account.uid != os.geteuid():
            rights = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
            for stream in (output, *([] if self._stdout is None else [self._stdout])):
                os.fchown(stream, account.uid, -1)  # else it could not open /dev/stderr
        environment = {**self._precautions.environment(), **self._environment}
        said = output if self._stdout is None else self._stdout
        return self._popen(command, tree, environment, subprocess.DEVNULL, output, stdout=said, umask=_UMASK, **rights)

    def _popen(self, command: list[str], folder: str, environment: Mapping[str, str], stdin: int, output: int, **more: Any) -> int:
        streams = {"stdin": stdin, "stdout": output, "stderr": output}
        process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **{**streams, **more})
        self._children.append(process)
        return process.pid

    def _last_output(self) -> str:
        tail = (self._tail + self._shown.feed(b""))[-_TAIL:]
        text = tail.decode("utf-8", "replace").strip()
        # It ends up on somebody's terminal, which must not obey it.
        text = "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
        return f": {text}" if text else ""


def _how(status: int) -> str:
    return f"was ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"ended with status {os.WEXITSTATUS(status)}"
