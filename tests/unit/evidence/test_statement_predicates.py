# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predicates of others' types have the fields that these publish, and what is ours beside them has the name of a URI."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.clearance import Clearance
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Control, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.summary import is_signed
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import blob_uri
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import payload_of, sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import sbom
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.load import DEFAULT
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Identity
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Clearing
from ansible_collections.tidegate.release.plugins.plugin_utils.verification import outcome
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.parity import Parity
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from seals import DIGEST, KEYS, MATTER, NOW, RFC, policy

URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
# As https://slsa.dev/spec/v1.1/verification_summary and https://github.com/in-toto/attestation (spec/predicates) list them.
SUMMARY = {
    *("verifier", "timeVerified", "resourceUri", "policy", "inputAttestations", "verificationResult", "verifiedLevels"),
    *("dependencyLevels", "slsaVersion"),
}
TEST_RESULT = {"result", "configuration", "url", "passedTests", "warnedTests", "failedTests"}
RELEASE = {"purl", "packageId"}
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")


def only(fields: set[str], predicate: Mapping[str, Any]) -> bool:
    return all(name in fields or URI.fullmatch(name) for name in predicate)


def summary(policy_path: str | None, identity: Identity | None = None, **changes: Any) -> dict[str, Any]:
    results = changes.pop("results", (Result.PASS, Result.NOT_APPLICABLE))
    controls = tuple(Control(f"c{number}", result, "", "") for number, result in enumerate(results))
    clearance = Clearance(RFC.number, "hello 1.0", DIGEST, NOW, controls)
    ruled = replace(policy(), identity=identity or Identity(), sha256="c" * 64)
    clearing = Clearing(clearance, replace(RFC, digest=DIGEST), ruled, ({"name": "web1", "written_off": None},), **changes)
    return dict(clearing.summary(policy_path, "/srv/dsl", "f" * 64).predicate)


def test_a_clearance_is_a_verification_summary_as_slsa_has_it(tmp_path: Path) -> None:
    path = tmp_path / "my policy.yml"
    path.write_text("schema: 1\n")
    said = summary(str(path), inputs=("a" * 64, "b" * 64))
    assert only(SUMMARY, said)
    assert [name for name in said if name not in SUMMARY] == ["https://tidegate.example/clearance/v1"]
    assert set(said) >= SUMMARY - {"dependencyLevels"}
    assert said["verifier"] == {"id": f"https://tidegate.example/verifier/{'f' * 64}"}
    assert TIME.fullmatch(said["timeVerified"])
    assert said["resourceUri"] == f"pkg:generic/{RFC.release}@{RFC.version}"
    assert said["policy"]["uri"] == f"{tmp_path.as_uri()}/my%20policy.yml"
    assert said["policy"]["digest"]["sha256"] == "c" * 64, "that of the file when it was judged by it"
    assert said["inputAttestations"] == [
        {"uri": f"file:///srv/dsl/blobs/sha256/{digit * 64}", "digest": {"sha256": digit * 64}} for digit in "ab"
    ]
    assert (said["verificationResult"], said["verifiedLevels"], said["slsaVersion"]) == ("PASSED", ["TIDEGATE_CLEARED"], "1.1")
    refused = summary(str(path), results=(Result.PASS, Result.FAIL))
    assert (refused["verificationResult"], refused["verifiedLevels"]) == ("FAILED", ["FAILED"])
    assert refused["inputAttestations"] == []


def test_policy_and_verifier_have_the_names_that_the_policy_gives_them() -> None:
    said = summary(None)
    assert said["policy"]["uri"] == "https://tidegate.example/policy/default"
    named = summary(str(DEFAULT), Identity("https://team.example/policy.yml", "https://team.example/changes"))
    assert (named["policy"]["uri"], named["verifier"]) == ("https://team.example/policy.yml", {"id": "https://team.example/changes"})


@pytest.mark.parametrize("uri", ["policy.yml", "/srv/policy.yml", "", "https://team.example/a b", "https://team.example/\n", "x:\u00e9"])
def test_a_name_that_is_no_uri_is_refused(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(json.dumps({"schema": 1, "identity": {"verifier": uri}}))
    with pytest.raises(Exception, match=r"identity\.verifier"):
        load_policy(path)


def test_an_input_can_be_fetched_from_where_the_library_is() -> None:
    assert blob_uri("oci://registry.example/releases", "hello", "a" * 64) == f"oci://registry.example/releases/hello@sha256:{'a' * 64}"
    assert blob_uri("/srv/my dsl", "hello", "a" * 64) == f"file:///srv/my%20dsl/blobs/sha256/{'a' * 64}"


def test_a_summary_is_the_same_at_another_moment_and_not_with_other_inputs() -> None:
    def made(**changes: Any) -> Any:
        clearance = Clearance(RFC.number, "hello 1.0", DIGEST, changes.pop("at", NOW), (Control("c", Result.PASS, "", ""),))
        clearing = Clearing(clearance, replace(RFC, digest=DIGEST), policy(), ({"name": "web1", "written_off": None},), **changes)
        return clearing.summary(None, "/srv/dsl", "f" * 64)

    content = sign(made(), KEYS["rita"], NOW)
    assert is_signed(made(at=NOW.replace(year=2028)), content, KEYS["rita"].public_key)
    assert not is_signed(made(inputs=("a" * 64,)), content, KEYS["rita"].public_key)
    assert not is_signed(made(), content, KEYS["carl"].public_key)


def test_a_test_result_and_a_release_have_the_fields_of_their_types() -> None:
    tests, rehearsal = outcome.Results(passed=("one",)), outcome.Rehearsal(DIGEST, True, True, 1, ("",))
    said = outcome.predicate(
        tests, rehearsal, Parity(100, {}, ()), ended="", digest=DIGEST, events={"ok": 1}, hosts={"a": "b"}, scenario="f" * 64
    )
    assert only(TEST_RESULT, said)
    assert said.keys() >= {"result", "configuration"}
    assert only(RELEASE, release_statement("hello", "1.0", DIGEST).predicate)
    assert MATTER.release == "hello"


def test_an_sbom_that_was_signed_is_one_that_is_taken_in_again() -> None:
    made = json.loads(sbom.make("web", "1.0", DIGEST, [], lambda _path: pytest.fail("nothing to read")))
    content = sign(replace(release_statement("web", "1.0", DIGEST), type="https://cyclonedx.org/bom", predicate=made), KEYS["rita"], NOW)
    signed = json.dumps(json.loads(payload_of(content))["predicate"])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(signed) is None
    assert sbom.check(signed.encode(), "bom.json") == made
