# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What evidence says: an in-toto Statement v1 about one digest. Pure.

A reader of statements is strict where JSON is not: a key that is there twice, a number that is none, more than one subject, all are
refused, for two readers could take them for two things.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..documents import parse_time
from ..errors import IntegrityError
from ..strict_json import read_object

_STATEMENT = "https://in-toto.io/Statement/v1"
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
CLEARANCE = "https://slsa.dev/verification_summary/v1"
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
}

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
        """The statement as it is signed, with the time of the signature in its predicate."""
        return {
            "_type": _STATEMENT,
            "subject": [{"name": self.name, "digest": {"sha256": self.digest.removeprefix("sha256:")}}],
            "predicateType": self.type,
            "predicate": {**self.predicate, "signedAt": signed_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")},
        }


def purl(name: str, version: str) -> str:
    """The package URL of a release: what statements about its package are about."""
    return f"pkg:generic/{name}@{version}"


def release_statement(name: str, version: str, digest: str) -> Statement:
    """That ``digest`` is this version of the release: what signing a package says."""
    return Statement(purl(name, version), digest, RELEASE, {"purl": purl(name, version)})


def read_statement(payload: bytes) -> tuple[Statement, datetime]:
    """The statement in an envelope's payload, ``signedAt`` apart from its predicate; raises :class:`IntegrityError`."""
    document = strict_json(payload, "the statement")
    subjects = document.get("subject")
    subject = subjects[0] if isinstance(subjects, list) and len(subjects) == 1 and isinstance(subjects[0], dict) else {}
    digests = subject.get("digest")
    sha256 = digests.get("sha256") if isinstance(digests, dict) else None
    name, kind, predicate = subject.get("name"), document.get("predicateType"), document.get("predicate")
    if document.get("_type") != _STATEMENT:
        raise IntegrityError(f"the statement is not of the type {_STATEMENT}")
    if not isinstance(name, str) or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise IntegrityError("the statement is not about exactly one subject with a name and a sha256")
    if not isinstance(kind, str) or not isinstance(predicate, dict):
        raise IntegrityError("the statement has no predicate with a type")
    try:
        signed_at = parse_time(predicate.pop("signedAt"))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError("the statement does not say when it was signed, in signedAt with an offset") from error
    return Statement(name, f"sha256:{sha256}", kind, predicate), signed_at


def strict_json(content: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ``content``, which can be read in one way only; raises :class:`IntegrityError`."""
    return read_object(content, what)
