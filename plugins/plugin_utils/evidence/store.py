# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where evidence is kept: beside the package it is about, as manifests that refer to it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ..dsl.descriptors import MANIFEST, Descriptor, canonical, describe_blob, parse_json
from ..dsl.repository import Repository
from ..dsl.seen import Piece
from ..errors import IntegrityError, TidegateError
from .envelope import IN_TOTO, open_envelope, sign
from .statement import LAST_WORD, ON_CHANGES, RECORDS, Statement, kind_of, rfc_of

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

ENVELOPE = "application/vnd.dsse.envelope.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
PREDICATE_TYPE = "in-toto.io/predicate-type"
RFC = "example.tidegate.rfc"
"""The annotation of a decision that is for one RFC alone with the number of that."""

ENVELOPE_LIMIT = 96 << 20
"""Bytes: the largest SBOM that is taken, in base64, and something around it."""
_SEVERAL = 20  # pieces that are no evidence, which are named one by one
# The types under which other tools keep signed statements beside what these are about, and the type of a file that was given none.
_OTHERS = re.compile(
    r"application/vnd\.(?:in-toto[+.][^,]*|dsse\.envelope\.v1\+json|dev\.sigstore\.bundle[+.;][^,]*|dev\.cosign\.(?:artifact\.)?att\.[^,]*)"
)
_CONTENTS = frozenset({"application/json", "application/octet-stream", "application/vnd.oci.image.layer.v1.tar"})
_TOTAL_LIMIT = 384 << 20  # of all that is read beside one package
_INSIDE = 8 << 10  # bytes of an envelope that its manifest has in it, too, which saves a request


@dataclass(frozen=True)
class Wanted:
    """Which evidence is wanted: all but what was decided for other RFCs than ``rfc``, and records of decisions, which nobody judges.

    ``seen``: what the CMDB remembers of pieces that were read. These are known by that. Others are known by the list of evidence, which
    anybody can change who writes to the library: with that they hide no more than by leaving out of it what nobody has seen.
    """

    rfc: str = ""
    seen: Mapping[str, Piece] = field(default_factory=dict)

    def passes_over(self, entry: Descriptor) -> bool:
        """Whether a piece need not be read."""
        known = self.seen.get(entry.digest)
        if known is not None:
            kind, rfc = known.kind, known.rfc
        else:
            kind, rfc = kind_of(entry.annotations.get(PREDICATE_TYPE, "")) or "", entry.annotations.get(RFC, "")
        return kind in RECORDS or (kind in ON_CHANGES and bool(rfc) and rfc != self.rfc)


@dataclass(frozen=True)
class Attached:
    """A manifest that refers to a package, by its digest, and its envelope; ``None`` when that can't be read."""

    digest: str
    envelope: bytes | None


@dataclass(frozen=True)
class Evidence:
    """What refers to a package: ``envelopes``, of which nobody has checked who signed them, and a sentence for each that is ``broken``.
    ``attached`` are all of them by the digest that they are kept under, ``passed_over`` those that were not asked for. ``foreign``: a
    sentence for each other thing that refers to it, which is no evidence or in no form that Tidegate reads: nothing that anybody could have
    decided.
    """

    envelopes: tuple[bytes, ...]
    broken: tuple[str, ...]
    attached: tuple[Attached, ...] = ()
    foreign: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.envelopes)

    def __len__(self) -> int:
        return len(self.envelopes)


def attach(home: Repository, package: str, envelope: bytes) -> str:
    """Keep an envelope beside the package it is about; return the digest of the manifest that refers to the package.

    Raises :class:`IntegrityError` when the envelope is about something else, or the package is not here. The same envelope is kept once.
    """
    statement = open_envelope(envelope, package).statement
    if statement.digest != package:
        raise IntegrityError(f"the evidence is about {statement.digest}, not about {package}; sign it for the package it is kept with")
    if len(envelope) > ENVELOPE_LIMIT:
        raise TidegateError(f"the evidence has {len(envelope)} bytes, more than {ENVELOPE_LIMIT}; say less in its predicate")
    with home.writing():
        home.put_blob(b"{}", EMPTY)
        home.put_blob(envelope, ENVELOPE)
        content, annotations = _manifest(home, package, envelope)
        return home.refer(package, content, annotations).digest


def _manifest(home: Repository, package: str, envelope: bytes) -> tuple[bytes, dict[str, str]]:
    """The manifest with which an envelope is kept beside a package, and its annotations."""
    statement = open_envelope(envelope, package).statement
    annotations = {PREDICATE_TYPE: statement.type}
    if rfc := rfc_of(statement.type, statement.predicate):
        annotations[RFC] = rfc
    layer = describe_blob(envelope, ENVELOPE).to_json()
    if len(envelope) <= _INSIDE:
        layer["data"] = base64.b64encode(envelope).decode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": IN_TOTO,
        "config": describe_blob(b"{}", EMPTY).to_json(),
        "layers": [layer],
        "subject": Descriptor(MANIFEST, package, len(home.read_manifest(package))).to_json(),
        "annotations": annotations,
    }
    return canonical(manifest), annotations


def is_attached(home: Repository, package: str, envelope: bytes) -> bool:
    """Whether :meth:`attach` has kept an envelope beside a package."""
    digest = f"sha256:{hashlib.sha256(_manifest(home, package, envelope)[0]).hexdigest()}"
    return any(entry.digest == digest for entry in home.referrers(package))


