# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host program: what ``module_utils`` is on a managed host, and how a step of ours runs it there.

A step is one command over the task's own connection, with the order on its standard input, or in a file where that can't be. Ansible's way
of running a module sends and unpacks all of it for each step, and starts twice the Python; here a host keeps the program, named by its
digest, and whoever starts it compares that. A host that does not have it says so, and gets it with the order again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
import shlex
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C

from ...module_utils.redaction import NOTHING, Redactor
from ..errors import TidegateError
from ..rollout.host_answer import printable

_SOURCES = Path(__file__).parents[2] / "module_utils"
_LOADER = "loader"
_DIRECTORY = ".program"  # below the root, where no release can be called so
_TAIL = 64 << 10  # characters of each of its outputs that are looked at when there is no answer
_LONGEST = 400  # characters of them that a sentence quotes
_FULL = ("No space left on device", "No usable temporary directory")
_ABSENT: dict[str, object] = {}  # the answer of a host that does not have the program, or not whole

# Only double quotes: it goes through the quoting of two shells. It gets on standard input, or in the file that is the third argument: what
# the answer begins with, the sizes of the packed program, 0 when the host should have it, and of the order, and whether the program is to
# be kept; then those two, and a pack, if there is one.
START = r"""
import sys
if sys.version_info < (3, 9): sys.exit("its Python is %d.%d, and 3.9 or newer is needed" % sys.version_info[:2])
import hashlib, os, zlib
folder, digest, *path = sys.argv[1:]
given = open(path[0], "rb") if path else sys.stdin.buffer
mark, size, length, keep = given.readline().split()
program = given.read(int(size))
try:
    if program: program = zlib.decompress(program)
    else: program = os.read(os.open(os.path.join(folder, digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), 1 << 24)
except (OSError, zlib.error): program = b""
if hashlib.sha256(program).hexdigest() == digest:
    names = {"__name__": "tidegate_host_program"}
    exec(compile(program, "<tidegate>", "exec"), names)
    if size == b"0": program = b""
    names["start"](given.read(int(length)), given, mark, folder if keep == b"1" else "", digest, program)
else:
    while given.read(1 << 20): pass
    os.write(1, b"\n" + mark + b"{}\n")
"""


class Program:
    """The host program: its ``text``, and the ``digest``, the sha256 that names it."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.digest = hashlib.sha256(text).hexdigest()

    @functools.lru_cache(maxsize=1)  # noqa: B019 - there is one program in a process
    def pack(self) -> bytes:
        """The text, compressed with zlib: only a host that does not have it needs that."""
        return zlib.compress(self.text)


class NoAnswerError(TidegateError):
    """A host's output has no answer of the program in it; ``output`` and ``errors`` are what it printed instead."""

    def __init__(self, output: str, errors: str, status: int) -> None:
        super().__init__(f"it ended with status {status}")
        self.output = output
        self.errors = errors

    def last_words(self, redactor: Redactor = NOTHING) -> str:
        """The line that says why, without what ``redactor`` knows."""
        # Before it is cut: a part of a value is not found any more.
        said = [redactor.text(text)[-_TAIL:] for text in (self.output, self.errors)]
        lines = [line.strip() for text in said for line in text.splitlines() if line.strip()]
        full = [line for line in lines if any(sign in line for sign in _FULL)]
        if full:
            return f"{printable(full[-1], _LONGEST)}; make room there"
        return f"{printable(lines[-1], _LONGEST) if lines else f'{self} and without a sound'}; mend the host"


