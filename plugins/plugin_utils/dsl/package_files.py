# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What packages in files say of themselves: wheels, packages of npm, of Debian and of rpm.

Anybody may have made them, so nothing is unpacked onto a disk, no more is read than a package needs to say what it is, and whatever is
wrong with one is a :data:`FAULTS`.
"""

from __future__ import annotations

import bz2
import email.parser
import email.policy
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from ..errors import TidegateError

try:
    import zstandard
    from zstandard import ZstdError
except ImportError:
    ZstdError = ValueError  # type: ignore[assignment,misc]  # what its absence is

FAULTS = (
    *(ValueError, KeyError, OSError, EOFError, RecursionError, NotImplementedError, RuntimeError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ZstdError),
)
"""What can be raised for an archive that is none, or more than anybody means."""
DEB_FIELDS = ("Package", "Version", "Architecture", "Pre-Depends", "Depends")
METADATA_LIMIT = 1 << 20  # bytes of what a package says of itself
_LISTING_LIMIT = 4 << 20  # bytes of a wheel's list of files
_UNPACKED_LIMIT = 256 << 20  # bytes of one archive that are unpacked, and passed over, to find what is looked for
_CONTROL_LIMIT = 16 << 20  # and of what a Debian package says of itself
_TOTAL_LIMIT = 8 << 30  # of all archives of a payload together
_MEMORY_LIMIT = 128 << 20  # bytes that a decompressor may need
_AT_ONCE = 64 << 10
_RPM_LIMIT = 64 << 20  # bytes of a header of rpm
_RPM_INTEGERS = 4  # the type of 32-bit numbers in it
_RPM_TAGS = {
    **{1000: "name", 1001: "version", 1002: "release", 1003: "epoch", 1014: "licence", 1022: "architecture"},
    **{1037: "flags", 1106: "source"},
}
_BLOCK = 512

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_PACKAGE_JSON = re.compile(r"[^/]+/package\.json")
_CONTROL = re.compile(r"(?:\./)?control")
_BODILESS = frozenset({tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE})


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


@dataclass
class Meter:
    """How much was unpacked of all archives of a payload. Raises :class:`TidegateError` when that is more than anybody means."""

    unpacked: int = 0

    def count(self, size: int) -> None:
        """Add what was unpacked, in bytes."""
        self.unpacked += size
        if self.unpacked > _TOTAL_LIMIT:
            raise TidegateError(
                f"the packages in the payload come to more than {_TOTAL_LIMIT >> 30} GiB unpacked; bring an SBOM with it, as bom.json"
            )


def wheel_metadata(stream: BinaryIO) -> bytes:
    """The METADATA of a wheel."""
    with zipfile.ZipFile(_Careful(stream)) as archive:
        found = [entry for entry in archive.infolist() if _METADATA.fullmatch(entry.filename)]
        if len(found) != 1:
            raise ValueError("a wheel has one METADATA")
        # Others may make any number of bytes out of a few at once.
        if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or found[0].file_size > METADATA_LIMIT:
            raise ValueError("no METADATA that a wheel has")
        with archive.open(found[0]) as member:
            return member.read(METADATA_LIMIT)


def npm_metadata(stream: BinaryIO, meter: Meter) -> bytes:
    """The package.json of a package of npm."""
    with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
        return _member(_Metered(unpacked, meter, _UNPACKED_LIMIT), _PACKAGE_JSON)


def deb_control(stream: BinaryIO, meter: Meter) -> dict[str, str]:
    """What the fields :data:`DEB_FIELDS` of a Debian package say, whatever that is; empty for those that it lacks."""
    data = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(deb_metadata(stream, meter))
    return {field: " ".join(str(data.get(field) or "").split()) for field in DEB_FIELDS}


def deb_metadata(stream: BinaryIO, meter: Meter) -> bytes:
    """The control file of a Debian package."""
    for member, size in _ar(stream):
        if member.startswith("control.tar"):
            return _member(_Metered(_unpacked(member, _Part(stream, size)), meter, _CONTROL_LIMIT), _CONTROL)
    raise ValueError("no control file")


def deb_copyright(stream: BinaryIO, package: str, meter: Meter) -> bytes:
    """The copyright file of a Debian package of that name."""
    wanted = re.compile(rf"(?:\./)?usr/share/doc/{re.escape(package)}/copyright")
    for member, size in _ar(stream):
        if member.startswith("data.tar"):
            return _member(_Metered(_unpacked(member, _Part(stream, size)), meter, _UNPACKED_LIMIT), wanted)
    raise ValueError("no files")


def rpm_header(stream: BinaryIO) -> dict[str, Any]:
    """What the header of a package of rpm (format 3 and 4) says of it, by the names of :data:`_RPM_TAGS`."""
    if stream.read(96)[:4] != b"\xed\xab\xee\xdb":
        raise ValueError("no lead of rpm")
    _index, size = _rpm_sizes(stream)
    stream.seek(_index + size + -size % 8, io.SEEK_CUR)  # the signatures, which are not asked here
    index, size = _rpm_sizes(stream)
    entries, store = _exactly(stream, index), _exactly(stream, size)
    found: dict[str, Any] = {}
    for tag, kind, offset, count in struct.iter_unpack(">IIII", entries):
        name = _RPM_TAGS.get(tag)
        if name and kind == _RPM_INTEGERS:
            found[name] = struct.unpack_from(f">{count}I", store, offset)
        elif name:
            found[name] = store[offset : store.index(b"\0", offset)].decode()
    return found


def _rpm_sizes(stream: BinaryIO) -> tuple[int, int]:
    """How many bytes the index of a header has, and what it leads to."""
    magic, entries, size = struct.unpack(">8sII", _exactly(stream, 16))
    if magic[:4] != b"\x8e\xad\xe8\x01" or entries * 16 > _RPM_LIMIT or size > _RPM_LIMIT:
        raise ValueError("no header of rpm")
    return entries * 16, size


def _member(stream: _Readable, wanted: re.Pattern[str]) -> bytes:
    """The content of the first file of a tar whose name is ``wanted``; the rest is passed over, and links are followed nowhere."""
    while len(header := _exactly(stream, _BLOCK)) == _BLOCK and header.count(0) < _BLOCK:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if info.size < 0:
            raise ValueError("a negative size")
        if info.isreg() and wanted.fullmatch(info.name):
            if info.size > METADATA_LIMIT:
                raise ValueError("more than a package says of itself")
            return _exactly(stream, info.size)
        left = 0 if info.type in _BODILESS else -(-info.size // _BLOCK) * _BLOCK
        while left:
            left -= len(_exactly(stream, min(left, _AT_ONCE))) or left
    raise KeyError("it is not there")


def _exactly(stream: _Readable, size: int) -> bytes:
    """So many bytes, or those that there are."""
    found = bytearray()
    while len(found) < size and (chunk := stream.read(size - len(found))):
        found += chunk
    return bytes(found)


def _ar(stream: BinaryIO) -> Iterator[tuple[str, int]]:
    """The name and size of each member of an ar archive (deb(5)), with ``stream`` where its content begins."""
    if stream.read(8) != b"!<arch>\n":
        raise ValueError("no ar archive")
    while len(header := stream.read(60)) == 60:
        start, size = stream.tell(), int(header[48:58])
        if size < 0:
            raise ValueError("a negative size")
        yield header[:16].decode("ascii", "replace").strip().rstrip("/"), size
        stream.seek(start + size + size % 2)


def _unpacked(member: str, source: _Part) -> _Readable:
    """A member of a Debian package without its compression."""
    suffix = member.rpartition(".tar")[2]
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=source, mode="rb")  # type: ignore[call-overload,no-any-return]  # it reads, which is enough
    if suffix == ".xz":
        return _Unpacking(source, lzma.LZMADecompressor(memlimit=_MEMORY_LIMIT))
    if suffix == ".bz2":
        return _Unpacking(source, bz2.BZ2Decompressor())
    if suffix == ".zst":
        try:
            return zstandard.ZstdDecompressor(max_window_size=_MEMORY_LIMIT).stream_reader(source)  # type: ignore[arg-type]  # as above
        except NameError as error:
            raise ValueError("no library that unpacks it") from error
    if suffix:
        raise ValueError("an unknown compression")
    return source


class _Part:
    """The next ``left`` bytes of a stream."""

    def __init__(self, stream: BinaryIO, left: int) -> None:
        self._stream, self._left = stream, left

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._stream.read(min(self._left, _AT_ONCE if size < 0 else size))
        self._left -= len(chunk)
        return chunk


class _Unpacking:
    """A stream without its compression, no more of it in memory than is asked for."""

    def __init__(self, source: _Part, decompressor: lzma.LZMADecompressor | bz2.BZ2Decompressor) -> None:
        self._source, self._decompressor = source, decompressor

    def read(self, size: int, /) -> bytes:
        while not self._decompressor.eof:
            chunk = self._source.read(_AT_ONCE) if self._decompressor.needs_input else b""
            if not chunk and self._decompressor.needs_input:
                break
            if found := self._decompressor.decompress(chunk, size):
                return found
        return b""


class _Metered:
    """A stream that ends with a fault when more comes out of it than out of any package."""

    def __init__(self, source: _Readable, meter: Meter, limit: int) -> None:
        self._source, self._meter, self._left = source, meter, limit

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(min(size, _AT_ONCE))
        self._meter.count(len(chunk))
        self._left -= len(chunk)
        if self._left < 0:
            raise ValueError("more than in any package")
        return chunk


class _Careful:
    """A file of which nobody gets more at once than the list of files of a large wheel."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._stream.read(_LISTING_LIMIT + 1 if size < 0 else min(size, _LISTING_LIMIT + 1))
        if len(chunk) > _LISTING_LIMIT:
            raise ValueError("more than a wheel lists")
        return chunk
