# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab is like live only as far as both are known, and is called the same only when nothing differs."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.miniature import LiveHost, Miniature, miniature
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.parity import WEIGHTS, Parity, compare
from hypothesis import given
from hypothesis import strategies as st

HELLO = ("hello", "1.0", "sha256:1")
HOST = LiveHost("web1", "web", "ams", frozenset([HELLO]))
PLAN = miniature([HOST], 8)
FACTS = {
    "os": {"id": "debian", "version": "12", "architecture": "x86_64"},
    "python": "3.11.2",
    "packages": {"a": "1", "b": "1", "c": "1", "d": "1"},
}
LAB = {**FACTS, "releases": [list(HELLO)]}


def compared(live: dict[str, Any] | None = None, lab: dict[str, Any] | None = None, plan: Miniature = PLAN) -> Parity:
    return compare(plan, {"web1": FACTS if live is None else live}, {"web1": LAB if lab is None else lab})


def test_what_is_the_same_comes_to_a_hundred() -> None:
    assert compared() == Parity(100, {name: float(weight) for name, weight in WEIGHTS.items()}, ())
    assert sum(WEIGHTS.values()) == 100


@pytest.mark.parametrize(
    ("changes", "score", "difference"),
    [
        ({"os": {**FACTS["os"], "version": "11"}}, 87, "web1: os: debian 12 on x86_64 live, debian 11 on x86_64 in the lab"),
        ({"os": {**FACTS["os"], "id": "fedora"}}, 75, "web1: os: debian 12 on x86_64 live, fedora 12 on x86_64 in the lab"),
        ({"os": {**FACTS["os"], "architecture": "arm"}}, 75, "web1: os: debian 12 on x86_64 live, debian 12 on arm in the lab"),
        ({"python": "3.11.9"}, 92, "web1: python: 3.11.2 live, 3.11.9 in the lab"),
        ({"python": "3.1.1"}, 85, "web1: python: 3.11.2 live, 3.1.1 in the lab"),
        ({"packages": {**FACTS["packages"], "d": "2"}}, 95, "web1: packages: 1 of 4 differ: d 1 live, 2 in the lab"),
        ({"packages": {"a": "1", "b": "1", "c": "1"}}, 95, "web1: packages: 1 of 4 differ: d 1 live, not in the lab"),
        ({"releases": []}, 75, "web1: releases: hello 1.0 live, none in the lab"),
        ({"releases": [["hello", "1.0", "sha256:2"]]}, 75, "web1: releases: hello 1.0 live, hello 1.0 in the lab"),
    ],
)
def test_each_difference_costs_its_share_and_is_told(changes: dict[str, Any], score: int, difference: str) -> None:
    found = compared(lab={**LAB, **changes})
    assert (found.score, found.differences) == (score, (difference,))


@pytest.mark.parametrize("part", ["os", "python", "packages"])
@pytest.mark.parametrize("nothing", [None, "absent", {}])
def test_what_is_not_known_is_a_difference_on_either_side(part: str, nothing: Any) -> None:
    def without(facts: dict[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in facts.items() if key != part}
        return rest if nothing == "absent" else {**rest, part: nothing}

    for found in (compared(live=without(FACTS)), compared(lab=without(LAB)), compared(without(FACTS), without(LAB))):
        assert found.score == 100 - WEIGHTS[part]
        assert "not known" in found.differences[0]


def test_a_host_that_nobody_looked_at_has_nothing_in_common() -> None:
    assert compare(PLAN, {}, {}).score == WEIGHTS["topology"]
    assert len(compare(PLAN, {}, {}).differences) == 4
    assert compare(Miniature({}), {}, {}).score == 0


def test_what_live_has_more_of_costs_too() -> None:
    plan = Miniature(PLAN.hosts, ("the lab has no db at lon",))
    found = compared(plan=plan)
    assert found.differences == ("the lab has no db at lon",)
    assert found.score == 92


def test_a_difference_that_weighs_nothing_still_is_one() -> None:
    many = {f"p{number}": "1" for number in range(10_000)}
    found = compared(live={**FACTS, "packages": many}, lab={**LAB, "packages": {**many, "p1": "2"}})
    assert found.score == 99


_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "os": st.one_of(st.none(), st.just(FACTS["os"]), st.just({"id": "x"}), st.just({})),
        "python": st.sampled_from([None, "", "3.11.2", "3.9", "x"]),
        "packages": st.one_of(st.none(), st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"))),
        "releases": st.one_of(st.none(), st.just([list(HELLO)]), st.just([])),
    },
)


@given(live=_FACTS, lab=_FACTS)
def test_the_score_is_a_hundred_exactly_when_nothing_differs(live: dict[str, Any], lab: dict[str, Any]) -> None:
    found = compared(live, lab)
    assert 0 <= found.score <= 100
    assert (found.score == 100) == (not found.differences)
    assert all(0 <= found.parts[part] <= weight for part, weight in WEIGHTS.items())


def test_evidence_lists_no_more_differences_than_somebody_reads() -> None:
    found = Parity(1, {}, tuple(str(number) for number in range(300))).to_dict()["differences"]
    assert (len(found), found[-1]) == (201, "and 100 more")
