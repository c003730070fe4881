# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The home of a definitive software library in an OCI registry: one repository for each release, below a prefix.

Protocol: the OCI distribution specification 1.1. The repository of a release has a tag for each version. The repository that the
prefix names lists the releases, a tag for each, since the specification has no way to ask a registry which repositories it has. Who
copies a package there with another tool does not enter it, so a registry is also asked for ``_catalog``, which many have.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from ..errors import ConflictError, IntegrityError, TidegateError
from ..files import copy_hashing
from ..libs import require
from ..settings import without_login
from .descriptors import (
    DIGEST,
    IMAGE_INDEX,
    INDEX_LIMIT,
    MANIFEST,
    MANIFEST_LIMIT,
    PACKAGE,
    Descriptor,
    artifact_of,
    beside,
    canonical,
    index_of,
    moved,
    parse_index,
    parse_json,
    referrers_tag,
    refuse_other,
)
from .registry_memory import LARGEST, RegistryMemory
from .registry_requests import AnswerError, Wire, blocks_of
from .registry_session import SlowError, Upload, joined
from .walk import walk

EMPTY = "application/vnd.oci.empty.v1+json"
CATALOGUE = "application/vnd.tidegate.catalogue.v1+json"

_T = TypeVar("_T")
_ADDRESS = re.compile(r"(oci|oci\+http)://([a-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-f:.]+\](?::[0-9]{1,5})?)/([^?#@\s]+?)/?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")  # the grammar of the OCI distribution specification
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(\.[0-9a-z]{1,32})?")  # the specification's, ours, and such as .sig and .att of cosign
_PAGES = 10_000  # of a list; registries put 100 entries or more on each
_NO_REFERRERS = frozenset({204, 400, 401, 403, 405, 406, 410, 415, 501})  # what registries without the referrers API say besides 404
_NOT_FOR_US = frozenset({401, 403})  # those of them that may be about one repository alone
_UNLISTED = 1000  # tags that several who wrote at once may have kept out of a list: each is asked for
_PAUSES = (0.1, 0.4, 1.6)  # seconds between attempts at what may go wrong when several do it at once


