# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last lines of what a release logs, for whoever has to find out why it did not come up.

This may run as root on files in directories of a service's user, and what it reads is shown to people: so no link of such a user is
followed, nothing but regular files is read, and nothing but printable text is returned.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Union

from .endpoint import fill
from .health import printable
from .redaction import NOTHING, Redactor

LINES = 20  # of each log
_BYTES = 2000  # of all logs together
_TIME = 5.0  # seconds that the journal or the service manager may take
_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")

Entry = Union[str, Mapping[str, str]]


def last_lines(entries: Iterable[Entry], settings: Mapping[str, Any], tree: Path, state: Path, redactor: Redactor = NOTHING) -> str:
    """The last lines of each log of a manifest's ``logs``, each under its name; a log that can't be read says so instead.

    ``settings`` stand for ``${name}`` in paths; a relative path is one in ``state``, or in ``tree`` when ``state`` does not have it.
    What ``redactor`` knows, and a password in a URL, is not among the lines.
    At most :data:`LINES` lines of each, and about 2,000 bytes in all. Raises nothing.
    """
    wanted = list(entries)
    limit = _BYTES // max(len(wanted), 1)
    parts = []
    for entry in wanted:
        if isinstance(entry, str):
            path = _find(fill(entry, settings), tree, state)
            name, text = redactor.text(str(path)), _of_file(path, limit, redactor)
        else:
            name, text = f"unit {entry['unit']}", _of_unit(entry["unit"], limit, redactor)
        parts.append("\n  ".join((f"{printable(name)} says:", *_lines(_IN_URL.sub(r"\1***@", text)))))
    return "\n".join(parts)


def failed_unit(entries: Iterable[Entry]) -> str:
    """That a systemd unit which the logs name has failed, in words; empty when none has, or there is no systemd to ask."""
    for entry in entries:
        if not isinstance(entry, str) and _run(["systemctl", "is-failed", "--quiet", "--", entry["unit"]], 0)[0] == 0:
            return f"unit {entry['unit']} has failed"
    return ""


def _find(text: str, tree: Path, state: Path) -> Path:
    return next((path for path in (state / text, tree / text) if os.path.lexists(path)), state / text)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()][-LINES:] or ["nothing"]


def _of_file(path: Path, limit: int, redactor: Redactor) -> str:
    try:
        descriptor = _open(path)
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                return "(it is not a regular file)"
            if info.st_nlink > 1 and info.st_uid != os.stat(path.parent).st_uid:
                return "(it is another file under a second name)"  # so that nobody is shown what the service's user may not read
            return _end(descriptor, limit, redactor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"(it can't be read: {error.strerror})"


def _open(path: Path) -> int:
    """Open what is at the absolute ``path`` for reading; a link on the way is followed only if root or this process's user made it."""
    *folders, name = path.parts[1:]
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        for folder in folders:
            link = os.stat(folder, dir_fd=here, follow_symlinks=False)
            trusted = stat.S_ISLNK(link.st_mode) and link.st_uid in (0, os.geteuid())
            there = os.open(folder, os.O_PATH | os.O_DIRECTORY | (0 if trusted else os.O_NOFOLLOW), dir_fd=here)
            os.close(here)
            here = there
        # Not blocking: somebody may have put a pipe there.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=here)
    finally:
        os.close(here)


def _end(descriptor: int, limit: int, redactor: Redactor) -> str:
    """The last ``limit`` bytes of an open file as printable text, redacted, from the beginning of a line if there is one."""
    size = os.fstat(descriptor).st_size
    more = redactor.longest  # of a value that is cut, the part that is left would not be found
    text = redactor.data(os.pread(descriptor, limit + more, max(0, size - limit - more)))
    if size > limit:
        text = text[more if size > limit + more else 0 :][-limit:]
        text = text.partition(b"\n")[2] if b"\n" in text[:-1] else text
    return printable(text.decode("utf-8", "replace"))


def _of_unit(unit: str, limit: int, redactor: Redactor) -> str:
    status, text = _run(["journalctl", f"--unit={unit}", f"--lines={LINES}", "--no-pager", "--quiet"], limit, redactor)
    return text if status == 0 else f"(the journal can't be read{': ' if text else ''}{text.strip()})"


def _run(command: list[str], limit: int, redactor: Redactor = NOTHING) -> tuple[int, str]:
    """Run a command of the system for a few seconds; its status, -1 when it has none, and the last ``limit`` bytes that it printed."""
    # Few releases name units, so few hosts need these.
    import signal  # noqa: PLC0415 - see above
    import subprocess  # noqa: PLC0415 - see above
    import tempfile  # noqa: PLC0415 - see above

    try:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed below
    except OSError as error:  # a full or tiny disk is no reason to say anything of a release
        return -1, f"there is no room for what {command[0]} prints: {error.strerror}"
    with output:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            return -1, f"{command[0]} can't be run: {error.strerror}"
        try:
            status = process.wait(_TIME)
        except subprocess.TimeoutExpired:
            return -1, f"{command[0]} did not end within {_TIME:g} s"
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return status, _end(output.fileno(), limit, redactor)
