# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An opinion is of one package, by somebody who is asked; the last one of each person counts, and a blocking one stops the release."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.facts import Facts, PackageFacts
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Finding, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope, sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.opinion import Opinion
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import Statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import Evidence, collect
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.trust import judge_opinions
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Person, Policy, Quorum, Rule
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.opine import opine
from hypothesis import given
from hypothesis import strategies as st
from releases import HELLO
from seals import DIGEST, EARLIER, KEYS, NOW, OTHER, RFC, forged, payload_of, public, put_payload

PEOPLE = {
    "rita": Person(frozenset(["tester"]), (public("rita"), public("rita's other"))),
    "carl": Person(frozenset(["tester", "clerk"]), (public("carl"),)),
    "dora": Person(frozenset(["manager"]), (public("dora"),)),
}
POLICY = Policy({"normal": 1}, Rollout(), PEOPLE, opinions={"tester": Quorum(1, 3)})
LATER = EARLIER + timedelta(days=1)


def thinks(
    name: str = "carl", score: int = 4, role: str = "tester", at: datetime = EARLIER, digest: str = DIGEST, blocking: bool = False
) -> bytes:
    return sign(Opinion(role, score, blocking).statement("hello", "1.0", digest), KEYS[name], at)


def finding(*envelopes: bytes, policy: Policy = POLICY, broken: tuple[str, ...] = ()) -> Finding:
    judged = judge_opinions(Evidence(envelopes, broken), policy, DIGEST, "hello", "1.0", NOW)
    facts = Facts(NOW, RFC, policy, PackageFacts(DIGEST, ""), ("web1",), opinions=judged)
    return CONTROLS["opinions"].check(facts, RFC)


def raised(document: dict[str, Any]) -> dict[str, Any]:
    statement = payload_of(document)
    statement["predicate"]["score"] = 5
    return statement


def asking(**roles: tuple[int, float]) -> Policy:
    return replace(POLICY, opinions={role: Quorum(*wanted) for role, wanted in roles.items()})


def test_enough_users_like_it() -> None:
    found = finding(thinks(), thinks("rita", 3), policy=asking(tester=(2, 3.5)))
    assert (found.result, found.reason) == (Result.PASS, "2 of 2 opinions by the tester (carl, rita), 3.50 on average")


@pytest.mark.parametrize(
    ("envelopes", "policy", "reason"),
    [
        ((), POLICY, "0 of 1 opinions by the tester"),
        ((thinks(),), asking(tester=(2, 1)), "1 of 2 opinions by the tester (carl), 4.00 on average"),
        ((thinks(), thinks(score=5, at=LATER)), asking(tester=(2, 1)), "1 of 2 opinions by the tester (carl), 5.00 on average"),
        ((thinks("rita"), thinks("rita's other")), asking(tester=(2, 1)), "1 of 2 opinions by the tester (rita)"),
        ((thinks(score=3), thinks("rita", 4)), asking(tester=(2, 3.51)), "3.50 on average, less than 3.51"),
        ((thinks(),), asking(tester=(1, 3), clerk=(1, 3)), "0 of 1 opinions by the clerk"),
        ((thinks(digest=OTHER),), POLICY, f"it is about {OTHER}, not about {DIGEST}"),
        ((thinks("dora"),), POLICY, "dora does not have the role tester"),
        ((thinks("mallory"),), POLICY, "the policy gives that key to nobody"),
        ((thinks(at=NOW + timedelta(seconds=1)),), POLICY, "a time to come"),
        ((thinks(role="clerk"),), POLICY, "it was signed as 'clerk', not as tester"),
        ((forged(lambda document: put_payload(document, raised(document)), thinks(score=1)),), POLICY, "not made by that key"),
    ],
)
def test_what_is_too_little_or_not_theirs_does_not_pass(envelopes: tuple[bytes, ...], policy: Policy, reason: str) -> None:
    found = finding(*envelopes, policy=policy)
    assert found.result is Result.FAIL
    assert reason in found.reason
    assert found.remedy


