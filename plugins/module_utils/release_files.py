# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a release on a host: compared with its file index, read with a limit, removed, brought to disk."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from .release_record import HostError, Release

_DIRECTORY = 0o755


# The sha256 of files by device and inode, for one pass over trees that share them.
Seen = dict[tuple[int, int], Optional[str]]


def intact(path: bytes, entry: Mapping[str, Any], seen: Optional[Seen] = None) -> Optional[os.stat_result]:
    """What ``stat`` says of the regular file at ``path`` if its content is that of ``entry``, else nothing; follows no link."""
    found = open_regular(path)
    if found is None:
        return None
    descriptor, info = found
    try:
        if info.st_size != entry["size"]:
            return None
        if seen is None:
            digest = range_digest(descriptor, 0, info.st_size)
        else:
            inode = (info.st_dev, info.st_ino)
            if inode not in seen:
                seen[inode] = range_digest(descriptor, 0, info.st_size)
            digest = seen[inode]
        return info if digest == entry["sha256"] else None
    finally:
        os.close(descriptor)


def open_regular(path: bytes, folder: Optional[int] = None) -> Optional[tuple[int, os.stat_result]]:
    """The regular file at ``path``, open to be read, and what ``fstat`` says of it; nothing when there is none. Follows no link.

    ``folder``: the open directory that the path is in.
    """
    try:
        # Not blocking: opening a pipe that somebody put there would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    info = os.fstat(descriptor)
    if stat.S_ISREG(info.st_mode):
        return descriptor, info
    os.close(descriptor)
    return None


def range_digest(descriptor: int, offset: int, size: int) -> Optional[str]:
    """The sha256 of ``size`` bytes of an open file from ``offset`` on, or nothing when there are fewer."""
    block = os.pread(descriptor, min(size, 1 << 20), offset)
    digest = hashlib.sha256(block)
    left = size - len(block)
    while left and block:
        block = os.pread(descriptor, min(left, 1 << 20), offset + size - left)
        digest.update(block)
        left -= len(block)
    return None if left else digest.hexdigest()


def changed_files(release: Release, seen: Optional[Seen] = None) -> list[str]:
    """Paths of ``release`` that are missing, altered or of another kind than the package says."""
    root = os.fsencode(release.tree) + b"/"
    return [entry["path"] for entry in release.files if not as_released(root + entry["path"].encode(), entry, seen)]


def changed_entries(release: Release) -> list[dict[str, Any]]:
    """The entries of ``release`` that have to be made anew: those of :func:`changed_files`, and all below what is no directory of its own.

    The tree itself counts as an entry with an empty path.
    """
    root = os.fsencode(release.tree)
    top = {"path": "", "type": "directory", "mode": _DIRECTORY}
    changed = [] if as_released(root, top) else [top]
    outside: set[str] = set()
    for entry in release.files:
        path = root + b"/" + entry["path"].encode()
        behind = bool(outside) and entry["path"].rpartition("/")[0] in outside
        if behind or not as_released(path, entry):
            changed.append(entry)
            if entry["type"] == "directory" and (behind or os.path.islink(path) or not os.path.isdir(path)):
                outside.add(entry["path"])
    return changed


def as_released(path: bytes, entry: Mapping[str, Any], seen: Optional[Seen] = None) -> bool:
    """Whether what is at ``path`` is what the index says: kind, mode, and content or target."""
    kind = entry["type"]
    try:
        if kind == "file":
            info = intact(path, entry, seen)
            return info is not None and info.st_mode == stat.S_IFREG | entry["mode"]
        if kind == "link":
            return bool(os.readlink(path) == entry["target"].encode())
        return bool(os.lstat(path).st_mode == stat.S_IFDIR | entry["mode"])
    except OSError:
        return False


def extra_files(release: Release, bytecode: Optional[list[str]] = None) -> list[str]:
    """Paths in the tree that the package does not have: nobody released them.

    The bytecode that Python keeps beside its sources is left out, and gets into ``bytecode``. Raises :class:`OSError` for a directory
    that can't be read.
    """
    known = {entry["path"].encode() for entry in release.files}
    root = os.fsencode(release.tree)

    def fail(error: OSError) -> None:
        raise error

    extra = []
    for folder, directories, files in os.walk(root, onerror=fail):
        for name in directories + files:
            path = os.path.join(folder, name)
            if path[len(root) + 1 :] in known:
                continue
            if not _is_bytecode(path):
                extra.append(path[len(root) + 1 :].decode(errors="backslashreplace"))
            elif bytecode is not None and name != b"__pycache__":
                bytecode.append(os.fsdecode(path[len(root) + 1 :]))
    return sorted(extra)


def _is_bytecode(path: bytes) -> bool:
    """Whether this is Python's cache directory or a compiled file in one, and neither a link nor something else of that name."""
    folder, name = os.path.split(path)
    mode = os.lstat(path).st_mode
    if name == b"__pycache__":
        return stat.S_ISDIR(mode)
    return name.endswith(b".pyc") and os.path.basename(folder) == b"__pycache__" and stat.S_ISREG(mode)


def remove(path: Path) -> None:
    """Remove whatever is at ``path``, if anything; a link goes, what it points at stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        from shutil import rmtree  # noqa: PLC0415 - every step imports this file, and few remove a tree

        rmtree(path)


def read_file(path: Path, at_most: int) -> Optional[bytes]:
    """What is in the file at ``path``, nothing when there is none. Raises :class:`HostError` for what is no file, or has more bytes."""
    try:
        # Not blocking: a pipe that somebody put there would be waited for without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"{path} can't be read ({error.strerror}); move it out of the way and run this again") from None
    with open(descriptor, "rb") as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > at_most:
            what = f"is larger than {at_most >> 10} KiB" if stat.S_ISREG(info.st_mode) else "is not a file"
            raise HostError(f"{path} {what}; move it out of the way and run this again")
        return stream.read(info.st_size)


def sync_folder(folder: Path) -> None:
    """Bring to disk which names are in a directory."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
