# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence as people give it and ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import PackageName
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import KINDS
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Trust
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.attest import attest, find_release, look_at
from releases import HELLO
from seals import EARLIER, KEYS, NOW, policy, referring


@pytest.fixture
def home(tmp_path: Path) -> OciLayout:
    return OciLayout.create(tmp_path / "dsl")


@pytest.fixture
def release(home: OciLayout) -> PackageName:
    return PackageName("hello", "1.0", archive(HELLO, home).digest)


def test_a_package_is_found_by_version_or_digest(home: OciLayout, release: PackageName) -> None:
    assert find_release(home, "hello", "1.0", None) == release
    assert find_release(home, "hello", None, release.digest) == release


@pytest.mark.parametrize(
    ("name", "version", "digest", "why"),
    [
        ("hello", None, None, "give either version or digest"),
        ("hello", "1.0", "sha256:" + "0" * 64, "give either version or digest"),
        ("hello", "2.0", None, "the DSL has no hello 2.0"),
        ("hello", None, "sha256:" + "0" * 64, "can't be read"),
        ("hello", None, "latest", "is not a digest"),
        ("other", None, ..., "is the package of hello 1.0, not of other"),
    ],
)
def test_a_package_that_is_not_meant_is_not_taken(
    home: OciLayout, release: PackageName, name: str, version: Any, digest: Any, why: str
) -> None:
    with pytest.raises(TidegateError, match=why):
        find_release(home, name, version, release.digest if digest is ... else digest)


def test_evidence_of_each_kind_is_signed_once_listed_and_judged(home: OciLayout, release: PackageName) -> None:
    predicate = {"result": "PASSED", "configuration": []}
    for write, expected in ((False, True), (True, True), (True, False)):
        assert attest(home, release, "test-result", predicate, KEYS["dora"], EARLIER, write) is expected
    assert attest(home, release, "package", {}, KEYS["rita"], EARLIER, write=True)
    assert attest(home, release, "https://x.example/weather/v1", {"sun": True}, KEYS["mallory"], EARLIER, write=True)
    found = look_at(home, release, policy(**{"test-result": Trust("tester", 2)}), NOW)
    listed = {entry["type"]: entry for entry in found["evidence"]}
    assert {entry["piece"] for entry in found["evidence"]} == {entry.digest for entry in home.referrers(release.digest)}
    assert listed[KINDS["test-result"]] == {
        "piece": listed[KINDS["test-result"]]["piece"],
        "kind": "test-result",
        "type": KINDS["test-result"],
        "name": "pkg:generic/hello@1.0",
        "digest": release.digest,
        "predicate": predicate,
        "signed_at": EARLIER.isoformat(),
        "signed_by": ["dora"],
        "key_ids": [KEYS["dora"].public_key.keyid],
    }
    assert (listed["https://x.example/weather/v1"]["kind"], listed["https://x.example/weather/v1"]["signed_by"]) == (None, [])
    assert found["judgements"]["package"]["trusted"] is True
    assert found["judgements"]["package"]["people"] == ["rita"]
    assert found["judgements"]["test-result"]["trusted"] is False
    assert found["judgements"]["test-result"]["sentence"] == "1 of 2 with the role tester signed the test-result (dora)"
    assert found["broken"] == []


def test_what_is_broken_is_listed_apart(home: OciLayout, release: PackageName) -> None:
    home.refer(release.digest, referring(home, release.digest, b"{}"))
    home.refer(release.digest, referring(home, release.digest, b"{}", "text/plain"))
    found = look_at(home, release, policy(), NOW)
    assert found["evidence"] == []
    assert len(found["broken"]) == 2


@pytest.mark.parametrize(
    ("kind", "predicate", "why"),
    [
        ("package", {"purl": "pkg:generic/hello@9.9"}, "no predicate of its own"),
        ("tests", {}, "'tests' is no kind of evidence"),
        ("scan", {"rate": float("nan")}, "can't be written as JSON"),
        ("scan", {"what": object()}, "can't be written as JSON"),
    ],
)
def test_what_can_not_be_signed_is_refused(home: OciLayout, release: PackageName, kind: str, predicate: dict[str, Any], why: str) -> None:
    with pytest.raises(TidegateError, match=why):
        attest(home, release, kind, predicate, KEYS["rita"], NOW, write=True)
