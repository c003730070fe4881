# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People with keys, a policy that trusts them, and envelopes, whole and forged."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.approval import Matter
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import IN_TOTO, sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import Statement, release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import EMPTY, ENVELOPE, Evidence
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Person, Policy, PublicKey, Trust
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from documents import loaded_rfc
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
EARLIER = NOW - timedelta(days=30)
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ROLE = "release-manager"
RELEASE = release_statement("hello", "1.0", DIGEST)

MATTER = Matter("CHG1", "f" * 64, "hello", "1.0", DIGEST, ("web1", "web2"))
RFC = loaded_rfc(
    number="CHG1",
    short_description="hello",
    requested_by="oscar",
    start_date=NOW,
    end_date=NOW + timedelta(hours=1),
    backout_plan="Back.",
    test_plan="Look.",
    digest=DIGEST,
)

KEYS = {name: CryptoSigner.generate_ed25519() for name in ("rita", "rita's other", "carl", "dora", "mallory")}


def pem(signer: CryptoSigner) -> str:
    """The public key as openssl prints it."""
    return signer._private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_file(folder: Path, name: str) -> Path:
    """The private key of somebody in a file that only its owner may read."""
    path = folder / f"{name}.pem"
    path.touch(mode=0o600)
    path.write_bytes(KEYS[name].private_bytes)
    return path


def public(name: str, revoked: datetime | None = None) -> PublicKey:
    return PublicKey(KEYS[name].public_key.keyid, pem(KEYS[name]), revoked)


PEOPLE = {
    "rita": Person(frozenset([ROLE]), (public("rita"), public("rita's other"))),
    "carl": Person(frozenset([ROLE, "tester"]), (public("carl"),)),
    "dora": Person(frozenset(["tester"]), (public("dora"),)),
}


def policy(threshold: int = 1, people: Mapping[str, Person] | None = None, **trust: Trust) -> Policy:
    return Policy({"normal": 1, "standard": 0, "emergency": 1}, Rollout(), people or PEOPLE, {"package": Trust(ROLE, threshold), **trust})


def sealed(name: str = "rita", statement: Statement = RELEASE, at: datetime = EARLIER) -> bytes:
    return sign(statement, KEYS[name], at)


def evidence(*envelopes: bytes) -> Evidence:
    return Evidence(envelopes, ())


def resealed(change: Callable[[dict[str, Any]], object], name: str = "rita", payload_type: str = IN_TOTO) -> bytes:
    """An envelope that somebody really signed, around a statement with something changed in it."""
    document = RELEASE.to_json(EARLIER)
    change(document)
    return sealed_payload(json.dumps(document).encode(), name, payload_type)


def sealed_payload(payload: bytes, name: str = "rita", payload_type: str = IN_TOTO) -> bytes:
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(KEYS[name])
    return json.dumps(envelope.to_dict()).encode()


def forged(change: Callable[[dict[str, Any]], object], envelope: bytes | None = None) -> bytes:
    """An envelope changed after it was signed."""
    document = json.loads(envelope or sealed())
    change(document)
    return json.dumps(document).encode()


def payload_of(document: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(document["payload"])))


def put_payload(document: dict[str, Any], payload: Mapping[str, Any]) -> None:
    document["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def referring(home: Any, package: str, envelope: bytes, media_type: str = ENVELOPE) -> bytes:
    """A manifest that refers to a package with this envelope, as anybody can write one who can write to the DSL."""
    manifest = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest,
            "artifactType": IN_TOTO,
            "config": home.put_blob(b"{}", EMPTY).to_json(),
            "layers": [home.put_blob(envelope, media_type).to_json()],
            "subject": {"mediaType": manifest, "digest": package, "size": 1},
        }
    ).encode()
