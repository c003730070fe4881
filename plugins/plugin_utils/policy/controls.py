# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controls: each one check of an RFC against the policy and the facts. Pure.

To add a control, write a function that takes :class:`Facts` and returns :class:`Control` fields, and put it in ``CONTROLS``. What
is not known is ``INCONCLUSIVE``, never ``PASS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..rfc.model import IMPLEMENT, SCHEDULED, STATES, Rfc
from .model import Policy, person

if TYPE_CHECKING:
    from ..evidence.trust import Judgement

_REASONS = 5  # why signatures don't count, that a finding lists


class Result(StrEnum):
    """What a control found; only ``fail`` and ``inconclusive`` stand in the way."""

    PASS = "pass"  # noqa: S105 - a result, not a password
    FAIL = "fail"
    WAIVED = "waived"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True)
class PackageFacts:
    """What the DSL says. ``archived``: the digest under the RFC's name and version, ``None`` when there is none.

    ``damage``: why the package is not intact, empty when every blob was read, is what its digest says, and belongs to this release.
    ``type`` is the release's; ``documents`` are the sizes of its documentation, in bytes, by name.
    ``retired``: what became of the release since, empty when nothing did, ``None`` when that could not be found out.
    """

    archived: str | None
    damage: str
    type: str = ""
    documents: Mapping[str, int] = field(default_factory=dict)
    retired: str | None = ""


@dataclass(frozen=True)
class Facts:
    """Everything that controls look at. ``None`` stands for what could not be found out; the ``_error`` texts say why.

    ``evidence``: the judgement of each kind of evidence that the policy's ``trust`` asks for. ``signed_approvals``: that of each role whose
    signed approval the policy asks for, for this type of RFC. ``builders``: the people of the policy who signed the package.
    ``waivers``: the judgement of each control that the policy lets people waive.
    """

    now: datetime
    rfc: Rfc | None
    rfc_error: str
    policy: Policy | None
    policy_error: str
    package: PackageFacts | None
    package_error: str
    scope: tuple[str, ...] | None
    scope_error: str
    evidence: Mapping[str, Judgement] | None = None
    evidence_error: str = ""
    signed_approvals: Mapping[str, Judgement] | None = None
    builders: frozenset[str] | None = None
    waivers: Mapping[str, Judgement] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A control's result with its reason, and what to do when it is not a pass."""

    result: Result
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Control:
    """A named finding."""

    name: str
    result: Result
    reason: str
    remedy: str

    @property
    def blocks(self) -> bool:
        """Whether it stands in the way of a clearance."""
        return self.result in (Result.FAIL, Result.INCONCLUSIVE)


def _passed(reason: str) -> Finding:
    return Finding(Result.PASS, reason)


def _failed(reason: str, remedy: str) -> Finding:
    return Finding(Result.FAIL, reason, remedy)


def _unknown(reason: str, remedy: str) -> Finding:
    return Finding(Result.INCONCLUSIVE, reason, remedy)


def _schema(_facts: Facts, rfc: Rfc) -> Finding:
    return _passed(f"{rfc.number} is a complete RFC")


def _state(_facts: Facts, rfc: Rfc) -> Finding:
    if rfc.on_hold:
        return _failed(f"{rfc.number} is on hold", "settle what it waits for and take it off hold")
    if rfc.state in (SCHEDULED, IMPLEMENT):
        return _passed(f"{rfc.number} is {STATES[rfc.state]}")
    return _failed(f"{rfc.number} is {STATES[rfc.state]}", "bring it to Scheduled (-2) by the change process")


def _window(facts: Facts, rfc: Rfc) -> Finding:
    window = f"{rfc.start_date.isoformat()} to {rfc.end_date.isoformat()}"
    if facts.now < rfc.start_date:
        return _failed(f"the window {window} has not opened", "wait for it, or have the RFC rescheduled")
    if facts.now >= rfc.end_date:
        return _failed(f"the window {window} is over", "have the RFC rescheduled; a missed window is never made up for")
    return _passed(f"the window {window} is open")


def _digest(facts: Facts, rfc: Rfc) -> Finding:
    package = facts.package
    if package is None:
        return _unknown(f"the DSL could not be read: {facts.package_error}", "make it readable")
    if package.archived is None:
        return _unknown(f"there is no archived {rfc.release} {rfc.version} to compare with", "archive the release")
    if package.archived != rfc.digest:
        return _failed(
            f"the RFC names {rfc.digest}, but {rfc.release} {rfc.version} is {package.archived}",
            "have the RFC approved for what is archived",
        )
    return _passed(f"the RFC names the archived {rfc.release} {rfc.version}")


