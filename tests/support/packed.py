# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Payloads in memory, and archives to put into them."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile

from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import FileEntry

DIGEST = "sha256:" + "1" * 64


class Blobs(dict[str, bytes]):
    def open(self, path: str) -> io.BytesIO:
        return io.BytesIO(self[path])


def payload(**contents: bytes | str) -> tuple[list[FileEntry], Blobs]:
    blobs = Blobs({path: text.encode() if isinstance(text, str) else text for path, text in contents.items()})
    entries = [FileEntry(path, "file", 0o644, len(blob), hashlib.sha256(blob).hexdigest()) for path, blob in sorted(blobs.items())]
    return entries, blobs


def ar(*members: tuple[str, bytes]) -> bytes:
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
        for name, content in members
    )


def deb(control: str, compression: str = "xz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:
        info = tarfile.TarInfo("./control")
        info.size = len(control)
        archive.addfile(info, io.BytesIO(control.encode()))
    return ar(("debian-binary", b"2.0\n"), (f"control.tar{compression and '.'}{compression}", packed.getvalue()))


def rpm(**tags: str | tuple[int, ...]) -> bytes:
    """A package of rpm without files, whose header has these tags of :data:`RPM_TAGS`."""
    index, store = b"", b""
    for name, value in tags.items():
        store += bytes(-len(store) % 4)
        kind, count, content = (
            (6, 1, f"{value}\0".encode()) if isinstance(value, str) else (4, len(value), struct.pack(f">{len(value)}I", *value))
        )
        index += struct.pack(">IIII", RPM_TAGS[name], kind, len(store), count)
        store += content
    magic = b"\x8e\xad\xe8\x01" + bytes(4)
    signature = magic + struct.pack(">II", 1, 3) + struct.pack(">IIII", 1000, 7, 0, 3) + b"sig" + bytes(5)
    return b"\xed\xab\xee\xdb" + bytes(92) + signature + magic + struct.pack(">II", len(tags), len(store)) + index + store


RPM_TAGS = {
    **{"name": 1000, "version": 1001, "release": 1002, "epoch": 1003, "licence": 1014, "architecture": 1022},
    **{"flags": 1037, "source": 1106},
}
