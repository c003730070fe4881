# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of evidence that people signed about the package. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ...policy.model import Waivable
from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import NO_PACKAGE, REASONS, Finding, Result, failed, not_applicable, passed, unknown
from .package import copied_alone


def signatures(facts: Facts, rfc: Rfc) -> Finding:
    """Whether as many people as the policy asks signed the package."""
    remedy = "have it signed: archive the same release again with the key of somebody who has the role"
    return _judged(facts, rfc, lambda kind: kind == "package", "signature", remedy)


def malware(facts: Facts, rfc: Rfc) -> Finding:
    """Whether as many people as the policy asks signed that the package was scanned and is clean, and nobody that it is infected."""
    signed = _judged(facts, rfc, lambda kind: kind == "scan", "malware scan", "have it scanned: archive the same release again with a key")
    judgement = (facts.evidence or {}).get("scan")
    if signed.result is not Result.PASS or judgement is None or judgement.wanted is None:
        return signed
    # The last statement of each person counts, of two in one second the infected; and nobody's clean undoes another's infected.
    statements = sorted(judgement.counted, key=lambda one: one.order(one.statement.predicate.get("result") == "infected"))
    last = {one.person: one.statement.predicate for one in statements}
    infected = sorted(name for name, said in last.items() if said.get("result") == "infected")
    if infected:
        return failed(f"{', '.join(infected)} signed that it is infected", "find out what is in the release, and archive a clean version")
    clean = sorted(name for name, said in last.items() if said.get("result") == "clean")
    if len(clean) < judgement.wanted.threshold:
        details = sorted({str(said.get("detail")) for said in last.values() if said.get("detail")})
        return unknown(
            "; ".join((f"{len(clean)} of {judgement.wanted.threshold} scans were clean", *details)),
            "mend the scanner, then archive the same release again with a key",
        )
    return passed(f"scanned and clean, signed by {', '.join(clean)}")


def evidence(facts: Facts, rfc: Rfc) -> Finding:
    """Whether as many people as the policy asks signed each other kind of evidence, and the licence is declared where that is one."""
    signed = _judged(
        facts,
        rfc,
        lambda kind: kind not in ("package", "scan", "test-result"),
        "other evidence",
        "have people with the role sign it, with attestation",
    )
    licences = (facts.evidence or {}).get("licence")
    if signed.result is Result.PASS and licences and not all(one.statement.predicate.get("declared") for one in licences.counted):
        return failed("the release declares no licence", "name it under licence in release.yml, in a new version")
    return signed


def _judged(facts: Facts, rfc: Rfc, wanted: Callable[[str], bool], what: str, remedy: str) -> Finding:
    """Whether enough people signed each kind of evidence that is wanted."""
    kinds = [kind for kind in facts.known(facts.policy, "policy").trust if wanted(kind)]
    if not kinds:
        return not_applicable(f"the policy asks for no {what}")
    if facts.package is not None and facts.package.archived is None:
        return unknown(f"there is no archived {rfc.release} {rfc.version} to be signed", "archive the release", NO_PACKAGE)
    evidence = facts.known(facts.evidence, "evidence")
    judgements = [facts.known(evidence.get(kind), "evidence") for kind in kinds]
    lacking = [judgement for judgement in judgements if not judgement.trusted]
    if lacking:
        return failed(
            "\n".join(line for judgement in lacking for line in (judgement.sentence(), *judgement.refused[:REASONS])),
            remedy + copied_alone(facts),
        )
    return passed("; ".join(judgement.sentence() for judgement in judgements))


CONTROLS = (
    ControlSpec("signatures", signatures, 100, asked_at_gates=True),
    ControlSpec("malware", malware, 110, asked_at_gates=True, waivable=Waivable.ALWAYS),
    ControlSpec("evidence", evidence, 120, asked_at_gates=True, waivable=Waivable.ALWAYS),
)
