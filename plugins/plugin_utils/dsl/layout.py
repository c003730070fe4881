# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The home of a definitive software library on a directory: an OCI image layout that only grows.

A blob is complete and on disk before it gets its name, and a tag is set last, so whatever a crash leaves behind is
invisible. Nothing here deletes, and a tag, once set, keeps its digest for ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from ..errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from ..files import flush, locked, write, write_atomically
from .oci import (
    DIGEST,
    IMAGE_INDEX,
    INDEX_LIMIT,
    MANIFEST,
    MANIFEST_LIMIT,
    Descriptor,
    artifact_of,
    canonical,
    index_of,
    moved,
    parse_index,
    parse_json,
    referrers_tag,
)

REF_NAME = "org.opencontainers.image.ref.name"

_REFERENCE = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*")  # the grammar of the OCI image specification


class OciLayout:
    """An OCI image layout on a directory. Many processes may read and write it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._seen: tuple[object, dict[str, Descriptor]] = (None, {})

    @classmethod
    def find(cls, path: str | Path) -> OciLayout | None:
        """The layout at ``path``, or ``None`` where there is room for a new one: no directory, or an empty one.

        Raises :class:`ConflictError` when something else is there and :class:`IntegrityError` when the layout is broken.
        """
        path = Path(path)
        marker = path / "oci-layout"
        try:
            if marker.exists():
                return cls.open(path)
            # What a creation that was killed may have left, and what a new file system has.
            taken = {entry.name for entry in path.iterdir() if not entry.name.startswith(".new-")}
            taken -= {".lock", "index.json", "blobs", "lost+found"}
            taken |= {entry.name for entry in path.glob("blobs/sha256/*")}
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConflictError(f"{path} can't be a DSL ({error.strerror}); name a directory that you can write to") from error
        if marker.exists():  # somebody made it meanwhile, so that is what was seen
            return cls.open(path)
        if taken:
            raise ConflictError(
                f"{path} is no DSL and not empty, {min(taken)!r} is in it; name the DSL's directory, or an empty one to make a DSL there"
            )
        return None

    @classmethod
    def create(cls, path: str | Path) -> OciLayout:
        """Make the layout at ``path`` where there is none yet; raises like :meth:`find`."""
        layout = cls(Path(path))
        with _told(f"can't make a DSL at {path}"):
            if cls.find(path) is not None:
                return layout
            layout.path.mkdir(parents=True, exist_ok=True)
            with locked(layout.path / ".lock"):
                if cls.find(path) is None:
                    layout._blobs.mkdir(parents=True, exist_ok=True)
                    layout._write_index({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []})
                    # Last, because it is what makes this directory a layout.
                    write_atomically(layout.path / "oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
        return layout

    @classmethod
    def open(cls, path: str | Path) -> OciLayout:
        """The layout at ``path``.

        Raises :class:`NotFoundError` when there is none and :class:`IntegrityError` when it is broken.
        """
        layout = cls(Path(path))
        marker = layout.path / "oci-layout"
        try:
            version = parse_json(marker.read_bytes(), str(marker)).get("imageLayoutVersion")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"there is no DSL at {path}; archive a release there first, or name another directory") from error
        except OSError as error:
            raise TidegateError(f"can't read {marker} ({error.strerror}); give this user the right to read the DSL") from error
        if version != "1.0.0":
            raise IntegrityError(f"{marker} says layout version {version!r}, not '1.0.0'; restore it from a copy of the DSL")
        layout.tags()
        return layout

    def put_blob(self, source: bytes | Iterable[bytes], media_type: str) -> Descriptor:
        """Store a blob, given whole or in chunks. A blob that is there already is kept.

        One that is there but damaged is replaced, since the right bytes are at hand.
        """
        with _told(f"can't write to the DSL {self.path}"):
            self._blobs.mkdir(parents=True, exist_ok=True)
            temporary = self._blobs / f".new-{secrets.token_hex(8)}"
            try:
                descriptor = Descriptor(media_type, *write(temporary, source, 0o444))
                with contextlib.suppress(IntegrityError):
                    self.verify_blob(descriptor)
                    return descriptor
                temporary.rename(self._path(descriptor.digest))
                flush(self._blobs)
            finally:
                temporary.unlink(missing_ok=True)
        return descriptor

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
            stream = path.open("rb")
        except OSError as error:
            raise IntegrityError(f"{digest} can't be read from {path} ({error.strerror}); restore it from a copy of the DSL") from error
        if os.fstat(stream.fileno()).st_size > limit:
            stream.close()
            raise IntegrityError(f"{digest} in {path} has more than {limit} bytes, so it is not what it should be")
        return stream

    def tags(self) -> dict[str, Descriptor]:
        """Every tag with what it names."""
        # Who asks for each release of a large library would read it anew each time. A change gives the index another inode.
        with contextlib.suppress(OSError):
            now = self._index.stat()
            state = (now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size)
            if self._seen[0] != state:
                self._seen = (state, self._read_tags())
            return dict(self._seen[1])
        return self._read_tags()

    def _read_tags(self) -> dict[str, Descriptor]:
        found: dict[str, Descriptor] = {}
        for entry in self._read_index()["manifests"]:
            descriptor = Descriptor.from_json(entry, str(self._index))
            tag = descriptor.annotations.get(REF_NAME)
            if tag is None:
                continue
            if found.setdefault(tag, descriptor).digest != descriptor.digest:
                raise IntegrityError(f"{self._index} gives the tag {tag} to two packages; restore it from a copy of the DSL")
        return found

    def repository(self, name: str) -> OciLayout:
        """What is kept of the release ``name``: a layout keeps all of them together."""
        del name
        return self

    def releases(self) -> dict[tuple[str, str], Descriptor]:
        """The package of each name and version."""
        split = {tag.partition(":"): descriptor for tag, descriptor in self.tags().items()}
        return {(name, version): descriptor for (name, colon, version), descriptor in split.items() if colon}

    def tag(self, name: str, version: str, descriptor: Descriptor) -> bool:
        """Make the manifest that ``descriptor`` describes the package of a release; false when it is already.

        Raises :class:`ConflictError` when the tag is another digest's and :class:`IntegrityError` when the blob is not here.
        """
        reference = f"{name}:{version}"
        if not _REFERENCE.fullmatch(reference):
            raise TidegateError(
                f"{reference} can't be a tag of an OCI layout; use letters and digits, with single separators out of - . _ + between them"
            )
        self.verify_blob(descriptor)
        with _told(f"can't write to the DSL {self.path}"), locked(self.path / ".lock"):
            existing = self.tags().get(reference)
            if existing is not None:
                if existing.digest != descriptor.digest:
                    raise moved(reference, existing.digest, descriptor.digest)
                return False
            index = self._read_index()
            index["manifests"].append(replace(descriptor, annotations={**descriptor.annotations, REF_NAME: reference}).to_json())
            self._write_index(index)
        return True

    def refer(self, subject: str, content: bytes) -> Descriptor:
        """Store a manifest whose ``subject`` is the manifest of that digest, so that :meth:`referrers` finds it.

        The list of what refers to a digest is an OCI image index with the tag ``sha256-<hex>``, the referrers tag of the OCI
        distribution specification 1.1; it is the one tag that grows. A manifest that is listed already stays listed once.
        """
        artifact = artifact_of(content, subject)
        descriptor = replace(self.put_manifest(content), artifact_type=artifact)
        with _told(f"can't write to the DSL {self.path}"), locked(self.path / ".lock"):
            listed = self.referrers(subject)
            if descriptor.digest not in {entry.digest for entry in listed}:
                grown = self.put_blob(index_of([*listed, descriptor]), IMAGE_INDEX)
                index = self._read_index()
                tag = referrers_tag(subject)
                index["manifests"] = [entry for entry in index["manifests"] if entry.get("annotations", {}).get(REF_NAME) != tag]
                index["manifests"].append(replace(grown, annotations={REF_NAME: tag}).to_json())
                self._write_index(index)
        return descriptor

    def referrers(self, subject: str) -> list[Descriptor]:
        """What refers to the manifest ``subject``, each with its artifact type; nobody has looked into them yet."""
        listing = self.tags().get(referrers_tag(subject))
        if listing is None:
            return []
        return parse_index(self.read_blob(listing.digest, INDEX_LIMIT), listing.digest)

    def resolve(self, name: str, version: str) -> str | None:
        """The digest of the package of a release, or ``None`` when it was never archived here."""
        descriptor = self.tags().get(f"{name}:{version}")
        return descriptor.digest if descriptor else None

    @property
    def _index(self) -> Path:
        return self.path / "index.json"

    def _path(self, digest: str) -> Path:
        match = DIGEST.fullmatch(digest)
        if match is None:
            raise IntegrityError(f"{digest!r} is not a digest; one is sha256: and 64 hexadecimal digits")
        return self._blobs / match[1]

    def _damaged(self, digest: str) -> IntegrityError:
        return IntegrityError(f"{digest} is damaged, {self._path(digest)} holds other bytes; restore it from a copy of the DSL")

    def _read_index(self) -> dict[str, Any]:
        try:
            with self._index.open("rb") as stream:
                content = stream.read(INDEX_LIMIT + 1)
        except OSError as error:
            raise IntegrityError(f"{self._index} can't be read ({error.strerror}); restore it from a copy of the DSL") from error
        index = parse_json(content, str(self._index))
        if index.get("schemaVersion") != 2 or not isinstance(index.get("manifests"), list):
            raise IntegrityError(f"{self._index} is not an OCI image index; restore it from a copy of the DSL")
        return index

    def _write_index(self, index: dict[str, Any]) -> None:
        write_atomically(self._index, canonical(index))


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TidegateError(f"{what} ({error.strerror or error}); make room or give this user the right, then run this again") from error