@functools.lru_cache(maxsize=1)
def host_program() -> Program:
    """The program, put together out of the files of ``module_utils``: Python that can be read, and be run by hand."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_SOURCES.glob("*.py"))}
    loader = texts.pop(_LOADER)
    texts.pop("__init__", None)
    # What JSON says of texts, Python reads alike.
    known = json.dumps(texts, ensure_ascii=False, indent=0)
    return Program(f'{loader}\n\nSOURCES.update(\n{known}\n)\n\nif __name__ == "__main__":\n    by_hand()\n'.encode())


def run_on_host(
    action: Any, order: Mapping[str, Any], task_vars: Mapping[str, Any], *, pack: bytes = b"", keep: bool = True, along: bool = False
) -> object:
    """Have the host of ``action``'s task carry out ``order`` and return its answer, which nobody has looked at yet.

    ``order`` has at least ``operation`` and ``root``; see ``module_utils/program.py``. ``pack``: what follows it. ``keep``: whether the
    host keeps the program, if it does not have it. ``along``: whether it is sent at once, as to a host that nobody has been on.

    Raises :class:`NoAnswerError` when the host does not answer, and what Ansible raises when it can't be reached.
    """
    directory = f"{order['root']}/{_DIRECTORY}"
    text = json.dumps(order, default=str).encode()
    mark = f"tidegate-{secrets.token_hex(8)}"
    program = host_program()
    # With a pack at once, too: the program is nothing beside it, and it would have to be sent twice.
    for whole in (True,) if along or pack else (False, True):
        packed = program.pack() if whole else b""
        head = f"{mark} {len(packed)} {len(text)} {int(keep)}\n".encode()
        done = _execute(action, task_vars, directory, program.digest, head + packed + text + pack)
        answer = _read(str(done["stdout"]), mark)
        if answer is None:
            raise NoAnswerError(str(done["stdout"]), str(done["stderr"]), int(done["rc"]))
        if answer != _ABSENT:
            return answer
    raise NoAnswerError("", "the program that it was sent did not arrive whole", 0)


def _execute(action: Any, task_vars: Mapping[str, Any], directory: str, digest: str, data: bytes) -> dict[str, Any]:
    """Start the program on the host with ``data``: on its standard input, or in a file where the connection can't pass that on."""
    arguments = [directory, digest]
    piped = action._is_pipelining_enabled("new")
    if not piped:
        shell = action._connection._shell
        folder = shell.tmpdir or action._make_tmp_path()
        path = shell.join_path(folder, f"order-{secrets.token_hex(4)}")
        action._transfer_data(path, data)
        action._fixup_perms2([folder, path], execute=False)
        arguments.append(path)
    environment = action._compute_environment_string().strip()
    command = f"-I -S -c {shlex.quote(START)} {shlex.join(arguments)}"
    line = _with_python(action, task_vars, f"{environment} " if environment else "", command)
    return dict(action._low_level_execute_command(line, in_data=data if piped else None))


def _with_python(action: Any, task_vars: Mapping[str, Any], environment: str, arguments: str) -> str:
    """The command line that starts Python with ``arguments``.

    That is the Python that the user has named for this host, or that Ansible has found there; else the first of those that Ansible would
    look for, in the same command and as the same user.
    """
    delegated = task_vars.get("ansible_delegated_vars", {}).get(action._task.delegate_to) if action._task.delegate_to else None
    variables = delegated or task_vars
    config: Any = C.config  # ansible-core has no types for its configuration
    named = action._templar.template(config.get_config_value("INTERPRETER_PYTHON", variables=variables))
    if not named or str(named).startswith("auto"):
        named = variables.get("ansible_facts", {}).get("discovered_interpreter_python")
    if named:
        return f"{environment}{named} {arguments}"
    candidates = shlex.join(config.get_config_value("INTERPRETER_PYTHON_FALLBACK", variables=variables))
    missing = "echo no Python was found, install 3.9 or newer or set ansible_python_interpreter >&2; exit 127"
    found = f'for python in {candidates}; do if command -v "$python" >/dev/null 2>&1; then'
    # What stands for a Python that isn't there, as those of pyenv do, ends with 127 and has read nothing.
    ran = "status=$?; if test $status -ne 127; then exit $status; fi"
    return f'{found} {environment}"$python" {arguments}; {ran}; fi; done; {missing}'


def _read(output: str, mark: str) -> object:
    """The answer in a host's output, whatever else it printed; ``None`` when there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith(mark):
            try:
                return json.loads(line[len(mark) :])
            except (ValueError, RecursionError):
                return None
    return None
