# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building files of a release where nobody sees them until they are whole, out of what the host has and what it is sent.

A release's files are its own: what one release, or its service, does to them reaches no other. So a content that the host has is cloned
where the file system shares blocks until somebody writes, else copied. There is one reading of it for both, the copy and its sha256.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

from .pieces import BLOCK, Assembly, create, find_sources, take_up, unpack, write
from .release_files import intact, open_regular, range_digest, remove
from .release_home import HostError, ReleaseHome, Texts

Pack = Union[Path, BinaryIO, None]
Fetch = Optional[Callable[[Assembly], dict[str, Any]]]

_DIRECTORY = 0o755
_MARGIN = 16 << 20  # bytes left free on the file system: logs and locks have to go on
_FICLONE = 0x40049409  # of linux/fs.h: share all blocks of another file until one of the two is written to


class Stock:
    """What the host has: takes contents out of its files, each verified as it is taken.

    ``share``: by hard link where owner and mode agree, which is for trees that nobody writes to.
    """

    def __init__(self, sources: dict[str, list[bytes]], share: bool) -> None:
        self._sources = sources
        self._share = share
        self._added: set[tuple[str, int]] = set()
        self._clones = True  # until the file system says that it can't

    def place(self, path: bytes, entry: dict[str, Any]) -> bool:
        """Make the file of ``entry`` at ``path``; false when the host does not have its content."""
        sources = self._sources[entry["sha256"]]
        return (self._share and any(_link(source, path, entry) for source in sources)) or self._copy_any(sources, path, entry)

    def add(self, path: bytes, entry: dict[str, Any]) -> None:
        """The file of ``entry`` is at ``path`` now: what is like it is taken from there."""
        kind = (entry["sha256"], entry["mode"])
        if kind not in self._added:
            self._added.add(kind)
            self._sources[entry["sha256"]].insert(0, path)

    def linkable(self, entry: dict[str, Any]) -> bool:
        """Whether the file of ``entry`` would take neither room nor an inode."""
        return self._share and any(_may_link(source, entry) for source in self._sources[entry["sha256"]])

    def _copy_any(self, sources: list[bytes], path: bytes, entry: dict[str, Any]) -> bool:
        while sources:
            if self._copy(sources[0], path, entry):
                return True
            del sources[0]
        return False

    def _copy(self, source: bytes, path: bytes, entry: dict[str, Any]) -> bool:
        """Only the content: neither owner and times nor extended attributes, capabilities among them, come along."""
        found = open_regular(source)
        if found is None:
            return False
        origin, info = found
        try:
            if info.st_size != entry["size"]:
                return False
            target = create(path)
            try:
                # The copy counts. What it was taken from may change meanwhile.
                digest = self._clone(origin, target, entry["size"]) or _copy_hashing(origin, target, entry["size"])
                os.fchmod(target, entry["mode"])
            finally:
                os.close(target)
        finally:
            os.close(origin)
        if digest != entry["sha256"]:
            os.unlink(path)
            return False
        return True

    def _clone(self, origin: int, target: int, size: int) -> Optional[str]:
        """Clone a file; return the sha256 of the clone, or nothing where that does not work."""
        if not self._clones:
            return None
        try:
            fcntl.ioctl(target, _FICLONE, origin)
        except OSError:
            self._clones = False
            return None
        os.ftruncate(target, size)  # it may have grown meanwhile
        return range_digest(target, 0, size)


def _copy_hashing(origin: int, target: int, size: int) -> str:
    """Copy ``size`` bytes of an open file to another; return the sha256 of what was written."""
    digest = hashlib.sha256()
    offset = 0
    while offset < size and (block := os.pread(origin, min(size - offset, BLOCK), offset)):
        digest.update(block)
        write(target, block, offset)
        offset += len(block)
    return digest.hexdigest()


def _may_link(source: bytes, entry: dict[str, Any]) -> bool:
    try:
        info = os.lstat(source)
    except OSError:
        return False
    return (info.st_mode, info.st_size, info.st_uid) == (stat.S_IFREG | entry["mode"], entry["size"], os.geteuid())


def _link(source: bytes, path: bytes, entry: dict[str, Any]) -> bool:
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError:  # too many links to one inode, or a file system without hard links: there are copies
        return False
    info = intact(path, entry)
    # Linked, the file has its owner in the new release too, who could change it.
    good = info is not None and (info.st_mode, info.st_uid) == (stat.S_IFREG | entry["mode"], os.geteuid())
    if not good:
        os.unlink(path)
    return good


def build(
    home: ReleaseHome,
    files: list[dict[str, Any]],
    work: Path,
    pack: Pack = None,
    fetch: Fetch = None,
    share: bool = False,
    known: Optional[list[dict[str, Any]]] = None,
    record: Optional[Texts] = None,
    also: Optional[dict[str, bytes]] = None,
) -> dict[str, Any]:
    """Make ``files``, entries of a file index with all directories above them, in ``work``/tree.

    ``pack`` holds pieces that the host lacks; without one ``fetch`` brings them, if it is there. ``known`` are all entries of the index
    when ``files`` are only some, ``record`` the documents of the package when they are to be beside the tree. ``also``: where else on the
    host contents should be, by sha256; those are copied.

    Returns ``need``, the sha256s of the pieces that the host still lacks, in order: none when the tree is complete. What is there by
    then is taken up the next time. ``sent`` counts the pieces that it lacked, ``reused`` the contents that it had, ``mirror`` is what
    ``fetch`` said. Raises :class:`HostError` when there is no room or the pack is bad; when the disk fills up meanwhile or fails
    otherwise, it says so and leaves nothing.
    """
    mask = os.umask(0o022)  # services read the tree as users of their own, whatever the umask of the one who stages
    try:
        return _build(home, files, work, pack, fetch, share, known or files, record, also or {})
    except OSError as error:
        with contextlib.suppress(OSError):
            remove(work)
        raise HostError(
            f"can't build {home.name} in {work} ({error.strerror or error}); make room or mend the file system and run this again"
        ) from error
    finally:
        os.umask(mask)


