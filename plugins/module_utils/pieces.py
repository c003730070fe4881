# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of a release, what it lacks, and putting together the files that it lacks.

A piece is a content, or a chunk of a large one; its name is its sha256. Whatever is taken from the host itself is hashed before it
counts, so a file that somebody edited can't spread into the next release.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

from .release_home import HostError, ReleaseHome, as_released, intact, range_digest, remove

BLOCK = 1 << 20  # bytes that are read or written at a time
_UNFINISHED = 0o600  # what is written to bit by bit; its own mode may not let its owner do so


def take_up(tree: Path, files: list[dict[str, Any]], share: bool) -> set[str]:
    """Keep of the tree that an interrupted staging left what is as released, and remove the rest; return the paths that stay.

    A file that has other names goes too unless ``share`` allows them. A large file that is not whole stays, though not among those
    paths: some of its chunks may be.
    """
    if tree.is_symlink() or not tree.is_dir():
        remove(tree)
        return set()
    known = {entry["path"].encode(): entry for entry in files}
    user = os.geteuid()
    done: set[str] = set()

    def walk(folder: bytes, prefix: bytes) -> None:
        with os.scandir(folder) as found:
            children = list(found)
        for child in children:
            entry = known.get(prefix + child.name)
            info = child.stat(follow_symlinks=False)
            own = info.st_uid == user and (share or info.st_nlink == 1 or stat.S_ISDIR(info.st_mode))
            if entry is not None and own and as_released(child.path, entry):
                done.add(entry["path"])
                if entry["type"] == "directory":
                    walk(child.path, prefix + child.name + b"/")
            elif entry is None or not _half(info, entry):
                remove(Path(os.fsdecode(child.path)))

    walk(os.fsencode(tree), b"")
    return done


def _half(info: os.stat_result, entry: dict[str, Any]) -> bool:
    """Whether this is the beginning of a large file, and of nothing else: what has another name must not be written to."""
    return (
        "chunks" in entry
        and stat.S_ISREG(info.st_mode)
        and stat.S_IMODE(info.st_mode) in (_UNFINISHED, entry["mode"])
        and (info.st_uid, info.st_nlink, info.st_size) == (os.geteuid(), 1, entry["size"])
    )


def find_sources(home: ReleaseHome, files: list[dict[str, Any]], tree: bytes, done: set[str]) -> dict[str, list[bytes]]:
    """Where the contents of ``files`` should be on the host, by sha256: in the unfinished ``tree``, where they are, or in a release.

    What a release really has there is found out by whoever takes it.
    """
    sources: dict[str, list[bytes]] = {entry["sha256"]: [] for entry in files if entry["type"] == "file"}
    for entry in files:
        if entry["type"] == "file" and entry["path"] in done:
            sources[entry["sha256"]].append(os.path.join(tree, entry["path"].encode()))
    for release in home.all():
        root = os.fsencode(release.tree) + b"/"
        real = {""}
        for entry in release.files:
            folder = entry["path"].rpartition("/")[0]
            # Behind a link in place of a directory is what somebody else may go on working with.
            if entry["type"] == "directory" and folder in real and stat.S_ISDIR(_mode(root + entry["path"].encode())):
                real.add(entry["path"])
            if entry["type"] == "file" and entry["sha256"] in sources and folder in real:
                sources[entry["sha256"]].append(root + entry["path"].encode())
    return sources


def _mode(path: bytes) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


@dataclass(frozen=True)
class _Range:
    """Bytes of a file of the host."""

    path: bytes
    offset: int


