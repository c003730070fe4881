# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's payload: what may be in it, the tar that is the same bytes everywhere, and the file index.

What is archived of a file is its path, its content and whether its owner may run it. Time, owner, group, umask, hard links and the
order of the directory on disk leave no trace. Of a large file the index also has the chunks it consists of, see :mod:`.chunks`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import tarfile
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import IntegrityError, Problem, TidegateError
from .chunks import LARGE, Chunker
from .oci import canonical, parse_json

_KEYS = {
    "directory": {"path", "type", "mode"},
    "file": {"path", "type", "mode", "size", "sha256", "offset"},
    "link": {"path", "type", "target"},
}
_KINDS = {"directory": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_LINK_LIMIT = 40  # as Linux has it
# Beyond these a host could not make the path below its own directories, nor could anybody walk through it. The host checks the same.
_LONGEST = 3000  # bytes
_DEEPEST = 200  # names


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One line of the file index.

    ``offset`` is where the file's bytes start inside the payload tar. ``chunks`` are length and sha256 of the parts that a large file
    consists of, in order; packages of before there were chunks have none.
    """

    path: str
    type: Literal["file", "directory", "link"]
    mode: int | None = None
    size: int | None = None
    sha256: str | None = None
    target: str | None = None
    offset: int | None = None
    chunks: tuple[tuple[int, str], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry with only the keys that apply to its type."""
        return {key: value for key in self.__slots__ if (value := getattr(self, key)) is not None}

    def pieces(self) -> Iterator[tuple[str, int, int]]:
        """The content and its chunks, each with its sha256, where it starts in the payload tar, and its length."""
        if self.sha256 is not None:
            here = self.offset or 0
            yield self.sha256, here, self.size or 0
            for length, sha256 in self.chunks or ():
                yield sha256, here, length
                here += length


def scan(root: Path, where: str) -> tuple[list[FileEntry], list[Problem]]:
    """List what is in the directory ``root``, in path order, files without size and digest; and everything that must not be archived.

    ``where`` names the directory in the problems. Raises :class:`TidegateError` when something can't be read.
    """
    entries: list[FileEntry] = []
    problems: list[Problem] = []
    unlinkable: set[str] = set()  # links that were refused already

    def refuse(path: str, what: str, remedy: str) -> None:
        problems.append(Problem(visible(f"{where}/{path}"), what, remedy))

    def walk(folder: bytes, prefix: str) -> None:
        siblings: dict[str, str] = {}
        with os.scandir(folder) as found:
            children = list(found)
        for child in sorted(children, key=lambda child: child.name):
            path = prefix + child.name.decode(errors="backslashreplace")
            if fault := _text_fault(child.name):
                refuse(path, f"its name {fault}", "rename it")
            if fault := _path_fault(path):
                refuse(path, f"its path {fault}", "move it up")
                continue
            twin = siblings.setdefault(_folded(path), path)
            if twin != path:
                refuse(path, f"its name differs from {visible(twin)!r} only in case or Unicode form", "rename one of them")
            info = child.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                entries.append(FileEntry(path, "directory", mode=0o755))
                walk(child.path, path + "/")
            elif stat.S_ISLNK(info.st_mode):
                target = os.readlink(child.path)
                entries.append(FileEntry(path, "link", target=target.decode(errors="backslashreplace")))
                if fault := _text_fault(target):
                    unlinkable.add(path)
                    refuse(path, f"it is a link whose target {fault}", "rename the target")
            elif stat.S_ISREG(info.st_mode):
                entries.append(FileEntry(path, "file", mode=0o755 if info.st_mode & stat.S_IXUSR else 0o644))
                if info.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
                    refuse(path, "it is set-uid, set-gid or sticky", "clear that with chmod u-s,g-s,-t")
                if _has_capabilities(child.path):
                    refuse(path, "it has capabilities, which would not come along", "clear them with setcap -r, and set them in a hook")
            else:
                refuse(path, "it is a device, a pipe or a socket", "remove it, for a payload holds files, directories and links")

    try:
        walk(os.fsencode(root), "")
    except OSError as error:
        raise _unreadable(os.fsdecode(error.filename or root), error) from error
    entries.sort(key=lambda entry: entry.path)
    tree = {entry.path: entry for entry in entries}
    for entry in entries:
        if entry.type == "link" and entry.path not in unlinkable and (fault := _link_fault(entry, tree)):
            refuse(entry.path, f"it is a link that {fault}", "make it a relative link to something inside the payload")
    if not any(entry.type == "file" for entry in entries):
        problems.append(Problem(where, "there is no file in it", "put the release's files there"))
    return entries, problems


class PayloadTar:
    """The payload as a tar, to be iterated over once in chunks; afterwards ``entries`` is the complete file index."""

    def __init__(self, root: Path, scanned: Collection[FileEntry]) -> None:
        self._root = root
        self._scanned = scanned
        self.entries: list[FileEntry] = []

    def __iter__(self) -> Iterator[bytes]:
        buffer = bytearray()
        sent = 0
        for entry in self._scanned:
            if entry.type != "file":
                buffer += _header(entry, 0)
                self.entries.append(entry)
                continue
            digest = hashlib.sha256()
            with opened(f"{self._root}/{entry.path}") as (size, chunks):
                buffer += _header(entry, size)
                offset = sent + len(buffer)
                chunker = Chunker() if size > LARGE else None
                for chunk in chunks:
                    digest.update(chunk)
                    if chunker is not None:
                        chunker.update(chunk)
                    buffer += chunk
                    if len(buffer) >= _CHUNK:
                        sent += len(buffer)
                        yield bytes(buffer)
                        buffer.clear()
            buffer += bytes(-size % tarfile.BLOCKSIZE)
            parts = chunker.chunks() if chunker is not None else None
            self.entries.append(FileEntry(entry.path, "file", entry.mode, size, digest.hexdigest(), None, offset, parts))
        yield bytes(buffer) + bytes(2 * tarfile.BLOCKSIZE)


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The size of a regular file, and its content in chunks that add up to just that.

    Raises :class:`TidegateError` when it can't be read or changes meanwhile.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as stream:
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise TidegateError(f"{visible(path)} is not a regular file; put a copy of what it stands for there")
            yield info.st_size, _exactly(stream, info.st_size, path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _exactly(stream: io.FileIO, size: int, path: str) -> Iterator[bytes]:
    left = size
    while chunk := stream.read(min(left + 1, _CHUNK)):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise TidegateError(f"{visible(path)} changed while it was archived; archive again when nothing writes to it")


def index_json(entries: Collection[FileEntry]) -> bytes:
    """The file index as it is stored."""
    return canonical({"schema": 1, "files": [entry.to_json() for entry in entries]})


def parse_index(content: bytes) -> tuple[FileEntry, ...]:
    """Read a file index that anybody may have written.

    Raises :class:`IntegrityError` unless every path stays inside, is there once, in whatever case or Unicode form, and has its directories
    listed before it.
    """
    document = parse_json(content, "the file index")
    files = document.get("files")
    schema = document.get("schema")
    if document.keys() != {"schema", "files"} or isinstance(schema, bool | float) or schema != 1 or not isinstance(files, list):
        raise IntegrityError("the file index is not of schema 1; archive the release again, or use a newer tidegate.release")
    tree: dict[str, FileEntry] = {}
    sizes: dict[str, int] = {}
    twins: set[str] = set()
    last = ""
    for item in files:
        entry = _parse_entry(item)
        parent = entry.path.rpartition("/")[0]
        if entry.path <= last or (parent and (parent not in tree or tree[parent].type != "directory")):
            raise _bad_entry(entry.path)
        if _folded(entry.path) in twins or any(sizes.setdefault(sha256, size) != size for sha256, _offset, size in entry.pieces()):
            raise _bad_entry(entry.path)
        twins.add(_folded(entry.path))
        tree[entry.path] = entry
        last = entry.path
    for entry in tree.values():
        if entry.type == "link" and _link_fault(entry, tree):
            raise _bad_entry(entry.path)
    return tuple(tree.values())


def _parse_entry(item: object) -> FileEntry:
    if not isinstance(item, dict) or item.keys() - {"chunks"} != _KEYS.get(str(item.get("type"))):
        raise _bad_entry(item)
    path = item["path"]
    if not isinstance(path, str) or _text_fault(path) or _path_fault(path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise _bad_entry(path)
    numbers = [item[key] for key in ("mode", "size", "offset") if key in item]
    good = all(isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63 for number in numbers)
    if item["type"] == "link":
        good = isinstance(item["target"], str) and not _text_fault(item["target"])
    elif item["type"] == "directory":
        good = good and item["mode"] == 0o755
    else:
        good = good and item["mode"] in (0o644, 0o755) and isinstance(item["sha256"], str) and bool(_SHA256.fullmatch(item["sha256"]))
    if not good:
        raise _bad_entry(path)
    if "chunks" not in item:
        return FileEntry(**item)
    chunks = item["chunks"]
    if item["type"] != "file" or not isinstance(chunks, list) or not all(_is_chunk(chunk) for chunk in chunks):
        raise _bad_entry(path)
    if sum(length for length, _sha256 in chunks) != item["size"]:
        raise _bad_entry(path)
    return FileEntry(**{**item, "chunks": tuple((length, sha256) for length, sha256 in chunks)})


def _is_chunk(chunk: object) -> bool:
    if not isinstance(chunk, list) or len(chunk) != 2:
        return False
    length, sha256 = chunk
    sound = isinstance(length, int) and not isinstance(length, bool) and 0 < length <= LARGE
    return sound and isinstance(sha256, str) and bool(_SHA256.fullmatch(sha256))


def _bad_entry(what: object) -> IntegrityError:
    return IntegrityError(f"the file index has a bad entry, {visible(str(what)[:200])!r}; archive the release again under a new version")


def _header(entry: FileEntry, size: int) -> bytes:
    """The tar header of an entry, the bytes that ``tarfile`` makes of it.

    Most entries fit the plain form, which is put together here: ``tarfile`` would take as long for it as reading the file does.
    """
    kind = _KINDS[entry.type]
    name = entry.path + "/" if entry.type == "directory" else entry.path
    target = entry.target or ""
    mode = 0o777 if entry.mode is None else entry.mode
    if name.isascii() and target.isascii() and len(name) <= 100 and len(target) <= 100 and size < 8**11:
        start = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.encode().ljust(100, b"\0"), mode, 0, 0, size, 0)
        end = (kind + target.encode().ljust(100, b"\0") + b"ustar\x0000").ljust(356, b"\0")
        return start + b"%06o\0 " % (sum(start) + 8 * ord(" ") + sum(end)) + end
    info = tarfile.TarInfo(entry.path)
    info.type, info.size, info.mode, info.linkname = kind, size, mode, target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _text_fault(text: bytes | str) -> str | None:
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            return "is not UTF-8"
    if not text.isprintable() or "\\" in text:
        return "has a backslash or a character that can't be seen"
    return None


def _path_fault(path: str) -> str | None:
    if path.count("/") >= _DEEPEST:
        return f"is more than {_DEEPEST} names deep"
    return f"has more than {_LONGEST} bytes" if len(path.encode()) > _LONGEST else None


def _has_capabilities(path: bytes) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability", follow_symlinks=False))
    except OSError:  # it has none, or its file system knows of none
        return False


def _link_fault(entry: FileEntry, tree: Mapping[str, FileEntry]) -> str | None:
    """Follow a link through ``tree`` as a kernel would, links on the way included; say where it goes wrong."""
    rest: list[str] = []
    here = entry.path.split("/")
    link: FileEntry | None = entry
    for _step in range(_LINK_LIMIT):
        if link is None:
            return None
        target = link.target or ""
        if target.startswith("/"):
            return "leads outside the payload"
        if not target:
            return "leads nowhere"
        here.pop()
        rest += reversed(target.split("/"))
        link = None
        while rest and link is None:
            part = rest.pop()
            if part == ".." and not here:
                return "leads outside the payload"
            if part == "..":
                here.pop()
            elif part not in ("", "."):
                here.append(part)
                found = tree.get("/".join(here))
                if found is None or (found.type == "file" and rest):
                    return "leads nowhere"
                if found.type == "link":
                    link = found
    return "leads in a circle"


def _folded(path: str) -> str:
    """The same for paths that some file system, or a person's eye, takes for one."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", path).casefold())


def visible(text: str) -> str:
    """``text`` on one line, with what can't be seen written as an escape."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _unreadable(path: str, error: OSError) -> TidegateError:
    return TidegateError(f"can't read {visible(path)} ({error.strerror}); make it readable and archive again")
