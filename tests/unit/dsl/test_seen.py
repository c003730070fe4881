# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a library had is remembered, never less of it, and what it lacks is named: exactly that and each thing once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import seen
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.seen import Sight, Snapshot, extended, listed, losses
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
PACKAGE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def piece(number: int) -> str:
    return f"sha256:{number:064x}"


PIECES = st.sets(st.integers(0, 30).map(piece))


def sight(evidence: set[str] | None, digest: str = PACKAGE) -> Sight:
    return Sight("hello", "1.0", digest, None if evidence is None else dict.fromkeys(evidence, "approval (rejected)"))


def remembered(*sights: set[str]) -> Snapshot:
    """What is remembered of these, seen one after the other."""
    found: Snapshot | None = None
    for number, evidence in enumerate(sights):
        found = extended(found, sight(evidence), NOW + timedelta(hours=number)) or found
    assert found is not None
    return found


@given(st.lists(PIECES, min_size=1))
def test_all_that_was_ever_seen_is_remembered_since_when_it_was(sights: list[set[str]]) -> None:
    found = remembered(*sights)
    assert found.evidence.keys() == set().union(*sights)
    for digest, one in found.evidence.items():
        assert one.at == NOW + timedelta(hours=next(number for number, evidence in enumerate(sights) if digest in evidence))
    assert Snapshot.from_json("hello", "1.0", PACKAGE, json.loads(json.dumps(found.to_json()))) == found


@given(PIECES, PIECES)
def test_a_library_lacks_what_was_seen_and_is_not_there(before: set[str], now: set[str]) -> None:
    found = remembered(before)
    assert {loss.digest for loss in losses(found, PACKAGE, now)} == before - now
    assert losses(found, PACKAGE, before | now) == []
    assert losses(found, PACKAGE, None) == []
    assert [loss.digest for loss in losses(found, None, None)] == [PACKAGE]
    assert [loss.digest for loss in losses(found, OTHER, now)] == [PACKAGE]


@given(PIECES, PIECES)
def test_a_number_grows_with_what_is_new_and_with_nothing_else(before: set[str], now: set[str]) -> None:
    found = remembered(before)
    after = extended(found, sight(now), NOW)
    assert (after is None) is (now <= before)
    if after is not None:
        assert after.number == found.number + 1
    assert extended(found, sight(now, OTHER), NOW) is None  # a version that is another package is no sight of it
    assert extended(found, sight(None), NOW) is None


def test_what_was_lost_last_is_named_first_and_the_rest_counted() -> None:
    found = losses(remembered({piece(1)}, {piece(2)}, {piece(3)}), PACKAGE, set())
    assert [loss.digest for loss in found] == [piece(3), piece(2), piece(1)]
    said = listed(found, 2)
    assert said.startswith(f"hello 1.0: approval (rejected) {piece(3)}, seen 2027-03-02T00:00:00+00:00; hello 1.0: ")
    assert said.endswith("; and 1 more")


def test_a_library_that_is_flooded_fills_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "PIECES", 5)
    first = remembered({piece(number) for number in range(9)})
    assert len(first.evidence) == 5
    assert extended(first, sight({piece(99)}), NOW) is None
    long = extended(None, Sight("hello", "1.0", PACKAGE, {piece(1): "x" * 10_000}), NOW)
    assert long is not None
    assert len(long.evidence[piece(1)].what) == 100


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"number": 1, "seen": NOW.isoformat()},
        {"number": "x", "seen": NOW.isoformat(), "evidence": {}},
        {"number": 1, "seen": "yesterday", "evidence": {}},
        {"number": float("inf"), "seen": NOW.isoformat(), "evidence": {}},
        {"number": 1, "seen": NOW.isoformat(), "evidence": {"x": {"what": "y", "seen": NOW.isoformat()}}},
        {"number": 1, "seen": NOW.isoformat(), "evidence": {PACKAGE: "y"}},
        {"number": 1, "seen": NOW.isoformat(), "evidence": {PACKAGE: {"what": "y"}}},
        {"number": 1, "seen": NOW.isoformat(), "evidence": [PACKAGE]},
    ],
)
def test_what_is_no_snapshot_is_told_in_a_sentence(document: object) -> None:
    with pytest.raises(IntegrityError, match=r"what the CMDB has as seen of hello 1\.0 can't be read"):
        Snapshot.from_json("hello", "1.0", PACKAGE, document)
