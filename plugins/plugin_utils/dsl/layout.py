# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The home of a definitive software library on a directory: an OCI image layout that only grows.

A blob is complete and on disk before it gets its name, and a tag is set last, so whatever a crash leaves behind is
invisible. A tag, once set, keeps its digest for ever. Only a purge deletes what was named, and never while somebody writes.

A large index is written when a release gets its tag, and not for each piece of evidence: that is a line in :mod:`.recent` until then.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
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
from .recent import RecentReferrers
from .walk import blobs_of, walk

REF_NAME = "org.opencontainers.image.ref.name"

_AT_ONCE = 64 << 10  # bytes of an index and a list of evidence that are written for each piece
_SHARE = 4  # larger ones are written when what is new about a package is as large a part of them
_REFERENCE = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*")  # the grammar of the OCI image specification


@dataclass(frozen=True)
class Untagged:
    """A package in the blobs that no tag names, by what it says that it is. ``evidence``: whether anything refers to it, as nothing does
    to what was never archived to the end."""

    name: str
    version: str
    digest: str
    evidence: bool


@dataclass(frozen=True)
class Strays:
    """``unneeded``: blobs that nothing needs, each with its size. ``referring``: manifests that refer to one that is there and are in no
    list, each with the digest of that one, as a writer leaves them that was killed."""

    unneeded: dict[str, int] = field(default_factory=dict)
    referring: list[tuple[str, Descriptor]] = field(default_factory=list)


