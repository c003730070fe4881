# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a file ClamAV can't have looked into without saying so: archives that are not whole, and those that it does not unpack.

It passes over both as if they were plain files. So each archive is unpacked here too, with the archives in it, and whatever does not come
out whole, or is packed in a way that ClamAV does not know, is named.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

_BLOCK = 1 << 20
_DEEPEST = 8  # archives in archives
_MOST = 4000 << 20  # bytes that one file may come to, unpacked: ClamAV's own limit
_IN_MEMORY = 64 << 20  # bytes of what is unpacked; more goes on disk
_XZ_MEMORY = 256 << 20  # bytes
# How members of a zip can be packed that ClamAV unpacks: stored, imploded, deflated in two ways, bzip2.
_UNPACKED = frozenset({0, 6, 8, 9, 12})
_WRAPPED = (b"!<arch>\ndebian-binary", b"\xed\xab\xee\xdb")  # see unwrap
# How what is packed behind a script begins, on a line of its own, as programs such as makeself leave it.
_BEHIND = re.compile(rb"\n(?=\x1f\x8b\x08|BZh[1-9]1AY&SY|\xfd7zXZ\0|\x5d\0\0|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|7z\xbc\xaf)")
_MAGIC = 12  # bytes that such a beginning has at most
_MEMBER = b"PK\x03\x04"  # how a member of a zip begins
_SECTOR = 1 << 11  # bytes of a block of an ISO image, where each file begins anew
_CUT = "is not whole, or damaged"
_UNKNOWN = "is packed in a way that it does not know"
# Archives and compressed files that ClamAV takes for plain files, or of which it does not unpack every kind, by how they begin.
_FOREIGN = (
    b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18", b"LZIP", b"\x1f\x9d\x90", b"\x89LZO\0\r\n\x1a\n", b"Rar!\x1a\x07",
    b"7z\xbc\xaf\x27\x1c", b"hsqs", b"sqsh", b"MSWIM\0\0\0", b"QFI\xfb", b"KDMV", b"-rom1fs-", b"LRZI", b"zPQ", b"7kSt",
    b"\xff\x06\0\0sNaPpY", b"\x45\x3d\xcd\x28", b"\x28\xcd\x3d\x45", b"\x85\x19\x01\xe0", b"\x31\x18\x10\x06", b"<<< Oracle VM",
    b"ZOO 2", b"vhdxfile", b"conectix", b"\xca\xfe\xd0\x0d", b"\xc7\x71", b"\x71\xc7",
)  # fmt: skip
# The same, further inside: what begins with frames to be skipped, LHA, ACE, EROFS; programs that are packed or have files behind them.
_FOREIGN_WITHIN = re.compile(
    rb"[\x50-\x5f]\x2a\x4d\x18|..-l[hz][0-9ds]-|.{7}\*\*ACE\*\*|.{1024}\xe2\xe1\xf5\xe0|\x7fELF.{4}AI[\x01\x02]|\x7fELF.*UPX!",
    re.DOTALL,
)
_ENCRYPTED = (
    b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----", b"-----BEGIN PGP MESSAGE-----", b"Salted__", b"$ANSIBLE_VAULT;",
)  # fmt: skip


class _NotSeen(Exception):
    """What is wrong with an archive, or with one in it, in words that follow its name."""


class _Budget:
    """How much may still be unpacked of a file."""

    def __init__(self) -> None:
        self._left = _MOST

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _NotSeen(f"comes to more than {_MOST >> 20} MiB unpacked")


def unseen(path: Path) -> str:
    """Why ClamAV can't have looked into all of a file, in words that follow its name; empty when it can."""
    try:
        with path.open("rb") as stream:
            _look(stream, _Budget(), 0)
    except _NotSeen as error:
        return str(error)
    except (OSError, EOFError, ValueError, RecursionError, MemoryError, NotImplementedError, RuntimeError, struct.error, zlib.error,
            lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError):  # fmt: skip
        return _CUT
    return ""


