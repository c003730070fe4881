# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Payloads in memory, and archives to put into them."""

from __future__ import annotations

import hashlib
import io
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
