# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of who approved, and of duties that one person may not have together. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...policy.model import Waivable, normalised_name
from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import REASONS, Finding, Result, failed, not_applicable, passed, unknown


def approvals(facts: Facts, rfc: Rfc) -> Finding:
    """Whether as many people approve as the policy asks, in each role, and nobody who may decide rejects.

    They are named by the RFC, for which the change system vouches, or sign.
    """
    policy = facts.known(facts.policy, "policy")
    needed = policy.approvals[rfc.type]
    found = [_named_approvals(facts, rfc, needed)] if isinstance(needed, int) else []
    found += [_signed_approvals(facts, rfc, policy.signed_by(rfc.type))] if policy.deciders else []
    for result in (Result.FAIL, Result.INCONCLUSIVE):
        if bad := [one for one in found if one.result is result]:
            return Finding(result, "\n".join(one.reason for one in bad), "; ".join(one.remedy for one in bad))
    return passed("; ".join(one.reason for one in found))


def _named_approvals(facts: Facts, rfc: Rfc, needed: int) -> Finding:
    """Approvals that the RFC itself names: the change system vouches for them."""
    refused = sorted(entry.approver for entry in rfc.approvals if entry.state == "rejected")
    if refused:
        return failed(f"rejected by {', '.join(refused)}", "settle their objection and have the RFC approved anew")
    approved = [
        entry for entry in rfc.approvals if entry.state == "approved" and entry.decided_at is not None and entry.decided_at <= facts.now
    ]
    if needed and (unclear := _builder_unknown(facts, "approver")):
        return unclear
    out = barred(facts, rfc)
    people = {normalised_name(entry.approver) for entry in approved} - out.keys() - {""}
    if len(people) < needed:
        notes = [
            f"{entry.approver}'s does not count: {out[normalised_name(entry.approver)]}"
            for entry in approved
            if normalised_name(entry.approver) in out
        ]
        given = [entry for entry in rfc.approvals if entry.state == "approved"]
        notes += [f"{entry.approver}'s has no decided_at" for entry in given if entry.decided_at is None]
        notes += [f"{entry.approver}'s is of a time to come" for entry in given if entry.decided_at and entry.decided_at > facts.now]
        left_out = f" ({'; '.join(notes)})" if notes else ""
        return failed(
            f"{len(people)} of {needed} approvals{left_out}", f"have it approved by {needed - len(people)} more, not by {rfc.requested_by}"
        )
    return passed(f"{len(people)} of {needed} approvals")


def barred(facts: Facts, rfc: Rfc) -> dict[str, str]:
    """Who must not approve or waive, with why."""
    separate = facts.policy.separate if facts.policy else frozenset()
    names = {normalised_name(rfc.requested_by): "the requester"} if {"requester", "approver"} <= separate else {}
    if {"builder", "approver"} <= separate:
        names |= {normalised_name(name): "who signed the package" for name in facts.builders or ()}
    return names


def _builder_unknown(facts: Facts, other: str) -> Finding | None:
    """Inconclusive when the policy keeps the builder apart from ``other``, and nobody knows who that is."""
    if not {"builder", other} <= facts.known(facts.policy, "policy").separate or facts.known(facts.builders, "evidence"):
        return None
    reason = f"the {other} must not be who built it, and nobody whom the policy knows signed the package"
    return unknown(reason, "have it signed: archive the same release again with the builder's key, and give that to them under people")