def _look(stream: IO[bytes], budget: _Budget, depth: int) -> None:
    head = stream.read(1 << 12)
    stream.seek(0)
    if head.startswith(_ENCRYPTED):
        raise _NotSeen("is encrypted")
    if head.startswith(_FOREIGN) or _FOREIGN_WITHIN.match(head) or _is_lzma(head) or _is_zlib(head):
        raise _NotSeen(_UNKNOWN)
    if depth and (head.startswith(_WRAPPED) or (head.startswith(b"#!") and _behind_script(stream))):
        raise _NotSeen(_UNKNOWN)
    found: Iterator[IO[bytes]] | None = None
    stream.seek(0x8001)
    if stream.read(5) == b"CD001":
        found = _of_iso(stream)
    elif zipfile.is_zipfile(stream) or head.startswith((_MEMBER, b"PK\x05\x06", b"PK\x07\x08")):
        found = _of_zip(stream, budget)
    else:
        stream.seek(0)
        for magic, unpack in _KINDS:
            if magic(head):
                found = unpack(stream, budget)
                break
    for inner in found or ():
        if depth == _DEEPEST:
            raise _NotSeen(f"has archives in archives, more than {_DEEPEST} deep")
        _look(inner, budget, depth + 1)


def _spool(blocks: Iterator[bytes], budget: _Budget) -> IO[bytes]:
    spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it goes away with its last reader
    for block in blocks:
        budget.take(len(block))
        spool.write(block)
    spool.seek(0)
    return cast(IO[bytes], spool)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: stream.read(_BLOCK), b"")


def _portion(stream: IO[bytes], left: int) -> Iterator[bytes]:
    """The next ``left`` bytes."""
    while left and (block := stream.read(min(left, _BLOCK))):
        left -= len(block)
        yield block


def _of_zip(stream: IO[bytes], budget: _Budget) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(stream) as archive:
        if any(_has(stream, start, end, _MEMBER) for start, end in _between(stream, archive)):
            raise _NotSeen("has members that its directory does not name")
        for member in archive.infolist():
            if member.compress_type not in _UNPACKED:
                raise _NotSeen(_UNKNOWN)
            if member.flag_bits & 1:
                raise _NotSeen("is encrypted")
            if member.compress_type in (6, 9):  # ClamAV unpacks these, and nothing here can say whether they are whole
                continue
            with archive.open(member) as content:
                yield _spool(_blocks(content), budget)


def _between(stream: IO[bytes], archive: zipfile.ZipFile) -> Iterator[tuple[int, int]]:
    """From where to where a zip has what is in none of the members that its directory names: before, between and behind them."""
    place = 0
    for member in sorted(archive.infolist(), key=lambda one: one.header_offset):
        yield place, member.header_offset
        stream.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", stream.read(4))
        place = member.header_offset + 30 + name + extra + member.compress_size
    yield place, archive.start_dir


def _has(stream: IO[bytes], start: int, end: int, mark: bytes) -> bool:
    stream.seek(start)
    before = b""
    for block in _portion(stream, max(0, end - start)):
        if mark in before + block:
            return True
        before = block[1 - len(mark) :]
    return False


def _of_tar(stream: IO[bytes], budget: _Budget) -> Iterator[IO[bytes]]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        end = 0
        for member in archive:
            end = archive.offset
            if member.isreg() and (content := archive.extractfile(member)):
                spool = _spool(_blocks(content), budget)
                if spool.seek(0, 2) != member.size:
                    raise _NotSeen(_CUT)
                spool.seek(0)
                yield spool
        stream.seek(end)
        if stream.read(512) != bytes(512):
            raise _NotSeen(_CUT)
        if any(block.strip(b"\0") for block in _blocks(stream)):
            raise _NotSeen("goes on behind its end")


