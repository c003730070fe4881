# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus may answer: only numbers of hosts that were asked for count, and whatever else comes says why it does not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.answer import MetricAnswer, read_answer
from hypothesis import given
from hypothesis import strategies as st

HOSTS = ("web1", "web2")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=8,
)


def vector(*samples: tuple[dict[str, str], Any], **more: Any) -> dict[str, Any]:
    result = [{"metric": labels, "value": [1.5, value]} for labels, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}, **more}


def of(**values: Any) -> dict[str, Any]:
    return vector(*(({"instance": host.replace("_", ":")}, value) for host, value in values.items()))


def read(document: object, *, whole: bool = False) -> MetricAnswer:
    return read_answer(document, () if whole else HOSTS, ("web9",), "instance")


def test_each_host_has_its_value_with_or_without_a_port() -> None:
    assert read(of(web1_9100="0.5", web2="1e-3", web9="7", web8="8")) == MetricAnswer({"web1": 0.5, "web2": 0.001, "web9": 7})


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (of(), "no value of 2 of 2 hosts (web1 web2)"),
        (of(web1="1"), "no value of 1 of 2 hosts (web2)"),
        (of(web1="1", web2="NaN"), "no value of 1 of 2 hosts (web2 is 'NaN')"),
        (of(web1="1", web2="+Inf"), "web2 is '+Inf'"),
        (of(web1="1", web2="1_0"), "web2 is '1_0'"),
        (of(web1="1", web2="1e999"), "web2 is '1e999'"),
        (of(web1="1", web2=1), "web2 is no number"),
        (of(web1="1", web2="1", web1_9100="1"), "web1 has several"),
        (of(web1="1", web2_99999999="1"), "no value of 1 of 2 hosts (web2)"),
        (vector(({"instance": "web1"}, "1"), ({"job": "x"}, "1")), "a value without the label instance"),
        (vector(({}, "1"), ({}, "2")), "a value without the label instance"),
        ({"status": "success", "data": {"resultType": "string", "result": [1, "x"]}}, "the query gives a string"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, "the query gives a matrix"),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}}, "one number, and not one for each host"),
        ({**of(web1="1", web2="1"), "warnings": ["some shards did not answer"]}, "Prometheus warns: 'some shards did not answer'"),
        ({**of(web1="1", web2="1"), "warnings": "odd"}, "Prometheus warns: 'odd'"),
    ],
)
def test_what_does_not_say_all_that_was_asked_for_is_unclear(document: Any, why: str) -> None:
    found = read(document)
    assert why in found.unclear
    assert not found.error


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (None, "not of its API"),
        ([], "not of its API"),
        ({}, "answers that it can't"),
        ({"status": "error", "error": "parse error: unexpected end"}, "answers that it can't: 'parse error: unexpected end'"),
        ({"status": "success"}, "not of its API"),
        ({"status": "success", "data": {"resultType": "table", "result": []}}, "not of its API"),
        ({"status": "success", "data": {"resultType": "vector", "result": {}}}, "not of its API"),
        ({"status": "success", "data": {"resultType": "vector", "result": [1]}}, "not of its API"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"metric": []}]}}, "not of its API"),
    ],
)
def test_what_is_not_of_the_api_is_an_error(document: Any, why: str) -> None:
    assert why in read(document).error


@pytest.mark.parametrize(
    ("document", "values", "why"),
    [
        (vector(({}, "3")), {"": 3.0}, ""),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}, {"": 3.0}, ""),
        (vector(({}, "3"), ({"a": "b"}, "4")), {}, "there are 2 values, and not one"),
        (vector(), {}, "there is no value"),
        (vector(({}, "NaN")), {}, "the value is 'NaN'"),
    ],
)
def test_of_a_wave_as_a_whole_there_is_one_number(document: Any, values: dict[str, float], why: str) -> None:
    assert read(document, whole=True) == MetricAnswer(values, why)


def test_what_some_versions_say_for_information_takes_nothing_away() -> None:
    assert read({**of(web1="1", web2="2"), "warnings": ["PromQL info: metric might not be a counter"]}).unclear == ""


def test_a_host_whose_name_ends_like_a_port_is_that_one() -> None:
    document = vector(({"instance": "web1:80"}, "1"), ({"instance": "web1"}, "2"))
    assert read_answer(document, ("web1", "web1:80"), (), "instance").values == {"web1:80": 1, "web1": 2}


@given(
    JSON | st.builds(lambda kind, result: {"status": "success", "data": {"resultType": kind, "result": result}}, st.just("vector"), JSON)
)
def test_nothing_that_may_be_answered_is_taken_for_a_whole_answer(document: Any) -> None:
    found = read(document)
    assert found.error or found.unclear or found.values.keys() >= set(HOSTS)
