# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only signatures of the right people over this very package count, each person once; everything else says why it does not."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import (
    KINDS,
    SCAN,
    SIGNED_AT,
    Statement,
    purl,
    release_statement,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import Evidence
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.trust import Judgement, judge
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Person, Policy, Trust
from hypothesis import given
from hypothesis import strategies as st
from seals import (
    DIGEST,
    EARLIER,
    KEYS,
    NOW,
    OTHER,
    PEOPLE,
    RELEASE,
    ROLE,
    evidence,
    forged,
    payload_of,
    policy,
    public,
    put_payload,
    resealed,
    sealed,
    sealed_payload,
)
from securesystemslib.dsse import Envelope

TICK = timedelta(seconds=1)


def judged(*envelopes: bytes, by: Policy | None = None, kind: str = "package", now: datetime = NOW) -> Judgement:
    return judge(evidence(*envelopes), by or policy(), kind, DIGEST, "hello", "1.0", now)


def test_a_signature_of_somebody_with_the_role_counts() -> None:
    found = judged(sealed())
    assert found.trusted
    assert found.people == ("rita",)
    assert found.refused == ()
    assert found.sentence() == "1 of 1 with the role release-manager signed the package (rita)"
    assert found.counted[0].signed_at == EARLIER
    assert judged(sealed(at=NOW)).trusted


def test_a_threshold_counts_distinct_people() -> None:
    assert judged(sealed("rita"), sealed("carl"), by=policy(2)).trusted
    assert not judged(by=policy(1)).trusted


@pytest.mark.parametrize(
    "second", [sealed("rita"), sealed("rita", at=EARLIER + TICK), sealed("rita's other")], ids=["again", "later", "other key"]
)
def test_one_person_signing_twice_counts_once(second: bytes) -> None:
    found = judged(sealed("rita"), second, by=policy(2))
    assert not found.trusted
    assert found.people == ("rita",)


def test_several_signatures_in_one_envelope_count_each_for_its_person() -> None:
    envelope = Envelope.from_dict(json.loads(sealed("rita")))
    envelope.sign(KEYS["carl"])
    envelope.sign(KEYS["rita's other"])
    found = judged(json.dumps(envelope.to_dict()).encode(), by=policy(3))
    assert found.people == ("carl", "rita")
    assert not found.trusted


def test_the_wrong_responsibility_counts_for_nothing() -> None:
    found = judged(sealed("dora"))
    assert not found.trusted
    assert found.refused == ("the signature of dora does not count: dora does not have the role release-manager",)


def test_a_key_that_the_policy_gives_to_nobody_counts_for_nothing() -> None:
    found = judged(sealed("mallory"))
    assert not found.trusted
    assert "the policy gives that key to nobody" in found.refused[0]


def test_somebody_else_under_a_trusted_keys_id_counts_for_nothing() -> None:
    def pretend(document: dict[str, Any]) -> None:
        document["signatures"][0]["keyid"] = KEYS["rita"].public_key.keyid

    found = judged(forged(pretend, sealed("mallory")))
    assert not found.trusted
    assert found.refused == ("the signature of rita does not count: it was not made by that key over these bytes",)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        pytest.param(release_statement("hello", "1.0", OTHER), f"it is about {OTHER}", id="copied from another digest"),
        pytest.param(release_statement("other", "1.0", DIGEST), "'pkg:generic/other@1.0', not about pkg:generic/hello@1.0", id="name"),
        pytest.param(release_statement("hello", "0.9", DIGEST), "'pkg:generic/hello@0.9', not about", id="an old release as a new one"),
        pytest.param(replace(RELEASE, predicate={"purl": purl("hello", "0.9")}), "it is of the release 'pkg:generic/hello@0.9'", id="purl"),
        pytest.param(replace(RELEASE, predicate={}), "it is of the release None", id="no purl"),
    ],
)
def test_what_is_about_something_else_counts_for_nothing(statement: Statement, why: str) -> None:
    found = judged(sealed(statement=statement))
    assert not found.trusted
    assert len(found.refused) == 1
    assert found.refused[0].startswith("the signature of rita does not count: ")
    assert why in found.refused[0]


def test_a_signature_of_a_time_to_come_does_not_count_yet() -> None:
    envelope = sealed(at=NOW + TICK)
    found = judged(envelope)
    assert not found.trusted
    assert "a time to come" in found.refused[0]
    assert judged(envelope, now=NOW + TICK).trusted