def _of_compressed(new: Callable[[], Any], parts: bool = True) -> Callable[[IO[bytes], _Budget], Iterator[IO[bytes]]]:
    """``parts``: whether ClamAV unpacks more than the first of the parts that may be in a file."""

    def unpack(stream: IO[bytes], budget: _Budget) -> Iterator[IO[bytes]]:
        yield _spool(_decompressed(stream, new, parts), budget)

    return unpack


def _decompressed(stream: IO[bytes], new: Callable[[], Any], parts: bool) -> Iterator[bytes]:
    """What compressed parts, one after the other, hold; zeros may fill up the end."""
    rest = stream.read(_BLOCK)
    first = True
    while rest:
        if not (first or parts):
            raise _NotSeen("is in several parts, of which it unpacks the first")
        part, first = new(), False
        while not part.eof:
            yield part.decompress(rest, _BLOCK)
            rest = getattr(part, "unconsumed_tail", b"") if not part.eof else part.unused_data
            if not part.eof and not rest and getattr(part, "needs_input", True):
                rest = stream.read(_BLOCK)
                if not rest:
                    raise EOFError
        rest = rest or stream.read(_BLOCK)
        if not rest.strip(b"\0"):
            if any(block.strip(b"\0") for block in _blocks(stream)):
                raise EOFError
            return


def _of_ar(stream: IO[bytes], budget: _Budget) -> Iterator[IO[bytes]]:
    """ClamAV does not unpack it, so :func:`unwrap` does."""
    for _name, offset, size in _members_of_ar(stream):
        stream.seek(offset)
        yield _spool(_portion(stream, size), budget)


def _members_of_ar(stream: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    stream.seek(8)
    while head := stream.read(60):
        if len(head) != 60 or head[58:] != b"`\n":
            raise _NotSeen(_CUT)
        size, here = int(head[48:58]), stream.tell()
        if stream.seek(0, 2) < here + size:
            raise _NotSeen(_CUT)
        yield head[:16].decode("ascii", "replace").strip(" /"), here, size
        stream.seek(here + size + size % 2)


def _of_rpm(stream: IO[bytes], budget: _Budget) -> Iterator[IO[bytes]]:
    """As for ar archives."""
    stream.seek(_payload_of_rpm(stream))
    yield _spool(_blocks(stream), budget)


def _payload_of_rpm(stream: IO[bytes]) -> int:
    """Where in an rpm its payload begins: behind the lead, the signature and the header."""
    place = 96
    for align in (8, 1):
        stream.seek(place)
        magic, _reserved, count, size = struct.unpack(">4s4sII", stream.read(16))
        if magic != b"\x8e\xad\xe8\x01":
            raise _NotSeen(_CUT)
        place += 16 + 16 * count + size
        place += -place % align
    return place


def _of_iso(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """ClamAV unpacks it; here it is only seen whether it is as long as it says, in blocks of 2 KiB."""
    stream.seek(0x8000 + 80)
    (blocks,) = struct.unpack("<I", stream.read(4))
    if stream.seek(0, 2) < blocks << 11:
        raise _NotSeen(_CUT)
    stream.seek(0x8000)
    while sector := stream.read(_SECTOR):
        if sector.startswith((*_FOREIGN, *_WRAPPED, *_ENCRYPTED, _MEMBER)) or any(magic(sector) for magic, _unpack in _KINDS):
            raise _NotSeen("has archives in it, and nothing here can say whether they are whole")
    return iter(())


def _of_cab(stream: IO[bytes], _budget: _Budget) -> Iterator[IO[bytes]]:
    stream.seek(8)
    (size,) = struct.unpack("<I", stream.read(4))
    if stream.seek(0, 2) < size:
        raise _NotSeen(_CUT)
    return iter(())


def _of_cpio(stream: IO[bytes], budget: _Budget) -> Iterator[IO[bytes]]:
    """The forms with numbers as text: in eight hexadecimal digits, padded to four bytes, or in octal ones."""
    while True:
        magic = stream.read(6)
        octal = magic == b"070707"
        head = stream.read(70 if octal else 104)
        if magic not in (b"070701", b"070702", b"070707") or len(head) != (70 if octal else 104):
            raise _NotSeen(_CUT)
        name, size = (int(head[53:59], 8), int(head[59:70], 8)) if octal else (int(head[88:96], 16), int(head[48:56], 16))
        path = stream.read(name)
        stream.seek(0 if octal else -stream.tell() % 4, 1)
        if path == b"TRAILER!!!\0":
            break
        spool = _spool(_portion(stream, size), budget)
        if spool.seek(0, 2) != size:
            raise _NotSeen(_CUT)
        spool.seek(0)
        yield spool
        stream.seek(0 if octal else -stream.tell() % 4, 1)
    if any(block.strip(b"\0") for block in _blocks(stream)):
        raise _NotSeen("goes on behind its end")


def _is_lzma(head: bytes) -> bool:
    """The older form of .xz, which has no mark of its own: it is one when it can be unpacked."""
    if head[:3] != b"\x5d\0\0" or len(head) < 14:
        return False
    try:
        return bool(lzma.LZMADecompressor(lzma.FORMAT_ALONE, _XZ_MEMORY).decompress(head, 1))
    except lzma.LZMAError:
        return False


def _is_zlib(head: bytes) -> bool:
    """What zlib alone makes, which has two bytes at its beginning, and they are of letters: it is some when it can be unpacked."""
    if len(head) < 8 or head[0] != 0x78 or int.from_bytes(head[:2]) % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, 1))
    except zlib.error:
        return False


