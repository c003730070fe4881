# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs: just the contents that a host lacks, in one file, made once for all hosts that lack the same."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import IntegrityError, TidegateError
from .layout import OciLayout, locked
from .package import Package
from .payload import FileEntry

_CHUNK = 1 << 20


def build_pack(home: OciLayout, package: Package, missing: Collection[str], directory: Path) -> Path:
    """The path of a pack in ``directory`` with the contents whose sha256s are ``missing``.

    A pack is the gzip of their plain concatenation, each once, in ascending order of sha256. It is named after what it holds; when
    several processes ask for the same pack, one makes it and the others wait. Raises :class:`IntegrityError` when the payload is not
    what the file index says, and :class:`TidegateError` for a content that the package does not have.
    """
    contents = {entry.sha256: entry for entry in package.files if entry.sha256 is not None}
    unknown = [sha for sha in missing if not isinstance(sha, str) or sha not in contents]
    if unknown:
        raise TidegateError(f"the package {package.digest} has no content {str(unknown[0])!r:.80}; ask only for what its file index lists")
    wanted = sorted(set(missing))
    name = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    path = directory / f"{name}.pack"
    unfinished = directory / f"{name}.new"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory / f"{name}.lock"):
            if not path.exists():
                with unfinished.open("wb") as target, gzip.GzipFile("", "wb", 1, target, mtime=0) as pack:
                    for chunk in _contents(home, package, [contents[sha] for sha in wanted]):
                        pack.write(chunk)
                unfinished.rename(path)
    except OSError as error:
        raise TidegateError(f"can't make a pack in {directory} ({error.strerror or error}); make room and run this again") from error
    return path


def _contents(home: OciLayout, package: Package, entries: list[FileEntry]) -> Iterator[bytes]:
    with home.open_blob(package.payload.digest) as payload:
        for entry in entries:
            digest = hashlib.sha256()
            for chunk in _range(payload, entry.offset or 0, entry.size or 0):
                digest.update(chunk)
                yield chunk
            if digest.hexdigest() != entry.sha256:
                raise IntegrityError(
                    f"the payload {package.payload.digest} holds other bytes for {entry.path!r} than its file index says; "
                    "verify the DSL and restore it from a copy"
                )


def _range(stream: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    stream.seek(offset)
    while size and (chunk := stream.read(min(size, _CHUNK))):
        size -= len(chunk)
        yield chunk
