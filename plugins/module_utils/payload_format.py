# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a payload may hold, and the one tar that a file index describes; the controller and the hosts go by the same rules.

An index says everything of its tar but the contents, and of these their sha256. So a scanner that unpacks the payload out of a registry
sees the very tree that hosts build by the index: a tar with anything else in it, before, between or behind, is another tar.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

BLOCK = 512  # bytes of a tar
END = bytes(2 * BLOCK)
# Beyond these a host could not make the path below its own directories, nor could anybody walk through it.
LONGEST = 3000  # bytes
DEEPEST = 200  # names
TARGET = 4095  # bytes of a link's target, as Linux has it
# What a tool that unpacks image layers takes for a note that something is to be removed, and does not show.
WHITEOUT = ".wh."

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and format characters, halves of one, ends of lines
# Unicode's property Default_Ignorable_Code_Point, and what has no ink at all: Braille blank, musical null notehead.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_KINDS = {"directory": b"5", "file": b"0", "link": b"2"}
_NAME = 100  # bytes that a header has for a name
_SIZE = 8**11  # what a header can't say any more


def unseen(text: str) -> Optional[str]:
    """The first character that nobody sees, as U+200B; nothing when there is none. Letters newer than this Python's tables are fine."""
    # Most names are, and asking of each sign takes a host longer than unpacking: what is printable is neither unseen nor blank.
    if text.isprintable() and (text.isascii() or not _IGNORABLE.search(text)):
        return None
    for sign in text:
        blank = unicodedata.category(sign) == "Zs" and sign != " "
        if blank or unicodedata.category(sign) in _UNSEEN or _IGNORABLE.match(sign):
            return f"U+{ord(sign):04X}"
    return None


def is_mode(kind: str, mode: object) -> bool:
    """Whether these are permissions that a release's file or directory may have.

    They go on hosts as they are. Nobody but the owner writes to what is released; and the owner, as whom the files are compared and put
    right, has to be able to read them and to work in the directories.
    """
    if not isinstance(mode, int) or isinstance(mode, bool) or mode & ~0o755:
        return False
    return mode & 0o700 == 0o700 if kind == "directory" else mode & 0o400 == 0o400


def members(files: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], bytes, int]]:
    """Each entry of a file index with its header in the tar, and where its content starts, or would start."""
    place = 0
    for entry in files:
        head = header(entry)
        place += len(head)
        yield entry, head, place
        place += _padded(entry.get("size", 0))


def is_tar_of(files: Iterable[Mapping[str, Any]], size: int) -> bool:
    """Whether the index says of each content where it is in the one tar that it describes, and that tar has ``size`` bytes."""
    place = 0
    for entry in files:
        place += _header_size(entry)
        if entry["type"] == "file" and entry.get("offset") != place:
            return False
        place += _padded(entry.get("size", 0))
    return place + len(END) == size


def _header_size(entry: Mapping[str, Any]) -> int:
    """How long :func:`header` is, which most entries need not be made for."""
    short = len(entry["path"]) < _NAME and entry["path"].isascii() and "target" not in entry and entry.get("size", 0) < _SIZE
    return BLOCK if short else len(header(entry))


def padding(size: int) -> bytes:
    """What follows a content of ``size`` bytes."""
    return bytes(-size % BLOCK)


def _padded(size: int) -> int:
    return size + -size % BLOCK


def header(entry: Mapping[str, Any]) -> bytes:
    """The tar header of an entry: what Python's ``tarfile`` makes of it in the pax format, whatever its version."""
    name = entry["path"] + "/" if entry["type"] == "directory" else entry["path"]
    target = entry.get("target", "")
    size = entry.get("size", 0)
    kind, mode = _KINDS[entry["type"]], entry.get("mode", 0o777)
    if name.isascii() and target.isascii() and len(name) <= _NAME and len(target) <= _NAME and size < _SIZE:
        return _ustar(name, mode, size, kind, target)
    records = b"".join(_record(key, text) for key, text in ((b"path", name), (b"linkpath", target)) if not _fits(text))
    if size >= _SIZE:
        records, size = records + _record(b"size", str(size)), 0
    extended = _ustar("././@PaxHeader", 0, len(records), b"x", "") + records + padding(len(records))
    return extended + _ustar(name, mode, size, kind, target)


def _fits(text: str) -> bool:
    return text.isascii() and len(text) <= _NAME


def _ustar(name: str, mode: int, size: int, kind: bytes, target: str) -> bytes:
    texts = [text.encode("ascii", "replace")[:_NAME].ljust(_NAME, b"\0") for text in (name, target)]
    start = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (texts[0], mode, 0, 0, size, 0)
    end = (kind + texts[1] + b"ustar\x0000").ljust(356, b"\0")
    return start + b"%06o\0 " % (sum(start) + 8 * ord(" ") + sum(end)) + end


def _record(key: bytes, text: str) -> bytes:
    """A line of an extended header, which begins with its own length."""
    line = b" " + key + b"=" + text.encode() + b"\n"
    length = len(line)
    while len(line) + len(str(length)) != length:
        length = len(line) + len(str(length))
    return str(length).encode() + line
