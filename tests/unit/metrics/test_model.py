# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions, queries and what a bake needs: what people write is read in one way, and what is filled in can't get out of its quotes."""

from __future__ import annotations

import re

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import (
    Bake,
    Compared,
    Comparison,
    Metric,
    fill_query,
    literal,
    query_fault,
)
from hypothesis import given
from hypothesis import strategies as st

FINITE = st.floats(allow_nan=False, allow_infinity=False)
OPERATORS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
CONDITIONS = st.builds(Comparison, st.lists(st.tuples(OPERATORS, st.integers(-3, 3).map(float)), min_size=1, max_size=2).map(tuple))
NAMES = st.text(min_size=1, max_size=12)


def unquoted(text: str) -> str:
    """What PromQL, as Go, reads in a string literal; fails for anything but one whole literal."""
    assert text[0] == text[-1] == '"'
    inside = text[1:-1]
    assert re.fullmatch(r'(?:[^"\\\n]|\\["\\]|\\U[0-9a-f]{8}|\\u[0-9A-F]{4})*', inside)
    return re.sub(r'\\(?:(["\\])|U([0-9a-f]{8})|u([0-9A-F]{4}))', lambda match: match[1] or chr(int(match[2] or match[3], 16)), inside)


@pytest.mark.parametrize("text", ["< 0.01", "<0.01", " <=  1e-3 ", ">= 0.5 and <= 2", "!= 0", "== -1.5", "> .5", "> 1."])
def test_a_condition_is_read(text: str) -> None:
    assert Comparison.parse(text).terms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.01",
        "<",
        "< x",
        "< 0.01 or > 2",
        "< nan",
        "< inf",
        "< 1e999",
        "< 0x10",
        "< 1_000",
        "=< 1",
        "< 1 and",
        "__import__('os')",
        "< ٣",
    ],
)
def test_what_is_no_condition_is_refused_and_not_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Comparison.parse(text)


@given(OPERATORS, FINITE, FINITE)
def test_a_condition_means_what_it_says(operator: str, bound: float, value: float) -> None:
    means = {"<": value < bound, "<=": value <= bound, ">": value > bound, ">=": value >= bound, "==": value == bound, "!=": value != bound}
    assert Comparison.parse(f"{operator} {bound!r}").holds(value) is means[operator]


@given(st.text(max_size=20))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        Comparison.parse(text)
    except ValueError:
        return
    assert re.fullmatch(r"[\s<>=!+\-.0-9eEand]*", text)


@given(CONDITIONS, CONDITIONS, st.floats(-4, 4))
def test_conditions_that_have_a_number_in_common_are_found(one: Comparison, other: Comparison, value: float) -> None:
    common = one.overlap(other)
    assert common is not None or not (one.holds(value) and other.holds(value))
    assert common is None or (one.holds(common) and other.holds(common))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("good", "bad"), [("< 1", ""), ("", "> 1"), ("< 1", ">= 1"), ("!= 5", "")])
def test_what_is_no_number_is_neither_good_nor_bad(value: float, good: str, bad: str) -> None:
    assert Metric("errors", "up", good, bad).judge(value) == "inconclusive"


@pytest.mark.parametrize(
    ("good", "bad", "judged"),
    [
        ("< 1", "> 2", ["good", "inconclusive", "bad"]),
        ("< 1", "", ["good", "bad", "bad"]),
        ("", "> 2", ["good", "good", "bad"]),
    ],
)
def test_a_value_is_judged_by_what_is_said_of_either(good: str, bad: str, judged: list[str]) -> None:
    assert [Metric("errors", "up", good, bad).judge(value) for value in (0, 1.5, 3)] == judged


@given(st.text() | st.text(st.characters(categories=["Cs", "Cc", "Cf"])))
def test_no_text_gets_out_of_its_quotes(text: str) -> None:
    assert unquoted(literal(text)) == re.sub("[\ud800-\udfff]", "\ufffd", text)


@given(st.sets(NAMES, min_size=1, max_size=4), NAMES)
def test_a_query_asks_for_the_hosts_and_no_other(hosts: set[str], other: str) -> None:
    filled = fill_query("up{instance=~$hosts}", "hello", "1.0", hosts)
    expression = unquoted(filled.removeprefix("up{instance=~").removesuffix("}"))
    plain = {re.sub("[\ud800-\udfff]", "\ufffd", host) for host in hosts}
    assert all(re.fullmatch(expression, host) and re.fullmatch(expression, f"{host}:9100") for host in plain)
    if re.sub(":[0-9]+$", "", other) not in plain and other not in plain:
        assert not re.fullmatch(expression, other)


def test_release_and_version_are_whole_literals_and_a_dollar_is_doubled() -> None:
    filled = fill_query('x{r=$release,v=${version},i=~"a$$"}', 'a"} or vector(0) #', "1.0\n", ["web1"])
    assert filled == 'x{r="a\\"} or vector(0) #",v="1.0\\U0000000a",i=~"a$"}'


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("up{instance=~$hosts}", ""),
        ('up{instance=~"web.*$$"}', ""),
        ('up{instance=~"web.*$"}', "a $ that stands for nothing"),
        ("up{instance=~$host}", "$host, which stands for nothing"),
        ("rate(a{b=~'$hosts'}[1m])", "a placeholder within quotes, which it brings itself"),
        ('a{b="x\\"$version"}', "a placeholder within quotes, which it brings itself"),
        ("a{b=~`$hosts`}", "a placeholder within quotes, which it brings itself"),
        ("a{b=\"$$5\", c=~$hosts, d='it'}", ""),
    ],
)
def test_a_placeholder_that_stands_for_nothing_is_found(query: str, fault: str) -> None:
    assert query_fault(query) == fault


def test_as_many_measurements_are_needed_as_fit_into_the_minutes() -> None:
    assert Metric("a", "up", every=30).needed(10) == 21
    assert Metric("a", "up", every=30, delay=60).needed(10) == 19
    assert Metric("a", "up", every=3600).needed(10) == 1
    assert Metric("a", "up", every=60, delay=3600).needed(10) == 1
    assert Metric("a", "up", every=30, count=3).needed(10) == 3


def test_a_bake_lasts_until_all_that_it_needs_can_have_been_measured() -> None:
    assert Bake(10, (Metric("a", "up", every=30),)).seconds == 600
    assert Bake(1, (Metric("a", "up", every=30, count=10, delay=5),)).seconds == 275


def test_a_bake_is_stored_and_read_again() -> None:
    bake = Bake(10, (Metric("a", "up", good="< 1"), Metric("b", "up", compare=Compared("counts", "total", effect=2))))
    assert Bake.from_dict(bake.to_dict()) == bake
    assert Bake.from_dict({"minutes": 1, "metrics": [{"name": "a", "query": "up", "bad": "> 1"}]}).metrics[0].errors == 4
