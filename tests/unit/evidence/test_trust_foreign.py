# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence that other tools sign: what machines find out counts by its digest; what people decide counts only as Tidegate writes it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.facts import Facts, PackageFacts
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Result
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence import trust
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.approval import APPROVED, REJECTED
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import IN_TOTO, open_envelope, sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import look
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import (
    RELEASE,
    SBOM,
    SCAN,
    TEST_RESULT,
    UNDATED,
    Statement,
    purl,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import EMPTY, ENVELOPE, Evidence, attach, collect, read_piece
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.trust import Judgement, judge, judge_approvals, sort_out
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_public
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Person, Trust
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.attest import attach_signed, look_at, read_envelope
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement as InToto
from releases import HELLO
from seals import DIGEST, EARLIER, KEYS, MATTER, NOW, OTHER, PEOPLE, RFC, evidence, policy, public, referring
from securesystemslib.dsse import Envelope

BY = policy(**{"test-result": Trust("tester", 1), "scan": Trust("tester", 1), "sbom": Trust("tester", 1)})
PASSED = {"result": "PASSED", "configuration": [], "passedTests": ["one"]}
HEX, OTHER_HEX = DIGEST[7:], OTHER[7:]


def in_toto(*digests: str, kind: str = TEST_RESULT, predicate: Mapping[str, Any] | None = None, name: str = "hello.tar") -> bytes:
    """A statement as the in-toto project's own library writes it."""
    subjects = [ResourceDescriptor(name=name, digest={"sha256": digest}).pb for digest in digests]
    statement = InToto(subjects, kind, dict(predicate or PASSED))
    statement.validate()
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(statement.pb).encode()


def pae(payload: bytes, payload_type: str = IN_TOTO) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)


def dsse(payload: bytes, *signers: str, key_id: Callable[[str], str | None] = lambda _name: None, encode: Any = base64.b64encode) -> bytes:
    """An envelope by the letter of DSSE, with the ids of keys that somebody gives."""
    signatures = []
    for name in signers:
        found = key_id(name)
        signature = bytes.fromhex(KEYS[name].sign(pae(payload)).signature)
        signatures.append({"sig": encode(signature).decode(), **({} if found is None else {"keyid": found})})
    return json.dumps({"payload": encode(payload).decode(), "payloadType": IN_TOTO, "signatures": signatures}).encode()


def der(name: str) -> bytes:
    key = KEYS[name]._private_key.public_key()
    return bytes(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def judged(*envelopes: bytes, kind: str = "test-result") -> Judgement:
    return judge(evidence(*envelopes), BY, kind, DIGEST, "hello", "1.0", NOW)


def changed(envelope: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(envelope)
    change(document)
    return json.dumps(document).encode()


def bundle(envelope: bytes) -> bytes:
    """As sigstore's tools keep one, with a key."""
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": base64.b64encode(hashlib.sha256(der("dora")).digest()).decode()}},
            "dsseEnvelope": json.loads(envelope),
        }
    ).encode()


