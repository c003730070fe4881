# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What evidence says: an in-toto statement about a digest. Pure.

A reader of statements is strict where JSON is not: a key that is there twice or a number that is none is refused, for two readers could
take it for two things. What Tidegate signs is a Statement v1 with one subject, which has a name and, as an annotation, the time of the
signature. Other tools leave these out, list several subjects, or write Statement v0.1. Of theirs a digest says enough for what machines
find out, and nothing for what people decide.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..documents import parse_time
from ..errors import IntegrityError
from ..strict_json import read_object

_STATEMENT = "https://in-toto.io/Statement/v1"
_OLDER = "https://in-toto.io/Statement/v0.1"  # what cosign writes; it has no annotations and else reads the same
_SHA256 = re.compile(r"[0-9a-f]{64}")

RELEASE = "https://in-toto.io/attestation/release/v0.2"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SBOM = "https://cyclonedx.org/bom"
SCAN = "https://tidegate.example/scan/v1"
LICENCE = "https://tidegate.example/licence/v1"
APPROVAL = "https://tidegate.example/approval/v1"
OPINION = "https://tidegate.example/opinion/v1"
WAIVER = "https://tidegate.example/waiver/v1"
SETTLEMENT = "https://tidegate.example/settlement/v1"
WRITE_OFF = "https://tidegate.example/write-off/v1"
DONE_BY_HAND = "https://tidegate.example/done-by-hand/v1"
SWAP = "https://tidegate.example/swap/v1"  # that a unit was exchanged for another
RECONCILED = "https://tidegate.example/reconciled/v1"  # that what an audit found is what is to be there from now on
ACCEPTED = "https://tidegate.example/accepted/v1"  # that a host stays as it is, for nothing brings it back
DATA = "https://tidegate.example/data/v1"  # how they are, after a step that was to change them
CLEARANCE = "https://slsa.dev/verification_summary/v1"
GATES = "https://tidegate.example/gates/v1"  # what the gates of a deployment were decided by
JOURNAL = "https://tidegate.example/journal/v1"  # the head of a file with what was archived of the journal
LIBRARY = "https://tidegate.example/library/v1"  # kept in the CMDB: what was seen of a package and the evidence about it

# The words of the policy for what can be said of a package, and the predicate type that says it.
KINDS: Mapping[str, str] = {
    "package": RELEASE,
    "scan": SCAN,
    "sbom": SBOM,
    "licence": LICENCE,
    "test-result": TEST_RESULT,
    "approval": APPROVAL,
    "opinion": OPINION,
    "waiver": WAIVER,
    "settlement": SETTLEMENT,
    "clearance": CLEARANCE,
    "gates": GATES,
}

SHARED = frozenset({"scan", "sbom", "test-result"})
"""The kinds of evidence that count in the form of other tools too, for the digest binds them enough."""
DECISIONS = frozenset({APPROVAL, OPINION, WAIVER, SETTLEMENT, WRITE_OFF, DONE_BY_HAND, SWAP, ACCEPTED, RECONCILED, DATA, JOURNAL, LIBRARY})
"""Types of what people decide, which is read in the one form that Tidegate writes: nobody may take a rejection for something else."""
_SBOMS = re.compile(r"https://cyclonedx\.org/bom(?:/v?1\.[0-9]{1,2})?|https://spdx\.dev/Document(?:/v?[0-9]{1,2}(?:\.[0-9]{1,2}){0,2})?")

CLEARED = "https://tidegate.example/clearance/v1"
"""The field of a clearance that has what its type has no field for."""
ON_CHANGES = frozenset({"approval", "waiver", "settlement", "clearance", "gates"})
"""The kinds of evidence that are for one RFC and no other."""
RECORDS = frozenset({"clearance", "gates"})
"""Those that say what was decided, by evidence and by hosts, and are no grounds for another decision."""
_NUMBER = 100  # signs of an RFC's number that a list of evidence names

SIGNED_AT = "https://tidegate.example/signed-at/v1"
"""The annotation of a statement's subject that has the time of the signature: predicates of others' types have no place for it."""
VERIFICATION = "https://tidegate.example/verification/v1"
"""The field of a test result that has what its type has no field for."""
UNDATED = datetime.min.replace(tzinfo=UTC)
"""The time of a signature that says none: before every other."""

# Of these each person's last word is what counts, so what was said before may have to be said again.
LAST_WORD = frozenset({SCAN, TEST_RESULT})


