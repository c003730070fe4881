# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs leave on the controller: directories, when they are killed, and logs.

Each directory says whose it is, and the next run of its kind removes it. What is not this user's own, says nothing of its owner, or whose
owner is not known to have ended, stays. Logs go when the journal of their deployments may be archived.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from .holder import Holder

OWNER = "tidegate-owner"
"""The file in a directory that says which controller process it is of."""
_LONGEST = 1000  # bytes of it
_MACHINE_ID = 32  # letters


def mark(folder: Path) -> None:
    """Write into ``folder`` that it is this run's, unless it says whose it is already. Raises :class:`OSError`."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(folder / OWNER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(f"{Holder.this_run()}\n{_machine_id()}\n")


def left_behind(parent: Path, prefix: str) -> list[Path]:
    """The directories in ``parent`` whose names begin with ``prefix`` and whose runs have ended, sorted; none that can't be looked into."""
    try:
        names = sorted(name for name in os.listdir(parent) if name.startswith(prefix))
    except OSError:
        return []
    return [parent / name for name in names if _is_left(parent / name)]


def _is_left(folder: Path) -> bool:
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not _is_own(os.fstat(directory)):
            return False
        descriptor = os.open(OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        with open(descriptor, "rb") as stream:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or not _is_own(info):
                return False
            owner, _end, machine = stream.read(_LONGEST).decode("utf-8", "replace").partition("\n")
    except OSError:
        return False
    finally:
        os.close(directory)
    holder = Holder.parse(owner)
    return holder is not None and (holder.is_dead() or _before_this_boot(holder, machine.strip()))


def _before_this_boot(holder: Holder, machine: str) -> bool:
    """Whether a process ran on this very machine, which was started anew since. A name alone could be that of two machines."""
    this = Holder.this_run()
    known = "unknown" not in (holder.boot, this.boot) and machine != ""
    return known and (holder.machine, machine) == (this.machine, _machine_id()) and holder.boot != this.boot


def _machine_id() -> str:
    """The number that an operating system has since it was installed; empty when it has none."""
    with contextlib.suppress(OSError):
        found = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
        return found if len(found) == _MACHINE_ID else ""
    return ""


def _is_own(info: os.stat_result) -> bool:
    """Whether something is this user's, and nobody else may write there."""
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def remove(folder: Path) -> bool:
    """Remove a directory that was left, following no link; return whether it is gone. Where a file system is mounted in it, it stays."""
    if _mounted_below(folder):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


def _mounted_below(folder: Path) -> bool:
    """Whether something is mounted on or below ``folder``, or that can't be found out: it could be anybody's files."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return True
    own = os.path.realpath(folder)
    places = (line.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape") for line in lines)
    return any(place == own or place.startswith(f"{own}/") for place in places)


@contextlib.contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """An empty directory of this run's own in the temporary directory, gone at the end; what killed runs left of the kind goes first.

    Raises :class:`OSError`.
    """
    for folder in left_behind(Path(tempfile.gettempdir()), prefix):
        remove(folder)
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        mark(Path(name))
        folder = Path(name) / "files"
        folder.mkdir(0o700)
        yield folder


def sweep_run_directories(own: Path) -> None:
    """Remove what killed runs left of this collection's in Ansible's directories for them, of which this run's is ``own``.

    What can't be removed stays, and what another run removes meanwhile is gone: neither stops a deployment.
    """
    for folder in left_behind(own.parent, "ansible-local-"):
        if folder != own:
            with contextlib.suppress(OSError):
                _sweep(folder)


def _sweep(folder: Path) -> None:
    for name in sorted(os.listdir(folder)):
        if name.startswith("tidegate-") and name != OWNER:
            path = folder / name
            with contextlib.suppress(OSError):
                remove(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if os.listdir(folder) == [OWNER]:  # the mark last: whoever is killed before can be made up for
        (folder / OWNER).unlink()
        folder.rmdir()


def log_of(label: str, wave: int | None) -> Path:
    """Where what a role's tasks print in a deployment is kept."""
    return _logs() / f"{re.sub('[^A-Za-z0-9]+', '-', label)}{f'-wave-{wave}' if wave else ''}.log"


def sweep_logs(before: datetime) -> None:
    """Remove this user's logs of roles to which nothing was written since ``before``; none stops a deployment that can't be removed."""
    with contextlib.suppress(OSError), os.scandir(_logs()) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                info = entry.stat(follow_symlinks=False)
                own = stat.S_ISREG(info.st_mode) and _is_own(info)
                if own and entry.name.endswith(".log") and info.st_mtime < before.timestamp():
                    os.unlink(entry.path)


def _logs() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tidegate"