@dataclass(frozen=True)
class Registry:
    """A registry, as far as it is below ``prefix``, as a library."""

    wire: Wire
    prefix: str
    _entered: set[str] = field(default_factory=set, compare=False)
    memory: RegistryMemory | None = field(default=None, compare=False)
    _batches: list[dict[tuple[RegistryRepository, str], list[Descriptor]]] = field(default_factory=list, compare=False)

    @classmethod
    def at(cls, address: str) -> Registry:
        """The library at ``oci://host[:port]/prefix``; nobody is asked yet. ``oci+http://`` is without TLS, and without credentials.

        Raises :class:`TidegateError` when it is no such address.
        """
        require("registry")
        match = _ADDRESS.fullmatch(address)
        if match is None or not _REPOSITORY.fullmatch(match[3]):
            raise TidegateError(
                f"{without_login(address)!a:.120} is no address of a DSL; write a directory, or oci://host[:port]/prefix with a "
                "prefix of lower-case letters, digits and single separators out of / . _ - between them"
            )
        return cls(Wire(match[2], match[1] == "oci", match[3]), match[3])

    def at_one_moment(self, folder: Path | None = None) -> Registry:
        """The library as it is when it is first asked, and nothing is asked twice; ``folder`` as in :class:`.RegistryMemory`."""
        return replace(self, memory=RegistryMemory(folder), _entered=set())

    def repository(self, name: str) -> RegistryRepository:
        """The repository of the release ``name``."""
        if not re.fullmatch(_PART, name):
            raise TidegateError(f"{name!a} can't be the name of a release in a registry; use lower-case letters and digits")
        return RegistryRepository(self, f"{self.prefix}/{name}")

    def names(self) -> set[str]:
        """The names of the releases in it."""
        listed = self.listed()
        return listed | {name for name, _version in self._copied(listed)}

    def listed(self) -> set[str]:
        """The names that were entered, whether or not anything is left of them. Images of others may be there, too."""
        catalogue = RegistryRepository(self, self.prefix)
        named = {tag for tag in catalogue.tags() if re.fullmatch(_PART, tag)}
        new = (name for name in named - self._entered if _is_entry(catalogue.tagged_content(name)) or self.repository(name).tags())
        self._entered.update(new)
        return named & self._entered

    def releases(self, also: Collection[str] = ()) -> dict[tuple[str, str], Descriptor]:
        """The package of each name and version; names that are given with ``also`` are looked for even if nobody lists them."""
        ours = self.listed() | {name for name in also if re.fullmatch(_PART, name)}
        found = {(name, version): _manifest_of(content) for name in sorted(ours) for version, content in self.repository(name).manifests()}
        return found | self._copied(ours)

    def _copied(self, listed: Collection[str]) -> dict[tuple[str, str], Descriptor]:
        """The packages that are there without being ``listed``. A prefix may have images that have nothing to do with releases, too."""
        return {
            (name, version): _manifest_of(content)
            for name in sorted(set(self._repositories() or ()).difference(listed))
            for version, content in self.repository(name).manifests()
            if _is_package(content)
        }

    def incomplete(self) -> str:
        """Why releases may be there that :meth:`releases` does not give; empty when it gives all."""
        if self._repositories() is not None:
            return ""
        return (
            f"the registry {self.wire.host} does not say which repositories it has, so a release that another tool copied there is only "
            "seen once clear, archive, or dsl_verify with tidegate_dsl_names came by it"
        )

    def _repositories(self) -> list[str] | None:
        """What is right below the prefix, by the registry's own account; ``None`` when it gives none, which is not in the specification."""
        names: list[str] = []
        below = f"{self.prefix}/"
        try:
            for page in RegistryRepository(self, self.prefix).catalogue_pages():
                listed = parse_json(page, "the list of repositories").get("repositories")
                if not isinstance(listed, list):
                    return None
                names += [name.removeprefix(below) for name in listed if isinstance(name, str) and name.startswith(below)]
        except (AnswerError, IntegrityError, SlowError):
            return None  # it has none, or not for us, or more than anybody can read
        return [name for name in names if re.fullmatch(_PART, name)]

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Write each list for other tools once, at the end: what refers to a package has tags of its own."""
        self._batches.append({})
        try:
            yield
        finally:
            for (home, subject), added in self._batches.pop().items():
                home.list_referrers(subject, added)

    def publish(self) -> None:
        """Nothing to do: who asks a registry sees all."""

    def enter(self, name: str) -> None:
        """List the release ``name`` in the catalogue, where nothing is ever changed."""
        catalogue = RegistryRepository(self, self.prefix)
        if name not in self._entered and catalogue.tagged(name) is None:
            empty = catalogue.put_blob(b"{}", EMPTY).to_json()
            entry = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": CATALOGUE, "config": empty, "layers": [empty]}
            catalogue.put_as(name, canonical(entry), MANIFEST)
        self._entered.add(name)


@dataclass(frozen=True)
class RegistryRepository:
    """The repository of one release."""

    library: Registry
    path: str

    def put_blob(self, source: bytes | Iterable[bytes], media_type: str, wanted: str | None = None) -> Descriptor:
        """Store a blob, given whole or in chunks; one that the registry has already is kept.

        When it has another digest than ``wanted`` nothing is stored, and :class:`IntegrityError` says so.
        """
        wire = self.library.wire
        with _told(), tempfile.TemporaryFile(prefix="tidegate-") as spool:
            descriptor = Descriptor(media_type, *copy_hashing(source, spool.write))
            refuse_other(descriptor, wanted)
            if self.has_blob(descriptor):
                return descriptor
            with wire.ask("POST", f"{self.path}/blobs/uploads/", ok=(202,), data=b"") as answer:
                upload = joined(answer.url, answer.headers.get("Location", ""))
            spool.seek(0)
            upload += f"{'&' if '?' in upload else '?'}digest={descriptor.digest}"
            allowance = wire.allowance(MANIFEST_LIMIT, math.inf)
            data = Upload(cast(BinaryIO, spool), descriptor.size, allowance) if descriptor.size else b""
            with wire.ask("PUT", upload, ok=(201,), data=data, allowance=allowance, Content_Type="application/octet-stream"):
                return descriptor

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a blob of that digest and size is there; nobody looks at its bytes."""
        with self.library.wire.ask("HEAD", f"{self.path}/blobs/{_named(descriptor.digest)}", ok=(200, 404)) as answer:
            return bool(answer.status_code == 200 and answer.headers.get("Content-Length") == str(descriptor.size))

    def put_manifest(self, content: bytes) -> Descriptor:
        """Store a manifest under its digest."""
        return self.put_as(f"sha256:{hashlib.sha256(content).hexdigest()}", content, MANIFEST)[0]

    def put_as(self, reference: str, content: bytes, media_type: str) -> tuple[Descriptor, str | None]:
        """Store a manifest under a digest or a tag; also what the registry took for its subject, if it looks at that."""
        self._forget()
        if len(content) > MANIFEST_LIMIT:
            raise TidegateError(f"a manifest has {len(content)} bytes, and registries take {MANIFEST_LIMIT}; make it smaller")
        descriptor = Descriptor(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
        # Distribution stumbles when somebody else writes the same at the same time.
        for pause in (*_PAUSES, None):
            try:
                path = f"{self.path}/manifests/{reference}"
                with self.library.wire.ask("PUT", path, ok=(201,), data=content, Content_Type=media_type) as answer:
                    return descriptor, answer.headers.get("OCI-Subject")
            except AnswerError as error:
                if pause is None or (error.status != 400 and error.status < 500):
                    raise
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def read_blob(self, digest: str, limit: int) -> bytes:
        """The content of a blob of at most ``limit`` bytes, checked against its digest."""
        return self._content("blobs", digest, limit)

    def read_manifest(self, digest: str) -> bytes:
        """A manifest, checked against its digest."""
        return self._content("manifests", digest, MANIFEST_LIMIT)

    def _content(self, kind: str, digest: str, limit: int) -> bytes:
        memory = self.library.memory
        content = memory.content(self._place, digest) if memory else None
        if content is None or len(content) > limit:
            content = self._checked(digest, self._fetch(kind, digest, limit))
            if memory:
                memory.keep(self._place, digest, content)
        return content

    def verify_blob(self, descriptor: Descriptor) -> None:
        """Look at every byte of a blob."""
        if self.library.memory and descriptor.size <= LARGEST:
            if len(self.read_blob(descriptor.digest, descriptor.size)) != descriptor.size:
                raise self._damaged(descriptor.digest)
            return
        with self._blob(descriptor.digest, descriptor.size) as blocks:
            if copy_hashing(blocks, len) != (descriptor.digest, descriptor.size):
                raise self._damaged(descriptor.digest)

    def open_blob(self, digest: str, limit: int) -> BinaryIO:
        """A copy of a blob, checked, that goes away when it is closed."""
        with _told():
            spool = tempfile.TemporaryFile(prefix="tidegate-")  # noqa: SIM115 - the caller closes it
            try:
                with self._blob(digest, limit) as blocks:
                    if copy_hashing(blocks, spool.write)[0] != digest:
                        raise self._damaged(digest)
                spool.seek(0)
            except BaseException:
                spool.close()
                raise
        return cast(BinaryIO, spool)

    def tag(self, name: str, version: str, descriptor: Descriptor) -> bool:
        """Make a manifest the package of a release; false when it is already, :class:`ConflictError` when another one is."""
        content = self.read_manifest(descriptor.digest)
        self._forget()  # a tag that somebody has set meanwhile must not be taken away from them
        if not _TAG.fullmatch(version):
            raise TidegateError(f"{version!a} can't be a tag of a registry; use up to 128 letters, digits and . _ -")
        existing = self.resolve(name, version)
        self.enter(name)
        if existing is None:
            self.put_as(version, content, MANIFEST)
            existing, made = self.resolve(name, version), True  # somebody may have been faster, or slower
        else:
            made = False
        if existing != descriptor.digest:
            raise moved(f"{name}:{version}", str(existing), descriptor.digest)
        return made

    def enter(self, name: str) -> None:
        """List the release in the catalogue of the library."""
        self.library.enter(name)

    def resolve(self, name: str, version: str) -> str | None:
        """The digest of the package of a release, or ``None`` when it was never archived here."""
        del name
        package = self.tagged(version) if _TAG.fullmatch(version) else None
        return package.digest if package else None

    def versions(self, name: str) -> list[str]:
        """The versions of a release that are archived here."""
        del name
        return self.tags()

    def refer(self, subject: str, content: bytes, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Store a manifest that refers to the manifest ``subject``.

        In a registry without the referrers API it gets a tag of its own, made of both digests, so that several who add evidence at once
        lose none and nobody collects it as garbage; and for other tools the list with the tag that the specification gives it, where it
        has these ``annotations``.
        """
        artifact = artifact_of(content, subject)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        descriptor, seen = self.put_as(digest, content, MANIFEST)
        added = descriptor._replace(artifact_type=artifact, annotations=dict(annotations or {}))
        if seen != subject:
            self.put_as(_own_tag(subject, digest), content, MANIFEST)
            if self.library._batches:
                self.library._batches[-1].setdefault((self, subject), []).append(added)
            else:
                self.list_referrers(subject, [added])
        return added

    def list_referrers(self, subject: str, added: Iterable[Descriptor]) -> None:
        """Write the list that the specification gives a tag, with what was ``added``."""
        listed = {entry.digest: entry for entry in [*self.referrers(subject), *added]}
        self.put_as(referrers_tag(subject), index_of(listed.values()), IMAGE_INDEX)

    def referrers(self, subject: str) -> list[Descriptor]:
        """What refers to a manifest, each with its artifact type; nobody has looked into them yet."""
        return list(self._once(("referrers", subject), lambda: self._referrers(subject)))

    def _referrers(self, subject: str) -> list[Descriptor]:
        memory = self.library.memory
        offered = None if memory and memory.without_referrers else self._offered(subject)
        found = offered or {}
        # A registry that learned of referrers later does not know of those from before.
        listed = None
        if not (memory and memory.without_referrers) or referrers_tag(subject) in self._tags():
            listed = self._tagged(referrers_tag(subject), INDEX_LIMIT)
        # Some take the tag for the digest that it is made of.
        if listed is not None and f"sha256:{hashlib.sha256(listed).hexdigest()}" != subject:
            where = f"the list of what refers to {subject}"
            # An API that knows of nothing about this manifest may well know of another's: only one that is not there need not be asked.
            if memory and offered is None:
                memory.without_referrers = True
            found = {entry.digest: entry for entry in parse_index(listed, where)} | found
        found |= {entry.digest: entry for entry in self._with_own_tag(subject, {digest[7:39] for digest in found}, _UNLISTED)}
        return [found[digest] for digest in sorted(found)]

    def has_referring(self, subject: str, digest: str) -> bool:
        """Whether a manifest that is listed with ``subject`` is there: a list may be of a time when it was."""
        if _own_tag(subject, digest) in self._tags() or digest in (self._offered(subject) or ()):
            return True
        with self.library.wire.ask("HEAD", f"{self.path}/manifests/{_named(digest)}", ok=(200, 404), Accept=MANIFEST) as answer:
            return bool(answer.status_code == 200)

    def _offered(self, subject: str) -> dict[str, Descriptor] | None:
        return self._once(("offered", subject), lambda: self._api_referrers(subject))

    def _api_referrers(self, subject: str) -> dict[str, Descriptor] | None:
        """What the referrers API answers; ``None`` where there is none, which registries say in many ways.

        Nothing is lost by that: what we add to such a registry has tags, and one that keeps us from everything keeps us from those, too.
        """
        found: dict[str, Descriptor] | None = None
        where = f"what {self} says refers to {subject}"
        try:
            for page in self._pages(f"{self.path}/referrers/{subject}"):
                if found is None and not _is_index(page, where):
                    return None
                # Their annotations are the word of who pushed a manifest, whatever is in it.
                new = {entry.digest: entry._replace(annotations={}) for entry in parse_index(page, where)}
                found = (found or {}) | new
        except AnswerError as error:
            if found or error.status not in _NO_REFERRERS:
                raise
            return {} if error.status in _NOT_FOR_US else found
        return found

    def beside(self, subject: str) -> list[str]:
        """Tags of other tools about the manifest ``subject``."""
        return beside(subject, self._tags())

    def unlisted(self, subject: str) -> list[Descriptor]:
        """What refers to a manifest and has a tag that says so."""
        return self._with_own_tag(subject, set(), INDEX_LIMIT)

    def _with_own_tag(self, subject: str, known: set[str], most: int) -> list[Descriptor]:
        """What :meth:`refer` gave a tag, but for that whose digest begins with one of ``known``."""
        own = [tag for tag in self._tags() if tag.startswith(f"{referrers_tag(subject)}.") and tag[-32:] not in known]
        if len(own) > most:
            raise IntegrityError(
                f"{len(own)} tags of {self} say that they refer to {subject} and no list has them, more than {most}; find out who set them"
            )
        found = []
        for tag in own:
            content = self._tagged(tag, MANIFEST_LIMIT)
            if content is not None:  # a tag can be seen a moment before there is something behind it
                digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
                found.append(Descriptor(MANIFEST, digest, len(content), artifact_type=artifact_of(content, subject)))
        return found

    def relist(self, subject: str, entries: Iterable[Descriptor]) -> None:
        """Make a new list of what refers to ``subject``, in place of the one that it has."""
        self.put_as(referrers_tag(subject), index_of(entries), IMAGE_INDEX)

    def relabel(self, subject: str, annotations: Mapping[str, Mapping[str, str]]) -> None:
        """Give what is listed for ``subject`` these annotations, by digest. A piece that comes meanwhile is found by its own tag."""
        self._forget()
        listed = self.referrers(subject)
        self.relist(subject, [one._replace(annotations=dict(annotations.get(one.digest, one.annotations))) for one in listed])

    def withdraw(self, subject: str, digests: Collection[str], write: bool) -> int:
        """Take manifests that refer to ``subject`` away. The bytes are freed by the registry's garbage collector."""
        self._delete(f"sha256:{'0' * 64}")  # what nobody has, to hear whether it lets us
        if write:
            listed = self.referrers(subject)
            stay = [entry for entry in listed if entry.digest not in digests]
            if len(stay) < len(listed) and referrers_tag(subject) in self._tags():
                self.put_as(referrers_tag(subject), index_of(stay), IMAGE_INDEX)
            for digest in digests:
                self._delete(digest)  # and its tag with it
        return 0

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to hold: a registry keeps blobs that a manifest names, and its garbage collector leaves young ones alone."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def purging(self, name: str, version: str, digest: str) -> Iterator[Callable[[], int]]:
        """Prepare to delete a release's manifest and what refers to it. The bytes are freed by the registry's garbage collector."""
        existing = self.resolve(name, version)
        if existing not in (None, digest):
            raise ConflictError(f"{self}:{version} is {existing}, not {digest}; nothing was purged")
        kept = {found.digest for tag in self.tags() if tag != version and (found := self.tagged(tag))}
        if digest in kept:
            raise ConflictError(f"{digest} has another tag in {self} too, so nothing was purged; take that tag away first")
        self._delete(f"sha256:{'0' * 64}")  # what nobody has, to hear whether it lets us
        referring = [
            manifest for manifest, _blobs in walk(self, Descriptor(MANIFEST, digest, 0)).groups() if manifest not in {digest, *kept}
        ]

        def purge() -> int:
            self._delete(digest)  # and its tag with it
            # Each after what it leads to, or a purge that was killed would not find that again.
            for manifest in [*referring[::-1], digest]:
                listed = self.tagged(referrers_tag(manifest))
                for gone in [listed.digest if listed else None, manifest]:
                    if gone:
                        self._delete(gone)
            return 0

        yield purge

    def _delete(self, digest: str) -> None:
        self._forget()
        with self.library.wire.ask("DELETE", f"{self.path}/manifests/{digest}", ok=(202, 404, 405)) as answer:
            if answer.status_code == 405:
                raise TidegateError(
                    f"the registry {self.library.wire.host} does not let anybody delete, so nothing was purged; allow it there (for "
                    "Distribution, storage.delete.enabled: true) and run this again"
                )

    def tags(self) -> list[str]:
        """Every tag that is not about referrers."""
        return [tag for tag in self._tags() if not _REFERRERS.fullmatch(tag)]

    def _tags(self) -> list[str]:
        return self._once("tags", self._list_tags)

    def _list_tags(self) -> list[str]:
        found: list[str] = []
        for page in self._pages(f"{self.path}/tags/list?n=1000"):
            tags = parse_json(page, f"the list of tags of {self}").get("tags") or []
            if not isinstance(tags, list) or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
                raise IntegrityError(f"{self} has a malformed list of tags; look at what answers at that address")
            found += tags
        return found

    def tagged(self, tag: str) -> Descriptor | None:
        """The manifest with a tag."""
        content = self.tagged_content(tag)
        return None if content is None else _manifest_of(content)

    def manifests(self) -> Iterator[tuple[str, bytes]]:
        """Every tag that is not about referrers, with the manifest that has it."""
        for tag in self.tags():
            content = self.tagged_content(tag)
            if content is not None:  # it may have gone meanwhile
                yield tag, content

    def tagged_content(self, tag: str) -> bytes | None:
        """The bytes of the manifest with a tag."""
        return self._tagged(tag, MANIFEST_LIMIT)

    def _tagged(self, tag: str, limit: int) -> bytes | None:
        return self._once(("tag", tag), lambda: self._fetch_tagged(tag, limit))

    def _fetch_tagged(self, tag: str, limit: int) -> bytes | None:
        """What has a tag; what had it before, if that is still so, need not be sent again."""
        memory = self.library.memory
        if memory is None:
            return self._fetch("manifests", tag, limit)
        digest = memory.last(self._place, tag)
        before = memory.content(self._place, digest) if digest else None
        content = self._fetch("manifests", tag, limit, (digest, before) if digest and before else None)
        if content is not None:
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            memory.keep(self._place, digest, content)
            memory.note(self._place, tag, digest)
        return content

    def _once(self, question: object, ask: Callable[[], _T]) -> _T:
        return self.library.memory.once(self._place, question, ask) if self.library.memory else ask()

    def _forget(self) -> None:
        if self.library.memory:
            self.library.memory.forget(self._place)

    @property
    def _place(self) -> str:
        """By what the memory knows this repository."""
        return str(self)

    def catalogue_pages(self) -> Iterator[bytes]:
        """What the registry says of all its repositories; raises :class:`AnswerError` where it says nothing."""
        try:
            yield from self._pages("_catalog?n=1000", ok=(200,))
        except AnswerError as error:
            if error.status != 400:
                raise
            yield from self._pages("_catalog", ok=(200,))  # one that gives fewer at once

    def _pages(self, path: str, ok: tuple[int, ...] = (200, 404)) -> Iterator[bytes]:
        """What the registry answers, and to the next page's address as long as it gives one; nothing if it does not know ``path``.

        All pages together may not have more than a list may have, nor take longer.
        """
        seen: set[str] = set()
        left, allowance = INDEX_LIMIT, self.library.wire.allowance(INDEX_LIMIT)
        while path not in seen:
            seen.add(path)
            if len(seen) > _PAGES:
                raise IntegrityError(f"a list of {self} has more than {_PAGES} pages; look at what answers at that address")
            with self.library.wire.ask("GET", path, ok=ok, allowance=allowance) as answer:
                if answer.status_code == 404:
                    return
                page = b"".join(blocks_of(answer, left))
                left -= len(page)
                yield page
                path = joined(answer.url, answer.links["next"]["url"]) if "next" in answer.links else path

    @contextlib.contextmanager
    def _blob(self, digest: str, limit: int) -> Iterator[Iterator[bytes]]:
        wire = self.library.wire
        allowance = wire.allowance(limit, math.inf)
        with wire.ask("GET", f"{self.path}/blobs/{_named(digest)}", ok=(200, 404), allowance=allowance) as answer:
            if answer.status_code == 404:
                raise self._missing(digest)
            yield blocks_of(answer, limit)

    def _fetch(self, kind: str, reference: str, limit: int, before: tuple[str, bytes] | None = None) -> bytes | None:
        """What is there; ``before``: a digest and its content, which need not be sent if that is what is there still."""
        wire = self.library.wire
        accept, seconds = (f"{MANIFEST}, {IMAGE_INDEX}", None) if kind == "manifests" else ("*/*", math.inf)
        allowance = wire.allowance(limit, seconds)
        path, ok = f"{self.path}/{kind}/{reference}", (200, 404) if before is None else (200, 304, 404)
        unless = {} if before is None else {"If_None_Match": f'"{before[0]}"'}
        with wire.ask("GET", path, ok=ok, allowance=allowance, Accept=accept, **unless) as answer:
            if before is not None and answer.status_code == 304:
                return before[1]
            return None if answer.status_code == 404 else b"".join(blocks_of(answer, limit))

    def _checked(self, digest: str, content: bytes | None) -> bytes:
        if content is None:
            raise self._missing(_named(digest))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise self._damaged(digest)
        return content

    def _missing(self, digest: str) -> IntegrityError:
        return IntegrityError(f"{self} does not have {digest}; restore it from a copy of the DSL")

    def _damaged(self, digest: str) -> IntegrityError:
        return IntegrityError(f"{digest} is damaged, {self} sends other bytes; restore it from a copy of the DSL")

    def __str__(self) -> str:
        return f"{self.library.wire.host}/{self.path}"


def _own_tag(subject: str, digest: str) -> str:
    """The tag of one manifest that refers to ``subject``."""
    return f"{referrers_tag(subject)}.{digest[7:39]}"


def _manifest_of(content: bytes) -> Descriptor:
    return Descriptor(MANIFEST, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def _is_package(content: bytes) -> bool:
    try:
        return parse_json(content, "a manifest").get("artifactType") == PACKAGE
    except IntegrityError:
        return False


def _is_entry(content: bytes | None) -> bool:
    """Whether a tag of the catalogue lists a release; one that can't be read may."""
    try:
        return content is None or parse_json(content, "a manifest").get("artifactType") == CATALOGUE
    except IntegrityError:
        return True


def _is_index(content: bytes, where: str) -> bool:
    """Whether an answer is an image index, be it a good one, and not a page for people or an object of something else."""
    try:
        return "manifests" in parse_json(content, where)
    except IntegrityError:
        return content.lstrip()[:1] == b"{"  # one that was cut short has to be seen


def _named(digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        raise IntegrityError(f"{digest!r} is not a digest; one is sha256: and 64 hexadecimal digits")
    return digest


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TidegateError(
            f"can't keep a blob in {tempfile.gettempdir()} ({error.strerror or error}); make room, or name another directory in TMPDIR"
        ) from error
