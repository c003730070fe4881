# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are there whole or not at all, also after a crash, and locks that end with their process.

What is made here is its owner's alone, whatever the umask is. A team that shares it says so by the set-group-id bit of the directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .activity import waiting


def rights(folder: Path) -> int:
    """The rights that what is made in a directory may have at most: the owner's, and its group's where it has the set-group-id bit."""
    mode = folder.stat().st_mode
    return 0o700 | (mode & 0o070 if mode & stat.S_ISGID else 0)


def make_folder(folder: Path) -> None:
    """Make a directory, and those above it that are lacking. Raises :class:`OSError`."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # somebody else was faster
        folder.mkdir(0o700)
        folder.chmod(rights(folder.parent) | folder.stat().st_mode & stat.S_ISGID)
    folder.stat()


@contextlib.contextmanager
def locked(path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold the lock file ``path``, exclusively unless ``operation`` says otherwise; the kernel lets go of it when the process dies.

    Raises :class:`BlockingIOError` when ``operation`` has ``LOCK_NB`` and somebody else holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o666 & rights(path.parent))
        with waiting(f"{path.parent}, which another process has locked"):
            fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, source: bytes | Iterable[bytes]) -> None:
    """Write ``path`` whole or not at all, on disk before it has its name."""
    temporary = path.with_name(f".new-{secrets.token_hex(8)}")
    try:
        write(temporary, source, 0o666)
        temporary.replace(path)
        fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_new(path: Path, source: bytes | Iterable[bytes]) -> None:
    """The same for a name that nothing has yet. Raises :class:`FileExistsError`, and leaves what has it."""
    temporary = path.with_name(f".new-{secrets.token_hex(8)}")
    try:
        write(temporary, source, 0o666)
        os.link(temporary, path)
        fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, source: bytes | Iterable[bytes], mode: int) -> tuple[str, int]:
    """Write a new file through to the disk; return its digest and size. It has no rights in ``mode`` that :func:`rights` does not give."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as target:
        os.fchmod(target.fileno(), mode & rights(path.parent))
        written = copy_hashing(source, target.write)
        target.flush()
        os.fsync(target.fileno())
    return written


def copy_hashing(source: bytes | Iterable[bytes], write: Callable[[bytes], object]) -> tuple[str, int]:
    """Write ``source``; return its digest and size."""
    digest = hashlib.sha256()
    size = 0
    for chunk in [source] if isinstance(source, bytes) else source:
        write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return f"sha256:{digest.hexdigest()}", size


def fsync_directory(folder: Path) -> None:
    """See to it that the names in a directory are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