class Assembly:
    """The contents of ``files``, which the host does not have whole, while they are put together under ``tree``.

    ``need`` are the sizes of the pieces still missing, by sha256; ``starts`` says where each is in the payload.
    """

    def __init__(self, home: ReleaseHome, files: list[dict[str, Any]], tree: bytes) -> None:
        self._root = tree + b"/"
        self._targets: dict[str, dict[str, Any]] = {}
        self._places: dict[str, list[_Range]] = {}
        self.starts: dict[str, int] = {}
        self.need: dict[str, int] = {}
        for entry in files:
            if entry["sha256"] not in self._targets:
                self._targets[entry["sha256"]] = entry
                for sha, offset, size in _parts(entry):
                    self._places.setdefault(sha, []).append(_Range(self.path(entry), offset))
                    self.need[sha] = size
                    self.starts[sha] = entry["offset"] + offset
        self._local = self._find_chunks(home)
        for sha in self._local:
            del self.need[sha]

    @property
    def contents(self) -> int:
        """How many contents are put together."""
        return len(self._targets)

    def path(self, entry: dict[str, Any]) -> bytes:
        """Where ``entry`` is in the tree."""
        path: bytes = self._root + entry["path"].encode()
        return path

    def target(self, sha: str) -> Optional[bytes]:
        """Where the content is put together, if it is."""
        entry = self._targets.get(sha)
        return None if entry is None else self.path(entry)

    def _find_chunks(self, home: ReleaseHome) -> dict[str, _Range]:
        """Where the host has chunks that are needed: at their own place from before, or in another release's large files."""
        # What is empty is had by everybody, wherever it is read.
        found = {sha: _Range(b"", 0) for sha, size in self.need.items() if not size}
        own = ((self.path(entry), entry) for entry in self._targets.values() if "chunks" in entry)
        # Names are UTF-8, whatever the host's locale says.
        others = (
            (os.fsencode(release.tree) + b"/" + entry["path"].encode(), entry)
            for release in home.all()
            for entry in release.files
            if "chunks" in entry
        )
        for candidates in (own, others):
            for path, entry in candidates:
                parts = [(sha, offset, size) for sha, offset, size in _parts(entry) if sha in self.need and sha not in found]
                if parts and os.path.lexists(path):
                    with opened(path) as descriptor:
                        for sha, offset, size in parts:
                            if descriptor is not None and range_digest(descriptor, offset, size) == sha:
                                found[sha] = _Range(path, offset)
        return found

    def begin(self) -> None:
        """Make the large files at their full size and copy the chunks that the host has, each hashed as it is copied."""
        for entry in self._targets.values():
            if "chunks" not in entry:
                continue
            if os.path.lexists(self.path(entry)):
                os.chmod(self.path(entry), _UNFINISHED)
                continue
            descriptor = create(self.path(entry))
            try:
                os.ftruncate(descriptor, entry["size"])
            finally:
                os.close(descriptor)
        sizes = {sha: size for entry in self._targets.values() for sha, _offset, size in _parts(entry)}
        for sha, source in self._local.items():
            self.need[sha] = sizes[sha]
            with opened(source.path) as had:
                self.take(sha, _reader(had, source.offset), source)  # what changed since it was hashed is needed again

    def take(self, sha: str, read: Callable[[int], bytes], skip: Optional[_Range] = None) -> bool:
        """Write a piece, which ``read`` gives in blocks, wherever it belongs but at ``skip``; false when it is something else.

        What is something else does not count: it is written over, or found out by :meth:`finish`.
        """
        content = self._targets.get(sha)
        new = self.path(content) if content is not None and "chunks" not in content else None
        mode = content["mode"] if content is not None else 0
        digest = hashlib.sha256()
        written = 0
        places = [place for place in self._places[sha] if place != skip]
        try:
            if new is not None:
                os.close(create(new))
            while written < self.need[sha]:
                block = read(min(self.need[sha] - written, BLOCK))
                if not block:
                    break
                digest.update(block)
                for place in places:
                    _write(place.path, block, place.offset + written)
                written += len(block)
        finally:
            good = digest.hexdigest() == sha
            if new is not None:
                if good:
                    os.chmod(new, mode)
                else:
                    os.unlink(new)
        if good:
            del self.need[sha]
        return good

    def finish(self) -> None:
        """Check what was put together out of chunks; the rest was checked when it came."""
        for entry in self._targets.values():
            if "chunks" in entry and intact(self.path(entry), entry) is None:
                os.unlink(self.path(entry))
                raise HostError(f"the chunks of {entry['path']} do not make the file that the package has; archive the release again")
            if "chunks" in entry:
                os.chmod(self.path(entry), entry["mode"])


def _parts(entry: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """The pieces that a content is asked for in: sha256, where in it, and size."""
    offset = 0
    for size, sha in entry.get("chunks") or ((entry["size"], entry["sha256"]),):
        yield sha, offset, size
        offset += size


@contextmanager
def opened(path: bytes) -> Iterator[Optional[int]]:
    """A regular file to read from, or nothing when it is not one; follows no link and waits for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def _reader(descriptor: Optional[int], position: int) -> Callable[[int], bytes]:
    """A function that reads on from ``position``; there is nothing to read without a file."""

    def read(count: int) -> bytes:
        nonlocal position
        block = os.pread(descriptor, count, position) if descriptor is not None else b""
        position += len(block)
        return block

    return read


def create(path: bytes) -> int:
    """A new file, open to write and read back; nobody else can read it before it is given its mode."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _UNFINISHED)


def _write(path: bytes, block: bytes, offset: int) -> None:
    """Write to a file that is there. It is not kept open: a piece may belong to more places than a process may have files."""
    view = memoryview(block)
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        while view:
            written = os.pwrite(descriptor, view, offset)
            view = view[written:]
            offset += written
    finally:
        os.close(descriptor)


def unpack(pack: Union[Path, BinaryIO], assembly: Assembly, sizes: Iterable[tuple[str, int]]) -> None:
    """Take what is missing out of a pack: the gzip of the JSON list of its pieces on a line, and the pieces one after the other.

    ``sizes`` are the pieces that the package has. Raises :class:`HostError` when the pack is not what it should be.
    """
    known = dict(sizes)
    try:
        with gzip.open(pack, "rb") as stream:
            listed = json.loads(stream.readline(len(known) * 80 + 80))
            if not isinstance(listed, list) or not all(isinstance(sha, str) and sha in known for sha in listed):
                raise HostError("the pack lists what the package does not have; run this again")
            for sha in listed:
                if sha in assembly.need:
                    if not assembly.take(sha, stream.read):
                        raise HostError(f"the pack ends before, or has other bytes for, sha256:{sha}; verify the DSL and run this again")
                else:
                    left = known[sha]
                    while left and (block := stream.read(min(left, BLOCK))):
                        left -= len(block)
            if stream.read(1):
                raise HostError("the pack holds more than it lists; run this again")
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise HostError(f"the pack is damaged ({error}); run this again") from error