def _archived(facts: Facts, rfc: Rfc) -> Finding:
    package = facts.package
    if package is None:
        return _unknown(f"the DSL could not be read: {facts.package_error}", "make it readable")
    if package.archived is None:
        return _failed(f"the DSL has no {rfc.release} {rfc.version}", "archive it and name its digest in the RFC")
    if package.retired is None:
        return _unknown(f"whether {rfc.release} {rfc.version} was retired could not be found out", "make the CMDB readable")
    if package.retired:
        return _failed(package.retired, "un-retire it with dsl_release, or use another version")
    return _passed(f"{rfc.release} {rfc.version} is in the DSL")


def _intact(facts: Facts, _rfc: Rfc) -> Finding:
    package = facts.package
    if package is None:
        return _unknown(f"the DSL could not be read: {facts.package_error}", "make it readable")
    if package.archived is None:
        return _unknown("there is no package to look at", "archive the release")
    if package.damage:
        return _failed(package.damage, "restore the package from a copy of the DSL")
    return _passed("every blob of the package is what its digest says")


def _documentation(facts: Facts, rfc: Rfc) -> Finding:
    package = facts.package
    if facts.policy is None:
        return _unknown(f"the policy could not be read: {facts.policy_error}", "correct the policy")
    if not any(facts.policy.documentation.values()):
        return Finding(Result.NOT_APPLICABLE, "the policy asks for no documentation")
    if package is None or package.archived is None or package.damage:
        return _unknown(f"there is no intact package of {rfc.release} {rfc.version} to look at", "archive the release")
    wanted = facts.policy.documentation.get(package.type, ())
    if not wanted:
        return Finding(Result.NOT_APPLICABLE, f"the policy asks for no documentation of {package.type} releases")
    there = sorted(name for name, size in package.documents.items() if size)
    lacking = [pattern for pattern in wanted if not any(fnmatchcase(name, pattern) for name in there)]
    if lacking:
        return _failed(
            f"no documentation with something in it is named {', '.join(lacking)}", "write it and name it in release.yml, in a new version"
        )
    return _passed(f"the documentation of {package.type} releases is there: {', '.join(there)}")


def _scope(facts: Facts, _rfc: Rfc) -> Finding:
    if facts.scope is None:
        return _unknown(f"the CIs could not be selected: {facts.scope_error}", "correct the scope, or make the CMDB readable")
    if not facts.scope:
        return _failed("the scope selects no CI", "correct the scope, or enter the CIs in the CMDB")
    return _passed(f"the scope selects {len(facts.scope)} CI{'s' if len(facts.scope) > 1 else ''}")


def _approvals(facts: Facts, rfc: Rfc) -> Finding:
    if facts.policy is None:
        return _unknown(f"the policy could not be read: {facts.policy_error}", "correct the policy")
    needed = facts.policy.approvals[rfc.type]
    return _named_approvals(facts, facts.policy, rfc, needed) if isinstance(needed, int) else _signed_approvals(facts, rfc)


def _named_approvals(facts: Facts, policy: Policy, rfc: Rfc, needed: int) -> Finding:
    """Approvals that the RFC itself names: the change system vouches for them."""
    refused = sorted(entry.approver for entry in rfc.approvals if entry.state == "rejected")
    if refused:
        return _failed(f"rejected by {', '.join(refused)}", "settle their objection and have the RFC approved anew")
    approved = [
        entry for entry in rfc.approvals if entry.state == "approved" and entry.decided_at is not None and entry.decided_at <= facts.now
    ]
    barred = {person(rfc.requested_by)} if {"requester", "approver"} <= policy.separate else set()
    people = {person(entry.approver) for entry in approved} - barred - {""}
    if len(people) < needed:
        notes = ["the requester's own does not count"] if any(person(e.approver) in barred for e in approved) else []
        given = [entry for entry in rfc.approvals if entry.state == "approved"]
        notes += [f"{entry.approver}'s has no decided_at" for entry in given if entry.decided_at is None]
        notes += [f"{entry.approver}'s is of a time to come" for entry in given if entry.decided_at and entry.decided_at > facts.now]
        left_out = f" ({'; '.join(notes)})" if notes else ""
        return _failed(
            f"{len(people)} of {needed} approvals{left_out}", f"have it approved by {needed - len(people)} more, not by {rfc.requested_by}"
        )
    return _passed(f"{len(people)} of {needed} approvals")