def _signed_approvals(facts: Facts, rfc: Rfc, asked: Mapping[str, int]) -> Finding:
    """Approvals in each role that is asked, as evidence over the RFC, the package and the CIs; and rejections in each that ever decides."""
    facts.known(facts.scope, "scope")
    facts.known(facts.builders, "evidence")
    if asked and (unclear := _builder_unknown(facts, "approver")):
        return unclear
    judged = facts.known(facts.signed_approvals, "evidence")
    for role in asked:
        facts.known(judged.get(role), "evidence")
    out = barred(facts, rfc)
    lacking, given, rejected = [], [], []
    for role, judgement in sorted(judged.items()):
        # The last decision of each person counts; of two at the same moment, the rejection.
        decisions = sorted(judgement.counted, key=lambda one: (one.signed_at, one.statement.predicate.get("decision") == "rejected"))
        last = {one.person: one.statement.predicate.get("decision") for one in decisions}
        rejected += [f"{name} ({role})" for name, decision in sorted(last.items()) if decision == "rejected"]
        if role not in asked:
            continue
        approved = [name for name, decision in sorted(last.items()) if decision == "approved"]
        counted = [name for name in approved if normalised_name(name) not in out]
        wanted = asked[role]
        by = f" ({', '.join(counted)})" if counted else ""
        said = f"{len(counted)} of {wanted} approvals by the {role}{by}"
        if len(counted) < wanted:
            notes = [f"{name}'s does not count: {out[normalised_name(name)]}" for name in approved if normalised_name(name) in out]
            lacking.append("\n".join((said, *notes, *judgement.refused[:REASONS])))
        given.append(said)
    if rejected:
        return failed(f"rejected by {', '.join(rejected)}", "settle their objection, and have them approve")
    if lacking:
        return failed("\n".join(lacking), "have it approved by others who have the role, with tidegate.release.approve")
    unread = [sentence for judgement in judged.values() for sentence in judgement.unread]
    if unread:
        listed = "\n".join(dict.fromkeys(unread[:REASONS]))
        return unknown(f"evidence that can't be read may be a rejection\n{listed}", "restore it from a copy of the DSL")
    return passed("; ".join(given) or "rejected by nobody")


def no_return(facts: Facts, rfc: Rfc) -> Finding:
    """Whether those whom the policy names under no_return approve a release that migrates data and can't bring them back.

    They sign, in addition to all other approvals.
    """
    if "reverse" not in facts.known(facts.package, "package").manifest.get("ansible", {}):
        return not_applicable("it has no point of no return")
    asked = facts.known(facts.policy, "policy").no_return
    what = "it migrates data, which nothing brings back (reverse: none)"
    if not asked:
        remedy = "name the role that approves this under no_return in the policy, or archive a release with the step reverse"
        return failed(f"{what}, and the policy says under no_return of nobody that they approve that", remedy)
    found = _signed_approvals(facts, rfc, asked)
    return Finding(found.result, f"{what}: {found.reason}", found.remedy)


def duties(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the requester did not build the package, where the policy separates these duties."""
    if not {"requester", "builder"} <= facts.known(facts.policy, "policy").separate:
        return not_applicable("the policy lets the builder request the change")
    builders = facts.known(facts.builders, "evidence")
    if unclear := _builder_unknown(facts, "requester"):
        return unclear
    if normalised_name(rfc.requested_by) in {normalised_name(name) for name in builders}:
        return failed(f"{rfc.requested_by} requests the change and signed the package", "have somebody else request it, or build it")
    return passed("the requester did not build it")


def responsibilities(facts: Facts, rfc: Rfc) -> Finding:
    """Whether who deploys and who signed the package have roles that the policy makes responsible for these steps."""
    policy = facts.known(facts.policy, "policy")
    if not policy.responsibilities:
        return not_applicable("the policy gives no responsibilities")
    deploy, archive = policy.responsibilities["deploy"], policy.responsibilities["archive"]
    able = policy.holders(*deploy.responsible)
    if normalised_name(rfc.assigned_to) not in {normalised_name(name) for name in able}:
        who = f"{rfc.assigned_to}, to whom it is assigned, is" if rfc.assigned_to.strip() else "it is assigned to nobody, and nobody is"
        return failed(f"{who} not responsible for deploy", f"assign it to {' or '.join(able)}")
    builders = facts.known(facts.builders, "evidence")
    if builders.isdisjoint(policy.holders(*archive.responsible, archive.accountable)):
        signed = f"signed by {', '.join(sorted(builders))}" if builders else "signed by nobody whom the policy knows"
        return failed(f"the package is {signed}, who is not responsible for archive", "have it archived and signed by who is")
    parts = (f"{step} {' or '.join(policy.holders(*parts.responsible))}" for step, parts in policy.responsibilities.items())
    return passed(f"each step has somebody: {'; '.join(parts)}")


CONTROLS = (
    ControlSpec("approvals", approvals, 210, asked_at_gates=True),
    ControlSpec("no_return", no_return, 215, asked_at_gates=True),
    ControlSpec("duties", duties, 220, waivable=Waivable.ALWAYS),
    ControlSpec("responsibilities", responsibilities, 230, waivable=Waivable.ALWAYS),
)