class OciLayout(BlobFolder):
    """An OCI image layout on a directory. Many processes may read and write it at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._seen: tuple[object, dict[str, Descriptor]] = (None, {})
        self._recent = RecentReferrers(path / "referrers")
        self._batch: dict[str, Descriptor] | None = None

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

    def tags(self) -> Mapping[str, Descriptor]:
        """Every tag with what it names."""
        # Who asks for each release of a large library would read it anew each time. A change gives the index another inode.
        with contextlib.suppress(OSError):
            now = self._index.stat()
            state = (now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size)
            if self._seen[0] != state:
                self._seen = (state, self._read_tags())
            return MappingProxyType(self._seen[1])
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

    def at_one_moment(self, folder: Path | None = None) -> OciLayout:
        """The layout: to read it costs no requests."""
        del folder
        return self

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
        referred, releases = {*self.tags(), *map(referrers_tag, self._recent.subjects())}, self.releases()
        named = {descriptor.digest for descriptor in releases.values()}
        for digest, _content, document in self.manifests(digests):
            says = document.get("annotations")
            if document.get("artifactType") == PACKAGE and digest not in named and isinstance(says, dict):
                name, version = str(says.get(TITLE)), str(says.get(VERSION))
                if (name, version) not in releases:
                    yield Untagged(name, version, digest, referrers_tag(digest) in referred)

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
        with self._locked():
            entered = self._batch is not None and self._batch.get(reference)
            existing = self.tags().get(reference) or entered
            if existing:
                if existing.digest != descriptor.digest:
                    raise moved(reference, existing.digest, descriptor.digest)
                return False
            if self._batch is None:
                self._enter({reference: descriptor})
            else:
                self._batch[reference] = descriptor
        return True

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Write the index once for all that is tagged and put beside packages meanwhile, when it ends: until then nobody sees the tags.

        Nobody purges while it is held. Raises :class:`ConflictError` when somebody else gave one of the tags to another package
        meanwhile; the others are set all the same.
        """
        batch: dict[str, Descriptor] = {}
        with self.writing():
            self._batch = batch
            try:
                yield
            finally:
                self._batch = None
                with self._locked():
                    self._enter(batch)

    def refer(self, subject: str, content: bytes, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Store a manifest whose ``subject`` is the manifest of that digest, so that :meth:`referrers` finds it.

        ``annotations`` are listed with it. The list of what refers to a digest is an OCI image index with the tag ``sha256-<hex>``, the
        referrers tag of the OCI distribution specification 1.1, and what is new since the index was written: where that and the list are
        small it is written at once, else when enough has come together. A manifest that is listed already stays listed once.
        """
        artifact = artifact_of(content, subject)
        descriptor = self.put_manifest(content)._replace(artifact_type=artifact, annotations=dict(annotations or {}))
        with self._locked():
            if self._is_due(subject, self._recent.add(subject, descriptor)):
                self._enter({})
        return descriptor

    def _is_due(self, subject: str, noted: int) -> bool:
        """Whether the index is to be written for what is recent, of which there are so many bytes about ``subject``."""
        if self._batch is not None:
            return False
        size = self._index.stat().st_size
        if size <= max(_AT_ONCE, _SHARE * noted) and (listing := self.tags().get(referrers_tag(subject))):
            size += listing.size
        return size <= max(_AT_ONCE, _SHARE * noted)

    def referrers(self, subject: str) -> list[Descriptor]:
        """What refers to the manifest ``subject``, each with its artifact type; nobody has looked into them yet."""
        recent = self._recent.of(subject)  # first, since it is taken out of there when it is in the index
        while True:
            listing = self.tags().get(referrers_tag(subject))
            try:
                listed = self._read_list(listing)
            except IntegrityError:
                if self.tags().get(referrers_tag(subject)) == listing:
                    raise
                continue  # it was replaced meanwhile
            newer = {entry.digest: entry for entry in recent}
            return [*[newer.pop(entry.digest, entry) for entry in listed], *newer.values()] if newer else listed

    def publish(self) -> None:
        """Enter in the index what was put beside packages since it was written, where other tools see it, too."""
        if self._recent.subjects():
            with self.writing(), self._locked():
                self._enter({})

    def has_referring(self, subject: str, digest: str) -> bool:
        """Whether a manifest that is listed with ``subject`` is there."""
        return any(entry.digest == digest and self.has_blob(entry) for entry in self.referrers(subject))

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
        """Make a list that can't be read anew, of these ``entries`` and of what can be read of it; one that can be read, as somebody else
        may have made it meanwhile, stays as it is."""
        with self._locked():
            with contextlib.suppress(IntegrityError):
                self.referrers(subject)
                return
            merged = {entry.digest: entry for entry in entries}
            with contextlib.suppress(IntegrityError):
                merged |= {entry.digest: entry for entry in self._read_list(self.tags().get(referrers_tag(subject)))}
            with contextlib.suppress(IntegrityError):
                merged |= {entry.digest: entry for entry in self._recent.of(subject)}
            self._enter({}, {subject: list(merged.values())})

    def relabel(self, subject: str, annotations: Mapping[str, Mapping[str, str]]) -> None:
        """Give what is listed for ``subject`` these annotations, by digest; what came into the list or went meanwhile is not touched."""
        with self._locked():
            listed = self.referrers(subject)
            self._enter({}, {subject: [one._replace(annotations=dict(annotations.get(one.digest, one.annotations))) for one in listed]})

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
            needed |= self._needed(
                entry.to_json()
                for subject in self._recent.subjects()
                if referrers_tag(subject) not in lists
                for entry in self._recent.of(subject)
            )

            def purge() -> int:
                with told(f"can't purge the DSL {self.path}"):
                    self._untag(reference)
                    freed = 0
                    # Each after what it leads to, or a purge that was killed would not find that again: what refers to a manifest,
                    # its blobs, the list of what refers to it, and then itself.
                    for manifest, blobs in [(digest, []), *groups][::-1]:
                        listed = []
                        if referrers_tag(manifest) in lists:
                            with self._locked():
                                self._recent.forget([manifest])
                            listed = self._untag(referrers_tag(manifest))
                        freed += sum(self.discard(gone) for gone in [*blobs, *listed, manifest] if gone not in needed)
                    return freed

            yield purge

    def withdraw(self, subject: str, digests: Collection[str], write: bool) -> int:
        """Take manifests that refer to ``subject`` away, and what only they need; return how many bytes that freed, or without ``write`` 0.

        Raises :class:`ConflictError` when somebody is writing, and :class:`IntegrityError` when something is damaged, since then nobody
        knows what else is needed.
        """
        with self._held(fcntl.LOCK_EX | fcntl.LOCK_NB):
            listed = self.referrers(subject)
            stay = [entry for entry in listed if entry.digest not in digests]
            tags = {referrers_tag(digest) for digest in (subject, *digests)}
            needed = self._needed(
                [
                    *(entry for entry in self._read_index()["manifests"] if _tag(entry) not in tags),
                    *(
                        entry.to_json()
                        for other in self._recent.subjects()
                        if referrers_tag(other) not in tags
                        for entry in self._recent.of(other)
                    ),
                    *(entry.to_json() for entry in stay),
                ]
            )
            if not write:
                return 0
            blobs = {blob.digest for digest in digests for blob in self._blobs(digest)}
            with self._locked():
                if len(stay) < len(listed):
                    self._enter({}, {subject: stay})
                self._recent.forget(digests)
            freed = sum(self.discard(gone) for digest in digests for gone in self._untag(referrers_tag(digest)))
            return freed + sum(self.discard(gone) for gone in (*blobs, *digests) if gone not in needed)

    def _blobs(self, digest: str) -> list[Descriptor]:
        """The blobs of a manifest that may be damaged or gone."""
        with contextlib.suppress(IntegrityError):
            return blobs_of(self.read_manifest(digest), digest)
        return []

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

    def strays(self, before: float, retired: Collection[str] = ()) -> Strays:
        """What no release needs and nothing names, and was there ``before`` a time in seconds since the epoch. ``retired``: manifests that
        were taken away, so that one which is in no list is not about to come into one.

        Raises :class:`IntegrityError` when something is damaged, for nobody knows then what is needed.
        """
        needed = self._needed(
            [
                *self._read_index()["manifests"],
                *(entry.to_json() for subject in self._recent.subjects() for entry in self._recent.of(subject)),
            ]
        )
        strays, left = Strays(), [digest for digest in self.files() if digest not in needed and not digest.startswith(UNFINISHED)]
        manifests = list(self.manifests(left))
        # Its archiving was interrupted, or its tag is lost: it is no release, and nobody throws away what could be one.
        for digest, content, document in manifests:
            if document.get("artifactType") == PACKAGE:
                needed |= {digest, *(blob.digest for blob in blobs_of(content, digest))}
        found = [one for one in map(_referring, manifests) if one and one[1].digest not in retired]
        while new := [one for one in found if one[0] in needed and one[1].digest not in needed]:
            strays.referring.extend((subject, entry) for subject, entry, _content in new)
            for _subject, entry, content in new:
                needed |= {entry.digest, *(blob.digest for blob in blobs_of(content, entry.digest))}
        for digest in left:
            if digest not in needed:
                with contextlib.suppress(OSError):
                    status = (self.blobs / digest.removeprefix("sha256:")).lstat()
                    # Who copies with the times of the files, as rsync -a does, brings what has been old for long.
                    if max(status.st_mtime, status.st_ctime) < before:
                        strays.unneeded[digest] = status.st_size
        return strays

    def collect(self, before: float, retired: Collection[str] = ()) -> Strays:
        """Unlink what nothing needs, and list what refers to a package and is in no list; :class:`ConflictError` while somebody is writing.

        Raises what :meth:`strays` raises, which says what it finds.
        """
        with self._held(fcntl.LOCK_EX | fcntl.LOCK_NB):
            found = self.strays(before, retired)
            with self._locked():
                for subject, entry in found.referring:
                    self._recent.add(subject, entry)
            for digest in found.unneeded:
                self.discard(digest)
        return found

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

    def _enter(self, tags: Mapping[str, Descriptor], lists: Mapping[str, list[Descriptor]] | None = None) -> None:
        """Write the index with these tags besides, these ``lists`` by subject in place of others, and all that is recent; then unlink the
        lists that were replaced. Raises :class:`ConflictError` in the end for a tag that somebody else has set."""
        lists = dict(lists or {})
        for subject in self._recent.subjects():
            with contextlib.suppress(IntegrityError):  # a damaged list stays as it is until it is healed
                lists.setdefault(subject, self.referrers(subject))
        present = self.tags()
        others = {tag: found for tag, found in tags.items() if tag in present and present[tag].digest != found.digest}
        entered = {tag: found for tag, found in tags.items() if tag not in present}
        if entered or lists:
            entered |= {referrers_tag(subject): self.put_blob(index_of(entries), IMAGE_INDEX) for subject, entries in lists.items()}
            index = self._read_index()
            replaced = {entry["digest"] for entry in index["manifests"] if _tag(entry) in entered}
            index["manifests"] = [entry for entry in index["manifests"] if _tag(entry) not in entered]
            index["manifests"] += [
                found._replace(annotations={**found.annotations, REF_NAME: tag}).to_json() for tag, found in entered.items()
            ]
            self._write_index(index)
            self._recent.forget(lists)
            for digest in replaced - {entry["digest"] for entry in index["manifests"]}:
                self.discard(digest)
        for tag, found in others.items():
            raise moved(tag, present[tag].digest, found.digest)

    def _read_list(self, listing: Descriptor | None) -> list[Descriptor]:
        return [] if listing is None else parse_index(self.read_blob(listing.digest, INDEX_LIMIT), listing.digest)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock that who changes the index or what is recent has alone."""
        with told(f"can't write to the DSL {self.path}"), locked(self.path / ".lock"):
            yield

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


def _referring(manifest: tuple[str, bytes, dict[str, Any]]) -> tuple[str, Descriptor, bytes] | None:
    """The digest of what a manifest refers to, its descriptor and its content; ``None`` when it refers to nothing."""
    digest, content, document = manifest
    subject, artifact = document.get("subject"), document.get("artifactType")
    if not isinstance(subject, dict) or not isinstance(subject.get("digest"), str) or not isinstance(artifact, str) or not artifact:
        return None
    return subject["digest"], Descriptor(MANIFEST, digest, len(content), artifact_type=artifact), content


def _tag(entry: Any) -> str | None:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    return annotations.get(REF_NAME) if isinstance(annotations, dict) else None
