# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of a release, what it lacks, and putting together the files that it lacks.

A piece is a content, or a chunk of a large one; its name is its sha256. Whatever is taken from the host itself is hashed before it
counts, so a file that somebody edited can't spread into the next release.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional, Union

from .release_files import as_released, intact, open_regular, range_digest, remove
from .release_home import HostError, ReleaseHome

BLOCK = 1 << 20  # bytes that are read or written at a time
_PACKED = 1 << 16  # bytes of a pack that are read at a time
_GZIP = 31  # for zlib: with the largest window, and the header and checksum of gzip

Block = Union[bytes, memoryview]
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


def find_sources(home: ReleaseHome, files: list[dict[str, Any]], tree: bytes, done: set[str], share: bool) -> dict[str, list[bytes]]:
    """Where the contents of ``files`` should be on the host, by sha256: in the unfinished ``tree``, where they are, or in a release.

    What a release really has there is found out by whoever takes it. With ``share`` it is in directories of that release, not behind a
    link in place of one: there somebody else may go on working with what the new release would have. A copy is what was read.
    """
    sources: dict[str, list[bytes]] = {entry["sha256"]: [] for entry in files if entry["type"] == "file"}
    if done:
        for entry in files:
            if entry["type"] == "file" and entry["path"] in done:
                sources[entry["sha256"]].append(os.path.join(tree, entry["path"].encode()))
    for release in home.all():
        root = os.fsencode(release.tree) + b"/"
        outside = _behind_links(root, release.files) if share else set()
        for entry in release.files:
            if entry["type"] != "file" or entry["sha256"] not in sources:
                continue
            if not outside or entry["path"].rpartition("/")[0] not in outside:
                sources[entry["sha256"]].append(root + entry["path"].encode())
    return sources


def _behind_links(root: bytes, files: list[dict[str, Any]]) -> set[str]:
    """The directories among ``files`` that are none of their own below ``root``, with all below them."""
    outside: set[str] = set()
    for entry in files:
        if entry["type"] == "directory":
            path = entry["path"]
            if path.rpartition("/")[0] in outside or not stat.S_ISDIR(_mode(root + path.encode())):
                outside.add(path)
    return outside


def _mode(path: bytes) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


class _Range(NamedTuple):
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
                    if "chunks" in entry:
                        self._places.setdefault(sha, []).append(_Range(self.path(entry), offset))
                    self.need[sha] = size
                    self.starts[sha] = entry["offset"] + offset
        self._local = {sha: (source, self.need.pop(sha)) for sha, source in self._find_chunks(home).items()}

    @property
    def contents(self) -> int:
        """How many contents are put together."""
        return len(self._targets)

    def path(self, entry: dict[str, Any]) -> bytes:
        """Where ``entry`` is in the tree."""
        path: bytes = self._root + entry["path"].encode()
        return path

    def target(self, sha: str) -> Optional[dict[str, Any]]:
        """The entry for which the content is put together, if it is."""
        return self._targets.get(sha)

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
        for sha, (source, size) in self._local.items():
            self.need[sha] = size
            with opened(source.path) as had:
                self.take(sha, _reader(had, source.offset), source)  # what changed since it was hashed is needed again

    def take(self, sha: str, read: Callable[[int], Block], skip: Optional[_Range] = None) -> bool:
        """Write a piece, which ``read`` gives in blocks, wherever it belongs but at ``skip``; false when it is something else.

        What is something else does not count: it is written over, or found out by :meth:`finish`.
        """
        content = self._targets.get(sha)
        places = [place for place in self._places.get(sha, ()) if place != skip]
        if content is None or "chunks" in content:
            good = self._copy(sha, read, places) == sha
        else:
            path = self.path(content)
            descriptor = create(path)
            good = False
            try:
                good = self._copy(sha, read, places, descriptor) == sha
                if good:
                    os.fchmod(descriptor, content["mode"])
            finally:
                os.close(descriptor)
                if not good:
                    os.unlink(path)
        if good:
            del self.need[sha]
        return good

    def _copy(self, sha: str, read: Callable[[int], Block], places: list[_Range], descriptor: Optional[int] = None) -> str:
        """Copy what ``read`` gives to the open file, if there is one, and to ``places``; return its sha256."""
        digest = hashlib.sha256()
        size = self.need[sha]
        written = 0
        while written < size and (block := read(min(size - written, BLOCK))):
            digest.update(block)
            if descriptor is not None:
                write(descriptor, block, written)
            for place in places:
                _write_at(place.path, block, place.offset + written)
            written += len(block)
        return digest.hexdigest()

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
    found = open_regular(path)
    if found is None:
        yield None
        return
    try:
        yield found[0]
    finally:
        os.close(found[0])


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


def _write_at(path: bytes, block: Block, offset: int) -> None:
    """Write to a file that is there. It is not kept open: a piece may belong to more places than a process may have files."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        write(descriptor, block, offset)
    finally:
        os.close(descriptor)


def write(descriptor: int, block: Block, offset: int) -> None:
    """Write all of ``block`` to an open file."""
    written = os.pwrite(descriptor, block, offset)
    while written < len(block):
        written += os.pwrite(descriptor, memoryview(block)[written:], offset + written)


def unpack(pack: Union[Path, BinaryIO], assembly: Assembly, sizes: Iterable[tuple[str, int]]) -> None:
    """Take what is missing out of a pack: the gzip of the JSON list of its pieces on a line, and the pieces one after the other.

    ``sizes`` are the pieces that the package has. Raises :class:`HostError` when the pack is not what it should be.
    """
    known = dict(sizes)
    try:
        with open(pack, "rb") if isinstance(pack, Path) else nullcontext(pack) as packed:
            stream = _Unpacked(packed)
            listed = json.loads(stream.line(len(known) * 80 + 80))
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
    except (EOFError, ValueError, zlib.error) as error:
        raise HostError(f"the pack is damaged ({error}); run this again") from error


class _Unpacked:
    """What is in a gzip stream, which has one member and nothing behind it; no more of it is in memory than ``BLOCK`` bytes.

    Raises :class:`zlib.error`, :class:`EOFError` and :class:`ValueError` for what is none. Python's own costs a third more.
    """

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._inflate = zlib.decompressobj(_GZIP)
        self._block = b""
        self._place = 0

    def read(self, count: int) -> memoryview:
        """The next bytes, ``count`` at most; none at the end."""
        if self._place == len(self._block):
            self._refill()
        found = memoryview(self._block)[self._place : self._place + count]
        self._place += len(found)
        return found

    def line(self, longest: int) -> bytes:
        """The bytes up to the end of the line, ``longest`` at most."""
        found = b""
        while len(found) < longest and not found.endswith(b"\n"):
            part = self.read(longest - len(found)).tobytes()
            if not part:
                break
            end = part.find(b"\n") + 1 or len(part)
            self._place -= len(part) - end
            found += part[:end]
        return found

    def _refill(self) -> None:
        self._place = 0
        self._block = b""
        while not self._block and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._packed.read(_PACKED)
            if not packed:
                raise EOFError("it ends too early")
            self._block = self._inflate.decompress(packed, BLOCK)
        if not self._block and (self._inflate.unused_data or self._packed.read(1)):
            raise ValueError("there is something behind its end")