def _behind_script(stream: IO[bytes]) -> int:
    """Where in a script what is packed behind it begins; 0 when there is nothing."""
    stream.seek(0)
    place, before = 0, b""
    for block in _blocks(stream):
        if found := _BEHIND.search(before + block):
            return place - len(before) + found.end()
        place += len(block)
        before = (before + block)[-_MAGIC:]
    return 0


class _Gzip:
    """A member of a gzip file, with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def unconsumed_tail(self) -> bytes:
        return self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(data, max_length)


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[IO[bytes], _Budget], Iterator[IO[bytes]]]], ...] = (
    (lambda head: head.startswith(b"\x1f\x8b\x08"), _of_compressed(_Gzip)),
    (lambda head: head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"), _of_compressed(bz2.BZ2Decompressor, parts=False)),
    (lambda head: head.startswith(b"\xfd7zXZ\0"), _of_compressed(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY))),
    (lambda head: head.startswith(b"!<arch>\n"), _of_ar),
    (lambda head: head.startswith(b"\xed\xab\xee\xdb"), _of_rpm),
    (lambda head: head[257:262] == b"ustar", _of_tar),
    (lambda head: head.startswith(b"MSCF\0\0\0\0"), _of_cab),
    (lambda head: head.startswith((b"070701", b"070702", b"070707")), _of_cpio),
)


def unwrap(path: Path, folder: Path) -> bool:
    """Lay what is packed in a .deb or .rpm, or behind a script, which ClamAV does not unpack, into ``folder``.

    False when it is something else or not whole.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            if head == b"!<arch>\n":
                parts = [(offset, size) for _name, offset, size in _members_of_ar(stream)]
            elif head.startswith(b"\xed\xab\xee\xdb"):
                start = _payload_of_rpm(stream)
                parts = [(start, stream.seek(0, 2) - start)]
            elif head.startswith(b"#!") and not zipfile.is_zipfile(stream) and (start := _behind_script(stream)):
                parts = [(start, stream.seek(0, 2) - start)]
            else:
                return False
            folder.mkdir()
            for number, (offset, size) in enumerate(parts):
                stream.seek(offset)
                with (folder / str(number)).open("wb") as target:
                    target.writelines(_portion(stream, size))
    except (_NotSeen, ValueError, struct.error):
        return False
    return True
