# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An approval holds for one RFC as it reads, one package, one list of CIs, by somebody who may: everything else is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS, evaluate_controls
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.facts import Facts, PackageFacts
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Control, Finding, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.approval import APPROVED, REJECTED, Matter
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import Statement, release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import Evidence
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.trust import judge_approvals, judge_waiver, signers
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.waiver import waiver_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Person, Policy, Trust
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Approval, Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from hypothesis import given
from hypothesis import strategies as st
from seals import DIGEST, EARLIER, KEYS, MATTER, NOW, OTHER, RFC, public

ALL = frozenset({"requester", "builder", "approver"})
PEOPLE = {
    "rita": Person(frozenset(["change-manager"]), (public("rita"), public("rita's other"))),
    "carl": Person(frozenset(["change-manager", "service-owner"]), (public("carl"),)),
    "dora": Person(frozenset(["service-owner"]), (public("dora"),)),
}
POLICY = Policy({"normal": {"change-manager": 1}, "standard": 0, "emergency": 1}, Rollout(), PEOPLE, {}, ALL)


def decided(
    name: str = "carl", decision: str = APPROVED, role: str = "change-manager", at: datetime = EARLIER, matter: Matter = MATTER
) -> bytes:
    return sign(matter.statement(role, decision, ""), KEYS[name], at)


def nothing(rfc: Rfc, policy: Policy) -> Facts:
    """Facts without a word of anybody's."""
    return Facts(
        now=NOW,
        rfc=rfc,
        policy=policy,
        package=PackageFacts(DIGEST, ""),
        scope=MATTER.cis,
    )


def finding(*envelopes: bytes, policy: Policy = POLICY, matter: Matter = MATTER, **changes: Any) -> Finding:
    """What the control says when these envelopes are beside the package."""
    evidence, rfc = Evidence(envelopes, ()), replace(RFC, **changes)
    wanted = policy.signed_by("normal")
    judged = {role: judge_approvals(evidence, policy, matter, role, wanted.get(role, 1), NOW) for role in policy.deciders}
    builders = signers(evidence, policy, "package") or frozenset({"bob"})
    facts = replace(nothing(rfc, policy), signed_approvals=judged, builders=builders)
    return CONTROLS["approvals"].check(facts, rfc)


def needing(**roles: int) -> Policy:
    return replace(POLICY, approvals={**POLICY.approvals, "normal": {role.replace("_", "-"): count for role, count in roles.items()}})


def test_somebody_with_the_role_approves() -> None:
    found = finding(decided())
    assert (found.result, found.reason) == (Result.PASS, "1 of 1 approvals by the change-manager (carl)")


@pytest.mark.parametrize(
    ("matter", "reason"),
    [
        (replace(MATTER, fingerprint="e" * 64), "CHG1 was edited after it was approved"),
        (replace(MATTER, cis=("web1",)), "the scope selects other CIs than were approved, now also 'web2'"),
        (replace(MATTER, cis=("web1", "web2", "web3")), "the scope selects other CIs than were approved, no longer 'web3'"),
        (replace(MATTER, digest=OTHER), f"it is about {OTHER}, not about {DIGEST}"),
        (replace(MATTER, version="1.1"), "it is about 'pkg:generic/hello@1.1', not about pkg:generic/hello@1.0"),
    ],
)
def test_an_approval_of_something_else_is_void(matter: Matter, reason: str) -> None:
    found = finding(decided(matter=matter))
    assert found.result is Result.FAIL
    assert f"the signature of carl does not count: {reason}" in found.reason


def test_an_approval_of_another_rfc_says_nothing_of_this_one() -> None:
    assert finding(decided(matter=replace(MATTER, rfc="CHG2"))).result is Result.FAIL
    assert finding(decided("rita"), decided(matter=replace(MATTER, rfc="CHG2"), decision=REJECTED)).result is Result.PASS


@pytest.mark.parametrize("name", ["dora", "mallory"])
def test_an_approval_by_somebody_without_the_role_does_not_count(name: str) -> None:
    assert finding(decided(name)).result is Result.FAIL


def test_an_approval_in_another_role_does_not_count() -> None:
    assert finding(decided("carl", role="service-owner")).result is Result.FAIL


def test_one_person_is_one_approver_whatever_they_sign_with() -> None:
    both = (decided("rita"), decided("rita's other"), decided("rita", at=EARLIER + timedelta(hours=1)))
    assert finding(*both, policy=needing(change_manager=2)).result is Result.FAIL
    assert finding(*both, decided("carl"), policy=needing(change_manager=2)).result is Result.PASS


def test_each_role_has_to_approve() -> None:
    policy = needing(change_manager=1, service_owner=1)
    assert finding(decided("rita"), policy=policy).result is Result.FAIL
    found = finding(decided("rita"), decided("dora", role="service-owner"), policy=policy)
    assert found.reason == "1 of 1 approvals by the change-manager (rita); 1 of 1 approvals by the service-owner (dora)"


