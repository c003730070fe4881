# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who drives a deployment: the name of a controller process, and whether it is still alive.

A deployment is driven by one controller at a time. It holds a lease; when it dies where the one that asks can see its process, or what it
shows that it is there by (:mod:`..cmdb.presence`), that is seen at once; else the lease runs out.
"""

from __future__ import annotations

import getpass
import multiprocessing
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cmdb import presence

_TEXT = re.compile(
    r"(?P<user>\S+)@(?P<machine>\S+) \((job (?P<job>\d+) of AWX, )?pid (?P<pid>\d+), started (?P<started>\d+), boot (?P<boot>\S+), "
    r"processes (?P<namespace>\S+)\)"
)
_JOB = re.compile(r"[0-9]{1,18}")
_UNKNOWN = "unknown"
DRIVER = "TIDEGATE_DRIVER"
"""The variable of the environment by which a run within a run says of which, the number of a process that it descends from."""


@dataclass(frozen=True)
class Holder:
    """A process on a machine; ``started`` (clock ticks after boot, 0 if unknown) and ``boot`` tell it from later ones with its number.

    ``namespace`` tells the PID namespace, such as a container's, in which ``pid`` is its number. ``job`` is the number of the job of AWX
    that it is, by which people find it there: the machine is a container then, and gone with it. ``mark`` is by what those can see whether
    it is there who can't see its process, empty when by nothing; it is no part of the name.
    """

    user: str
    machine: str
    pid: int
    started: int
    boot: str
    namespace: str = _UNKNOWN
    job: str = ""
    mark: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        job = f"job {self.job} of AWX, " if self.job else ""
        return f"{self.user}@{self.machine} ({job}pid {self.pid}, started {self.started}, boot {self.boot}, processes {self.namespace})"

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """Read what ``str`` wrote; nothing when it is something else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        pid, started = int(match["pid"]), int(match["started"])
        return cls(match["user"], match["machine"], pid, started, match["boot"], match["namespace"], match["job"] or "")

    @classmethod
    def this_run(cls) -> Holder:
        """The ansible-playbook process that this code runs in or was forked from; of one within another, the outer one."""
        parent = multiprocessing.parent_process()
        pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
        driver = os.environ.get(DRIVER, "")
        if driver.isdecimal() and int(driver) in _ancestors(pid):
            pid = int(driver)
        return cls(user_name(), socket.gethostname(), pid, _started(pid) or 0, _boot(), _namespace(), _job(), presence.mark())

    def to_dict(self) -> dict[str, Any]:
        """What the journal says of who begins to drive a deployment."""
        return {"holder": str(self), **({"mark": dict(self.mark)} if self.mark else {})}

    def is_dead(self) -> bool:
        """True when it is known to have ended: it ran where this process can see it, since the last boot, and does not any more."""
        if _UNKNOWN in (self.boot, self.namespace) or not self.started:
            return False
        if (self.machine, self.boot, self.namespace) != (socket.gethostname(), _boot(), _namespace()):
            return False
        started = _started(self.pid)
        return not _exists(self.pid) if started is None else started != self.started


def user_name() -> str:
    """Whose this process is, without blanks, as a container may have numbers that have no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid{os.getuid()}"
    return re.sub(r"\s", "_", name)


def _job() -> str:
    """The number of the job of AWX that this is, nothing for none. Source: ``RunJob.build_env`` of AWX."""
    job = os.environ.get("JOB_ID", "")
    return job if os.environ.get("AWX_HOST") and _JOB.fullmatch(job) else ""


def _started(pid: int) -> int | None:
    """Start time of a process in clock ticks after boot (proc(5), field 22 of stat): 0 if it has ended, ``None`` if not known."""
    with suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    return None


def _ancestors(pid: int) -> Iterator[int]:
    """The processes that a process descends from, nearest first, as far as that can be seen."""
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return
        yield pid


def _exists(pid: int) -> bool:
    """Whether there is such a process: /proc may be mounted so that it does not show those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return _UNKNOWN


def _namespace() -> str:
    """The number of the PID namespace of this process and of the one that forked it; unknown where /proc is that of another namespace."""
    with suppress(OSError):
        if os.readlink("/proc/self") == str(os.getpid()):
            return str(Path("/proc/self/ns/pid").stat().st_ino)
    return _UNKNOWN