@pytest.mark.parametrize(
    "said",
    [
        {"score": 6},
        {"score": 0},
        {"score": -5},
        {"score": 4.0},
        {"score": True},
        {"score": "5"},
        {"score": None},
        {"blocking": "no"},
        {"blocking": None},
        {"role": 1},
        {"role": ["tester"]},
    ],
)
def test_what_is_no_opinion_counts_for_nothing(said: dict[str, Any]) -> None:
    good = Opinion("tester", 5).statement("hello", "1.0", DIGEST)
    odd = sign(Statement(good.name, good.digest, good.type, {**good.predicate, **said}), KEYS["carl"], EARLIER)
    assert finding(odd).result is Result.FAIL
    assert finding(odd, thinks("rita")).result is Result.PASS


def test_a_blocking_opinion_stops_it_until_the_same_person_gives_another() -> None:
    happy = [thinks("rita", 5)]
    stopped = finding(*happy, thinks(score=5, blocking=True))
    assert (stopped.result, stopped.reason) == (Result.FAIL, "blocked by carl (tester)")
    assert finding(*happy, thinks(blocking=True), thinks("rita", 5, at=LATER)).result is Result.FAIL
    assert finding(*happy, thinks(blocking=True), thinks(at=LATER)).result is Result.PASS
    assert finding(*happy, thinks(), thinks(blocking=True, at=LATER)).result is Result.FAIL
    assert finding(*happy, thinks(), thinks(blocking=True)).result is Result.FAIL, "of two at the same moment the blocking one counts"
    assert finding(*happy, thinks(blocking=True), thinks()).result is Result.FAIL
    assert finding(*happy, thinks(blocking=True, digest=OTHER)).result is Result.PASS, "a rebuild voids it"
    assert finding(*happy, thinks("dora", blocking=True)).result is Result.PASS, "who is not asked can't stop it"


def test_who_takes_back_a_block_in_one_role_still_blocks_in_the_other() -> None:
    policy = asking(tester=(1, 1), clerk=(1, 1))
    found = finding(thinks(blocking=True), thinks(role="clerk", at=LATER), thinks("rita"), policy=policy)
    assert found.reason == "blocked by carl (tester)"


def test_what_was_cut_short_may_have_been_a_block() -> None:
    for found in (finding(thinks("rita"), thinks(blocking=True)[:-9]), finding(thinks("rita"), broken=("a listing is damaged",))):
        assert found.result is Result.INCONCLUSIVE
        assert "may be a blocking opinion" in found.reason


def test_nobody_is_asked_unless_the_policy_does() -> None:
    assert finding(thinks(blocking=True), policy=asking()).result is Result.NOT_APPLICABLE


@given(
    said=st.lists(st.tuples(st.sampled_from(["rita", "carl", "rita's other"]), st.integers(1, 5), st.booleans()), max_size=6),
    quorum=st.integers(1, 3),
    minimum=st.integers(1, 5),
)
def test_it_passes_only_with_the_last_words_of_enough_happy_people(said: list[tuple[str, int, bool]], quorum: int, minimum: int) -> None:
    envelopes = [
        thinks(name, score, blocking=blocking, at=EARLIER + timedelta(minutes=minute))
        for minute, (name, score, blocking) in enumerate(said)
    ]
    last = {name.split("'")[0]: (score, blocking) for name, score, blocking in said}
    scores = [score for score, _blocking in last.values()]
    blocked = any(blocking for _score, blocking in last.values())
    expected = not blocked and len(scores) >= quorum and sum(scores) / len(scores) >= minimum
    assert (finding(*reversed(envelopes), policy=asking(tester=(quorum, minimum))).result is Result.PASS) == expected


RULE = Rule(frozenset(["major"]), frozenset(), frozenset(), {}, {}, (), {"clerk": Quorum(1, 4)})


def test_a_rule_asks_for_more_opinions_of_the_changes_it_is_for() -> None:
    policy = replace(POLICY, rules=(RULE,))
    major = policy.narrowed_to("major", "normal", 3)
    assert finding(thinks(), policy=policy.narrowed_to("minor", "normal", 3)).result is Result.PASS
    assert "0 of 1 opinions by the clerk" in finding(thinks(), policy=major).reason
    assert finding(thinks(), thinks(role="clerk"), policy=major).result is Result.PASS
    assert finding(thinks(), thinks(role="clerk", score=3), policy=major).result is Result.FAIL


