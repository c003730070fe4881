# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that belongs to a package: its blobs, what refers to it, such as evidence, what refers to that, and their blobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import IntegrityError
from .descriptors import MANIFEST, Descriptor, artifact_of, parse_json, referrers_tag

_DEPTH = 2  # evidence, and what is said of it


class Reader(Protocol):
    """As much of a home as has to be read to find what belongs to a package."""

    def read_manifest(self, digest: str) -> bytes:
        """A manifest, checked against its digest; raises :class:`IntegrityError`."""

    def referrers(self, subject: str) -> list[Descriptor]:
        """What refers to a manifest; raises :class:`IntegrityError`."""


@dataclass(frozen=True)
class Part:
    """A blob of a package, or a manifest with its content; ``subject`` is what that refers to, for the package's own ``None``."""

    descriptor: Descriptor
    manifest: bytes | None = None
    subject: str | None = None


@dataclass
class Walk:
    """What was found, blobs before the manifest that names them, and what could not be read: by digest, why."""

    parts: list[Part] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    def without(self, digests: Collection[str]) -> list[Part]:
        """The parts but for the manifests of those ``digests`` and the blobs that no other has."""
        kept = [part for part in self.parts if part.manifest is not None and part.descriptor.digest not in digests]
        needed = {blob.digest for part in kept for blob in blobs_of(part.manifest or b"", part.descriptor.digest)}
        return [part for part in self.parts if part in kept or part.descriptor.digest in needed] if digests else self.parts

    def groups(self) -> list[tuple[str, list[str]]]:
        """The digest of each manifest that was found with those of its blobs, what refers to a manifest after that."""
        found: list[tuple[str, list[str]]] = []
        blobs: list[str] = []
        for part in self.parts:
            if part.manifest is None:
                blobs.append(part.descriptor.digest)
            else:
                found.append((part.descriptor.digest, blobs))
                blobs = []
        return found


def walk(home: Reader, package: Descriptor) -> Walk:
    """Find everything that belongs to ``package``. Manifests are read and checked; at blobs nobody looks."""
    found = Walk()
    for part in _visit(home, package, None, found.faults, set()):
        found.parts.append(part)
    return found


def blobs_of(manifest: bytes, where: str) -> list[Descriptor]:
    """The blobs that a manifest names; raises :class:`IntegrityError` when it is none."""
    document = parse_json(manifest, where)
    layers = document.get("layers")
    if document.get("mediaType", MANIFEST) != MANIFEST or not isinstance(layers, list):
        raise IntegrityError(f"{where} is not an image manifest; find out who put it there")
    return [Descriptor.from_json(item, where) for item in [document.get("config"), *layers]]


def _visit(
    home: Reader, descriptor: Descriptor, subject: str | None, faults: dict[str, str], seen: set[str], depth: int = 0
) -> Iterator[Part]:
    digest = descriptor.digest
    if digest in seen:
        return
    seen.add(digest)
    try:
        content = home.read_manifest(digest)
        blobs = blobs_of(content, digest)
        if subject is not None:
            artifact_of(content, subject)
    except IntegrityError as error:
        faults[digest] = str(error)
    else:
        for blob in blobs:
            if blob.digest not in seen:
                seen.add(blob.digest)
                yield Part(blob)
        yield Part(descriptor._replace(media_type=MANIFEST, size=len(content)), content, subject)
    if depth == _DEPTH:
        return
    try:
        listed = home.referrers(digest)
    except IntegrityError as error:
        faults[referrers_tag(digest)] = str(error)
        return
    for entry in listed:
        yield from _visit(home, entry, digest, faults, seen, depth + 1)
