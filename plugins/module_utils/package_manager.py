# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts' package managers have in common: how they are asked, their lock, and what they say of a package."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple

from .release_record import HostError

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "DPKG_FRONTEND_LOCKED": "1",  # by :func:`lock`
}
"""For all that is run; questions would be answered by nobody."""

_INTERVAL = 0.5  # seconds between two attempts to get the lock
_ASKED = 120  # seconds for a command that changes nothing


class PackageEntry(NamedTuple):
    """A package as the package manager has it. ``whole``: it is unpacked and configured. ``held``: upgrades leave it alone."""

    name: str
    architecture: str
    version: str
    whole: bool
    held: bool


# Runs a command that changes something.
Run = Callable[[Sequence[str]], None]


def check_tools(whose: str, *tools: str) -> None:
    """Raise :class:`HostError` where one of the programs is not, or where this process may not use them."""
    missing = [name for name in tools if not shutil.which(name, path=ENVIRONMENT["PATH"])]
    if missing:
        raise HostError(f"this host has no {missing[0]}, so no package of {whose} can be installed; deploy to hosts that have it")
    if os.geteuid() != 0:
        raise HostError("only root installs packages; set tidegate_become or connect as root")


def ask(command: Sequence[str], given: str = "") -> tuple[str, str, int]:
    """What a command prints, and on standard error, and its exit status."""
    try:
        done = subprocess.run(command, input=given.encode(), env=ENVIRONMENT, cwd="/", capture_output=True, check=False, timeout=_ASKED)
    except subprocess.TimeoutExpired:
        raise HostError(f"{command[0]} does not answer within {_ASKED} s; look at it on the host") from None
    return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), done.returncode


@contextlib.contextmanager
def lock(path: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a package manager; raises :class:`HostError` when somebody else has it for longer."""
    import fcntl  # noqa: PLC0415 - only this needs it

    deadline = time.monotonic() + seconds
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    try:
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise HostError(
                        f"somebody else has been changing packages for more than {seconds:g} s; wait for whoever holds {path} "
                        "(fuser shows the process) and run this again"
                    ) from None
                time.sleep(_INTERVAL)
        yield
    finally:
        os.close(descriptor)
