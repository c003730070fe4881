# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who drives a deployment: the name of a controller process, and whether it is still alive.

A deployment is driven by one controller at a time. It holds a lease; when it dies on the machine that asks, that is seen at
once, when it dies elsewhere the lease runs out.
"""

from __future__ import annotations

import getpass
import multiprocessing
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TEXT = re.compile(r"(?P<user>\S+)@(?P<machine>\S+) \(pid (?P<pid>\d+), started (?P<started>\d+), boot (?P<boot>\S+)\)")


@dataclass(frozen=True)
class Holder:
    """A process on a machine; ``started`` (clock ticks after boot) and ``boot`` tell it from later ones with its number."""

    user: str
    machine: str
    pid: int
    started: int
    boot: str

    def __str__(self) -> str:
        return f"{self.user}@{self.machine} (pid {self.pid}, started {self.started}, boot {self.boot})"

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """Read what ``str`` wrote; nothing when it is something else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        return cls(match["user"], match["machine"], int(match["pid"]), int(match["started"]), match["boot"])

    @classmethod
    def this_run(cls) -> Holder:
        """The ansible-playbook process that this code runs in or was forked from."""
        parent = multiprocessing.parent_process()
        pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
        return cls(getpass.getuser(), socket.gethostname(), pid, _started(pid) or 0, _boot())

    def is_dead(self) -> bool:
        """True when it is known to have ended: it ran on this machine since its last boot, and does not any more."""
        if self.machine != socket.gethostname() or self.boot == "unknown" or self.boot != _boot():
            return False
        return _started(self.pid) != self.started


def _started(pid: int) -> int | None:
    """Start time of a living process in clock ticks after boot (proc(5), field 22 of stat)."""
    with suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    return None


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return "unknown"