@pytest.mark.parametrize("requester", ["carl", "Carl ", "\uff23arl"])
def test_the_requester_does_not_approve(requester: str) -> None:
    found = finding(decided(), requested_by=requester)
    assert (found.result, "carl's does not count: the requester" in found.reason) == (Result.FAIL, True)
    lenient = replace(POLICY, separate=frozenset({"builder", "approver"}))
    assert finding(decided(), policy=lenient, requested_by=requester).result is Result.PASS


def test_the_builder_does_not_approve_where_the_policy_says_so() -> None:
    built = sign(release_statement("hello", "1.0", DIGEST), KEYS["carl"], EARLIER)
    found = finding(built, decided())
    assert (found.result, "carl's does not count: who signed the package" in found.reason) == (Result.FAIL, True)
    assert finding(built, decided("rita")).result is Result.PASS
    assert finding(built, decided(), policy=replace(POLICY, separate=frozenset({"requester", "approver"}))).result is Result.PASS


def test_a_rejection_holds_until_its_author_approves() -> None:
    edited = replace(MATTER, fingerprint="e" * 64, cis=("web9",))
    rejected = decided("carl", REJECTED, matter=edited)
    found = finding(decided("rita"), rejected)
    assert (found.result, found.reason) == (Result.FAIL, "rejected by carl (change-manager)")
    assert finding(decided("rita"), rejected, decided(at=EARLIER + timedelta(hours=1))).result is Result.PASS
    assert finding(decided("rita"), decided(at=EARLIER - timedelta(hours=1)), rejected).result is Result.FAIL
    assert finding(decided("rita"), decided(), rejected).result is Result.FAIL  # both in one second


def test_what_can_not_be_read_may_be_a_rejection() -> None:
    rejected = decided("rita", REJECTED)
    assert finding(decided(), rejected).result is Result.FAIL
    found = finding(decided(), rejected[:-9])
    assert (found.result, "can't be read may be a rejection" in found.reason) == (Result.INCONCLUSIVE, True)


def test_what_rules_ask_to_be_signed_comes_on_top_of_what_the_rfc_names() -> None:
    policy = replace(POLICY, approvals={"normal": 2}, more_approvals={"change-manager": 1})
    named = tuple(Approval(name, "cab", "approved", EARLIER) for name in ("nora", "otto"))
    assert finding(decided(), policy=policy, approvals=named).result is Result.PASS
    assert finding(decided(), policy=policy, approvals=named[:1]).result is Result.FAIL
    assert finding(policy=policy, approvals=named).result is Result.FAIL
    rejected = replace(named[0], state="rejected")
    assert finding(decided(), policy=policy, approvals=(*named, rejected)).result is Result.FAIL


@pytest.mark.parametrize("emergency", [1, {"service-owner": 1}])
def test_a_rejection_holds_when_the_rfc_becomes_one_that_others_decide_on(emergency: Any) -> None:
    policy = replace(POLICY, approvals={"normal": emergency, "emergency": {"change-manager": 2}})
    named = (Approval("nora", "cab", "approved", EARLIER),)
    approved, rejected = decided("dora", role="service-owner"), decided("rita", REJECTED)
    assert finding(approved, policy=policy, approvals=named).result is Result.PASS
    found = finding(approved, rejected, policy=policy, approvals=named)
    assert (found.result, found.reason) == (Result.FAIL, "rejected by rita (change-manager)")
    taken_back = decided("rita", at=EARLIER + timedelta(hours=1))
    assert finding(approved, rejected, taken_back, policy=policy, approvals=named).result is Result.PASS


def test_a_rejection_by_somebody_without_the_role_stops_nothing() -> None:
    assert finding(decided(), decided("mallory", REJECTED), decided("dora", REJECTED)).result is Result.PASS


def test_a_key_that_was_revoked_before_it_signed_counts_for_nothing() -> None:
    people = {**PEOPLE, "carl": Person(PEOPLE["carl"].roles, (public("carl", EARLIER),))}
    assert finding(decided(), policy=replace(POLICY, people=people)).result is Result.FAIL
    assert finding(decided(at=EARLIER - timedelta(seconds=1)), policy=replace(POLICY, people=people)).result is Result.PASS


def test_a_decision_of_tomorrow_does_not_count() -> None:
    assert finding(decided(at=NOW + timedelta(seconds=1))).result is Result.FAIL


@pytest.mark.parametrize("cut", [1, 50, -1])
def test_what_was_truncated_or_forged_counts_for_nothing(cut: int) -> None:
    envelope = decided()
    assert finding(envelope[:cut]).result is Result.FAIL
    assert finding(envelope.replace(b'"payload":"ey', b'"payload":"eY', 1)).result is Result.FAIL


