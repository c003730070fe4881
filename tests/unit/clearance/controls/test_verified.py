# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test result has to say before a release is cleared; one of another digest, without tests, forged or truncated is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS, evaluate_controls
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.facts import Facts, PackageFacts
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Finding, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import TEST_RESULT, VERIFICATION, Statement, purl
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import Evidence
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.trust import judge
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Person, Policy, Trust, Verification
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.verify import check_signer
from hypothesis import given
from hypothesis import strategies as st
from seals import DIGEST, EARLIER, KEYS, MATTER, NOW, OTHER, RFC, forged, payload_of, pem, public, put_payload

Write = Callable[..., Path]
FORMER, OLDER = "sha256:" + "c" * 64, "sha256:" + "d" * 64
PEOPLE = {"carl": Person(frozenset(["tester"]), (public("carl"),)), "rita": Person(frozenset(["tester"]), (public("rita"),))}
POLICY = Policy({"normal": 1}, Rollout(), PEOPLE, {"test-result": Trust("tester")}, verification=Verification(parity=70, rehearsal=True))
REHEARSAL = {"digest": DIGEST, "deployed": True, "backedOut": True, "tests": 2, "from": [FORMER]}
PREDICATE: dict[str, Any] = {
    "result": "PASSED",
    "configuration": [],
    "passedTests": ["one"],
    "warnedTests": [],
    "failedTests": [],
    "reasons": [],
    "rehearsal": REHEARSAL,
    "parity": {"score": 80, "differences": ["web1: python: 3.11.2 live, 3.11.9 in the lab"]},
}
OURS = ("reasons", "rehearsal", "parity")  # what the type of in-toto has no fields for


def verified(name: str = "carl", at: datetime = EARLIER, digest: str = DIGEST, **changes: Any) -> bytes:
    said = {key: value for key, value in {**PREDICATE, **changes}.items() if value is not ...}
    predicate = {key: value for key, value in said.items() if key not in OURS}
    predicate[VERIFICATION] = {key: value for key, value in said.items() if key in OURS}
    return sign(Statement(purl("hello", "1.0"), digest, TEST_RESULT, predicate), KEYS[name], at)


def facts(
    *envelopes: bytes,
    policy: Policy = POLICY,
    replaced: frozenset[str] | None = frozenset([FORMER]),
    own: dict[str, Any] | None = None,
) -> Facts:
    judged = {"test-result": judge(Evidence(envelopes, ()), policy, "test-result", DIGEST, "hello", "1.0", NOW)}
    package = PackageFacts(DIGEST, "", manifest={"ansible": own} if own else {})
    return Facts(NOW, replace(RFC, digest=DIGEST), policy, package, MATTER.cis, evidence=judged, replaced=replaced)


def finding(control: str, *envelopes: bytes, **changes: Any) -> Finding:
    known = facts(*envelopes, **changes)
    assert known.rfc is not None
    return CONTROLS[control].check(known, known.rfc)


def test_what_was_verified_is_cleared_with_its_differences_listed() -> None:
    found = finding("verification", verified())
    assert found.result is Result.PASS
    assert found.reason == "1 of 1 verified it (carl)\ndifferent from live: web1: python: 3.11.2 live, 3.11.9 in the lab"
    assert finding("rehearsal", verified()) == Finding(Result.PASS, "1 of 1 rehearsed its back-out (carl)")


