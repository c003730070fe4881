# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of the OCI image specification, as far as a library needs them, wherever it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConflictError, IntegrityError
from ..files import copy_hashing
from ..strict_json import read_object

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
PACKAGE = "application/vnd.tidegate.release.v1+json"
"""The artifact type of a package."""
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
MANIFEST_LIMIT = 4 << 20
"""Bytes of a manifest: what registries accept."""
INDEX_LIMIT = 64 << 20
"""Bytes of an image index: some 200,000 entries."""
_TEXTS = frozenset({str})
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Descriptor:
    """What an OCI document says of a blob; ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    def to_json(self) -> dict[str, Any]:
        """The descriptor as OCI writes it."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document

    @classmethod
    def from_json(cls, document: object, where: str) -> Descriptor:
        """Read a descriptor out of the JSON found at ``where``; raises :class:`IntegrityError` when it is not one."""
        if isinstance(document, dict):
            get = document.get
            media_type, digest, size, annotations, artifact_type = (
                get("mediaType"),
                get("digest"),
                get("size"),
                get("annotations", {}),
                get("artifactType", ""),
            )
            # Of JSON, so there are no other types than these; lists have thousands of them.
            if (
                isinstance(media_type, str)
                and isinstance(digest, str)
                and isinstance(artifact_type, str)
                and DIGEST.fullmatch(digest)
                and isinstance(size, int)
                and not isinstance(size, bool)
                and size >= 0
                and isinstance(annotations, dict)
                and _TEXTS.issuperset(map(type, annotations.values()))
            ):
                found = cls.__new__(cls)
                # At once, for the constructor of what can't be changed sets each by a call of its own.
                found.__dict__.update(media_type=media_type, digest=digest, size=size, annotations=annotations, artifact_type=artifact_type)
                return found
        raise IntegrityError(f"{where} has a malformed entry for a blob; restore it from a copy of the DSL")


def canonical(document: object) -> bytes:
    """JSON that is the same bytes everywhere: sorted keys, compact, UTF-8.

    Raises :class:`IntegrityError` for what can be read from JSON but not written: half a character, or a number without end.
    """
    try:
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise IntegrityError(f"it has half a character or a number that is none, which can't be written as JSON ({error})") from error


def parse_json(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``content``; raises :class:`IntegrityError` that names ``where``."""
    try:
        return read_object(content, where)
    except IntegrityError as error:
        raise IntegrityError(f"{error}; restore it from a copy of the DSL") from error


def parse_index(content: bytes, where: str) -> list[Descriptor]:
    """What an image index lists; raises :class:`IntegrityError` that names ``where``."""
    entries = parse_json(content, where).get("manifests")
    return [Descriptor.from_json(entry, where) for entry in (entries if isinstance(entries, list) else [])]


def index_of(entries: Iterable[Descriptor]) -> bytes:
    """The image index that lists ``entries``."""
    return canonical({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [entry.to_json() for entry in entries]})


def artifact_of(content: bytes, subject: str) -> str:
    """The artifact type of a manifest that refers to ``subject``; raises :class:`IntegrityError` when it does not."""
    document = parse_json(content, "the referring manifest")
    artifact = document.get("artifactType")
    if Descriptor.from_json(document.get("subject"), "the referring manifest").digest != subject or not isinstance(artifact, str):
        raise IntegrityError(f"the manifest does not refer to {subject} with an artifact type of its own")
    return artifact


def describe_blob(source: bytes | Iterable[bytes], media_type: str) -> Descriptor:
    """The descriptor that :meth:`.repository.Repository.put_blob` would return, without writing anything."""
    return Descriptor(media_type, *copy_hashing(source, len))


def referrers_tag(digest: str) -> str:
    """The tag of the list of what refers to ``digest``."""
    return digest.replace(":", "-")


def beside(subject: str, tags: Iterable[str]) -> list[str]:
    """Those of ``tags`` that other tools made of the digest ``subject``, such as ``sha256-<hex>.att``; a registry's own of ours are not."""
    own = re.compile(rf"{referrers_tag(subject)}\.(?![0-9a-f]{{32}}$)[a-zA-Z0-9._-]+")
    return sorted(tag for tag in tags if own.fullmatch(tag))


def moved(reference: str, old: str, new: str) -> ConflictError:
    """The refusal to give a tag another digest."""
    return ConflictError(f"{reference} is archived as {old}, this would be {new}, and tags never move; give the release a new version")


def refuse_other(found: Descriptor, wanted: str | None) -> None:
    """Raise :class:`IntegrityError` when a blob that came from elsewhere is not the one that was wanted."""
    if wanted not in (None, found.digest):
        raise IntegrityError(f"{wanted} is damaged where it is copied from; heal it there with dsl_verify")