def _build(
    home: ReleaseHome,
    files: list[dict[str, Any]],
    work: Path,
    pack: Pack,
    fetch: Fetch,
    share: bool,
    known: list[dict[str, Any]],
    record: Optional[Texts],
    also: dict[str, bytes],
) -> dict[str, Any]:
    tree = os.fsencode(work / "tree")
    _clear(work)
    done = take_up(work / "tree", files, share)
    sources = find_sources(home, files, tree, done, share)
    for sha, path in also.items():
        sources[sha].append(path)
    stock = Stock(sources, share)
    missing = [entry for entry in files if entry["path"] not in done]
    _check_room(home.staging, missing, tree, stock, share)
    work.mkdir(exist_ok=True)
    work.chmod(_DIRECTORY)  # also takes a set-gid bit away, before the tree inherits it
    if not os.path.isdir(tree):
        os.mkdir(tree, _DIRECTORY)
    assembly = Assembly(home, _lay_out(tree, missing, stock), tree)
    late = [entry for entry in missing if entry["type"] == "file" and assembly.target(entry["sha256"]) not in (None, entry)]
    result: dict[str, Any] = {
        "sent": len(assembly.need),
        "reused": len({entry["sha256"] for entry in files if entry["type"] == "file"}) - assembly.contents,
    }
    if not assembly.need or pack is not None or fetch is not None:
        assembly.begin()
        if pack is not None:
            unpack(pack, assembly, ((sha, size) for entry in known if entry["type"] == "file" for size, sha in _sizes(entry)))
        elif fetch is not None and assembly.need:
            result["mirror"] = fetch(assembly)
    result["need"] = sorted(assembly.need)
    if not assembly.need:
        assembly.finish()
        for entry in late:
            whole = assembly.target(entry["sha256"])
            if whole is not None:
                stock.add(_at(tree, whole), whole)
        for entry in late:
            remove(Path(os.fsdecode(_at(tree, entry))))  # half a large file, which is not the one that was completed
            if not stock.place(_at(tree, entry), entry):
                raise HostError(f"{entry['path']} was changed in {work} while it was built there; find out who writes there")
        if record is not None:
            home.write_record(work, record)
        sync_file_system(work)
    return result


def _at(tree: bytes, entry: dict[str, Any]) -> bytes:
    path: bytes = tree + b"/" + entry["path"].encode()
    return path


def _sizes(entry: dict[str, Any]) -> Iterator[tuple[int, str]]:
    yield entry["size"], entry["sha256"]
    yield from entry.get("chunks", ())


def _clear(work: Path) -> None:
    """Remove all that an interrupted staging left but the tree that it was building; room is counted after that."""
    if work.is_symlink() or not work.is_dir():
        remove(work)
        return
    for name in os.listdir(work):
        if name != "tree":
            remove(work / name)


def _check_room(folder: Path, missing: list[dict[str, Any]], tree: bytes, stock: Stock, share: bool) -> None:
    """Raise :class:`HostError` unless ``folder`` has room for what is ``missing``, as if no file system could clone."""
    room = os.statvfs(folder)
    contents = [entry for entry in missing if entry["type"] == "file"]
    others = len(missing) - len(contents)
    shortage = _shortage(room, contents, others, tree)
    if shortage and share:  # only then is it worth looking at each file
        kinds = {(entry["sha256"], entry["mode"]): entry for entry in contents}
        shortage = _shortage(room, [entry for entry in kinds.values() if not stock.linkable(entry)], others, tree)
    if shortage:
        raise HostError(f"{folder} needs {shortage} are free; make room and run this again")


def _shortage(room: os.statvfs_result, contents: list[dict[str, Any]], others: int, tree: bytes) -> str:
    """What ``contents`` and so many directories and links need and what there is of it, in words; nothing when there is enough."""
    block = room.f_frsize
    need = _MARGIN + sum(-(-entry["size"] // block) * block for entry in contents) + others * block
    for entry in contents:
        if "chunks" in entry and os.path.lexists(_at(tree, entry)):
            need -= os.lstat(_at(tree, entry)).st_blocks * 512  # of a large file that was begun before
    free = room.f_bavail * block
    if need > free:
        return f"{need >> 20} MiB but only {free >> 20} MiB"
    count = len(contents) + others
    return f"{count} inodes but only {room.f_favail}" if room.f_files and count > room.f_favail else ""


def _lay_out(tree: bytes, missing: list[dict[str, Any]], stock: Stock) -> list[dict[str, Any]]:
    """Make what can be made without any piece; return the files that the host does not have."""
    lacking = []
    for entry in missing:
        path = _at(tree, entry)
        if entry["type"] == "directory":
            os.mkdir(path, entry["mode"])
        elif entry["type"] == "link":
            os.symlink(entry["target"].encode(), path)
        else:
            begun = "chunks" in entry and os.path.lexists(path)  # half a large file, which stays unless the host has it whole
            place = os.path.dirname(tree) + b"/whole" if begun else path
            if not stock.place(place, entry):
                lacking.append(entry)
                continue
            if begun:
                os.rename(place, path)
            stock.add(path, entry)
    return lacking


def sync_file_system(folder: Path) -> None:
    """Bring the file system of ``folder`` to disk: a complete release must still be complete after a power cut."""
    import ctypes  # noqa: PLC0415 - it is large, and needed for this alone

    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    finally:
        os.close(descriptor)
