# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook many times over, each in a fork of a process that has loaded it: half the time, and the same command otherwise.

Run as a program it reads one JSON object a line, with ``arguments``, ``environment``, ``folder`` and ``output``, and answers with the
status.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_LOADED = (
    *("ansible.cli.playbook", "ansible.executor.playbook_executor", "ansible.plugins.strategy.linear", "ansible.executor.task_executor"),
    *("sqlalchemy.dialects.sqlite", "jsonschema", "jmespath", "securesystemslib.signer", "cryptography.hazmat.primitives.serialization"),
)


class Server:
    """A process that has Ansible loaded; ``folder`` is empty, so that it has no configuration of anybody's."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self, arguments: list[str], environment: dict[str, str], folder: Path, output: Path) -> int:
        """Run ansible-playbook; what it prints goes to ``output``. Returns its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": arguments, "environment": environment, "folder": str(folder), "output": str(output)}
        self._process.stdin.write(json.dumps(order) + "\n")
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _serve() -> None:
    for name in _LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(order["arguments"], order["environment"], order["folder"], order["output"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(arguments: list[str], environment: dict[str, str], folder: str, output: str) -> None:
    from ansible import constants as C
    from ansible.cli.playbook import PlaybookCLI

    status = 250
    try:
        os.chdir(folder)
        os.environ.update(environment)
        files = (os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
        for source, target in zip((*files, files[1]), (0, 1, 2), strict=True):
            os.dup2(source, target)
        with tempfile.TemporaryDirectory() as temporary:
            C.DEFAULT_LOCAL_TMP = temporary  # each run has its own
            PlaybookCLI.cli_executor(["ansible-playbook", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
