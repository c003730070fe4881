# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook many times over, each in a fork of a process that has loaded Ansible: half of the work, and the same command otherwise.

What is loaded is Ansible and libraries, nothing of this collection; each run has its own environment, arguments and temporary directory.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LOADED = (
    *("ansible.cli.playbook", "ansible.executor.playbook_executor", "ansible.executor.task_executor"),
    *("ansible.plugins.strategy.linear", "ansible.plugins.callback.default", "ansible.plugins.connection.ssh"),
    *("sqlalchemy.dialects.sqlite", "jsonschema", "jmespath", "packaging.specifiers", "http.client"),
    *("securesystemslib.signer", "cryptography.hazmat.primitives.serialization"),
)
_NOT_ANSIBLES = ("TIDEGATE_", "PYTEST_")  # variables that Ansible does not read when it is loaded
_servers: dict[str, Server] = {}


def run(
    command: list[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    *,
    apart: bool = False,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command that begins with ``ansible-playbook``, one at a time; errors are in ``stdout`` too unless they are to be ``apart``."""
    where = folder or Path.cwd()
    configured = where if (where / "ansible.cfg").exists() else Path("/")
    settings = {name: value for name, value in environment.items() if not name.startswith(_NOT_ANSIBLES)}
    key = json.dumps([str(configured), settings], sort_keys=True)
    if key not in _servers:
        _servers[key] = Server(configured, settings)
    return _servers[key].run(command, environment, where, apart=apart, timeout=timeout)


class Server:
    """A process that has Ansible loaded, with the settings that it finds in ``folder`` and ``environment``; it ends with this one."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-P", __file__]
        self._process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def run(
        self, command: list[str], environment: Mapping[str, str], folder: Path, *, apart: bool = False, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one; raises :class:`subprocess.TimeoutExpired` as :func:`subprocess.run` does."""
        assert self._process.stdin is not None
        with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
            files = [output.name, errors.name if apart else output.name]
            order = {"command": command, "environment": dict(environment), "folder": str(folder), "files": files}
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            number = self._answer()
            late = not select.select([self._process.stdout], [], [], timeout)[0]
            if late:
                os.kill(number, signal.SIGKILL)
            status = self._answer()
            said, complained = (file.read().decode() for file in (output, errors))
        if late:
            raise subprocess.TimeoutExpired(command, timeout or 0, said, complained)
        return subprocess.CompletedProcess(command, status, said, complained)

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _serve() -> None:
    """Read an order a line; answer each with the process that it is run by, and then with that one's status."""
    for name in _LOADED:
        importlib.import_module(name)
    from ansible import constants as C

    shutil.rmtree(C.DEFAULT_LOCAL_TMP)  # of which each run has its own
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(command: list[str], environment: dict[str, str], folder: str, files: list[str]) -> None:
    from ansible import constants as C
    from ansible.cli.playbook import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    streams = [os.open(os.devnull, os.O_RDONLY), *(os.open(file, os.O_WRONLY | os.O_APPEND) for file in files)]
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    constants: Any = C
    constants.DEFAULT_LOCAL_TMP = C.config.get_config_value("DEFAULT_LOCAL_TMP", variables=vars(C))
    sys.argv = [shutil.which(command[0]) or command[0], *command[1:]]
    main()  # which ends the process


if __name__ == "__main__":
    _serve()
