# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a definitive software library can do wherever it is kept, and how to get to it by its address.

An address is a directory, for an OCI image layout, or ``oci://host[:port]/prefix`` for a registry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from ..settings import has_login
from .descriptors import Descriptor
from .layout import OciLayout


class Repository(Protocol):
    """What is kept of one release: packages, their blobs, and what refers to them.

    All raise :class:`IntegrityError` for what is missing, damaged or longer than it may be, and :class:`TidegateError` when the
    library can't be read or written.
    """

    def put_blob(self, source: bytes | Iterable[bytes], media_type: str, wanted: str | None = None) -> Descriptor:
        """Store a blob, given whole or in chunks; one that is there already is kept.

        When it has another digest than ``wanted`` nothing is stored, and :class:`IntegrityError` says so.
        """

    def put_manifest(self, content: bytes) -> Descriptor:
        """Store a manifest; the blobs that it names have to be there."""

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a blob of that digest and size is there; nobody looks at its bytes."""

    def read_blob(self, digest: str, limit: int) -> bytes:
        """The content of a blob of at most ``limit`` bytes, checked against its digest."""

    def read_manifest(self, digest: str) -> bytes:
        """A manifest, checked against its digest."""

    def verify_blob(self, descriptor: Descriptor) -> None:
        """Look at every byte of a blob."""

    def open_blob(self, digest: str, limit: int) -> BinaryIO:
        """A blob of at most ``limit`` bytes for random access; what is read from it has to be checked by the reader."""

    def tag(self, name: str, version: str, descriptor: Descriptor) -> bool:
        """Make a manifest the package of a release; false when it is already, :class:`ConflictError` when another one is."""

    def enter(self, name: str) -> None:
        """List the release, which is here, where its library finds it, if that takes a list."""

    def resolve(self, name: str, version: str) -> str | None:
        """The digest of the package of a release, or ``None`` when it was never archived here."""

    def versions(self, name: str) -> list[str]:
        """The versions of a release that are archived here."""

    def refer(self, subject: str, content: bytes, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Store a manifest whose ``subject`` is the manifest of that digest, so that :meth:`referrers` finds it.

        ``annotations`` are listed with it, whatever those of the manifest are.
        """

    def referrers(self, subject: str) -> list[Descriptor]:
        """What refers to a manifest, each with its artifact type; nobody has looked into them yet."""

    def has_referring(self, subject: str, digest: str) -> bool:
        """Whether a manifest that is listed with ``subject`` is there, with its blobs; in a directory nobody looks at its bytes."""

    def beside(self, subject: str) -> list[str]:
        """Tags made of a manifest's digest that other tools gave to what they keep about it, and nobody reads here."""

    def unlisted(self, subject: str) -> list[Descriptor]:
        """What says of itself that it refers to a manifest, as far as it can be found without the list that :meth:`referrers` reads."""

    def relist(self, subject: str, entries: Iterable[Descriptor]) -> None:
        """Make a new list of what refers to a manifest, in place of one that can't be read."""

    def relabel(self, subject: str, annotations: Mapping[str, Mapping[str, str]]) -> None:
        """Have the list of what refers to a manifest say this of those of these digests that are in it; the others stay as they are."""

    def withdraw(self, subject: str, digests: Collection[str], write: bool) -> int:
        """Take manifests that refer to ``subject`` away, and what only they need; return how many bytes that freed, or without ``write`` 0.

        What is gone already is none of it. Raises :class:`ConflictError` when somebody is writing here.
        """

    def writing(self) -> AbstractContextManager[None]:
        """While this is held nobody purges here. Hold it from the first blob to the tag that names it; many may at once."""

    def purging(self, name: str, version: str, digest: str) -> AbstractContextManager[Callable[[], int]]:
        """Prepare to purge a release: while it is held nobody writes here, and calling what it gives cannot be refused any more.

        That call takes the package away and what refers to it, the tag first, and returns how many bytes that freed. What another package
        needs stays. Purging what is gone goes on where a purge that was killed stopped. Raises :class:`ConflictError` when somebody is
        writing here or the release is another digest.
        """


class Library(Protocol):
    """A whole definitive software library."""

    def repository(self, name: str) -> Repository:
        """What is kept of the release ``name``, be it something or nothing yet."""

    def releases(self, also: Collection[str] = ()) -> Mapping[tuple[str, str], Descriptor]:
        """The package of each name and version; names that are given with ``also`` are looked for even if nobody lists them."""

    def names(self) -> set[str]:
        """The names of the releases in it."""

    def listed(self) -> set[str]:
        """The names that were entered, whether or not anything is left of them."""

    def batch(self) -> AbstractContextManager[None]:
        """Within it lists are written once, at its end; tags may be set by then, too. While it is held nobody purges here."""

    def publish(self) -> None:
        """See to it that other tools find all that refers to a package, too."""

    def at_one_moment(self, folder: Path | None = None) -> Library:
        """The library as it is when it is first asked: nothing is asked of a registry twice. What digests name is kept in ``folder``, which
        has to be private to a run, for who looks later in that run."""

    def incomplete(self) -> str:
        """Why releases may be there that :meth:`releases` does not give; empty when it gives all."""


def open_library(address: str) -> Library:
    """The library at ``address``; raises :class:`NotFoundError` when there is none and :class:`IntegrityError` when it is broken."""
    return _registry(address) if _is_url(address) else OciLayout.open(address)


def find_library(address: str) -> Library | None:
    """The library at ``address``, or ``None`` where there is room for a new one; raises what :meth:`OciLayout.find` raises."""
    return _registry(address) if _is_url(address) else OciLayout.find(address)


def create_library(address: str) -> Library:
    """The library at ``address``, made if there is room for it; raises what :meth:`OciLayout.find` raises."""
    return _registry(address) if _is_url(address) else OciLayout.create(address)


def blob_uri(address: str, name: str, sha256: str) -> str:
    """Where a blob of the release ``name`` can be fetched from the library at ``address``."""
    if _is_url(address):
        return f"{address.rstrip('/')}/{name}@sha256:{sha256}"
    return (Path(address).absolute() / "blobs" / "sha256" / sha256).as_uri()


def _is_url(address: str) -> bool:
    return "://" in address or has_login(address)  # what is no address of a registry is refused there


def _registry(address: str) -> Library:
    # What talks to a registry takes long to import, and each fork that stages a host would.
    from .registry import Registry  # noqa: PLC0415 - see above

    return Registry.at(address)
