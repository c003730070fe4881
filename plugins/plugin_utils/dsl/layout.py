# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The home of a definitive software library on a directory: an OCI image layout that only grows.

A blob is complete and on disk before it gets its name, and a tag is set last, so whatever a crash leaves behind is
invisible. A tag, once set, keeps its digest for ever. Only a purge deletes, and never while somebody writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
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
from .walk import blobs_of, walk

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
            taken -= {".lock", ".purge.lock", "index.json", "blobs", "lost+found"}
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

    @classmethod
    def renew(cls, path: str | Path) -> OciLayout | None:
        """A layout whose index is damaged, with a new and empty one; ``None`` when the index is not what is wrong.

        The damaged index stays beside it, under another name. The blobs are as they were.
        """
        layout = cls(Path(path))
        if not (layout.path / "oci-layout").is_file():
            return None
        with _told(f"can't write to the DSL {path}"), locked(layout.path / ".lock"):
            try:
                layout.tags()
            except IntegrityError:
                with contextlib.suppress(FileNotFoundError):
                    layout._index.rename(layout.path / f"index.json.damaged-{secrets.token_hex(4)}")
                layout._write_index({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []})
                return layout
        return None

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
        with self.open_blob(digest) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise IntegrityError(f"{digest} in {self._path(digest)} has more than {limit} bytes, so it is not what it should be")
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise self._damaged(digest)
        return content

    def verify_blob(self, descriptor: Descriptor) -> None:
        """Raise :class:`IntegrityError` unless the blob is there and its bytes are what ``descriptor`` says."""
        with self.open_blob(descriptor.digest) as stream:
            intact = os.fstat(stream.fileno()).st_size == descriptor.size
            if not intact or f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" != descriptor.digest:
                raise self._damaged(descriptor.digest)

    def open_blob(self, digest: str) -> BufferedReader:
        """A blob for random access; what is read from it is not checked, so the reader has to."""
        path = self._path(digest)
        try:
            return path.open("rb")
        except OSError as error:
            raise IntegrityError(f"{digest} can't be read from {path} ({error.strerror}); restore it from a copy of the DSL") from error

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
                self._list(subject, [*listed, descriptor])
        return descriptor

    def referrers(self, subject: str) -> list[Descriptor]:
        """What refers to the manifest ``subject``, each with its artifact type; nobody has looked into them yet."""
        listing = self.tags().get(referrers_tag(subject))
        if listing is None:
            return []
        return parse_index(self.read_blob(listing.digest, INDEX_LIMIT), listing.digest)

    def listings(self) -> set[str]:
        """The digests of all lists of referrers."""
        return {found.digest for tag, found in self.tags().items() if DIGEST.fullmatch(tag.replace("-", ":", 1))}

    def unlisted(self, subject: str) -> list[Descriptor]:
        """What says of itself that it refers to ``subject``, for when the list is damaged; looks into every small blob."""
        return [
            Descriptor(MANIFEST, digest, len(content), artifact_type=str(document["artifactType"]))
            for digest, content, document in self.manifests()
            if isinstance(document.get("subject"), dict) and document["subject"].get("digest") == subject and document.get("artifactType")
        ]

    def manifests(self) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        """Every manifest that is there whole, whether anything names it or not, with its digest and what it says."""
        for digest in self.files():
            with contextlib.suppress(IntegrityError):
                content = self.read_manifest(digest)
                document = parse_json(content, digest) if content.startswith(b"{") else {}
                if document.get("mediaType") == MANIFEST:
                    yield digest, content, document

    def relist(self, subject: str, entries: Iterable[Descriptor]) -> None:
        """Make a new list of what refers to ``subject``, in place of a damaged one."""
        with _told(f"can't write to the DSL {self.path}"), locked(self.path / ".lock"):
            self._list(subject, entries)

    def files(self) -> list[str]:
        """What is in the place for blobs, by digest, the largest first; leftovers of writers that were killed under their own names."""
        with _told(f"can't read the DSL {self.path}"), os.scandir(self._blobs) as entries:
            found = [(entry.stat(follow_symlinks=False).st_size, entry.name) for entry in entries]
        return [f"sha256:{name}" if re.fullmatch("[0-9a-f]{64}", name) else name for _size, name in sorted(found, reverse=True)]

    def check_file(self, digest: str) -> tuple[str, tuple[int, bool]]:
        """Of one of :meth:`files` its digest again, its size, and whether it holds what its name says; a leftover does."""
        path = self._blobs / digest.removeprefix("sha256:")
        try:
            # Neither follow a link out of here nor wait for a pipe that somebody planted.
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
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
        try:
            size = path.lstat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def resolve(self, name: str, version: str) -> str | None:
        """The digest of the package of a release, or ``None`` when it was never archived here."""
        descriptor = self.tags().get(f"{name}:{version}")
        return descriptor.digest if descriptor else None

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """While this is held nobody purges here: what was put, and what was found to be there already, stays until its tag is set."""
        return self._held(fcntl.LOCK_SH)

    @contextlib.contextmanager
    def purging(self, name: str, version: str, digest: str) -> Iterator[Callable[[], int]]:
        """Prepare to purge a release; what it gives does so.

        The tag goes first, so that nobody sees half a package, and the package's manifest last, so that a purge that was killed can
        be run again. Raises what :meth:`.home.Home.purging` raises, and :class:`IntegrityError` when another package is damaged, since
        then nobody knows what it needs.
        """
        reference = f"{name}:{version}"
        with self._held(fcntl.LOCK_EX | fcntl.LOCK_NB):
            entries = self._read_index()["manifests"]
            if self.resolve(name, version) not in (None, digest):
                raise ConflictError(f"{reference} is {self.resolve(name, version)} in the DSL, not {digest}; nothing was purged")
            groups = walk(self, Descriptor(MANIFEST, digest, 0)).groups()
            kept = {entry["digest"] for entry in entries if _tag(entry) not in (None, reference)}
            lists = {referrers_tag(manifest) for manifest in {digest, *dict(groups)} - kept}
            needed = self._needed(entry for entry in entries if _tag(entry) not in {reference, *lists})

            def purge() -> int:
                with _told(f"can't purge the DSL {self.path}"):
                    self._untag(reference)
                    freed = 0
                    # Each after what it leads to, or a purge that was killed would not find that again: what refers to a manifest,
                    # its blobs, the list of what refers to it, and then itself.
                    for manifest, blobs in [(digest, []), *groups][::-1]:
                        listed = self._untag(referrers_tag(manifest)) if referrers_tag(manifest) in lists else []
                        freed += sum(self.discard(gone) for gone in [*blobs, *listed, manifest] if gone not in needed)
                    return freed

            yield purge

    def _untag(self, tag: str) -> list[str]:
        """Take a tag away; return what it named."""
        with locked(self.path / ".lock"):
            index = self._read_index()
            named = [entry["digest"] for entry in index["manifests"] if _tag(entry) == tag]
            if named:
                index["manifests"] = [entry for entry in index["manifests"] if _tag(entry) != tag]
                self._write_index(index)
        return named

    @contextlib.contextmanager
    def _held(self, operation: int) -> Iterator[None]:
        """The lock that writers share and a purge has alone."""
        with contextlib.ExitStack() as stack:  # so that what goes wrong inside is not told as a fault of the lock
            with _told(f"can't write to the DSL {self.path}"):
                try:
                    stack.enter_context(locked(self.path / ".purge.lock", operation))
                except BlockingIOError as error:
                    raise ConflictError(
                        f"somebody is writing to the DSL {self.path}, so nothing was purged; run this again later"
                    ) from error
            yield

    def _needed(self, entries: Iterable[Any]) -> set[str]:
        """Every digest that these entries of the index lead to; raises :class:`IntegrityError` when one of them can't be followed."""
        found: set[str] = set()
        todo = [Descriptor.from_json(entry, str(self._index)) for entry in entries]
        for descriptor in todo:
            if descriptor.media_type not in (MANIFEST, IMAGE_INDEX):
                raise IntegrityError(
                    f"{self._index} names {descriptor.digest}, a {descriptor.media_type:.80} that can't be followed; take it out"
                )
        while todo:
            descriptor = todo.pop()
            if descriptor.digest in found:
                continue
            found.add(descriptor.digest)
            if descriptor.media_type == IMAGE_INDEX:
                todo += parse_index(self.read_blob(descriptor.digest, INDEX_LIMIT), descriptor.digest)
            elif descriptor.media_type == MANIFEST:
                todo += blobs_of(self.read_manifest(descriptor.digest), descriptor.digest)
        return found

    def _list(self, subject: str, entries: Iterable[Descriptor]) -> None:
        grown = self.put_blob(index_of(entries), IMAGE_INDEX)
        index = self._read_index()
        tag = referrers_tag(subject)
        index["manifests"] = [entry for entry in index["manifests"] if _tag(entry) != tag]
        index["manifests"].append(replace(grown, annotations={REF_NAME: tag}).to_json())
        self._write_index(index)

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


def _tag(entry: Any) -> str | None:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    return annotations.get(REF_NAME) if isinstance(annotations, dict) else None


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TidegateError(f"{what} ({error.strerror or error}); make room or give this user the right, then run this again") from error