def may_be_evidence(entry: Descriptor) -> bool:
    """Whether something that refers to a package may hold a signed statement, by the type that it is listed with.

    Tools that copy a list of referrers leave out what they don't know, the type among it.
    """
    return entry.artifact_type in (IN_TOTO, "") or _OTHERS.fullmatch(entry.artifact_type) is not None


def collect(home: Repository, package: str, wanted: Wanted | None = None) -> Evidence:
    """Every envelope beside a package, or those that are ``wanted``, whoever signed them.

    Raises :class:`IntegrityError` when the list of what refers to the package can't be read, or there is more than fits into memory.
    """
    referring = home.referrers(package)
    listed, passed_over, foreign, size = [], [], [], 0
    for entry in referring:
        if entry.artifact_type != IN_TOTO and not may_be_evidence(entry):
            foreign.append(_no_evidence(entry.digest, entry.artifact_type))
        elif wanted is not None and wanted.passes_over(entry):
            passed_over.append(entry.digest)
        else:
            listed.append(entry)
    envelopes: list[bytes] = []
    attached: list[Attached] = []
    broken: list[str] = []
    for entry in listed:
        if size > _TOTAL_LIMIT:
            raise IntegrityError(f"the evidence that refers to {package} has more than {_TOTAL_LIMIT} bytes; find out who put it there")
        envelope = None
        try:
            envelope = read_piece(home, package, entry.digest)
            if envelope is None:
                foreign.append(_no_evidence(entry.digest, "another artifact"))
                continue
            if entry.artifact_type not in (IN_TOTO, ""):
                open_envelope(envelope, package)
            envelopes.append(envelope)
            size += len(envelope)
        except IntegrityError as error:
            # Nobody's decision is kept under another tool's type, so what is there stands in nobody's way.
            sentences = broken if entry.artifact_type in (IN_TOTO, "") else foreign
            sentences.append(f"the evidence {entry.digest} can't be used: {error}")
        attached.append(Attached(entry.digest, envelope))
    foreign += [_unread(tag) for tag in home.beside(package)]
    more = [f"{len(foreign) - _SEVERAL} more pieces that refer to {package} are no evidence"] if len(foreign) > _SEVERAL else []
    return Evidence(tuple(envelopes), tuple(broken), tuple(attached), (*foreign[:_SEVERAL], *more), tuple(passed_over))


def _no_evidence(digest: str, artifact_type: str) -> str:
    return f"{digest} counts for nothing: it is of the type {artifact_type!a:.100}, not a signed statement"


def _unread(tag: str) -> str:
    return (
        f"the tag {tag:.100} counts for nothing: what cosign keeps under such a tag is not read here; give each envelope in it to "
        "attestation, as cosign download attestation prints them"
    )


def ensure(home: Repository, statement: Statement, signer: Signer, now: datetime, write: bool) -> bool:
    """See to it that ``signer`` has signed the statement; false when it had, whenever that was, or last of its type where the last word
    counts. Without ``write`` only say it."""
    wanted = canonical(statement.to_json(now))
    words: list[tuple[datetime, bool]] = []
    likes = None if kind_of(statement.type) in RECORDS else Wanted(rfc_of(statement.type, statement.predicate))
    for content in collect(home, statement.digest, likes):
        try:
            sealed = open_envelope(content, statement.digest)
            # As bytes, since 1 and true are the same to Python, but not to whoever reads them.
            same = canonical(sealed.statement.to_json(now)) == wanted
        except IntegrityError:
            continue  # and it counts for nothing
        if sealed.statement.type == statement.type and sealed.signed_by(signer.public_key):
            words.append((sealed.signed_at, not same))
    if statement.type in LAST_WORD:
        words = [max(words)] if words else []
    if not all(other for _at, other in words):
        return False
    if write:
        attach(home, statement.digest, sign(statement, signer, now))
    return True


def read_piece(home: Repository, package: str, digest: str) -> bytes | None:
    """The envelope in a manifest, ``None`` when that is not for evidence; raises :class:`IntegrityError` when it can't be used."""
    where = f"the manifest {digest}"
    document = parse_json(home.read_manifest(digest), where)
    config = document.get("config")
    # Without one of its own it is of the type of its configuration.
    artifact_type = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    if not isinstance(artifact_type, str) or not _OTHERS.fullmatch(artifact_type):
        return None
    if Descriptor.from_json(document.get("subject"), where).digest != package:
        raise IntegrityError(f"it refers to another digest than {package}")
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        raise IntegrityError("it does not hold exactly one envelope")
    layer = Descriptor.from_json(layers[0], where)
    if not _OTHERS.fullmatch(layer.media_type) and layer.media_type not in _CONTENTS:
        raise IntegrityError(f"it holds {layer.media_type:.80}, not an envelope")
    inside = layers[0].get("data")
    if inside is None:
        return home.read_blob(layer.digest, ENVELOPE_LIMIT)
    try:
        envelope = base64.b64decode(inside, validate=True)
    except (TypeError, ValueError) as error:
        raise IntegrityError("what it has of the envelope in it is not in base64") from error
    if f"sha256:{hashlib.sha256(envelope).hexdigest()}" != layer.digest:
        raise IntegrityError(f"what it has of the envelope in it is not {layer.digest}")
    return envelope