def test_who_is_asked_about_other_changes_can_block_this_one() -> None:
    only = replace(POLICY, opinions={}, rules=(RULE,)).narrowed_to("minor", "normal", 3)
    assert finding(policy=only).result is Result.PASS
    assert finding(thinks(role="clerk", score=1), policy=only).result is Result.PASS
    found = finding(thinks(role="clerk", blocking=True), policy=only)
    assert (found.result, found.reason) == (Result.FAIL, "blocked by carl (clerk)")


class TestSigning:
    """What would count for nothing is not signed."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> OciLayout:
        return OciLayout.create(tmp_path / "dsl")

    def opine(self, home: OciLayout, name: str, opinion: Opinion, now: datetime = NOW, write: bool = True) -> tuple[str, Opinion, bool]:
        release = PackageName("hello", "1.0", archive(HELLO, home).digest)
        return opine(home, release, POLICY, KEYS[name], opinion, now, write)

    def test_an_opinion_is_signed_once_and_counts(self, home: OciLayout) -> None:
        assert self.opine(home, "rita", Opinion("", 4, usability="Fine.")) == ("rita", Opinion("tester", 4, usability="Fine."), True)
        assert not self.opine(home, "rita", Opinion("", 4, usability="Fine."), NOW + timedelta(days=1))[2]
        with pytest.raises(ConflictError, match="in this very second"):
            self.opine(home, "rita", Opinion("", 1))
        assert self.opine(home, "rita", Opinion("", 1), NOW + timedelta(days=1))[2]
        assert self.opine(home, "rita", Opinion("", 4, usability="Fine."), NOW + timedelta(days=2))[2]
        digest = archive(HELLO, home).digest
        statements = [open_envelope(content).statement for content in collect(home, digest)]
        assert sorted(json.dumps(dict(one.predicate), sort_keys=True)[-2] for one in statements) == ["1", "4", "4"]
        judged = judge_opinions(collect(home, digest), POLICY, digest, "hello", "1.0", NOW + timedelta(days=3))
        assert judged["tester"].people == ("rita",)

    def test_somebody_whom_only_a_rule_asks_signs(self, home: OciLayout) -> None:
        release = PackageName("hello", "1.0", archive(HELLO, home).digest)
        policy = replace(POLICY, rules=(RULE,))
        assert opine(home, release, policy, KEYS["carl"], Opinion("clerk", 4), NOW, True)[2]
        assert not opine(home, release, policy, KEYS["carl"], Opinion("clerk", 4), NOW, True)[2]

    def test_a_key_signs_until_it_is_revoked(self, home: OciLayout) -> None:
        release = PackageName("hello", "1.0", archive(HELLO, home).digest)
        policy = replace(POLICY, people={"carl": Person(PEOPLE["carl"].roles, (public("carl", NOW),))})
        assert opine(home, release, policy, KEYS["carl"], Opinion("", 4), NOW - timedelta(seconds=1), True)[2]
        with pytest.raises(TidegateError, match="this key of carl is revoked; sign with another"):
            opine(home, release, policy, KEYS["carl"], Opinion("", 5), NOW, True)

    def test_nothing_is_written_when_it_is_only_asked_what_would_be(self, home: OciLayout) -> None:
        assert self.opine(home, "rita", Opinion("", 4), write=False)[2]
        assert len(collect(home, archive(HELLO, home).digest)) == 0

    @pytest.mark.parametrize(
        ("name", "opinion", "sentence"),
        [
            ("dora", Opinion("", 4), "opinions are asked of tester, and dora has none of them"),
            ("carl", Opinion("clerk", 4), "of those carl has tester"),
            ("mallory", Opinion("", 4), "the policy gives this key to nobody"),
            ("rita", Opinion("", 6), "the score is 6; give a whole number from 1 to 5"),
            ("rita", Opinion("", True, blocking=True), "the score is True; give a whole number from 1 to 5"),
        ],
    )
    def test_what_would_count_for_nothing_is_refused(self, home: OciLayout, name: str, opinion: Opinion, sentence: str) -> None:
        with pytest.raises(TidegateError, match=sentence):
            self.opine(home, name, opinion)