def _barred(facts: Facts, rfc: Rfc) -> dict[str, str]:
    """Who must not approve or waive, with why."""
    separate = facts.policy.separate if facts.policy else frozenset()
    barred = {person(rfc.requested_by): "the requester"} if {"requester", "approver"} <= separate else {}
    if {"builder", "approver"} <= separate:
        barred |= {person(name): "who signed the package" for name in facts.builders or ()}
    return barred


def _signed_approvals(facts: Facts, rfc: Rfc) -> Finding:
    """Approvals in each role that the policy names, as evidence over the RFC, the package and the CIs."""
    if facts.signed_approvals is None or facts.builders is None:
        why = facts.evidence_error or facts.scope_error
        return _unknown(f"the approvals could not be read: {why}", "make the DSL and the CMDB readable")
    barred = _barred(facts, rfc)
    lacking, given, rejected = [], [], []
    for role, judgement in facts.signed_approvals.items():
        # The last word of each person counts; of two at the same moment, the rejection.
        words = sorted(judgement.counted, key=lambda one: (one.signed_at, one.statement.predicate.get("decision") == "rejected"))
        last = {one.person: one.statement.predicate.get("decision") for one in words}
        rejected += [f"{name} ({role})" for name, decision in sorted(last.items()) if decision == "rejected"]
        approved = [name for name, decision in sorted(last.items()) if decision == "approved"]
        counted = [name for name in approved if person(name) not in barred]
        wanted = judgement.wanted.threshold if judgement.wanted else 1
        by = f" ({', '.join(counted)})" if counted else ""
        said = f"{len(counted)} of {wanted} approvals by the {role}{by}"
        if len(counted) < wanted:
            notes = [f"{name}'s does not count: {barred[person(name)]}" for name in approved if person(name) in barred]
            lacking.append("\n".join((said, *notes, *judgement.refused[:_REASONS])))
        given.append(said)
    if rejected:
        return _failed(f"rejected by {', '.join(rejected)}", "settle their objection, and have them approve")
    if lacking:
        return _failed("\n".join(lacking), "have it approved by others who have the role, with tidegate.release.approve")
    return _passed("; ".join(given))


def _duties(facts: Facts, rfc: Rfc) -> Finding:
    if facts.policy is None:
        return _unknown(f"the policy could not be read: {facts.policy_error}", "correct the policy")
    if not {"requester", "builder"} <= facts.policy.separate:
        return Finding(Result.NOT_APPLICABLE, "the policy lets the builder request the change")
    if facts.builders is None:
        return _unknown(f"who signed the package could not be read: {facts.evidence_error}", "make the DSL readable")
    if person(rfc.requested_by) in {person(name) for name in facts.builders}:
        return _failed(f"{rfc.requested_by} requests the change and signed the package", "have somebody else request it, or build it")
    return _passed("the requester did not build it")


def _backout_plan(_facts: Facts, rfc: Rfc) -> Finding:
    if not rfc.backout_plan.strip():
        return _failed("there is no back-out plan", "write in backout_plan how the change is undone and who decides it")
    return _passed("there is a back-out plan")


def _signatures(facts: Facts, rfc: Rfc) -> Finding:
    remedy = "have it signed: archive the same release again with the key of somebody who has the role"
    return _judged(facts, rfc, lambda kind: kind == "package", "signature", remedy)


def _malware(facts: Facts, rfc: Rfc) -> Finding:
    signed = _judged(facts, rfc, lambda kind: kind == "scan", "malware scan", "have it scanned: archive the same release again with a key")
    judgement = (facts.evidence or {}).get("scan")
    if signed.result is not Result.PASS or judgement is None or judgement.wanted is None:
        return signed
    # The last word of each person counts, and nobody's clean undoes another's infected.
    last = {one.person: one.statement.predicate for one in sorted(judgement.counted, key=lambda one: one.signed_at)}
    infected = sorted(name for name, said in last.items() if said.get("result") == "infected")
    if infected:
        return _failed(f"{', '.join(infected)} signed that it is infected", "find out what is in the release, and archive a clean version")
    clean = sorted(name for name, said in last.items() if said.get("result") == "clean")
    if len(clean) < judgement.wanted.threshold:
        details = sorted({str(said.get("detail")) for said in last.values() if said.get("detail")})
        return _unknown(
            "; ".join((f"{len(clean)} of {judgement.wanted.threshold} scans were clean", *details)),
            "mend the scanner, then archive the same release again with a key",
        )
    return _passed(f"scanned and clean, signed by {', '.join(clean)}")


