# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blobs of an OCI image layout: files that have the digest of what they hold as their name.

A blob is complete and on disk before it gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from ..errors import IntegrityError, TidegateError
from ..files import fsync_directory, make_folder, write
from .descriptors import DIGEST, MANIFEST, MANIFEST_LIMIT, Descriptor, parse_json, refuse_other

UNFINISHED = ".new-"
"""What the name of a file begins with that is not a blob yet."""

# Neither follow a link out of here nor wait for a pipe that somebody planted.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class BlobFolder:
    """The blobs below ``path``. Many processes may read and write them at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"

    def put_blob(self, source: bytes | Iterable[bytes], media_type: str, wanted: str | None = None) -> Descriptor:
        """Store a blob, given whole or in chunks. A blob that is there already is kept.

        One that is there but damaged is replaced, since the right bytes are at hand. When it has another digest than ``wanted`` nothing
        is stored, and :class:`IntegrityError` says so.
        """
        with told(f"can't write to the DSL {self.path}"):
            make_folder(self.blobs)
            temporary = self.blobs / f"{UNFINISHED}{secrets.token_hex(8)}"
            try:
                descriptor = Descriptor(media_type, *write(temporary, source, 0o444))
                refuse_other(descriptor, wanted)
                with contextlib.suppress(IntegrityError):
                    self.verify_blob(descriptor)
                    return descriptor
                temporary.rename(self._path(descriptor.digest))
                fsync_directory(self.blobs)
            finally:
                temporary.unlink(missing_ok=True)
        return descriptor

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a blob of that digest and size is there; nobody looks at its bytes."""
        try:
            found = self._path(descriptor.digest).lstat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == descriptor.size

    def put_manifest(self, content: bytes) -> Descriptor:
        """Store a package's manifest, or another's."""
        return self.put_blob(content, MANIFEST)

    def read_manifest(self, digest: str) -> bytes:
        """A manifest; raises what :meth:`read_blob` raises."""
        return self.read_blob(digest, MANIFEST_LIMIT)

    def read_blob(self, digest: str, limit: int) -> bytes:
        """The content of a blob of at most ``limit`` bytes, checked against its digest.

        Raises :class:`IntegrityError` when it is missing, longer or damaged.
        """
        with self.open_blob(digest, limit) as stream:
            content = stream.read(limit + 1)
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise self._damaged(digest)
        return content

    def verify_blob(self, descriptor: Descriptor) -> None:
        """Raise :class:`IntegrityError` unless the blob is there and its bytes are what ``descriptor`` says."""
        with self.open_blob(descriptor.digest, descriptor.size) as stream:
            intact = os.fstat(stream.fileno()).st_size == descriptor.size
            if not intact or f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" != descriptor.digest:
                raise self._damaged(descriptor.digest)

    def open_blob(self, digest: str, limit: int) -> BufferedReader:
        """A blob of at most ``limit`` bytes for random access; what is read from it is not checked, so the reader has to."""
        path = self._path(digest)
        try:
            stream = open(os.open(path, _OPEN), "rb")  # noqa: SIM115 - the caller closes it
        except OSError as error:
            raise IntegrityError(f"{digest} can't be read from {path} ({error.strerror}); restore it from a copy of the DSL") from error
        if os.fstat(stream.fileno()).st_size > limit:
            stream.close()
            raise IntegrityError(f"{digest} in {path} has more than {limit} bytes, so it is not what it should be")
        return stream

    def manifests(self, digests: Iterable[str] | None = None) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        """Every manifest that is there whole, or of these digests, whether anything names it or not, with its digest and what it says."""
        for digest in self.files() if digests is None else digests:
            with contextlib.suppress(IntegrityError):
                content = self.read_manifest(digest)
                document = parse_json(content, digest) if content.startswith(b"{") else {}
                if document.get("mediaType") == MANIFEST:
                    yield digest, content, document

    def files(self) -> list[str]:
        """What is in the place for blobs, by digest, the largest first; leftovers of writers that were killed under their own names."""
        with told(f"can't read the DSL {self.path}"), os.scandir(self.blobs) as entries:
            found = []
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # a writer gave it another name meanwhile, or somebody purged it
                    found.append((entry.stat(follow_symlinks=False).st_size, entry.name))
        return [f"sha256:{name}" if re.fullmatch("[0-9a-f]{64}", name) else name for _size, name in sorted(found, reverse=True)]

    def check_file(self, digest: str) -> tuple[str, tuple[int, bool]]:
        """Of one of :meth:`files` its digest again, its size, and whether it holds what its name says; a leftover does."""
        path = self.blobs / digest.removeprefix("sha256:")
        try:
            with open(os.open(path, _OPEN), "rb") as stream:
                status = os.fstat(stream.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return digest, (0, False)
                intact = digest == path.name or f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == digest
                return digest, (status.st_size, intact)
        except FileNotFoundError:
            return digest, (0, True)  # a writer gave it another name meanwhile, or somebody purged it
        except OSError:  # a link, or a disk that can't read it any more
            return digest, (0, False)

    def discard(self, digest: str) -> int:
        """Unlink a blob that nothing needs; return its size, 0 when it is gone already."""
        path = self._path(digest)
        with told(f"can't remove {path}"):
            try:
                size = path.lstat().st_size
                path.unlink()
            except FileNotFoundError:
                return 0
        return size

    def _path(self, digest: str) -> Path:
        match = DIGEST.fullmatch(digest)
        if match is None:
            raise IntegrityError(f"{digest!r} is not a digest; one is sha256: and 64 hexadecimal digits")
        return self.blobs / match[1]

    def _damaged(self, digest: str) -> IntegrityError:
        return IntegrityError(f"{digest} is damaged, {self._path(digest)} holds other bytes; restore it from a copy of the DSL")


def read_file(path: Path, limit: int) -> bytes:
    """What is in a file, at most ``limit`` bytes of it; follows no link and waits for no pipe. Raises :class:`OSError`."""
    with open(os.open(path, _OPEN), "rb") as stream:
        return stream.read(limit)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Tell a fault of the operating system in a sentence that begins with ``what`` can't be done."""
    try:
        yield
    except OSError as error:
        raise TidegateError(f"{what} ({error.strerror or error}); make room or give this user the right, then run this again") from error
