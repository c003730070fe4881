# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's payload: what may be in it, the tar that is the same bytes everywhere, and the file index.

What is archived of a file is its path, its content and its permissions, and they go on hosts as they are; what could not is refused. Time,
owner, group, hard links and the order of the directory on disk leave no trace. Of a large file the index also has the chunks it consists
of, see :mod:`.chunks`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from ...module_utils.payload_format import DEEPEST, END, LONGEST, TARGET, WHITEOUT, header, is_mode, members, padding, unseen
from ..errors import IntegrityError, Problem, TidegateError
from .chunks import LARGE, Chunker
from .descriptors import canonical, parse_json

_KEYS = {
    "directory": {"path", "type", "mode"},
    "file": {"path", "type", "mode", "size", "sha256", "offset"},
    "link": {"path", "type", "target"},
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_LINK_LIMIT = 40  # as Linux has it
_STEPS = 20_000_000  # names on the way of all links of a payload; links in links can make many of few
_NAMED = 3  # paths that are named of many with one fault
_ATTRIBUTES = {
    "security.capability": ("it has capabilities, which would not come along", "clear them with setcap -r, and set them in a hook"),
    "system.posix_acl_access": ("it has an access control list, which would not come along", "clear it with setfacl -b"),
    "system.posix_acl_default": ("it has an access control list, which would not come along", "clear it with setfacl -b"),
}
# What file systems of other systems, FAT and CIFS among them, don't take in a name.
_UNPORTABLE = re.compile(r'[<>:"|?*\\]|[. ]$|^(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)')


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


def scan(root: Path, where: str, portable: bool = False, what: str = "payload") -> tuple[list[FileEntry], list[Problem]]:
    """List what is in the directory ``root``, in path order, files without size and digest; and everything that must not be archived.

    ``where`` names the directory in the problems, and ``what`` says what it is. ``portable``: names have to suit file systems that fold
    case, or of other systems. Raises :class:`TidegateError` when something can't be read.
    """
    entries: list[FileEntry] = []
    problems: list[Problem] = []
    unlinkable: set[str] = set()  # links that were refused already
    alike: dict[tuple[str, str], list[str]] = {}  # paths by what is wrong with them and its remedy, when it is of whole trees

    def refuse(path: str, what: str, remedy: str) -> None:
        problems.append(Problem(visible(f"{where}/{path}"), what, remedy))

    def walk(folder: bytes, prefix: str) -> None:
        siblings: dict[str, str] = {}
        with os.scandir(folder) as found:
            children = list(found)
        for child in sorted(children, key=lambda child: child.name):
            path = prefix + child.name.decode(errors="backslashreplace")
            if fault := _text_fault(child.name) or _name_fault(path, portable):
                refuse(path, f"its name {fault}", "rename it")
            if fault := _path_fault(path):
                refuse(path, f"its path {fault}", "move it up")
                continue
            twin = siblings.setdefault(_folded(path) if portable else _composed(path), path)
            if twin != path:
                refuse(path, _difference(path, twin), "rename one of them")
            info = child.stat(follow_symlinks=False)
            mode = stat.S_IMODE(info.st_mode)
            for name in _ATTRIBUTES.keys() & _attributes(child.path):
                alike.setdefault(_ATTRIBUTES[name], []).append(path)
            if stat.S_ISDIR(info.st_mode):
                entries.append(FileEntry(path, "directory", mode=mode))
                walk(child.path, path + "/")
            elif stat.S_ISLNK(info.st_mode):
                target = os.readlink(child.path)
                entries.append(FileEntry(path, "link", target=target.decode(errors="backslashreplace")))
                if fault := _text_fault(target):
                    unlinkable.add(path)
                    refuse(path, f"it is a link whose target {fault}", "rename the target")
            elif stat.S_ISREG(info.st_mode):
                entries.append(FileEntry(path, "file", mode=mode))
            else:
                refuse(path, "it is a device, a pipe or a socket", f"remove it, for a {what} holds files, directories and links")

    try:
        top = stat.S_IMODE(root.stat().st_mode)
        walk(os.fsencode(root), "")
    except OSError as error:
        raise _unreadable(os.fsdecode(error.filename or root), error) from error
    entries.sort(key=lambda entry: entry.path)
    top, entries = _without_umask(top, entries)
    problems += _of_top(where, top) if what == "payload" else []
    for path, wrong in _mode_faults(entries):
        alike.setdefault(wrong, []).append(path)
    problems += [_of_all(where, *wrong, paths) for wrong, paths in alike.items()]
    for path, fault in _link_faults(entries):
        if path not in unlinkable:
            refuse(path, f"it is a link that {fault}", f"make it a relative link to something inside the {what}")
    if not any(entry.type == "file" for entry in entries):
        problems.append(Problem(where, "there is no file in it", "put the release's files there"))
    return entries, problems


def _link_faults(entries: list[FileEntry]) -> Iterator[tuple[str, str]]:
    tree, steps = {entry.path: entry for entry in entries}, count(1)
    for entry in entries:
        if entry.type == "link" and (fault := _link_fault(entry, tree, steps)):
            yield entry.path, fault


def _without_umask(top: int, entries: list[FileEntry]) -> tuple[int, list[FileEntry]]:
    """The modes of the payload's directory and of its entries as they are, but for what only a umask of 002 put there.

    Where that is the umask, the group may write to all that the owner may write to and the group may read. On a host the group is that of
    the owner alone, so it says nothing there, and what a colleague made with another umask has to be the same.
    """
    shared = top & 0o020 and all(entry.mode & 0o020 for entry in entries if entry.mode is not None and entry.mode & 0o240 == 0o240)
    if not shared:
        return top, entries
    return top & ~0o020, [entry if entry.mode is None else replace(entry, mode=entry.mode & ~0o020) for entry in entries]


def _of_top(where: str, mode: int) -> list[Problem]:
    what = f"it is of mode {mode:04o}, and on hosts it is 0755"
    # Of a directory, a mode in digits leaves set-gid as it is.
    remedy = f"chmod {'u-s,g-s,-t,u=rwx,go=rx' if mode & 0o7000 else '0755'} {where}, and protect what is in it"
    return [] if mode == 0o755 else [Problem(where, what, remedy)]


def _mode_faults(entries: list[FileEntry]) -> Iterator[tuple[str, tuple[str, str]]]:
    for entry in entries:
        if entry.mode is not None and (wrong := _mode_fault(entry.type, entry.mode)):
            yield entry.path, wrong


def _mode_fault(kind: str, mode: int) -> tuple[str, str] | None:
    """What keeps something of that mode from going on hosts as it is, and what to do."""
    if mode & 0o7000:
        return "it is set-uid, set-gid or sticky", "clear that with chmod u-s,g-s,-t"
    if mode & 0o022:
        return "others than its owner may write to it", "clear that with chmod go-w; what a release writes to belongs in TIDEGATE_STATE"
    if not is_mode(kind, mode):
        right, remedy = ("work in it", "u+rwx") if kind == "directory" else ("read it", "u+r")
        return f"its owner may not {right}", f"allow it with chmod {remedy}"
    return None


def _of_all(where: str, what: str, remedy: str, paths: list[str]) -> Problem:
    """One fault of many paths: a tree that was copied in some way has it everywhere."""
    more = [f"{where}/{path}" for path in paths[1:_NAMED]] + ([f"{len(paths) - _NAMED} more"] if len(paths) > _NAMED else [])
    return Problem(visible(f"{where}/{paths[0]}"), what, visible(remedy + (f"; the same goes for {', '.join(more)}" if more else "")))


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
                buffer += header(entry.to_json())
                self.entries.append(entry)
                continue
            digest = hashlib.sha256()
            with opened(f"{self._root}/{entry.path}") as (size, chunks):
                buffer += header(entry.to_json() | {"size": size})
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
            buffer += padding(size)
            parts = chunker.chunks() if chunker is not None else None
            self.entries.append(FileEntry(entry.path, "file", entry.mode, size, digest.hexdigest(), None, offset, parts))
        yield bytes(buffer) + END


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

    Raises :class:`IntegrityError` unless every path stays inside, is there once, in whatever Unicode form, and has its directories listed
    before it.
    """
    document = parse_json(content, "the file index")
    files = document.get("files")
    schema = document.get("schema")
    if document.keys() != {"schema", "files"} or isinstance(schema, bool | float) or schema != 1 or not isinstance(files, list):
        raise IntegrityError("the file index is not of schema 1; archive the release again, or use a newer tidegate.release")
    tree: dict[str, FileEntry] = {}
    sizes: dict[str, int] = {}
    twins: set[str] = set()  # paths that look the same
    last = ""
    for item in files:
        entry = _parse_entry(item)
        parent = entry.path.rpartition("/")[0]
        if entry.path <= last or (parent and (parent not in tree or tree[parent].type != "directory")):
            raise _bad_entry(entry.path)
        if _composed(entry.path) in twins or any(sizes.setdefault(sha256, size) != size for sha256, _offset, size in entry.pieces()):
            raise _bad_entry(entry.path)
        twins.add(_composed(entry.path))
        tree[entry.path] = entry
        last = entry.path
    steps = count(1)
    for entry in tree.values():
        if entry.type == "link" and _link_fault(entry, tree, steps):
            raise _bad_entry(entry.path)
    return tuple(tree.values())


def _parse_entry(item: object) -> FileEntry:
    if not isinstance(item, dict) or item.keys() - {"chunks"} != _KEYS.get(str(item.get("type"))):
        raise _bad_entry(item)
    path = item["path"]
    if (
        not isinstance(path, str)
        or _text_fault(path)
        or _name_fault(path)
        or _path_fault(path)
        or any(part in ("", ".", "..") for part in path.split("/"))
    ):
        raise _bad_entry(path)
    numbers = [item[key] for key in ("mode", "size", "offset") if key in item]
    good = all(isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63 for number in numbers)
    if item["type"] == "link":
        good = isinstance(item["target"], str) and not _text_fault(item["target"]) and len(item["target"].encode()) <= TARGET
    elif item["type"] == "directory":
        good = good and is_mode("directory", item["mode"])
    else:
        good = good and is_mode("file", item["mode"]) and isinstance(item["sha256"], str) and bool(_SHA256.fullmatch(item["sha256"]))
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


def matching(blocks: Iterable[bytes], files: Iterable[FileEntry]) -> Iterator[bytes]:
    """Pass a payload's bytes on as long as they are the tar that ``files`` describes, contents included, and nothing else.

    Raises :class:`IntegrityError` naming the first entry where they are something else.
    """
    source = iter(blocks)
    rest = memoryview(b"")
    for path, length, wanted in _parts(files):
        seen, left = hashlib.sha256(), length
        while left:
            if not rest:
                block = next(source, b"")
                if not block:
                    raise _other(path, "ends before")
                yield block
                rest = memoryview(block)
            seen.update(rest[:left])
            rest, left = rest[left:], left - min(left, len(rest))
        if seen.hexdigest() != wanted:
            raise _other(path, "has something else in place of")
    if len(rest) or next(source, b""):
        raise _other("", "goes on behind")


def _parts(files: Iterable[FileEntry]) -> Iterator[tuple[str, int, str]]:
    """The parts of a tar: the path of the entry that each belongs to, its length, and its sha256."""

    def exact(path: str, content: bytes) -> tuple[str, int, str]:
        return path, len(content), hashlib.sha256(content).hexdigest()

    for entry, head, _place in members(entry.to_json() for entry in files):
        yield exact(entry["path"], head)
        if entry["type"] == "file":
            yield entry["path"], entry["size"], entry["sha256"]
            yield exact(entry["path"], padding(entry["size"]))
    yield exact("", END)


def _other(path: str, what: str) -> IntegrityError:
    place = visible(path) if path else "its end"
    return IntegrityError(
        f"the payload and the file index are not one tree: the payload {what} {place}; find out who made that package, and archive the "
        "release again under a new version"
    )


def _bad_entry(what: object) -> IntegrityError:
    return IntegrityError(f"the file index has a bad entry, {visible(str(what)[:200])!r}; archive the release again under a new version")


def _text_fault(text: bytes | str) -> str | None:
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            return "is not UTF-8"
    odd = unseen(text) or next((f"U+{ord(sign):04X}" for sign in text if not sign.isprintable()), None)
    return f"has a character that can't be seen, {odd}" if odd else None


def _name_fault(path: str, portable: bool = False) -> str | None:
    name = path.rpartition("/")[2]
    if name.startswith(WHITEOUT):
        return f"begins with {WHITEOUT}, by which image layers say that something is gone"
    if portable and (odd := _UNPORTABLE.search(name)):
        return f"has {odd[0]!r}, which is not portable, as portable_names in release.yml wants it"
    return None


def _path_fault(path: str) -> str | None:
    if path.count("/") >= DEEPEST:
        return f"is more than {DEEPEST} names deep"
    return f"has more than {LONGEST} bytes" if len(path.encode()) > LONGEST else None


def _attributes(path: bytes) -> set[str]:
    try:
        return set(os.listxattr(path, follow_symlinks=False))
    except OSError:  # its file system knows of none
        return set()


def follow(path: str, tree: Mapping[str, FileEntry]) -> FileEntry | None:
    """The file or directory of ``tree`` that a relative path leads to, links followed; nothing when it leads elsewhere."""
    end = _walk(FileEntry("-", "link", target=path), tree, count(1))
    return end if isinstance(end, FileEntry) else None


def _link_fault(entry: FileEntry, tree: Mapping[str, FileEntry], steps: Iterator[int]) -> str | None:
    """Say where a link goes wrong; raises what :func:`_walk` raises."""
    end = _walk(entry, tree, steps)
    return end if isinstance(end, str) else None


def _walk(entry: FileEntry, tree: Mapping[str, FileEntry], steps: Iterator[int]) -> FileEntry | str | None:
    """Follow a link through ``tree`` as a kernel would, links on the way included: where it ends, nothing for the tree itself; or in
    words where it goes wrong. ``steps`` counts the names on the way; raises :class:`IntegrityError` for more than :data:`_STEPS`."""
    rest: list[str] = []
    here = entry.path.split("/")
    link: FileEntry | None = entry
    end: FileEntry | None = None
    for _step in range(_LINK_LIMIT):
        if link is None:
            return end
        target = link.target or ""
        if target.startswith("/"):
            return "leads outside"
        if not target:
            return "leads nowhere"
        here.pop()
        end = tree.get("/".join(here))
        rest += reversed(target.split("/"))
        link = None
        while rest and link is None:
            part = rest.pop()
            if next(steps) > _STEPS:
                raise IntegrityError(f"the links of the payload lead over more than {_STEPS:,} names; have fewer of them lead to links")
            if part == ".." and not here:
                return "leads outside"
            if part == "..":
                here.pop()
                end = tree.get("/".join(here))
            elif part not in ("", "."):
                here.append(part)
                end = tree.get("/".join(here))
                if end is None or (end.type == "file" and rest):
                    return "leads nowhere"
                if end.type == "link":
                    link = end
    return "leads in a circle"


def _composed(path: str) -> str:
    """The same for paths that look the same, whatever they are made of."""
    return unicodedata.normalize("NFC", path)


def _folded(path: str) -> str:
    """The same for paths that some file system takes for one."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", path).casefold())


def _difference(path: str, twin: str) -> str:
    """How two names that are taken for one differ, in code points where they look the same."""
    names = [text.rpartition("/")[2] for text in (path, twin)]
    if names[0].isascii() and names[1].isascii():
        return f"its name differs from {names[1]} only in case"
    start = next((at for at, (one, other) in enumerate(zip(*names, strict=False)) if one != other), min(map(len, names)))
    ends = [
        [f"U+{ord(sign):04X} {unicodedata.name(sign, '')}".strip() for sign in name[start : start + 2]] or ["nothing"] for name in names
    ]
    alike = "looks like that of another, but" if _composed(path) == _composed(twin) else f"is the same as {visible(names[1])} to some, but"
    after = f"behind {names[0][:start]!r} " if start else ""
    return f"its name {alike} {after}has {', '.join(ends[0])} where the other has {', '.join(ends[1])}"


def visible(text: str) -> str:
    """``text`` on one line, with what can't be seen written as an escape."""
    return "".join(letter if letter.isprintable() and not unseen(letter) else ascii(letter)[1:-1] for letter in text)


def _unreadable(path: str, error: OSError) -> TidegateError:
    return TidegateError(f"can't read {visible(path)} ({error.strerror}); make it readable and archive again")