def _evidence(facts: Facts, rfc: Rfc) -> Finding:
    signed = _judged(
        facts, rfc, lambda kind: kind not in ("package", "scan"), "other evidence", "have people with the role sign it, with attestation"
    )
    licences = (facts.evidence or {}).get("licence")
    if signed.result is Result.PASS and licences and not all(one.statement.predicate.get("declared") for one in licences.counted):
        return _failed("the release declares no licence", "name it under licence in release.yml, in a new version")
    return signed


def _judged(facts: Facts, rfc: Rfc, wanted: Callable[[str], bool], what: str, remedy: str) -> Finding:
    """Whether enough people signed each kind of evidence that is wanted."""
    if facts.policy is None:
        return _unknown(f"the policy could not be read: {facts.policy_error}", "correct the policy")
    kinds = [kind for kind in facts.policy.trust if wanted(kind)]
    if not kinds:
        return Finding(Result.NOT_APPLICABLE, f"the policy asks for no {what}")
    if facts.package is not None and facts.package.archived is None:
        return _unknown(f"there is no archived {rfc.release} {rfc.version} to be signed", "archive the release")
    judgements = [judgement for kind in kinds if (judgement := (facts.evidence or {}).get(kind)) is not None]
    if len(judgements) < len(kinds):
        return _unknown(f"the {what} could not be read: {facts.evidence_error}", "make the DSL readable")
    lacking = [judgement for judgement in judgements if not judgement.trusted]
    if lacking:
        return _failed("\n".join(line for judgement in lacking for line in (judgement.sentence(), *judgement.refused[:_REASONS])), remedy)
    return _passed("; ".join(judgement.sentence() for judgement in judgements))


CONTROLS: Mapping[str, Callable[[Facts, Rfc], Finding]] = {
    "rfc_schema": _schema,
    "rfc_state": _state,
    "window": _window,
    "digest": _digest,
    "payload_archived": _archived,
    "payload_intact": _intact,
    "signatures": _signatures,
    "malware": _malware,
    "evidence": _evidence,
    "documentation": _documentation,
    "scope": _scope,
    "approvals": _approvals,
    "duties": _duties,
    "backout_plan": _backout_plan,
}


def _waived(finding: Finding, judgement: Judgement | None, barred: Mapping[str, str]) -> Finding:
    """What a finding comes to with the waivers that people signed. What could not be found out can't be waived: nobody knows what it is."""
    if finding.result is not Result.FAIL or judgement is None or judgement.wanted is None:
        return finding
    given = {one.person: one.statement.predicate for one in judgement.counted if person(one.person) not in barred}
    if len(given) < judgement.wanted.threshold:
        notes = [f"{name}'s waiver does not count: {barred[person(name)]}" for name in judgement.people if person(name) in barred]
        return replace(finding, reason="\n".join((finding.reason, *notes, *judgement.refused[:_REASONS])))
    words = [f"waived by {name} until {said['expires']}: {' '.join(said['reason'].split()):.200}" for name, said in sorted(given.items())]
    return Finding(Result.WAIVED, "\n".join((finding.reason, *words)))


def evaluate_controls(facts: Facts) -> tuple[Control, ...]:
    """Every control's result, whatever the others found; one that breaks has found nothing out."""
    results = []
    for name, control in CONTROLS.items():
        if facts.rfc is not None:
            try:
                finding = control(facts, facts.rfc)
                finding = _waived(finding, facts.waivers.get(name), _barred(facts, facts.rfc))
            except Exception as error:  # a broken control must neither pass nor hide the others
                finding = _unknown(f"the control itself failed: {type(error).__name__}: {error}", "report it to the control's author")
        elif name == "rfc_schema":
            finding = _failed(facts.rfc_error, "correct the RFC")
        else:
            finding = _unknown("there is no valid RFC to evaluate", "correct the RFC")
        results.append(Control(name, finding.result, finding.reason, finding.remedy))
    return tuple(results)
