# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What signed documents saw of the CMDB's past counts when somebody signed it whom the policy names, wherever it is found."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.links import Head
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import (
    CLEARANCE,
    CLEARED,
    GATES,
    KINDS,
    Statement,
    purl,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Policy
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import seen_in_file, seen_in_library
from documents import policy_of, write_document
from releases import write_release
from seals import KEYS, pem

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
HEADS = {"history": {"seq": 7, "sha256": "a" * 64}, "journal": {"seq": 3, "sha256": "b" * 64}}
SEEN = {"history": Head(7, "a" * 64), "journal": Head(3, "b" * 64)}
DIGEST = "sha256:" + "1" * 64
GATES_SAID = (GATES, {"rfc": "CHG1", "heads": HEADS})
CLEARANCE_SAID = (CLEARANCE, {CLEARED: {"rfc": "CHG1", "heads": HEADS}})


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """It names rita, and nobody else."""
    people = {"rita": {"roles": ["release-manager"], "keys": [{"public": pem(KEYS["rita"])}]}}
    write_document(tmp_path / "policy.yml", policy_of(people=people))
    return load_policy(str(tmp_path / "policy.yml"))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = create_library(str(tmp_path / "dsl"))
    archive(write_release(tmp_path / "release", {"data": b"1"}, version="1.0"), made.repository("hello"))
    return made


def signed(kind: str, predicate: dict[str, Any], who: str = "rita", digest: str = DIGEST) -> bytes:
    return sign(Statement(purl("hello", "1.0"), digest, kind, predicate), KEYS[who], NOW)


@pytest.mark.parametrize(
    ("said", "who", "counts"),
    [
        (GATES_SAID, "rita", True),
        (CLEARANCE_SAID, "rita", True),
        (GATES_SAID, "mallory", False),
        ((KINDS["opinion"], GATES_SAID[1]), "rita", False),
        ((GATES, {"rfc": "CHG1"}), "rita", False),
        ((GATES, {"rfc": "CHG1", "heads": {"history": {"seq": "7", "sha256": "a"}}}), "rita", False),
    ],
    ids=["gates", "clearance", "signed by a stranger", "no record of the past", "no heads", "heads that are none"],
)
def test_the_library_says_what_those_saw_whom_the_policy_names(
    library: Library, policy: Policy, said: tuple[str, dict[str, Any]], who: str, counts: bool
) -> None:
    home = library.repository("hello")
    digest = str(home.resolve("hello", "1.0"))
    attach(home, digest, signed(*said, who=who, digest=digest))
    found, problems = seen_in_library(library, policy, NOW)
    assert problems == []
    assert [one.heads for one in found] == ([SEEN] if counts else [])
    assert all("of CHG1 that rita signed at 2027-03-01T22:00:00+00:00" in one.what for one in found)


def test_evidence_that_can_not_be_read_is_said_and_hides_nothing_else(library: Library, policy: Policy, tmp_path: Path) -> None:
    archive(write_release(tmp_path / "other", {"data": b"2"}, version="2.0"), library.repository("hello"))
    home = library.repository("hello")
    kept = {}
    for version in ("1.0", "2.0"):
        digest = str(home.resolve("hello", version))
        kept[version] = attach(home, digest, signed(*GATES_SAID, digest=digest))
    (blob,) = (tmp_path / "dsl").rglob(kept["1.0"].removeprefix("sha256:"))
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b" ")
    found, problems = seen_in_library(library, policy, NOW)
    assert len(found) == 1
    assert [problem.partition(" can't be read: ")[0] for problem in problems] == ["what was signed about hello 1.0"]


@pytest.mark.parametrize("said", [GATES_SAID, CLEARANCE_SAID])
def test_a_file_says_what_it_saw(tmp_path: Path, policy: Policy, said: tuple[str, dict[str, Any]]) -> None:
    (tmp_path / "signed").write_bytes(signed(*said))
    assert seen_in_file(tmp_path / "signed", policy, NOW).heads == SEEN
    (tmp_path / "report.json").write_text(json.dumps({"generated": "2027-03-01", "heads": HEADS}))
    assert seen_in_file(tmp_path / "report.json", policy, NOW).heads == SEEN


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (signed(*GATES_SAID, who="mallory"), "was signed by nobody whom the policy names, so it proves nothing"),
        (signed(GATES, {"rfc": "CHG1"}), "does not say where the history and the journal ended"),
        (b"{}", "does not say where the history and the journal ended"),
        (b"[]", "signed|report.json"),
        (None, "can't be read"),
    ],
)
def test_a_file_that_proves_nothing_is_refused(tmp_path: Path, policy: Policy, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "signed").write_bytes(content)
    with pytest.raises(TidegateError, match=said):
        seen_in_file(tmp_path / "signed", policy, NOW)