def test_what_a_revoked_key_signed_before_counts_and_is_named() -> None:
    revoked = policy(people=PEOPLE | {"rita": Person(frozenset([ROLE]), (public("rita", EARLIER + TICK), public("rita's other")))})
    before = judged(sealed("rita"), by=revoked)
    assert before.trusted
    assert [sentence.startswith("rita's key ") for sentence in before.by_revoked] == [True]
    assert "was revoked at 2027-01-30T22:00:01+00:00" in before.by_revoked[0]
    for late in (EARLIER + TICK, NOW):
        after = judged(sealed("rita", at=late), by=revoked)
        assert not after.trusted
        assert "was revoked at" in after.refused[0]
    rotated = judged(sealed("rita's other", at=NOW), by=revoked)
    assert rotated.trusted
    assert rotated.by_revoked == ()


def backdate(document: dict[str, Any]) -> None:
    payload = payload_of(document)
    payload["subject"][0]["annotations"][SIGNED_AT] = "2026-01-01T00:00:00Z"
    put_payload(document, payload)


def swap_type(document: dict[str, Any]) -> None:
    document["payloadType"] = "text/plain"


def retype(document: dict[str, Any]) -> None:
    put_payload(document, payload_of(document) | {"predicateType": KINDS["package"] + " "})


def annotate(document: dict[str, Any], time: object) -> None:
    document["subject"][0]["annotations"][SIGNED_AT] = time


def backdated(document: dict[str, Any], time: object) -> None:
    """As statements were written when the time was in the predicate."""
    del document["subject"][0]["annotations"]
    document["predicate"]["signedAt"] = time


