# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of the OCI image specification, as far as a library needs them, wherever it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

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
_NONE: Mapping[str, str] = MappingProxyType({})


class Descriptor(NamedTuple):
    """What an OCI document says of a blob; ``size`` in bytes. A tuple, for lists of evidence have thousands."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = _NONE
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
            get: Callable[..., Any] = document.get
            found = cls(get("mediaType"), get("digest"), get("size"), get("annotations", _NONE), get("artifactType", ""))
            media_type, digest, size, annotations, artifact_type = found
            # Of JSON, so there are no other types than these, and true is none of them.
            if (
                media_type.__class__ is str
                and digest.__class__ is str
                and artifact_type.__class__ is str
                and DIGEST.fullmatch(digest)
                and size.__class__ is int
                and size >= 0
                and (annotations is _NONE or (annotations.__class__ is dict and _TEXTS.issuperset(map(type, annotations.values()))))
            ):
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
