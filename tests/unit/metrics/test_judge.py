# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measurements come to: the first limit that is passed decides, time that is up decides nothing, and each host counts once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.answer import MetricAnswer
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.judge import (
    BakeRecord,
    Measurement,
    hopeless,
    judge,
    next_due,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import Bake, BakeVerdict, Compared, Metric
from hypothesis import given
from hypothesis import strategies as st

BEGUN = datetime(2026, 3, 1, 12, tzinfo=UTC)
ERRORS = Metric("errors", "rate(errors[1m])", good="< 1", bad=">= 5", every=60, count=3, failures=1, errors=2, inconclusive=1)
HOSTS = ("web1", "web2")
SIGNS = {
    "g": MetricAnswer({"web1": 0, "web2": 0}),
    "b": MetricAnswer({"web1": 0, "web2": 9}),
    "i": MetricAnswer({"web1": 0}, "no value of 1 of 2 hosts (web2)"),
    "n": MetricAnswer({"web1": 0, "web2": 3}),
    "e": MetricAnswer(error="Prometheus can't be reached"),
}


def record(signs: str, metric: Metric = ERRORS, minutes: float = 2, **more: Any) -> BakeRecord:
    """A bake in which a measurement a minute came out as the ``signs`` say."""
    bake = BakeRecord(Bake(minutes, (metric,)), BEGUN, HOSTS, **more)
    for number, sign in enumerate(signs):
        bake = bake.with_one(Measurement(metric.name, BEGUN + timedelta(minutes=number), SIGNS[sign]))
    return bake


def verdict(signs: str, minute: float = 2, **more: Any) -> BakeVerdict:
    return judge(record(signs, **more), BEGUN + timedelta(minutes=minute))


@pytest.mark.parametrize(
    ("signs", "minute", "outcome", "reason"),
    [
        ("", 0, "baking", "baking until 2026-03-01T12:02:00+00:00: errors good 0 of 3"),
        ("ggg", 2, "good", "errors good 3 of 3"),
        ("gg", 1, "baking", "baking until 2026-03-01T12:02:00+00:00: errors good 2 of 3"),
        ("ggg", 1.9, "baking", "errors good 3 of 3"),  # it has to last as well
        ("gg", 500, "baking", "baking until 2026-03-01T12:02:00+00:00 or later: errors good 2 of 3"),  # time that is up is not enough
        ("gbgg", 3, "good", "errors good 3 of 3"),
        ("gbgb", 3, "bad", "errors is bad: 9 on web2, >= 5; 2 such, over the limit of 1"),
        ("gigg", 3, "good", "errors good 3 of 3"),
        ("gii", 2, "inconclusive", "errors is inconclusive: no value of 1 of 2 hosts (web2); 2 such, over the limit of 1"),
        ("gnn", 2, "inconclusive", "errors is inconclusive: 3 on web2, neither < 1 nor >= 5; 2 such, over the limit of 1"),
        ("eegeegg", 9, "good", "errors good 3 of 3"),
        ("ggeee", 9, "inconclusive", "errors can't be measured: Prometheus can't be reached; 3 times in a row"),
        ("bbggg", 9, "bad", "errors is bad"),  # whatever comes later
        ("iibb", 9, "inconclusive", "errors is inconclusive"),
    ],
)
def test_a_bake_comes_to_what_was_measured(signs: str, minute: float, outcome: str, reason: str) -> None:
    found = verdict(signs, minute)
    assert found.outcome == outcome
    assert reason in found.reason
    assert found.at == (BEGUN + timedelta(minutes=minute)).isoformat()


def test_what_is_bad_on_one_host_is_not_made_up_for_by_what_is_not_known_of_another() -> None:
    one = Measurement("errors", BEGUN, MetricAnswer({"web2": 9}, "no value of 1 of 2 hosts (web1)"))
    strict = replace(ERRORS, failures=0)
    assert judge(replace(record("", strict), measurements=(one,)), BEGUN).outcome == "bad"


@given(st.text("gbine", max_size=12), st.floats(0, 1000))
def test_no_more_time_makes_anything_good(signs: str, minute: float) -> None:
    found = verdict(signs, minute)
    assert found.outcome != "good" or (signs.count("g") >= 3 and minute >= 2)


@given(st.text("gbine", max_size=12), st.text("gbine", max_size=4))
def test_what_is_decided_stays_so_whatever_follows(signs: str, more: str) -> None:
    found = verdict(signs, 1)
    if found.outcome in ("bad", "inconclusive"):
        assert verdict(signs + more, 1) == found


@given(st.text("gbine", max_size=12))
def test_the_same_measurements_read_from_the_journal_give_the_same_sentence(signs: str) -> None:
    whole = record(signs)
    again = replace(whole, measurements=tuple(Measurement.from_dict(one.at, one.to_dict()) for one in whole.measurements))
    assert judge(again, whole.until) == judge(whole, whole.until)


def test_each_metric_is_due_by_its_own_time() -> None:
    slow = Metric("slow", "up", good="< 1", every=100, delay=10)
    bake = BakeRecord(Bake(10, (replace(ERRORS, every=30), slow)), BEGUN, HOSTS)
    assert next_due(bake)[0].name == "errors"
    bake = bake.with_one(Measurement("errors", BEGUN, SIGNS["g"]))
    assert next_due(bake) == (slow, BEGUN + timedelta(seconds=10))
    bake = bake.with_one(Measurement("slow", BEGUN + timedelta(seconds=10), SIGNS["e"]))
    assert next_due(bake)[1] == BEGUN + timedelta(seconds=30)


def compared(
    ours: list[list[float]], others: list[list[float]], totals: tuple[list[list[float]], list[list[float]]] | None = None, **how: Any
) -> BakeVerdict:
    """What comes of a canary of which, and of the other hosts, each measurement gives these values."""
    metric = Metric("latency", "x", every=60, count=len(ours), compare=Compared(**({"kind": "values"} | how)))
    names = [f"web{number}" for number in range(len(ours[0]))], [f"old{number}" for number in range(len(others[0]) if others else 0)]
    bake = BakeRecord(Bake(1, (metric,)), BEGUN, tuple(names[0]), tuple(names[1]))

    def answer(mine: list[float], theirs: list[float]) -> MetricAnswer:
        return MetricAnswer(dict(zip(names[0], mine, strict=True)) | dict(zip(names[1], theirs, strict=True)))

    for number, (mine, theirs) in enumerate(zip(ours, others or [[]] * len(ours), strict=True)):
        of = answer(totals[0][number], totals[1][number]) if totals else None
        bake = bake.with_one(Measurement("latency", BEGUN + timedelta(minutes=number), answer(mine, theirs), of))
    return judge(bake, bake.until)


def test_a_canary_that_is_worse_by_p_and_effect_is_bad() -> None:
    found = compared([[9.0] * 3], [[float(number) / 10 for number in range(17)]])
    assert found.outcome == "bad"
    assert found.reason == (
        "latency is worse than with the release before: 9 where the others have 0.8 (p 0.00088, P(X > Y) 1.00; 3 against 17 hosts)"
    )


def test_a_difference_without_effect_is_none_and_an_effect_that_may_be_chance_neither() -> None:
    many = [float(number) for number in range(200)]
    found = compared([[value + 12 for value in many]], [many])
    assert (found.outcome, "p 0.022, P(X > Y) 0.56" in found.reason) == ("good", True), found.reason
    assert compared([[value + 12 for value in many]], [many], effect=0.5).outcome == "bad"
    chance = compared([[9.0, 3.5]], [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    assert (chance.outcome, "p 0.21, P(X > Y) 0.75" in chance.reason) == ("good", True), chance.reason


def test_which_values_are_worse_is_said() -> None:
    fewer = [[1.0] * 3], [[float(number) for number in range(10, 27)]]
    assert compared(*fewer).outcome == "good"
    found = compared(*fewer, worse="lower")
    assert (found.outcome, "1 where the others have 18 (p 0.00088, P(X < Y) 1.00" in found.reason) == ("bad", True), found.reason


def test_each_host_counts_once_however_often_it_is_measured() -> None:
    """Sixty scrapes of one host would be significant of anything."""
    found = compared([[9.0]] * 60, [[1.0] * 19] * 60)
    assert found.outcome == "inconclusive"
    assert found.reason == ("latency can't be compared: 1 against 19 hosts can't give p below 0.05 whatever is measured; 2 of them could")


def test_one_odd_measurement_of_a_host_is_not_its_value() -> None:
    quiet = [[1.0] * 3, [500.0] * 3, [1.0] * 3], [[float(number) / 10 for number in range(17)]] * 3
    assert compared(*quiet).outcome == "good"


def test_with_nobody_left_to_compare_with_nothing_is_known() -> None:
    found = compared([[1.0, 1.0, 1.0]], [])
    assert (found.outcome, found.reason) == ("inconclusive", "latency can't be compared: no other host of the plan has the release before")


def test_hosts_that_were_not_measured_each_time_are_not_compared_with() -> None:
    metric = Metric("latency", "x", every=60, count=2, compare=Compared("values"))
    bake = BakeRecord(Bake(1, (metric,)), BEGUN, ("a", "b", "c"), tuple(f"old{number}" for number in range(17)))
    first = dict.fromkeys([*bake.hosts, *bake.others], 1.0)
    bake = bake.with_one(Measurement("latency", BEGUN, MetricAnswer(first)))
    bake = bake.with_one(Measurement("latency", bake.until, MetricAnswer(dict.fromkeys(bake.hosts, 1.0))))
    assert "no host that has the release before was measured each time" in judge(bake, bake.until).reason
    few = replace(bake, measurements=(bake.measurements[0], Measurement("latency", bake.until, MetricAnswer({**first, "old0": 1.0}))))
    assert judge(few, bake.until).outcome == "good"


@pytest.mark.parametrize(
    ("bad", "of", "other_bad", "other_of", "outcome", "reason"),
    [
        (40, 1000, 200, 19000, "bad", "40 of 1000, against 200 of 19000, 3.8 times as often; p "),
        (4, 1000, 0, 19000, "bad", "never before"),  # kayenta#799 and #426, as counts
        (13, 1000, 200, 19000, "good", "1.2 times as often"),
        (1300, 100_000, 20_000, 1_900_000, "good", "1.2 times as often; p "),  # no chance, and still not much
        (1, 10, 0, 10, "good", "never before; p 0.5"),
        (0, 0, 0, 10, "inconclusive", "0 of 0, against 0 of 10"),
        (0, 10, 0, 0, "inconclusive", "0 of 10, against 0 of 0"),
        (11, 10, 0, 10, "inconclusive", "is no part"),
        (-1, 10, 0, 10, "inconclusive", "is no part"),
        (1, 1, 0, 10, "inconclusive", "1 against 10 can't give p below 0.05"),
        (0, 2**60, 0, 10, "inconclusive", "can't be compared"),
    ],
)
def test_counts_are_compared_by_their_sums(bad: int, of: int, other_bad: int, other_of: int, outcome: str, reason: str) -> None:
    halves = [[bad - bad // 2], [bad // 2]], [[other_bad], [0]]
    found = compared(*halves, ([[of - of // 2], [of // 2]], [[other_of], [0]]), kind="counts", total="y")
    assert found.outcome == outcome, found.reason
    assert reason in found.reason


def test_what_comparisons_can_never_say_is_known_before_anything_is_measured() -> None:
    values, counts = (Metric("x", "x", compare=Compared(kind)) for kind in ("values", "counts"))
    assert hopeless(values, 2, 18) == hopeless(counts, 1, 19) == hopeless(ERRORS, 1, 0) == ""
    assert "2 of them could" in hopeless(values, 1, 19)
    assert "no number of 5 hosts can" in hopeless(values, 1, 4)
    assert "no other host" in hopeless(counts, 3, 0)