@dataclass(frozen=True)
class Statement:
    """``name`` and ``digest`` are what it is about, for a package its :func:`purl` and its digest; ``type`` is the predicate's."""

    name: str
    digest: str
    type: str
    predicate: Mapping[str, Any]

    def to_json(self, signed_at: datetime) -> dict[str, Any]:
        """The statement as it is signed, with the time of the signature beside its subject."""
        subject = {
            "name": self.name,
            "digest": {"sha256": self.digest.removeprefix("sha256:")},
            "annotations": {SIGNED_AT: signed_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")},
        }
        return {"_type": _STATEMENT, "subject": [subject], "predicateType": self.type, "predicate": dict(self.predicate)}


@dataclass(frozen=True)
class Reading:
    """A statement that was read. ``signed_at`` is :data:`UNDATED` when it does not say when; ``loose``: in what it is not as Tidegate
    writes one, empty when it is.
    """

    statement: Statement
    signed_at: datetime
    loose: str


@functools.lru_cache(128)
@functools.lru_cache(maxsize=64)  # lists of evidence have thousands, of few types
def kind_of(predicate_type: str) -> str | None:
    """The policy's word for a predicate type, ``None`` when it has none."""
    if _SBOMS.fullmatch(predicate_type):
        return "sbom"
    return next((kind for kind, uri in KINDS.items() if uri == predicate_type), None)


def rfc_of(predicate_type: str, predicate: object) -> str:
    """The number of the only RFC that a statement is for; empty when it is about the package itself, or does not say which."""
    if kind_of(predicate_type) not in ON_CHANGES or not isinstance(predicate, Mapping):
        return ""
    said = predicate.get(CLEARED) if predicate_type == CLEARANCE else predicate
    number = said.get("rfc") if isinstance(said, Mapping) else None
    return number if isinstance(number, str) and number.isprintable() and len(number) <= _NUMBER else ""


def purl(name: str, version: str) -> str:
    """The package URL of a release: what statements about its package are about."""
    return f"pkg:generic/{name}@{version}"


def release_statement(name: str, version: str, digest: str) -> Statement:
    """That ``digest`` is this version of the release: what signing a package says."""
    return Statement(purl(name, version), digest, RELEASE, {"purl": purl(name, version)})


def read_statement(payload: bytes, about: str | None = None) -> Reading:
    """The statement in an envelope's payload, about the digest ``about`` if that is among its subjects, else about its first one.

    Raises :class:`IntegrityError` when it can't be read.
    """
    document = strict_json(payload, "the statement")
    kind, predicate = document.get("predicateType"), document.get("predicate")
    if document.get("_type") not in (_STATEMENT, _OLDER):
        raise IntegrityError(f"the statement is not of the type {_STATEMENT}")
    if not isinstance(kind, str) or not isinstance(predicate, dict):
        raise IntegrityError("the statement has no predicate with a type")
    listed = document.get("subject")
    subjects = [found for entry in listed if (found := _subject(entry))] if isinstance(listed, list) else []
    if not subjects:
        raise IntegrityError("the statement has no subject with a sha256")
    name, digest, annotations = next((found for found in subjects if found[1] == about), subjects[0])
    signed_at = _signed_at(annotations, predicate, kind_of(kind) in SHARED)
    loose = ""
    if document["_type"] != _STATEMENT:
        loose = f"the statement is not of the type {_STATEMENT}"
    elif len(document["subject"]) != 1 or not name:
        loose = "the statement is not about exactly one subject with a name and a sha256"
    elif signed_at == UNDATED:
        loose = f"the statement does not say when it was signed, in {SIGNED_AT} with an offset"
    return Reading(Statement(name, digest, kind, predicate), signed_at, loose)


def _subject(entry: object) -> tuple[str, str, Mapping[str, Any]] | None:
    """Name, digest and annotations of a subject; ``None`` for one without a sha256."""
    digests = entry.get("digest") if isinstance(entry, dict) else None
    sha256 = digests.get("sha256") if isinstance(digests, dict) else None
    if not isinstance(entry, dict) or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        return None
    name, annotations = entry.get("name"), entry.get("annotations")
    return name if isinstance(name, str) else "", f"sha256:{sha256}", annotations if isinstance(annotations, dict) else {}


def _signed_at(annotations: Mapping[str, Any], predicate: dict[str, Any], shared: bool) -> datetime:
    """When a statement says that it was signed. Older ones of Tidegate's say it in the predicate, from which it is taken."""
    said = annotations.get(SIGNED_AT, predicate.get("signedAt"))
    try:
        signed_at = parse_time(said)
    except (TypeError, ValueError) as error:
        # A field of that name in somebody else's predicate may mean anything; an annotation of ours does not.
        if said is None or (shared and SIGNED_AT not in annotations):
            return UNDATED
        raise IntegrityError(f"the statement does not say when it was signed, in {SIGNED_AT} with an offset") from error
    if SIGNED_AT not in annotations:
        del predicate["signedAt"]
    return signed_at


def strict_json(content: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ``content``, which can be read in one way only; raises :class:`IntegrityError`."""
    return read_object(content, what)
