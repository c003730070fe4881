# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs: just the pieces that a host lacks, in one file, made once for all hosts that lack the same.

A piece is a content, or a chunk of a large one, and is asked for by its sha256.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from ..errors import IntegrityError, TidegateError
from ..files import locked, write_atomically
from .package import Package, load_package
from .repository import Repository

UNASKED = 1 << 20
"""Bytes: a pack of no more than these is sent before the host is asked what it lacks, which saves it a round trip."""

_BLOCK = 1 << 20
_LEVEL = 6  # made once, sent to every host
_Pieces = Mapping[str, tuple[int, int]]


class UnknownPieceError(TidegateError):
    """Somebody asked for a piece that the package does not have."""


def pieces(package: Package) -> dict[str, tuple[int, int]]:
    """Where in the payload each piece of a package starts, and how long it is, by sha256."""
    return {sha256: (offset, length) for entry in package.files for sha256, offset, length in entry.pieces()}


def lacking(package: Package, base: Package | None) -> list[str]:
    """The pieces of ``package`` that a host lacks which has ``base``, whole, and nothing else."""
    known = pieces(base) if base else {}
    need: set[str] = set()
    for entry in package.files:
        if entry.sha256 is not None and entry.sha256 not in known:
            need.update({sha256 for _length, sha256 in entry.chunks} - known.keys() if entry.chunks else {entry.sha256})
    return sorted(need)


def build_pack(home: Repository, package: Package, missing: Collection[str], directory: Path) -> Path:
    """The path of a pack in ``directory`` with the pieces whose sha256s are ``missing``.

    A pack is the gzip of a line, the JSON list of the sha256s, and of the pieces in that order, one after the other. The order is the
    payload's, where like is next to like. A pack is named after what it holds; when several processes ask for the same one, one makes it
    and the others wait. Raises :class:`IntegrityError` when the payload is not what the file index says, and :class:`UnknownPieceError` for
    a piece that the package does not have.
    """
    known = pieces(package)
    unknown = [sha256 for sha256 in missing if not isinstance(sha256, str) or sha256 not in known]
    if unknown:
        raise UnknownPieceError(
            f"the package {package.digest} has no content {str(unknown[0])!r:.80}; ask only for what its file index lists"
        )
    wanted = sorted(set(missing), key=lambda sha256: (known[sha256], sha256))
    path = pack_path(sorted(wanted), directory)
    unfinished = path.with_suffix(".new")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                with unfinished.open("wb") as target, gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as pack:
                    pack.write(json.dumps(wanted).encode() + b"\n")
                    for block in _contents(home, package, known, wanted):
                        pack.write(block)
                unfinished.rename(path)
    except OSError as error:
        raise TidegateError(f"can't make a pack in {directory} ({error.strerror or error}); make room and run this again") from error
    return path


def pack_path(wanted: Collection[str], directory: Path) -> Path:
    """Where the pack of these pieces, sorted, is or would be."""
    return directory / f"{hashlib.sha256(' '.join(wanted).encode()).hexdigest()}.pack"


class Shipment:
    """What a run sends of one package. ``directory`` is the run's own: what one worker made there, the others take.

    ``home`` is called by the one that makes something; the others have no use for the library.
    """

    def __init__(self, home: Callable[[], Repository], digest: str, directory: Path) -> None:
        self._find = home
        self._digest = digest
        self._directory = directory

    @cached_property
    def _home(self) -> Repository:
        return self._find()

    @cached_property
    def package(self) -> Package:
        """The package, loaded when something has to be made out of it."""
        return load_package(self._home, self._digest)

    def documents(self) -> list[str]:
        """Manifest, config and file index as the host takes them: each compressed with zlib and in base64."""
        path = self._directory / f"{self._digest[7:]}.documents"
        with self._told(), locked(path.with_suffix(".lock")):
            if not path.exists():
                texts = (self.package.manifest_bytes, self.package.config_bytes, self.package.index_bytes)
                write_atomically(path, b"\n".join(base64.b64encode(zlib.compress(text)) for text in texts))
            return path.read_text(encoding="ascii").split("\n")

    def pack(self, missing: Collection[str]) -> Path:
        """The pack with these pieces; raises what :func:`build_pack` raises."""
        wanted = sorted(str(sha256) for sha256 in missing)
        path = pack_path(wanted, self._directory)
        return path if path.exists() else build_pack(self._home, self.package, missing, self._directory)

    def whole(self) -> Path:
        """The pack for a host that has nothing."""
        note = self._directory / f"{self._digest[7:]}.whole"
        with self._told(), locked(note.with_suffix(".lock")):
            if not note.exists():
                write_atomically(note, self.pack(lacking(self.package, None)).name.encode())
            return self._directory / note.read_text(encoding="utf-8")

    def expected(self, base: str) -> Path | None:
        """The pack for a host that has the package ``base`` and nothing else, if it is small enough; see :data:`UNASKED`.

        Sent unasked it saves a round trip; when the host turns out to lack something else, it says so.
        """
        note = self._directory / f"{self._digest[7:]}-{base[7:]}.expected"
        with self._told(), locked(note.with_suffix(".lock")):
            if not note.exists():
                write_atomically(note, self._expect(base).encode())
            name = note.read_text(encoding="utf-8")
        return self._directory / name if name else None

    def _expect(self, base: str) -> str:
        known = pieces(self.package)
        try:
            before = load_package(self._home, base)
        except TidegateError:
            return ""  # not in this library, so nobody knows what is in it: the host will say what it lacks
        wanted = lacking(self.package, before)
        # Software packs to a fourth or so of its size. What can't end up small enough is not tried.
        if not wanted or sum(known[sha256][1] for sha256 in wanted) > 8 * UNASKED:
            return ""
        path = self.pack(wanted)
        return path.name if path.stat().st_size <= UNASKED else ""

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise TidegateError(f"can't write in {self._directory} ({error.strerror or error}); make room and run this again") from error


def _contents(home: Repository, package: Package, known: _Pieces, wanted: Collection[str]) -> Iterator[bytes]:
    with home.open_blob(package.payload.digest, package.payload.size) as payload:
        for sha256 in wanted:
            digest = hashlib.sha256()
            for block in _range(payload, *known[sha256]):
                digest.update(block)
                yield block
            if digest.hexdigest() != sha256:
                raise IntegrityError(
                    f"the payload {package.payload.digest} holds other bytes at {known[sha256][0]} than its file index says; "
                    "verify the DSL and restore it from a copy"
                )


def _range(stream: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    stream.seek(offset)
    while size and (block := stream.read(min(size, _BLOCK))):
        size -= len(block)
        yield block