def waived(
    name: str = "carl",
    at: datetime = EARLIER,
    matter: Matter = MATTER,
    control: str = "backout_plan",
    role: str = "change-manager",
    **said: Any,
) -> bytes:
    statement = waiver_statement(matter, control, role, "It can't be undone anyway.", NOW + timedelta(hours=1))
    return sign(replace(statement, predicate={**statement.predicate, **said}), KEYS[name], at)


def without_a_plan(*envelopes: bytes, threshold: int = 1, **changes: Any) -> Control:
    """The control of an RFC without a back-out plan, when these envelopes are beside its package."""
    policy = replace(POLICY, waivers={"backout_plan": Trust("change-manager", threshold)})
    evidence, rfc = Evidence(envelopes, ()), replace(RFC, backout_plan="", **changes)
    facts = replace(
        nothing(rfc, policy),
        builders=signers(evidence, policy, "package"),
        waivers={"backout_plan": judge_waiver(evidence, policy, MATTER, "backout_plan", NOW)},
    )
    return next(control for control in evaluate_controls(facts) if control.name == "backout_plan")


def test_a_waiver_says_who_why_and_until_when() -> None:
    assert without_a_plan().result is Result.FAIL
    control = without_a_plan(waived())
    assert (control.result, control.blocks) == (Result.WAIVED, False)
    until = (NOW + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert control.reason.splitlines() == ["there is no back-out plan", f"waived by carl until {until}: It can't be undone anyway."]


@pytest.mark.parametrize(
    ("waiver", "reason"),
    [
        (waived(expires=NOW.isoformat()), "it expired at 2027-03-01T22:00:00+00:00"),
        (waived(expires="tomorrow"), "it does not say when it expires"),
        (waived(expires=None), "it does not say when it expires"),
        (waived(reason=" "), "it gives no reason"),
        (waived(matter=replace(MATTER, fingerprint="e" * 64)), "CHG1 was edited after it was signed"),
        (waived(matter=replace(MATTER, digest=OTHER)), f"it is about {OTHER}, not about {DIGEST}"),
        (waived("dora"), "dora does not have the role change-manager"),
        (waived(at=NOW + timedelta(seconds=1)), "a time to come"),
    ],
)
def test_a_waiver_that_does_not_hold_says_why(waiver: bytes, reason: str) -> None:
    control = without_a_plan(waiver)
    assert (control.result, reason in control.reason) == (Result.FAIL, True)


def test_a_waiver_is_for_one_rfc_one_control_and_by_distinct_people() -> None:
    assert without_a_plan(waived(matter=replace(MATTER, rfc="CHG2"))).result is Result.FAIL
    assert without_a_plan(waived(control="documentation")).result is Result.FAIL
    assert without_a_plan(waived(role="service-owner")).result is Result.FAIL
    assert without_a_plan(waived("rita"), waived("rita's other"), threshold=2).result is Result.FAIL
    assert without_a_plan(waived("rita"), waived("carl"), threshold=2).result is Result.WAIVED


def test_nobody_waives_for_themselves() -> None:
    control = without_a_plan(waived(), requested_by="Carl")
    assert (control.result, "carl's waiver does not count: the requester" in control.reason) == (Result.FAIL, True)
    built = sign(release_statement("hello", "1.0", DIGEST), KEYS["carl"], EARLIER)
    assert without_a_plan(built, waived()).result is Result.FAIL


def test_what_could_not_be_found_out_is_not_waived() -> None:
    policy = replace(POLICY, waivers={"evidence": Trust("change-manager")}, trust={"sbom": Trust("change-manager")})
    judgement = judge_waiver(Evidence((waived(control="evidence"),), ()), policy, MATTER, "evidence", NOW)
    assert judgement.trusted
    facts = replace(nothing(RFC, policy), evidence=None, errors={"evidence": "gone"}, waivers={"evidence": judgement})
    assert next(control for control in evaluate_controls(facts) if control.name == "evidence").result is Result.INCONCLUSIVE


_CIS = st.one_of(st.none(), st.just(["web1"]), st.just("web1web2"), st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=3))


@given(
    predicate=st.fixed_dictionaries(
        {"rfc": st.just("CHG1"), "role": st.just("change-manager")},
        optional={
            "decision": st.one_of(st.just(APPROVED), st.text(max_size=5), st.none(), st.lists(st.none(), max_size=1)),
            "rfcDigest": st.one_of(st.none(), st.just({"sha256": "f" * 64}), st.text(max_size=5)),
            "cis": _CIS,
        },
    )
)
def test_no_other_predicate_approves(predicate: dict[str, Any]) -> None:
    statement = Statement("pkg:generic/hello@1.0", DIGEST, MATTER.statement("r", APPROVED, "").type, predicate)
    assert finding(sign(statement, KEYS["carl"], datetime(2027, 1, 1, tzinfo=UTC))).result is Result.FAIL
