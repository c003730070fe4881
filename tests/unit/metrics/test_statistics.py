# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of small samples, against scipy, against counting all ways, and in cases that other judges got wrong."""

from __future__ import annotations

import json
import time
from itertools import combinations
from math import comb, inf
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.statistics import (
    fisher_p,
    least_p,
    least_size,
    mann_whitney_p,
    relative_risk,
    superiority,
)
from hypothesis import given
from hypothesis import strategies as st

ORACLE: dict[str, list[Any]] = json.loads(Path(__file__).with_name("scipy_oracle.json").read_text())  # by tests/support/scipy_oracle.py
FEW = st.lists(st.integers(0, 4), min_size=1, max_size=5)


def test_fishers_test_is_that_of_scipy() -> None:
    assert len(ORACLE["fisher"]) == 10_000
    assert max(abs(fisher_p(*table[:4]) - table[4]) for table in ORACLE["fisher"]) < 1e-9


def test_mann_whitneys_test_is_that_of_scipy() -> None:
    assert len(ORACLE["mann_whitney"]) > 900
    assert max(abs(mann_whitney_p(one, other) - p) for one, other, p in ORACLE["mann_whitney"]) < 1e-9


def test_of_large_samples_with_ties_it_is_that_of_scipy_too() -> None:
    assert max(abs(mann_whitney_p(one, other) - p) for one, other, p in ORACLE["mann_whitney_large"]) < 1e-9


@given(FEW, FEW)
def test_with_ties_it_is_what_counting_all_ways_gives(one: list[int], other: list[int]) -> None:
    pooled = [*one, *other]

    def wins(chosen: tuple[int, ...]) -> float:
        left = [value for place, value in enumerate(pooled) if place not in chosen]
        return superiority([pooled[place] for place in chosen], left)

    found = superiority(one, other)
    ways = [wins(chosen) for chosen in combinations(range(len(pooled)), len(one))]
    assert mann_whitney_p(one, other) == pytest.approx(sum(way >= found - 1e-9 for way in ways) / len(ways))


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_fishers_test_is_what_counting_all_ways_gives(of: int, other_of: int, data: st.DataObject) -> None:
    bad, other_bad = data.draw(st.integers(0, of)), data.draw(st.integers(0, other_of))
    all_bad = set(range(bad + other_bad))
    ways = [len(all_bad.intersection(chosen)) for chosen in combinations(range(of + other_of), of)]
    assert fisher_p(bad, of, other_bad, other_of) == pytest.approx(sum(way >= bad for way in ways) / len(ways))


@given(FEW, FEW)
def test_no_p_is_less_than_the_least(one: list[int], other: list[int]) -> None:
    assert 1 + 1e-12 >= mann_whitney_p(one, other) >= least_p(len(one), len(other)) - 1e-12


def test_one_host_against_nineteen_says_nothing_and_two_could() -> None:
    assert least_p(1, 19) == 0.05
    assert least_size(20, 0.05) == 2
    assert least_p(2, 18) < 0.05
    assert least_size(5, 0.05) == 0
    assert [total for total in range(2, 30) if least_size(total, 0.05) == 1] == [21, 22, 23, 24, 25, 26, 27, 28, 29]


def test_relative_risk_is_how_many_times_as_often() -> None:
    assert relative_risk(2, 10, 1, 10) == 2
    assert relative_risk(1, 10, 0, 10) == inf
    assert relative_risk(0, 10, 0, 10) == 1
    assert relative_risk(0, 10, 3, 10) == 0


@pytest.mark.parametrize(
    ("issue", "values", "others", "p", "effect"),
    [
        # Passed there, for most of the values had to be higher than a tolerance said.
        ("spinnaker#6278", [100.0] * 7 + [1.0] * 3, [1.0] * 10, comb(13, 3) / comb(20, 10), 0.85),
        # Passed there as well: errors where there never were any.
        ("kayenta#799", [1.0, 4.0, 2.0, 3.0, 1.0], [0.0] * 5, 1 / comb(10, 5), 1.0),
        # So few errors on so few hosts may be chance; as counts, of how many requests, they need not be.
        ("kayenta#426", [0.0, 1.0, 2.0, 1.0, 0.0, 0.0], [0.0] * 6, comb(9, 3) / comb(12, 6), 0.75),
    ],
)
def test_what_other_judges_got_wrong(issue: str, values: list[float], others: list[float], p: float, effect: float) -> None:
    assert issue
    assert (mann_whitney_p(values, others), superiority(values, others)) == (pytest.approx(p), pytest.approx(effect))


def test_a_change_of_the_spread_alone_is_none_that_this_test_sees() -> None:
    """The first case of kayenta#780: half of them are lower than half of the others. Conditions on values are for that."""
    values = [10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 17.0, 17.1, 17.2, 17.3, 17.4, 17.5, 17.6, 17.7]
    others = [1.0, 100.0, 4.0, 101.0, 5.0, 102.0, 6.0, 103.0, 7.0, 104.0, 8.0, 105.0, 9.0, 106.0, 17.0]
    assert superiority(values, others) == 0.5
    assert mann_whitney_p(values, others) > 0.4
    assert mann_whitney_p(others, values) > 0.4


def test_a_fleet_is_compared_in_a_moment() -> None:
    begun = time.process_time()
    assert 0 < fisher_p(120_000, 10_000_000, 119_000, 10_000_000) < 0.05
    assert fisher_p(119_000, 10_000_000, 120_000, 10_000_000) > 0.95
    assert 0 < mann_whitney_p([float(one) for one in range(10)], [float(one) for one in range(5, 505)]) <= 1
    assert mann_whitney_p([float(one) for one in range(1000)], [float(one) for one in range(500)]) < 1e-9
    assert time.process_time() - begun < 10