FORGERIES = {
    "backdated after it was signed": forged(backdate, sealed(at=NOW + TICK)),
    "another payload type": forged(swap_type),
    "another payload type, signed": sealed_payload(b"{}", payload_type="text/plain"),
    "the release's statement under another payload type": resealed(lambda document: document.update(), payload_type="application/json"),
    "no payload type": forged(lambda document: document.pop("payloadType")),
    "no payload": forged(lambda document: document.pop("payload")),
    "no signature": forged(lambda document: document.update(signatures=[])),
    "signatures that are none": forged(lambda document: document.update(signatures=["x", 1, None])),
    "a signature without a key": forged(lambda document: document["signatures"][0].pop("keyid")),
    "a signature that is a number": forged(lambda document: document["signatures"][0].update(sig=1)),
    "a signature that is not base64": forged(lambda document: document["signatures"][0].update(sig="\u00e9")),
    "an empty signature": forged(lambda document: document["signatures"][0].update(sig="")),
    "a signature cut short": forged(lambda document: document["signatures"][0].update(sig=document["signatures"][0]["sig"][:40])),
    "the same key twice": forged(lambda document: document["signatures"].append(dict(document["signatures"][0]))),
    "too many signatures": forged(lambda document: document["signatures"].extend([{"keyid": str(n), "sig": ""} for n in range(64)])),
    "a payload that is not base64": forged(lambda document: document.update(payload="***")),
    "truncated": sealed()[:-1],
    "empty": b"",
    "not JSON": b"\xff\xfe",
    "a list": b"[]",
    "nested too deeply": b"[" * 100_000,
    "a key twice in the envelope": sealed().replace(b'{"payload":', b'{"payloadType":"application/vnd.in-toto+json","payload":'),
    "a key twice in the statement": sealed_payload(
        json.dumps(RELEASE.to_json(EARLIER)).replace('"predicateType"', '"predicateType": "https://x.example/y", "predicateType"').encode()
    ),
    "two subjects": resealed(lambda document: document["subject"].append({"name": "x", "digest": {"sha256": "b" * 64}})),
    "no subject": resealed(lambda document: document.update(subject=[])),
    "a subject without a sha256": resealed(lambda document: document["subject"][0].update(digest={"md5": "a" * 32})),
    "a digest in capitals": resealed(lambda document: document["subject"][0]["digest"].update(sha256="A" * 64)),
    "another type of statement": resealed(lambda document: document.update(_type="https://in-toto.io/Statement/v0.1")),
    "no predicate": resealed(lambda document: document.update(predicate=None)),
    "no time": resealed(lambda document: document["subject"][0].pop("annotations")),
    "a time without an offset": resealed(lambda document: annotate(document, "2027-01-01T00:00:00")),
    "a time that is a number": resealed(lambda document: annotate(document, 1)),
    "a time without an offset, in the older place": resealed(lambda document: backdated(document, "2027-01-01T00:00:00")),
    "a number that is none": sealed_payload(json.dumps(RELEASE.to_json(EARLIER)).replace('"purl":', '"x": NaN, "purl":').encode()),
    "an unknown predicate": resealed(lambda document: document.update(predicateType="https://x.example/release/v1")),
    "a predicate type with a space after it": resealed(lambda document: document.update(predicateType=KINDS["package"] + " ")),
    "a retyped predicate": forged(retype),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_or_broken_envelope_counts_for_nothing_and_hides_nothing(name: str) -> None:
    alone = judged(FORGERIES[name])
    assert not alone.trusted
    assert len(alone.refused) == 1
    beside = judged(FORGERIES[name], sealed("carl"))
    assert beside.people == ("carl",)
    assert beside.refused == alone.refused


def test_a_statement_that_has_its_time_in_the_predicate_still_counts() -> None:
    older = resealed(lambda document: backdated(document, "2027-01-30T22:00:00Z"))
    assert judged(older).counted == judged(sealed()).counted


def test_evidence_of_another_kind_says_nothing_about_this_one() -> None:
    scan = Statement(purl("hello", "1.0"), DIGEST, SCAN, {"result": "clean"})
    found = judged(sealed(statement=scan))
    assert not found.trusted
    assert found.refused == ()
    by = policy(scan=Trust("tester", 1))
    assert judged(sealed("dora", scan), by=by, kind="scan").trusted
    assert not judged(sealed("rita", scan), by=by, kind="scan").trusted
    assert judged(sealed("dora", scan), by=by, kind="scan").counted[0].statement == scan


def test_what_the_policy_does_not_ask_for_is_never_trusted() -> None:
    found = judged(sealed(), kind="approval")
    assert not found.trusted
    assert found.wanted is None


def test_what_could_not_be_read_is_named() -> None:
    found = judge(Evidence((), ("the evidence x can't be used: damaged",)), policy(), "package", DIGEST, "hello", "1.0", NOW)
    assert found.refused == ("the evidence x can't be used: damaged",)


@given(st.data())
def test_no_changed_byte_of_an_envelope_makes_it_say_something_else(data: st.DataObject) -> None:
    good = bytearray(sealed())
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    found = judged(bytes(good))
    # The signature is over the decoded payload; its base64 has a few spellings.
    for one in found.counted:
        assert (one.person, one.statement, one.signed_at) == ("rita", RELEASE, EARLIER)


@given(
    content=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]) | st.text(max_size=3), inner, max_size=4
            )
            | st.lists(inner, max_size=3)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_anything_may_lie_there(content: bytes) -> None:
    assert not judged(content).trusted


@given(
    payload=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(
                    ["_type", "subject", "predicateType", "predicate", "digest", "name", "annotations", SIGNED_AT, "signedAt", "sha256"]
                ),
                inner,
                max_size=5,
            )
            | st.lists(inner, max_size=3)
        ),
    )
)
def test_anything_may_be_signed(payload: Any) -> None:
    assert not judged(sealed_payload(json.dumps(payload).encode())).trusted


def test_hostile_names_are_told_on_one_line_and_short() -> None:
    nasty = "x\n\x1b[31m" * 1000
    found = judged(sealed(statement=replace(RELEASE, name=nasty)), resealed(lambda document: document.update(predicateType=nasty)))
    digest = resealed(lambda document: document["subject"][0]["digest"].update(sha256=nasty))
    assert len(found.refused) == 2
    for sentence in (*found.refused, *judged(digest).refused):
        assert "\n" not in sentence
        assert "\x1b" not in sentence
        assert len(sentence) < 300


def test_the_payload_may_be_in_the_other_base64() -> None:
    """DSSE lets both alphabets in, and both mean the same bytes."""

    def respell(document: dict[str, Any]) -> None:
        document["signatures"][0]["sig"] = base64.urlsafe_b64encode(base64.b64decode(document["signatures"][0]["sig"])).decode()

    assert judged(forged(respell)).trusted