def test_an_older_result_that_says_all_in_one_place_counts_as_well() -> None:
    older = sign(Statement(purl("hello", "1.0"), DIGEST, TEST_RESULT, PREDICATE), KEYS["carl"], EARLIER)
    for control in ("verification", "rehearsal"):
        assert finding(control, older) == finding(control, verified())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"passedTests": []}, "it names no test that passed"),
        ({"passedTests": ...}, "it names no test that passed"),
        ({"passedTests": 12}, "it names no test that passed"),
        ({"passedTests": [1, 2]}, "it names no test that passed"),
        ({"failedTests": ["two"]}, "it names tests that failed: two"),
        ({"result": "WARNED", "warnedTests": ["three"]}, "its result is 'WARNED', not PASSED: skipped three"),
        ({"result": "passed"}, "its result is 'passed', not PASSED"),
        ({"result": ...}, "its result is None, not PASSED"),
        ({"result": "FAILED", "reasons": ["it is down", "it is slow"]}, "carl signed that it failed: it is down (and 1 more)"),
        ({"parity": {"score": 69}}, "the lab was like live by 69 of 100, less than 70"),
        ({"parity": {"score": 101}}, "it does not say how much like live the lab was"),
        ({"parity": {"score": True}}, "it does not say how much like live the lab was"),
        ({"parity": {"score": "100"}}, "it does not say how much like live the lab was"),
        ({"parity": {"score": 99.5}}, "it does not say how much like live the lab was"),
        ({"parity": ...}, "it does not say how much like live the lab was"),
        ({"parity": {"score": 80, "differences": "none"}}, "it does not say how much like live the lab was"),
        ({"digest": OTHER}, f"it is about {OTHER}, not about {DIGEST}"),
    ],
)
def test_a_test_result_that_says_too_little_is_refused(changes: dict[str, Any], reason: str) -> None:
    found = finding("verification", verified(**changes))
    assert found.result is Result.FAIL
    assert reason in found.reason
    assert found.remedy


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digest": OTHER}, f"the back-out was rehearsed with '{OTHER}', not with {DIGEST}"),
        ({"digest": None}, "the back-out was rehearsed with None"),
        ({"deployed": False}, "the release was not deployed and backed out again"),
        ({"backedOut": False}, "the release was not deployed and backed out again"),
        ({"backedOut": "yes"}, "the release was not deployed and backed out again"),
        ({"tests": 0}, "nothing was tested after the back-out"),
        ({"tests": True}, "nothing was tested after the back-out"),
        ({"from": [OLDER]}, f"the back-out was not rehearsed to {FORMER}, which is live now"),
        ({"from": None}, f"the back-out was not rehearsed to {FORMER}, which is live now"),
    ],
)
def test_a_rehearsal_of_something_else_is_refused(changes: dict[str, Any], reason: str) -> None:
    found = finding("rehearsal", verified(rehearsal={**REHEARSAL, **changes}))
    assert found.result is Result.FAIL
    assert reason in found.reason


@pytest.mark.parametrize("nothing", [None, ..., [], "yes"])
def test_no_rehearsal_is_none(nothing: Any) -> None:
    assert "no back-out was rehearsed" in finding("rehearsal", verified(rehearsal=nothing)).reason


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        (None, "activate"),
        ({}, "activate"),
        ({"forward": ["activate"], "back": ["back_out"]}, "check"),
        ({"forward": ["activate", "check"], "back": []}, "back_out"),
        ({"forward": "activate check", "back": ["back_out"]}, "activate"),
        ({"forward": ["activate", "check"], "back": ["drain", "restore"]}, "back_out"),
    ],
)
def test_a_role_has_to_have_gone_forward_and_back(role: Any, missing: str) -> None:
    own = {"role": "ansible/app", "steps": ["activate", "check"]}
    found = finding("rehearsal", verified(rehearsal={**REHEARSAL, "role": role}), own=own)
    assert found.result is Result.FAIL
    assert f"{missing} of the release's role was not rehearsed" in found.reason
    for way in ("back_out", "activate"):
        done = {"forward": ["check", "activate"], "back": ["drain", way]}
        assert finding("rehearsal", verified(rehearsal={**REHEARSAL, "role": done}), own=own).result is Result.PASS


@pytest.mark.parametrize(
    ("forward", "back", "missing"),
    [
        (["activate"], ["back_out", "reverse"], "migrate"),
        (["migrate"], ["back_out", "reverse"], "activate"),
        (["migrate", "activate"], ["back_out"], "reverse"),
        (["migrate", "activate"], ["reverse"], "back_out"),
        (["migrate", "activate"], ["back_out", "reverse"], ""),
    ],
)
def test_what_a_role_does_to_data_has_to_have_been_done_and_undone(forward: list[str], back: list[str], missing: str) -> None:
    own = {"role": "ansible/app", "steps": ["migrate", "activate", "reverse"]}
    found = finding("rehearsal", verified(rehearsal={**REHEARSAL, "role": {"forward": forward, "back": back}}), own=own)
    assert (found.result is Result.PASS) == (not missing)
    assert (f"{missing} of the release's role was not rehearsed" in found.reason) == bool(missing)


FORWARD = {"deployed": True, "backedOut": False, "reverse": "none", "role": {"forward": ["migrate", "activate"], "back": []}}


