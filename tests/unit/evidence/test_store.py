# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence beside a package: kept once, found again, and what is broken is named instead of hidden."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import MANIFEST, Descriptor
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.seen import Piece
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence import store
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import open_envelope, payload_of, sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import (
    APPROVAL,
    CLEARED,
    KINDS,
    ON_CHANGES,
    RECORDS,
    Statement,
    release_statement,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import (
    PREDICATE_TYPE,
    RFC,
    Wanted,
    attach,
    collect,
    ensure,
    is_attached,
)
from releases import HELLO, spoil
from seals import EARLIER, KEYS, NOW, OTHER, referring, sealed, sealed_payload


@pytest.fixture
def home(tmp_path: Path) -> OciLayout:
    return OciLayout.create(tmp_path / "dsl")


@pytest.fixture
def package(home: OciLayout) -> str:
    return archive(HELLO, home).digest


def envelope(package: str, name: str = "rita") -> bytes:
    return sealed(name, release_statement("hello", "1.0", package))


def odd(package: str) -> bytes:
    """Somebody's envelope with half a character in it, which can be read but not written."""
    document = release_statement("hello", "1.0", package).to_json(EARLIER)
    document["predicate"]["note"] = "\ud800"
    return sealed_payload(json.dumps(document).encode(), "carl")


def test_what_is_attached_is_found_again_once(home: OciLayout, package: str) -> None:
    assert len(collect(home, package)) == 0
    first = attach(home, package, envelope(package))
    assert attach(home, package, envelope(package)) == first
    attach(home, package, envelope(package, "carl"))
    assert sorted(collect(home, package)) == sorted([envelope(package), envelope(package, "carl")])


def test_it_is_an_oci_artifact_that_refers_to_the_package(home: OciLayout, package: str) -> None:
    manifest = json.loads(home.read_blob(attach(home, package, envelope(package)), 1 << 20))
    assert manifest["artifactType"] == "application/vnd.in-toto+json"
    assert manifest["subject"]["digest"] == package
    assert manifest["subject"]["size"] == len(home.read_blob(package, 1 << 20))
    assert manifest["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.dsse.envelope.v1+json"]
    assert manifest["annotations"] == {PREDICATE_TYPE: "https://in-toto.io/attestation/release/v0.2"}


def test_evidence_about_something_else_is_not_attached(home: OciLayout, package: str) -> None:
    for wrong in (envelope(OTHER), b"{}", envelope(package)[:-2]):
        with pytest.raises(IntegrityError):
            attach(home, package, wrong)
    with pytest.raises(IntegrityError):
        attach(home, OTHER, envelope(OTHER))
    assert len(collect(home, package)) == 0


def test_a_key_signs_the_same_thing_once(home: OciLayout, package: str) -> None:
    statement = release_statement("hello", "1.0", package)
    assert ensure(home, statement, KEYS["rita"], NOW, write=False)
    assert len(collect(home, package)) == 0
    assert ensure(home, statement, KEYS["rita"], EARLIER, write=True)
    assert not ensure(home, statement, KEYS["rita"], NOW, write=True)
    assert ensure(home, statement, KEYS["carl"], NOW, write=True)
    other = Statement(statement.name, package, "https://x.example/y", {"passed": 1})
    assert ensure(home, other, KEYS["rita"], NOW, write=True)
    assert ensure(home, Statement(statement.name, package, "https://x.example/y", {"passed": True}), KEYS["rita"], NOW, write=True)
    assert len(collect(home, package)) == 4


@pytest.mark.parametrize("kind", ["scan", "test-result"])
def test_what_was_said_before_something_else_is_said_again_where_the_last_word_counts(home: OciLayout, package: str, kind: str) -> None:
    def say(result: str, minutes: int) -> bool:
        statement = Statement("pkg:generic/hello@1.0", package, KINDS[kind], {"result": result})
        return ensure(home, statement, KEYS["rita"], EARLIER + timedelta(minutes=minutes), write=True)

    assert [say("FAILED", 0), say("FAILED", 1), say("PASSED", 2), say("FAILED", 3), say("FAILED", 4)] == [True, False, True, True, False]
    assert say("PASSED", 3)  # the same moment says nothing of which is the last
    assert len(collect(home, package)) == 4


def test_a_forged_signature_under_the_keys_name_does_not_keep_it_from_signing(home: OciLayout, package: str) -> None:
    document = json.loads(envelope(package, "mallory"))
    document["signatures"][0]["keyid"] = KEYS["rita"].public_key.keyid
    attach(home, package, json.dumps(document).encode())
    home.refer(package, referring(home, package, b"junk"))
    home.refer(package, referring(home, package, odd(package)))
    assert ensure(home, release_statement("hello", "1.0", package), KEYS["rita"], NOW, write=True)
    assert len(collect(home, package)) == 4


def test_what_is_broken_is_named_and_the_rest_is_there(home: OciLayout, package: str) -> None:
    good = envelope(package)
    attach(home, package, good)
    damaged = attach(home, package, envelope(package, "carl"))
    spoil(home, damaged, b"x")
    home.refer(package, referring(home, package, good, "text/plain"))
    two = json.loads(referring(home, package, good))
    two["layers"] *= 2
    home.refer(package, json.dumps(two).encode())
    found = collect(home, package)
    assert list(found) == [good]
    assert len(found.broken) == 3
    assert all(sentence.startswith("the evidence sha256:") for sentence in found.broken)
    assert any(damaged in sentence for sentence in found.broken)


def test_a_listing_that_names_another_packages_evidence_is_seen_through(home: OciLayout, package: str) -> None:
    """As when somebody edits the list by hand: a manifest that refers to something else is not evidence about this."""
    manifest = json.loads(referring(home, package, envelope(package)))
    stolen = home.put_blob(json.dumps(manifest | {"subject": manifest["subject"] | {"digest": OTHER}}).encode(), manifest["mediaType"])
    attach(home, package, envelope(package))
    index_path = home.path / "index.json"
    index = json.loads(index_path.read_text())
    entry = next(e for e in index["manifests"] if e["annotations"]["org.opencontainers.image.ref.name"].startswith("sha256-"))
    listing = json.loads(home.read_blob(entry["digest"], 1 << 20))
    listing["manifests"] = [listing["manifests"][0] | {"digest": stolen.digest, "size": stolen.size}]
    entry |= home.put_blob(json.dumps(listing).encode(), entry["mediaType"]).to_json()
    index_path.write_text(json.dumps(index))
    found = collect(home, package)
    assert list(found) == []
    assert "refers to another digest" in found.broken[0]


def test_more_bytes_of_evidence_than_anybody_means_are_refused(home: OciLayout, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rita", "carl"):
        attach(home, package, envelope(package, name))
    monkeypatch.setattr(store, "_TOTAL_LIMIT", 100)
    with pytest.raises(IntegrityError, match="more than 100 bytes"):
        collect(home, package)


def test_a_predicate_is_signed_as_it_is_and_the_time_stands_beside_it() -> None:
    """Also one that has a field for the time itself, whatever it means there."""
    for predicate in ({"signedAt": "2020-01-01T00:00:00Z"}, {"signedAt": 7}, {}):
        content = sign(Statement("x", OTHER, "https://x.example/y", predicate), KEYS["rita"], NOW)
        opened = open_envelope(content)
        assert (opened.statement.predicate, opened.signed_at) == (predicate, NOW)
        assert json.loads(payload_of(content))["predicate"] == predicate


# -- what was decided for other RFCs -----------------------------------------


def decided(package: str, rfc: str, kind: str = "approval", **said: object) -> bytes:
    predicate: dict[str, object] = {"rfc": rfc, "role": "release-manager", "decision": "approved", **said}
    return sealed(
        "rita", Statement("pkg:generic/hello@1.0", package, KINDS[kind], {CLEARED: predicate} if kind == "clearance" else predicate)
    )


def piece(what: str, rfc: str = "") -> Piece:
    return Piece(what, NOW, rfc)


@pytest.mark.parametrize("kind", sorted(ON_CHANGES))
def test_what_was_decided_for_another_rfc_is_not_read(home: OciLayout, package: str, kind: str) -> None:
    ours, theirs = (attach(home, package, decided(package, rfc, kind)) for rfc in ("CHG1", "CHG2"))
    spoil(home, theirs)  # who reads it would say so
    found = collect(home, package, Wanted("CHG1"))
    over = {ours, theirs} if kind in RECORDS else {theirs}  # these say what was decided, and are not judged
    assert ({one.digest for one in found.attached}, set(found.passed_over), found.broken) == ({ours, theirs} - over, over, ())
    assert len(collect(home, package).broken) == 1


def test_two_thousand_pieces_of_other_rfcs_are_not_read_and_lock_nothing(
    home: OciLayout, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(home, package, envelope(package))
    template = json.loads(home.read_manifest(attach(home, package, decided(package, "CHG2"))))
    for number in range(2000):
        entry = Descriptor(
            MANIFEST, f"sha256:{number:064x}", 1, {PREDICATE_TYPE: APPROVAL, RFC: f"CHG{number + 2}"}, template["artifactType"]
        )
        home._recent.add(package, entry)
    read: list[str] = []
    real = OciLayout.read_manifest
    monkeypatch.setattr(OciLayout, "read_manifest", lambda self, digest: (read.append(digest), real(self, digest))[1])
    assert len(collect(home, package, Wanted("CHG1"))) == 1
    assert len(read) == 1


def test_a_piece_without_a_word_in_the_list_is_read(home: OciLayout, package: str) -> None:
    """Also one whose own manifest says that it is for another RFC: anybody can write that around a finding."""
    finding = sealed("rita", Statement("pkg:generic/hello@1.0", package, KINDS["scan"], {"result": "infected"}))
    manifest = json.loads(referring(home, package, finding)) | {"annotations": {PREDICATE_TYPE: APPROVAL, RFC: "CHG2"}}
    home.refer(package, json.dumps(manifest).encode())
    assert list(collect(home, package, Wanted("CHG1"))) == [finding]


def test_a_list_that_lies_hides_nothing_that_was_seen(home: OciLayout, package: str) -> None:
    finding = sealed("rita", Statement("pkg:generic/hello@1.0", package, KINDS["scan"], {"result": "infected"}))
    rejection = decided(package, "CHG1", decision="rejected")
    digests = [attach(home, package, content) for content in (finding, rejection)]
    lies = {PREDICATE_TYPE: APPROVAL, RFC: "CHG2"}
    home.relabel(package, dict.fromkeys(digests, lies))
    seen = {digests[0]: piece("scan (infected)"), digests[1]: piece("approval (rejected)", "CHG1")}
    assert list(collect(home, package, Wanted("CHG1", seen=seen))) == [finding, rejection]


def test_what_was_read_once_as_decided_for_another_rfc_is_not_read_again(home: OciLayout, package: str) -> None:
    """Whatever the list says, for a digest is of the same bytes for ever."""
    digest = attach(home, package, decided(package, "CHG2"))
    home.relabel(package, {digest: {}})
    assert collect(home, package, Wanted("CHG1", seen={digest: piece("approval (approved)", "CHG2")})).passed_over == (digest,)
    for other in (piece("approval (approved)", "CHG1"), piece("scan (infected)", "CHG2"), piece("evidence that could not be read")):
        assert collect(home, package, Wanted("CHG1", seen={digest: other})).passed_over == ()


def test_what_is_for_no_rfc_that_can_be_named_is_read(home: OciLayout, package: str) -> None:
    for rfc in ("", "CHG\n2", "x" * 200):
        attach(home, package, decided(package, rfc))
    assert len(collect(home, package, Wanted("CHG1"))) == 3


def test_an_envelope_is_read_out_of_its_manifest_and_is_what_its_digest_says(home: OciLayout, package: str) -> None:
    content = envelope(package)
    manifest = json.loads(home.read_manifest(attach(home, package, content)))
    (layer,) = manifest["layers"]
    (home.blobs / layer["digest"][7:]).unlink()  # the scrub says so
    assert list(collect(home, package)) == [content]
    for wrong in (base64.b64encode(envelope(package, "carl")).decode(), "%", 7):
        layer["data"] = wrong
        home.refer(package, json.dumps(manifest).encode())
    found = collect(home, package)
    assert (list(found), len(found.broken)) == ([content], 3)


def test_a_large_envelope_is_only_a_blob(home: OciLayout, package: str) -> None:
    content = sealed("rita", Statement("pkg:generic/hello@1.0", package, KINDS["sbom"], {"components": ["x" * 1000] * 20}))
    assert "data" not in json.loads(home.read_manifest(attach(home, package, content)))["layers"][0]
    assert list(collect(home, package)) == [content]
    assert is_attached(home, package, content)
    assert not is_attached(home, package, envelope(package))
