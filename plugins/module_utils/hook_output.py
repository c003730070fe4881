# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the output of a hook, and of the daemons that it leaves, goes: into a file that does not grow without limit.

Its source, and that of :mod:`redaction`, is also run as a program of its own, beside a daemon that inherited a hook's output: it copies
what comes on its standard input into the file that its argument names, until the last writer is gone. So it imports no other file of this
collection.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

BLOCK = 1 << 16  # bytes that are copied at once
LIMIT = 1 << 20  # bytes of a file; the one before it is kept too, with .1 behind its name


class BoundedLog:
    """A file at ``path`` that is appended to; without a path what is written is thrown away."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, data: bytes) -> None:
        """Append at most ``BLOCK`` bytes. A full disk or a missing directory loses them: whoever writes them has to go on."""
        # Opened each time: a daemon of another release may write to it as well, and one of the two renames it first.
        with contextlib.suppress(OSError):
            if self._path and not self._append(data, LIMIT - len(data)):
                os.replace(self._path, f"{self._path}.1")
                self._append(data, LIMIT)

    def _append(self, data: bytes, at_most: int) -> bool:
        """Whether the file was not longer than ``at_most`` bytes and ``data`` was appended."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            fits = os.fstat(descriptor).st_size <= at_most
            if fits:
                os.write(descriptor, data)
            return fits
        finally:
            os.close(descriptor)


def copy(path: str, shown: Callable[[bytes], bytes]) -> None:
    """Append standard input to the file at ``path``, each block as ``shown`` returns it; an empty one is the end."""
    # It has to outlive what writes to it: a daemon whose reader is gone is ended by its next line.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    log = BoundedLog(path)
    while True:
        data = os.read(0, BLOCK)
        log.write(shown(data))
        if not data:
            return