@pytest.mark.parametrize(
    ("changes", "own", "reason"),
    [
        ({}, {"reverse": "none"}, ""),
        # The package has a way back, whatever a test result says; or it has none, and the lab went another way all the same.
        ({}, {}, "the release was not deployed and backed out again"),
        ({"reverse": ...}, {"reverse": "none"}, "the release was not deployed and backed out again"),
        ({"reverse": "all"}, {"reverse": "none"}, "the release was not deployed and backed out again"),
        ({"deployed": False}, {"reverse": "none"}, "the release was not deployed and backed out again"),
        ({"tests": 0}, {"reverse": "none"}, "nothing was tested after the deployment"),
        ({"role": {"forward": ["activate"], "back": []}}, {"reverse": "none"}, "migrate of the release's role was not rehearsed"),
        ({"from": []}, {"reverse": "none"}, f"the way forward was not rehearsed from {FORMER}"),
        ({"digest": OTHER}, {"reverse": "none"}, f"the back-out was rehearsed with '{OTHER}'"),
    ],
)
def test_only_a_package_that_says_so_itself_needs_no_way_back(changes: dict[str, Any], own: dict[str, str], reason: str) -> None:
    said = {key: value for key, value in {**REHEARSAL, **FORWARD, **changes}.items() if value is not ...}
    found = finding("rehearsal", verified(rehearsal=said), own={"role": "ansible/app", "steps": ["migrate", "activate"], **own})
    assert (found.result is Result.PASS) == (not reason)
    assert (reason or "1 of 1 rehearsed all of it but a way back, for it has none (reverse: none) (carl)") in found.reason


def test_one_that_has_no_way_back_may_have_been_backed_out_in_the_lab_all_the_same() -> None:
    own = {"role": "ansible/app", "steps": ["migrate", "activate"], "reverse": "none"}
    role = {"forward": ["migrate", "activate"], "back": ["back_out"]}
    assert finding("rehearsal", verified(rehearsal={**REHEARSAL, "role": role}), own=own).result is Result.PASS
    assert "back_out" in finding("rehearsal", verified(rehearsal={**REHEARSAL, "role": {**role, "back": []}}), own=own).reason


def test_every_release_that_live_goes_back_to_was_rehearsed() -> None:
    both = frozenset([FORMER, ""])
    assert "rehearsed to having no release" in finding("rehearsal", verified(), replaced=both).reason
    assert finding("rehearsal", verified(rehearsal={**REHEARSAL, "from": [FORMER, ""]}), replaced=both).result is Result.PASS
    assert finding("rehearsal", verified(), replaced=frozenset()).result is Result.PASS


@pytest.mark.parametrize("control", ["verification", "rehearsal"])
def test_what_is_forged_truncated_or_not_theirs_counts_for_nothing(control: str) -> None:
    def more(document: dict[str, Any]) -> None:
        statement = payload_of(document)
        statement["predicate"]["passedTests"] = ["one", "two"]
        put_payload(document, statement)

    whole = verified()
    for envelope, reason in (
        (forged(more, whole), "it was not made by that key over these bytes"),
        (whole[:-7], "evidence counts for nothing"),
        (json.dumps({**json.loads(whole), "signatures": []}).encode(), "evidence counts for nothing"),
        (verified("mallory"), "the policy gives that key to nobody"),
        (verified(at=NOW + timedelta(seconds=1)), "a time to come"),
    ):
        found = finding(control, envelope)
        assert found.result is Result.FAIL
        assert reason in found.reason


def test_the_last_word_of_each_counts_and_nobodys_pass_undoes_anothers_failure() -> None:
    later = EARLIER + timedelta(days=1)
    failure = verified(result="FAILED")
    assert finding("verification", failure, verified(at=later)).result is Result.PASS
    assert finding("verification", verified(), verified(at=later, result="FAILED")).result is Result.FAIL
    assert finding("verification", failure, verified("rita", at=later)).result is Result.FAIL
    for both in ((failure, verified()), (verified(), failure)):  # in one second
        assert finding("verification", *both).result is Result.FAIL
    two = replace(POLICY, trust={"test-result": Trust("tester", 2)})
    for control in ("verification", "rehearsal"):
        assert finding(control, verified(), verified(at=later), policy=two).result is Result.FAIL
        assert finding(control, verified(), verified("rita"), policy=two).result is Result.PASS


