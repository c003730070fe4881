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
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from ..files import locked, make_folder, write_atomically
from .blobs import UNFINISHED, BlobFolder, read_file, told
from .descriptors import (
    DIGEST,
    IMAGE_INDEX,
    INDEX_LIMIT,
    MANIFEST,
    MANIFEST_LIMIT,
    PACKAGE,
    TITLE,
    VERSION,
    Descriptor,
    artifact_of,
    beside,
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


@dataclass(frozen=True)
class Untagged:
    """A package in the blobs that no tag names, by what it says that it is. ``evidence``: whether anything refers to it, as nothing does
    to what was never archived to the end."""

    name: str
    version: str
    digest: str
    evidence: bool


class OciLayout(BlobFolder):
    """An OCI image layout on a directory. Many processes may read and write it at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
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
        with told(f"can't make a DSL at {path}"):
            if cls.find(path) is not None:
                return layout
            make_folder(layout.path)
            with locked(layout.path / ".lock"):
                if cls.find(path) is None:
                    make_folder(layout.blobs)
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
            version = parse_json(read_file(marker, MANIFEST_LIMIT), str(marker)).get("imageLayoutVersion")
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
        with told(f"can't write to the DSL {path}"), locked(layout.path / ".lock"):
            try:
                layout.tags()
            except IntegrityError:
                with contextlib.suppress(FileNotFoundError):
                    layout._index.rename(layout.path / f"index.json.damaged-{secrets.token_hex(4)}")
                layout._write_index({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []})
                return layout
        return None

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

    def releases(self, also: Collection[str] = ()) -> dict[tuple[str, str], Descriptor]:
        """The package of each name and version. ``also`` is for libraries that may not know all their names."""
        del also
        split = {tag.partition(":"): descriptor for tag, descriptor in self.tags().items()}
        return {(name, version): descriptor for (name, colon, version), descriptor in split.items() if colon}

    def names(self) -> set[str]:
        """The names of the releases in it."""
        return {name for name, _version in self.releases()}

    def enter(self, name: str) -> None:
        """Nothing to do: the index has all."""
        del name

    def listed(self) -> set[str]:
        """The names of the releases in it, for there is no other list."""
        return self.names()

    def incomplete(self) -> str:
        """Nothing: the index has all."""
        return ""

    def untagged(self, digests: Iterable[str]) -> Iterator[Untagged]:
        """Of these blobs, each that is a package whose version is no release here."""
        tags, releases = self.tags(), self.releases()
        named = {descriptor.digest for descriptor in releases.values()}
        for digest, _content, document in self.manifests(digests):
            says = document.get("annotations")
            if document.get("artifactType") == PACKAGE and digest not in named and isinstance(says, dict):
                name, version = str(says.get(TITLE)), str(says.get(VERSION))
                if (name, version) not in releases:
                    yield Untagged(name, version, digest, referrers_tag(digest) in tags)

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
        with told(f"can't write to the DSL {self.path}"), locked(self.path / ".lock"):
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
        with told(f"can't write to the DSL {self.path}"), locked(self.path / ".lock"):
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

    def beside(self, subject: str) -> list[str]:
        """Tags of other tools about the manifest ``subject``."""
        return beside(subject, self.tags())

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

    def relist(self, subject: str, entries: Iterable[Descriptor]) -> None:
        """Make a new list of what refers to ``subject``, in place of a damaged one."""
        with told(f"can't write to the DSL {self.path}"), locked(self.path / ".lock"):
            self._list(subject, entries)

    def resolve(self, name: str, version: str) -> str | None:
        """The digest of the package of a release, or ``None`` when it was never archived here."""
        descriptor = self.tags().get(f"{name}:{version}")
        return descriptor.digest if descriptor else None

    def versions(self, name: str) -> list[str]:
        """The versions of a release that are archived here."""
        return [version for other, version in self.releases() if other == name]

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """While this is held nobody purges here: what was put, and what was found to be there already, stays until its tag is set."""
        return self._held(fcntl.LOCK_SH)

    @contextlib.contextmanager
    def purging(self, name: str, version: str, digest: str) -> Iterator[Callable[[], int]]:
        """Prepare to purge a release; what it gives does so.

        The tag goes first, so that nobody sees half a package, and the package's manifest last, so that a purge that was killed can
        be run again. Raises what :meth:`.repository.Repository.purging` raises, and :class:`IntegrityError` when another package is
        damaged, since then nobody knows what it needs.
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
                with told(f"can't purge the DSL {self.path}"):
                    self._untag(reference)
                    freed = 0
                    # Each after what it leads to, or a purge that was killed would not find that again: what refers to a manifest,
                    # its blobs, the list of what refers to it, and then itself.
                    for manifest, blobs in [(digest, []), *groups][::-1]:
                        listed = self._untag(referrers_tag(manifest)) if referrers_tag(manifest) in lists else []
                        freed += sum(self.discard(gone) for gone in [*blobs, *listed, manifest] if gone not in needed)
                    return freed

            yield purge

    def discard_damaged(self, digest: str) -> None:
        """Unlink a blob that nothing needs, if it is damaged; :class:`ConflictError` when somebody is writing, perhaps that very blob."""
        with self._held(fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not self.check_file(digest)[1][1]:
                self.discard(digest)

    def sweep(self) -> None:
        """Unlink what writers that were killed left unfinished; nothing while somebody is writing, or where this user may not."""
        with contextlib.suppress(TidegateError), self._held(fcntl.LOCK_EX | fcntl.LOCK_NB), told(f"can't write to the DSL {self.path}"):
            for unfinished in self.blobs.glob(f"{UNFINISHED}*"):
                unfinished.unlink(missing_ok=True)

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
            with told(f"can't write to the DSL {self.path}"):
                try:
                    stack.enter_context(locked(self.path / ".purge.lock", operation))
                except BlockingIOError as error:
                    raise ConflictError(
                        f"somebody is writing to the DSL {self.path}, so nothing was removed; run this again later"
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

    def _read_index(self) -> dict[str, Any]:
        try:
            content = read_file(self._index, INDEX_LIMIT + 1)
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