GOOD = in_toto(HEX)
SOUND = {
    "no key named": dsse(GOOD, "dora"),
    "an empty name of the key": dsse(GOOD, "dora", key_id=lambda _name: ""),
    "the sha256 of the key": dsse(GOOD, "dora", key_id=lambda name: hashlib.sha256(der(name)).hexdigest()),
    "a key's name as ssh writes it": dsse(GOOD, "dora", key_id=lambda name: "SHA256:" + base64.b64encode(der(name)[-32:]).decode()),
    "a key's address": dsse(GOOD, "dora", key_id=lambda _name: "https://ci.example/keys/1"),
    "several subjects": dsse(in_toto(OTHER_HEX, HEX, "c" * 64), "dora"),
    "a subject of another name": dsse(in_toto(HEX, name="registry.example/hello"), "dora"),
    "a subject without a name": dsse(json.dumps(json.loads(GOOD) | {"subject": [{"digest": {"sha256": HEX}}]}).encode(), "dora"),
    "a subject with more digests": dsse(
        json.dumps(
            json.loads(GOOD) | {"subject": [{"digest": {"sha512": "d" * 128, "sha256": HEX}}, {"uri": "https://x.example"}]}
        ).encode(),
        "dora",
    ),
    "a statement of the older type": dsse(json.dumps(json.loads(GOOD) | {"_type": "https://in-toto.io/Statement/v0.1"}).encode(), "dora"),
    "base64 for URLs": dsse(GOOD, "dora", encode=base64.urlsafe_b64encode),
    "base64 for URLs, not filled up": dsse(GOOD, "dora", encode=lambda content: base64.urlsafe_b64encode(content).rstrip(b"=")),
    "signed by somebody else first": dsse(GOOD, "mallory", "dora"),
    "signed twice by one key": dsse(GOOD, "dora", "dora"),
    "a key named, and one not": dsse(GOOD, "mallory", "dora", key_id=lambda name: "x" if name == "mallory" else None),
    "a bundle": bundle(dsse(GOOD, "dora")),
    "fields that nobody knows": changed(dsse(GOOD, "dora"), lambda document: document.update(more={"a": 1})),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_another_tool_signed_counts_by_its_digest(name: str) -> None:
    found = judged(SOUND[name])
    assert found.trusted, found.refused
    assert found.people == ("dora",)
    assert found.counted[0].signed_at == UNDATED
    assert found.counted[0].statement.predicate == PASSED


@pytest.mark.parametrize(
    "spelling",
    ["https://cyclonedx.org/bom", "https://cyclonedx.org/bom/v1.6", "https://spdx.dev/Document/v2.3", "https://spdx.dev/Document"],
)
def test_an_sbom_counts_under_each_type_that_sboms_have(spelling: str) -> None:
    assert judged(dsse(in_toto(HEX, kind=spelling, predicate={"name": "x"}), "dora"), kind="sbom").trusted
    assert not judged(dsse(in_toto(HEX, kind=f"{spelling}x", predicate={"name": "x"}), "dora"), kind="sbom").trusted


def test_a_scan_counts_and_an_infected_one_that_says_no_time_has_the_last_word() -> None:
    clean = dsse(in_toto(HEX, kind=SCAN, predicate={"result": "clean"}), "dora")
    infected = dsse(in_toto(HEX, kind=SCAN, predicate={"result": "infected"}), "dora")
    later = sign(Statement(purl("hello", "1.0"), DIGEST, SCAN, {"result": "clean"}), KEYS["dora"], NOW)
    earlier = sign(Statement(purl("hello", "1.0"), DIGEST, SCAN, {"result": "infected"}), KEYS["dora"], EARLIER)
    for envelopes, result in (
        ([clean], Result.PASS),
        ([infected], Result.FAIL),
        ([clean, infected], Result.FAIL),
        ([infected, later], Result.FAIL),
        ([earlier, clean], Result.FAIL),
        ([earlier, later], Result.PASS),
    ):
        for order in (envelopes, envelopes[::-1]):
            facts = Facts(NOW, RFC, BY, PackageFacts(DIGEST, ""), evidence={"scan": judged(*order, kind="scan")})
            assert CONTROLS["malware"].check(facts, RFC).result is result


def test_a_test_that_failed_at_no_time_is_not_undone_by_one_that_passed() -> None:
    failed = dsse(in_toto(HEX, predicate=PASSED | {"result": "FAILED"}), "dora")
    for envelopes, result in (([SOUND["no key named"]], Result.PASS), ([failed, SOUND["no key named"]], Result.FAIL)):
        facts = Facts(NOW, RFC, BY, PackageFacts(DIGEST, ""), evidence={"test-result": judged(*envelopes)})
        assert CONTROLS["verification"].check(facts, RFC).result is result


UNSOUND = {
    "about something else": (dsse(in_toto(OTHER_HEX), "dora"), "it is about sha256:bbbb"),
    "no key of ours": (dsse(GOOD, "mallory"), "a signature that names no key does not count: it was made by none of the policy's keys"),
    "a key of ours without the role": (dsse(GOOD, "rita"), "rita does not have the role tester"),
    "one of our keys named, made by another": (
        dsse(GOOD, "mallory", key_id=lambda _name: KEYS["dora"].public_key.keyid),
        "the signature of dora does not count: it was not made by that key over these bytes",
    ),
    "another payload type": (
        changed(dsse(GOOD, "dora"), lambda one: one.update(payloadType="application/json")),
        "not of the type application/vnd.in-toto",
    ),
    "a payload type that was not signed": (
        changed(
            dsse(GOOD, "dora"), lambda one: one.update(payload=base64.b64encode(in_toto(HEX, predicate=PASSED | {"url": "x"})).decode())
        ),
        "made by none of the policy's keys",
    ),
    "a bundle with nothing but a signature": (
        json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature": {}}).encode(),
        "the bundle has no envelope",
    ),
    "too many signatures": (changed(dsse(GOOD, "dora"), lambda one: one.update(signatures=one["signatures"] * 65)), "1 to 64 signatures"),
    "a time to come": (sign(Statement("x", DIGEST, TEST_RESULT, PASSED), KEYS["dora"], NOW + timedelta(days=1)), "a time to come"),
    "a digest in capitals": (
        dsse(json.dumps(json.loads(in_toto(HEX)) | {"subject": [{"digest": {"sha256": HEX.upper()}}]}).encode(), "dora"),
        "no subject with a sha256",
    ),
    "a key twice": (dsse(GOOD, "dora").replace(b'{"payload":', b'{"payload": "e30=", "payload":'), "the key 'payload' twice"),
    "a type that we have no word for": (
        dsse(in_toto(HEX, kind="https://slsa.dev/provenance/v1", predicate={"buildDefinition": {}}), "dora"),
        "the unknown type 'https://slsa.dev/provenance/v1'",
    ),
    "an unknown statement": (
        dsse(json.dumps(json.loads(GOOD) | {"_type": "https://in-toto.io/Statement/v2"}).encode(), "dora"),
        "not of the type https://in-toto.io/Statement/v1",
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_does_not_bind_or_was_not_signed_counts_for_nothing_and_says_why(name: str) -> None:
    content, why = UNSOUND[name]
    found = judged(content)
    assert not found.trusted
    assert any(why in sentence for sentence in found.refused), found.refused
    assert judged(content, SOUND["no key named"]).people == ("dora",)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa with the older padding"])
def test_keys_of_other_tools_kinds_count(kind: str) -> None:
    if kind == "ecdsa":
        key: Any = ec.generate_private_key(ec.SECP256R1())
        made = key.sign(pae(GOOD), ec.ECDSA(hashes.SHA256()))
    else:
        key = rsa.generate_private_key(65537, 2048)
        made = key.sign(pae(GOOD), padding.PKCS1v15(), hashes.SHA256())
    text = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    owner = Person(frozenset(["tester"]), (replace(public("dora"), id=load_public(text).keyid, pem=text),))
    envelope = json.dumps(
        {"payload": base64.b64encode(GOOD).decode(), "payloadType": IN_TOTO, "signatures": [{"sig": base64.b64encode(made).decode()}]}
    )
    by = replace(BY, people={"ci": owner})
    assert judge(evidence(envelope.encode()), by, "test-result", DIGEST, "hello", "1.0", NOW).people == ("ci",)


def test_a_revoked_key_signs_nothing_that_says_no_time() -> None:
    gone = replace(BY, people=PEOPLE | {"dora": Person(frozenset(["tester"]), (public("dora", NOW + timedelta(days=1)),))})
    found = judge(evidence(SOUND["no key named"]), gone, "test-result", DIGEST, "hello", "1.0", NOW)
    assert not found.trusted
    assert "and it does not say when it signed" in found.refused[0]


def test_no_more_keys_are_tried_than_anybody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    verify = trust.Sealed.made_by
    monkeypatch.setattr(trust.Sealed, "made_by", lambda self, key, number: tried.append(number) or verify(self, key, number))
    flood = changed(dsse(GOOD, "mallory"), lambda one: one.update(signatures=one["signatures"] * 64))
    monkeypatch.setattr(trust, "_BUDGET", 100 * (128 << 10))
    by = replace(BY)
    found = judge(evidence(*[flood] * 5, SOUND["no key named"]), by, "test-result", DIGEST, "hello", "1.0", NOW)
    assert len(tried) <= 100
    assert not found.trusted
    assert any("more such signatures here than are tried" in sentence for sentence in found.refused)
    # Who names the policy's own key is not in need of a trial.
    named = sign(Statement("any", DIGEST, TEST_RESULT, PASSED), KEYS["dora"], EARLIER)
    assert judge(evidence(flood, flood, named), by, "test-result", DIGEST, "hello", "1.0", NOW).people == ("dora",)


DECISIONS = {
    "no key named": lambda content: changed(content, lambda one: one["signatures"][0].pop("keyid")),
    "two signatures of one key": lambda content: changed(content, lambda one: one["signatures"].append(one["signatures"][0])),
    "two subjects": lambda content: resigned(content, lambda one: one["subject"].append({"name": "x", "digest": {"sha256": OTHER_HEX}})),
    "no name": lambda content: resigned(content, lambda one: one["subject"][0].pop("name")),
    "no time": lambda content: resigned(content, lambda one: one["subject"][0].pop("annotations")),
    "the older type": lambda content: resigned(content, lambda one: one.update(_type="https://in-toto.io/Statement/v0.1")),
}


def resigned(envelope: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    change(document)
    made = Envelope(json.dumps(document).encode(), IN_TOTO, {})
    made.sign(KEYS["rita"])
    return json.dumps(made.to_dict()).encode()


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("decision", [APPROVED, REJECTED])
def test_a_decision_of_a_person_counts_only_as_it_is_written_here_and_is_never_passed_over(name: str, decision: str) -> None:
    matter = replace(MATTER, digest=DIGEST)
    written = sign(matter.statement("release-manager", decision, ""), KEYS["rita"], EARLIER)
    assert judge_approvals(evidence(written), BY, matter, "release-manager", 1, NOW).people == ("rita",)
    odd = DECISIONS[name](written)
    with pytest.raises(IntegrityError):
        open_envelope(odd)
    found = judge_approvals(evidence(odd), BY, matter, "release-manager", 1, NOW)
    assert found.people == ()
    assert len(found.unread) == 1  # so that the control of approvals is inconclusive


class TestInTheLibrary:
    @pytest.fixture
    def home(self, tmp_path: Path) -> OciLayout:
        return OciLayout.create(tmp_path / "dsl")

    @pytest.fixture
    def release(self, home: OciLayout) -> PackageName:
        return PackageName("hello", "1.0", archive(HELLO, home).digest)

    @staticmethod
    def put(home: OciLayout, release: PackageName, envelope: bytes, artifact: str, layer: str) -> str:
        manifest = json.loads(referring(home, release.digest, envelope, layer)) | {"artifactType": artifact}
        return str(home.refer(release.digest, json.dumps(manifest).encode()).digest)

    @pytest.mark.parametrize(
        ("artifact", "layer"),
        [
            (IN_TOTO, ENVELOPE),
            (IN_TOTO, IN_TOTO),
            (IN_TOTO, "application/json"),
            (ENVELOPE, ENVELOPE),
            (ENVELOPE, "application/vnd.oci.image.layer.v1.tar"),
            ("application/vnd.in-toto.bundle+json", "application/vnd.in-toto.bundle+json"),
            ("application/vnd.dev.cosign.artifact.att.v1+json", ENVELOPE),
            ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle.v0.3+json"),
            ("application/vnd.dev.sigstore.bundle+json;version=0.2", "application/vnd.dev.sigstore.bundle+json;version=0.2"),
        ],
    )
    def test_evidence_is_found_under_the_usual_types(self, home: OciLayout, release: PackageName, artifact: str, layer: str) -> None:
        envelope = dsse(in_toto(release.digest[7:]), "dora")
        kept = self.put(home, release, bundle(envelope) if "bundle" in layer else envelope, artifact, layer)
        found = collect(home, release.digest)
        assert judge(found, BY, "test-result", release.digest, "hello", "1.0", NOW).people == ("dora",)
        assert (found.broken, found.foreign) == ((), ())
        assert look(home, "hello", "1.0", release.digest, {}).evidence == {kept: "test-result (PASSED)"}

    def test_a_manifest_without_a_type_of_its_own_has_that_of_its_configuration(self, home: OciLayout, release: PackageName) -> None:
        manifest = json.loads(referring(home, release.digest, SOUND["no key named"]))
        del manifest["artifactType"]
        for kind, expected in ((IN_TOTO, SOUND["no key named"]), (EMPTY, None), (7, None)):
            manifest["config"]["mediaType"] = kind
            kept = (
                home.put_manifest(json.dumps(manifest).encode())
                if isinstance(kind, str)
                else home.put_blob(json.dumps(manifest).encode(), "x")
            )
            assert read_piece(home, release.digest, kept.digest) == expected

    @pytest.mark.parametrize(
        ("artifact", "layer", "why"),
        [
            ("application/vnd.cncf.notary.signature", "application/jose+json", "of the type 'application/vnd.cncf.notary.signature'"),
            ("application/vnd.dev.cosign.artifact.sig.v1+json", ENVELOPE, "application/vnd.dev.cosign.artifact.sig.v1+json"),
            ("application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json"),
            (
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                "the bundle has no envelope",
            ),
            ("application/vnd.in-toto.bundle", "text/plain", "it holds text/plain"),
        ],
    )
    def test_what_is_not_understood_is_named_and_stands_in_nobodys_way(
        self, home: OciLayout, release: PackageName, artifact: str, layer: str, why: str
    ) -> None:
        other = json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature": {}}).encode()
        kept = self.put(home, release, other, artifact, layer)
        found = collect(home, release.digest)
        assert len(found.foreign) == 1
        assert kept in found.foreign[0]
        assert why in found.foreign[0]
        assert found.broken == ()
        assert sort_out(found, release.digest) == ((), found.foreign)
        assert why in look_at(home, release, BY, NOW)["not_evidence"][0]
        assert why in judge(found, BY, "test-result", release.digest, "hello", "1.0", NOW).refused[-1]
        matter = replace(MATTER, digest=release.digest)
        assert judge_approvals(found, BY, matter, "release-manager", 1, NOW).unread == ()

    def test_what_cosign_keeps_under_a_tag_is_named(self, home: OciLayout, release: PackageName) -> None:
        index = home.path / "index.json"
        document = json.loads(index.read_text())
        for tag in ("att", "0" * 32):  # the latter as we name what a registry is to keep
            kept = {"org.opencontainers.image.ref.name": f"sha256-{release.digest[7:]}.{tag}"}
            document["manifests"].append(document["manifests"][0] | {"annotations": kept})
        index.write_text(json.dumps(document))
        found = collect(home, release.digest)
        assert [sentence.partition(" counts for nothing")[0] for sentence in found.foreign] == [f"the tag sha256-{release.digest[7:]}.att"]
        assert found.broken == ()

    def test_a_ready_made_envelope_is_kept_as_it_is_and_once(self, home: OciLayout, release: PackageName, tmp_path: Path) -> None:
        for content in (dsse(in_toto(OTHER_HEX, release.digest[7:]), "dora"), bundle(dsse(in_toto(release.digest[7:]), "dora"))):
            (tmp_path / "envelope.json").write_bytes(content)
            read = read_envelope(str(tmp_path / "envelope.json"))
            for write, expected in ((False, True), (True, True), (True, False)):
                assert attach_signed(home, release, read, BY, NOW, write) == (["dora"], expected)
            assert content in collect(home, release.digest).envelopes
        listed = look_at(home, release, BY, NOW)["evidence"]
        assert [(one["kind"], one["digest"], one["signed_at"], one["signed_by"]) for one in listed] == [
            ("test-result", release.digest, None, ["dora"])
        ] * 2

    def test_an_envelope_of_a_type_without_a_word_is_kept_when_somebody_known_signed_it(
        self, home: OciLayout, release: PackageName
    ) -> None:
        content = dsse(in_toto(release.digest[7:], kind="https://slsa.dev/provenance/v1", predicate={"buildDefinition": {}}), "dora")
        assert attach_signed(home, release, content, BY, NOW, write=True) == (["dora"], True)
        listed = look_at(home, release, BY, NOW)["evidence"]
        assert [(one["kind"], one["signed_by"]) for one in listed] == [(None, ["dora"])]

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda _hex: dsse(in_toto(OTHER_HEX), "dora"), "would count for nothing: it is about sha256:bbbb"),
            (lambda hexed: dsse(in_toto(hexed), "mallory"), "bears no signature that holds by a key of the policy's people"),
            (lambda hexed: dsse(in_toto(hexed)), "1 to 64 signatures"),
            (lambda _hex: b"\xff", "the envelope can't be used: the envelope is not JSON"),
            (lambda _hex: b"", "the envelope can't be used"),
            (lambda _hex: b"[" * 100_000, "the envelope can't be used"),
            (in_toto, "not of the type application/vnd.in-toto"),
            (
                lambda hexed: sign(Statement("x", f"sha256:{hexed}", TEST_RESULT, PASSED), KEYS["dora"], NOW + timedelta(days=1)),
                "a time to come",
            ),
            (
                lambda hexed: sign(Statement("hello.tar", f"sha256:{hexed}", RELEASE, {"purl": purl("hello", "1.0")}), KEYS["rita"], NOW),
                "it is about 'hello.tar'",
            ),
            (
                lambda hexed: sign(Statement(purl("hello", "1.0"), f"sha256:{hexed}", RELEASE, {"purl": "pkg:x/y"}), KEYS["rita"], NOW),
                "it is of the release",
            ),
            (
                lambda hexed: changed(
                    sign(replace(MATTER, digest=f"sha256:{hexed}").statement("release-manager", APPROVED, ""), KEYS["rita"], EARLIER),
                    lambda one: one["signatures"][0].pop("keyid"),
                ),
                "does not name its key",
            ),
        ],
    )
    def test_an_envelope_that_would_count_for_nothing_is_not_taken(
        self, home: OciLayout, release: PackageName, change: Callable[[str], bytes], why: str
    ) -> None:
        with pytest.raises(TidegateError, match=why):
            attach_signed(home, release, change(release.digest[7:]), BY, NOW, write=True)
        assert len(collect(home, release.digest)) == 0

    def test_an_envelope_is_a_file_of_a_size_that_one_has(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(TidegateError, match="can't read the envelope"):
            read_envelope(str(tmp_path / "missing"))
        with pytest.raises(TidegateError, match="is not a file"):
            read_envelope("/dev/zero")
        monkeypatch.setattr("ansible_collections.tidegate.release.plugins.plugin_utils.steps.attest.ENVELOPE_LIMIT", 10)
        (tmp_path / "long").write_bytes(b"x" * 11)
        with pytest.raises(TidegateError, match="has more than"):
            read_envelope(str(tmp_path / "long"))

    def test_what_is_signed_here_is_what_in_totos_own_library_reads(self, home: OciLayout, release: PackageName) -> None:
        from google.protobuf.json_format import Parse
        from in_toto_attestation.v1 import statement_pb2

        about = Statement(purl("hello", "1.0"), release.digest, SBOM, {"bomFormat": "CycloneDX", "specVersion": "1.6"})
        attach(home, release.digest, sign(about, KEYS["rita"], NOW))
        (content,) = collect(home, release.digest)
        made = Envelope.from_dict(json.loads(content))
        made.verify([KEYS["rita"].public_key], 1)
        read = InToto.copy_from_pb(Parse(made.payload, statement_pb2.Statement()))
        read.validate()
        assert read.pb.subject[0].annotations["https://tidegate.example/signed-at/v1"] == "2027-03-01T22:00:00Z"
        assert dict(read.pb.predicate) == about.predicate


def test_an_envelope_that_openssl_alone_made_counts(tmp_path: Path) -> None:
    """As a shell script of some CI system makes one."""
    (tmp_path / "key.pem").write_bytes(KEYS["dora"].private_bytes)
    (tmp_path / "pae").write_bytes(pae(GOOD))
    command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(tmp_path / "key.pem"), "-in", str(tmp_path / "pae")]
    made = subprocess.run(command, check=True, capture_output=True).stdout
    envelope = {
        "payload": base64.b64encode(GOOD).decode(),
        "payloadType": IN_TOTO,
        "signatures": [{"sig": base64.b64encode(made).decode()}],
    }
    assert judged(json.dumps(envelope).encode()).people == ("dora",)


def test_a_piece_that_could_be_a_decision_is_still_in_the_way() -> None:
    """Under the type that Tidegate itself uses, what can't be read may have been a rejection."""
    found = judge_approvals(Evidence((), ("the evidence x can't be used",)), BY, MATTER, "release-manager", 1, NOW)
    assert found.unread == ("the evidence x can't be used",)