def test_what_the_policy_does_not_ask_is_not_asked() -> None:
    nothing = replace(POLICY, trust={}, verification=None)
    assert {finding(control, policy=nothing).result for control in ("verification", "rehearsal")} == {Result.NOT_APPLICABLE}
    only_passed = replace(POLICY, verification=None)
    others = evaluate_controls(replace(facts(), policy=replace(POLICY, trust={}), evidence={}))  # as when a rule asks for it, of others
    assert {one.result for one in others if one.name in ("verification", "rehearsal")} == {Result.NOT_APPLICABLE}
    assert finding("verification", verified(parity=...), policy=only_passed).result is Result.PASS
    assert finding("rehearsal", verified(rehearsal=...), policy=only_passed).result is Result.NOT_APPLICABLE


@pytest.mark.parametrize("control", ["verification", "rehearsal"])
def test_what_can_not_be_found_out_does_not_pass(control: str) -> None:
    known = replace(facts(verified()), evidence=None, replaced=None)
    assert next(one for one in evaluate_controls(known) if one.name == control).result is Result.INCONCLUSIVE
    if control == "rehearsal":
        known = facts(verified(), replaced=None)
        assert next(one for one in evaluate_controls(known) if one.name == control).result is Result.INCONCLUSIVE


@given(
    changes=st.dictionaries(
        st.sampled_from(["result", "passedTests", "failedTests", "parity", "rehearsal", "reasons", "warnedTests"]),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(-1, 101), st.sampled_from(["PASSED", "one", DIGEST])),
            lambda inner: st.one_of(
                st.lists(inner, max_size=2),
                st.dictionaries(st.sampled_from(["score", "differences", "digest", "deployed", "backedOut", "tests", "from"]), inner),
            ),
            max_leaves=8,
        ),
        min_size=1,
    )
)
def test_no_odd_predicate_passes_or_breaks_a_control(changes: dict[str, Any]) -> None:
    said = {**PREDICATE, **changes}
    sound = (
        said["result"] == "PASSED"
        and isinstance(said["passedTests"], list)
        and any(isinstance(one, str) for one in said["passedTests"])
        and not (isinstance(said["failedTests"], list) and any(isinstance(one, str) for one in said["failedTests"]))
        and isinstance(said["parity"], dict)
        and isinstance(said["parity"].get("score"), int)
        and said["parity"]["score"] in range(70, 101)
    )
    assert (finding("verification", verified(**changes)).result is Result.PASS) <= sound
    assert finding("rehearsal", verified(**changes)).result in (Result.PASS, Result.FAIL)


def test_a_policy_that_asks_for_verification_says_who_verifies(write: Write) -> None:
    people = {"carl": {"roles": ["tester"], "keys": [{"public": pem(KEYS["carl"])}]}}
    wanted = {"parity": 70, "rehearsal": True}
    policy = load_policy(write("policy", people=people, trust={"test-result": {"role": "tester"}}, verification=wanted))
    assert policy.verification == Verification(70, True)
    rule = {"when": {"release": ["major"]}, "trust": {"test-result": {"role": "tester"}}}
    by_rule = load_policy(write("policy", people=people, rules=[rule], verification=wanted))
    assert check_signer(policy, KEYS["carl"], NOW) == check_signer(by_rule, KEYS["carl"], NOW) == "carl"
    with pytest.raises(TidegateError, match="the policy asks for no test result"):
        check_signer(load_policy(write("policy", people=people)), KEYS["carl"], NOW)
    assert load_policy().verification is None
    for odd, said in (
        ({"verification": wanted}, "nobody is trusted to verify; say under trust who signs a test-result"),
        ({"trust": {"test-result": {"role": "tester"}}, "verification": {"parity": 101}}, "verification.parity"),
        ({"trust": {"test-result": {"role": "tester"}}, "verification": {"rehearsed": True}}, "rehearsed is not a key of verification"),
        ({"opinions": {"user": {"quorum": 1, "minimum": 3}}}, "nobody has the role 'user'"),
        (
            {"opinions": {"tester": {"quorum": 2, "minimum": 3}}},
            "opinions.tester asks for 2 with the role",
        ),
        ({"opinions": {"tester": {"quorum": 1, "minimum": 6}}}, "opinions.tester.minimum"),
    ):
        with pytest.raises(DocumentError) as caught:
            load_policy(write("policy", people=people, **odd))
        assert said in str(caught.value)
