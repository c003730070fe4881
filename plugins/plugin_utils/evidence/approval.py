# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approvals as signed evidence: of one RFC as it reads, one package and one list of CIs, so that a change of any of them voids it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import IntegrityError
from .envelope import open_envelope
from .statement import APPROVAL, Statement, purl

if TYPE_CHECKING:
    from .store import Evidence

APPROVED, REJECTED = "approved", "rejected"
_NAMED = 3  # CIs that a sentence names


@dataclass(frozen=True)
class Matter:
    """What is to be decided on: the RFC by its number and the sha256 of what it says, the release's package, and the CIs, sorted."""

    rfc: str
    fingerprint: str
    release: str
    version: str
    digest: str
    cis: tuple[str, ...]

    def statement(self, role: str, decision: str, comment: str) -> Statement:
        """That somebody in ``role`` decided so."""
        predicate = {
            "rfc": self.rfc,
            "rfcDigest": {"sha256": self.fingerprint},
            "cis": list(self.cis),
            "role": role,
            "decision": decision,
            "comment": comment,
        }
        return Statement(purl(self.release, self.version), self.digest, APPROVAL, predicate)

    def fault(self, statement: Statement) -> str:
        """Why a decision on this RFC does not hold for it as things are now; empty when it does. A rejection holds whatever changed."""
        said = statement.predicate
        if said.get("decision") == REJECTED:
            return ""
        if said.get("decision") != APPROVED:
            return f"it decides {said.get('decision')!a:.40}, which is neither {APPROVED} nor {REJECTED}"
        if said.get("rfcDigest") != {"sha256": self.fingerprint}:
            return f"{self.rfc} was edited after it was approved"
        listed = said.get("cis")
        if listed != list(self.cis):
            before = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
            new, gone = sorted(set(self.cis) - before), sorted(before - set(self.cis))
            return f"the scope selects other CIs than were approved{_told(' now also ', new)}{_told(' no longer ', gone)}"
        return ""


def concerning(evidence: Evidence, kind: str, **said: str) -> Evidence:
    """What of the evidence is of the predicate type ``kind`` and says just this, and what can't be read, which may be that."""
    kept = []
    for content in evidence:
        try:
            statement = open_envelope(content).statement
        except IntegrityError:
            kept.append(content)
            continue
        if statement.type == kind and all(statement.predicate.get(name) == value for name, value in said.items()):
            kept.append(content)
    return replace(evidence, envelopes=tuple(kept), attached=(), foreign=())


def _told(how: str, names: Iterable[str]) -> str:
    listed = [ascii(name) for name in names]
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f",{how}{', '.join(listed[:_NAMED])}{more}" if listed else ""
