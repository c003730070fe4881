# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clearance as evidence: a verification summary as SLSA has it (https://slsa.dev/spec/v1.1/verification_summary). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

from ..errors import IntegrityError
from ..evidence.approval import Matter
from ..evidence.envelope import open_envelope
from ..evidence.statement import CLEARANCE, CLEARED, Statement, purl
from .clearance import Clearance

if TYPE_CHECKING:
    from securesystemslib.signer import Key


@dataclass(frozen=True)
class JudgedBy:
    """Who judged, and by what. ``verifier`` and ``policy`` are URIs, ``policy_digest`` is the sha256 of the policy's file in hexadecimal.

    ``inputs``: the evidence that was judged, as the URI of each piece and the sha256 of its envelope. ``heads``: where the history and the
    journal of the CMDB ended then, see :func:`..cmdb.chain.heads_document`; empty when that is not known.
    """

    verifier: str
    policy: str
    policy_digest: str
    inputs: tuple[tuple[str, str], ...] = ()
    heads: Mapping[str, Any] = field(default_factory=dict)


def summary_statement(clearance: Clearance, matter: Matter, judged_by: JudgedBy) -> Statement:
    """What the controls came to for a package.

    What SLSA has no field for, the RFC, the CIs and the controls, is in a field of our own, which is named by a URI.
    """
    resource = purl(matter.release, matter.version)
    predicate = {
        "verifier": {"id": judged_by.verifier},
        "timeVerified": clearance.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "resourceUri": resource,
        "policy": {"uri": judged_by.policy, "digest": {"sha256": judged_by.policy_digest}},
        "inputAttestations": [{"uri": uri, "digest": {"sha256": sha256}} for uri, sha256 in judged_by.inputs],
        "verificationResult": "PASSED" if clearance.granted else "FAILED",
        "verifiedLevels": ["TIDEGATE_CLEARED" if clearance.granted else "FAILED"],
        "slsaVersion": "1.1",
        CLEARED: {
            "rfc": matter.rfc,
            "rfcDigest": {"sha256": matter.fingerprint},
            "cis": list(matter.cis),
            "controls": {control.name: str(control.result) for control in clearance.controls},
            "heads": dict(judged_by.heads),
        },
    }
    return Statement(resource, matter.digest, CLEARANCE, predicate)


def is_signed(summary: Statement, content: bytes, key: Key) -> bool:
    """Whether ``content`` is this summary, of whatever moment of the clock and of the CMDB, under a signature by ``key``."""
    try:
        sealed = open_envelope(content)
    except IntegrityError:
        return False
    said = sealed.statement.predicate.get(CLEARED)
    moment = {
        "timeVerified": summary.predicate["timeVerified"],
        CLEARED: {**(said if isinstance(said, dict) else {}), "heads": summary.predicate[CLEARED]["heads"]},
    }
    return replace(sealed.statement, predicate={**sealed.statement.predicate, **moment}) == summary and sealed.signed_by(key)
