# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has besides releases against what is on record: what came, went and changed, and no answer is believed that is not whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import RecordedSet
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import NotSeen, compare_beside
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_sets import SETS, HostSets, compare_sets, digest_of, read_sets
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
SETS_OF_TEXTS = st.dictionaries(st.text(LETTERS, max_size=4), st.text(LETTERS, max_size=3), max_size=6)


def on_record(entries: dict[str, str]) -> dict[str, dict[str, RecordedSet]]:
    return {"web1": {"packages": RecordedSet(digest_of(entries), "carl", "as it was", NOW, entries)}}


def said(now: dict[str, str], before: dict[str, str], **other: Any) -> dict[str, Any]:
    """As a host says it: whole where it is not the recorded one."""
    answer: dict[str, Any] = {name: {"sha256": digest_of({})} for name in SETS}
    answer["packages"] = {"sha256": digest_of(now)} | ({} if now == before else {"entries": now})
    return {"releases": [], "sets": {**answer, **other}}


@pytest.mark.parametrize("letter", ["\0", "\ud800"])
def test_what_no_document_can_have_is_no_answer(letter: str) -> None:
    (found,) = compare_sets({"web1": read_sets(said({letter: ""}, {}))}, on_record({}))
    assert found[1] == "unreadable"


@given(before=SETS_OF_TEXTS, now=SETS_OF_TEXTS)
def test_a_difference_is_named_exactly_when_there_is_one(before: dict[str, str], now: dict[str, str]) -> None:
    found = list(compare_sets({"web1": read_sets(said(now, before))}, on_record(before)))
    assert [(host, kind) for host, kind, _detail in found] == ([] if now == before else [("web1", "other_packages")])


def test_what_came_went_and_changed_is_named() -> None:
    before, now = {"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", **{f"n{number}": "3" for number in range(7)}}
    ((_host, _kind, detail),) = compare_sets({"web1": read_sets(said(now, before))}, on_record(before))
    assert detail == "packages: came n0 3, n1 3, n2 3, n3 3, n4 3 and 2 more; went a 1; changed b 1 to 2, by the record of carl"


def test_what_nobody_put_on_record_is_no_difference() -> None:
    assert list(compare_sets({"web1": read_sets(said({"a": "1"}, {})), "web2": None}, {})) == []


ODD: list[Any] = [
    *({"packages": odd} for odd in (None, 7, [], {}, {"sha256": "x"}, {"sha256": 1}, {"problem": 7})),
    *({"packages": {"sha256": digest_of({"a": "1"}), "entries": odd}} for odd in (None, [], {"a": 1}, {"a": "2"}, {"a": "1", "b": "1"})),
    {"packages": {"sha256": digest_of({"b": "1"})}},
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_answer_that_is_not_whole_is_not_believed(odd: dict[str, Any]) -> None:
    (found,) = compare_sets({"web1": read_sets(said({}, {}, **odd))}, on_record({"a": "1"}))
    assert found[:2] == ("web1", "unreadable")


def test_a_host_that_says_nothing_of_what_is_on_record_is_named() -> None:
    assert read_sets({"releases": []}) is None
    assert [one[1] for one in compare_sets({"web1": None}, on_record({}))] == ["unreadable"]
    assert [one[1] for one in compare_sets({"web1": HostSets()}, on_record({}))] == ["unreadable"]


def test_why_a_set_could_not_be_read_is_said() -> None:
    (found,) = compare_sets({"web1": read_sets(said({}, {}, packages={"problem": "rpm does not answer"}))}, on_record({"a": "1"}))
    assert found == ("web1", "unreadable", "nobody knows which packages it has: rpm does not answer")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*SETS, "x"]), inner),
    )
)
def test_whatever_a_host_says_is_read_or_refused(answer: Any) -> None:
    sets = read_sets({"sets": answer})
    assert sets is None or {*sets.sha256, *sets.problems} == {*SETS}


COPY = {
    "path": "/srv/hello",
    "release": "hello",
    "version": "1.0",
    "home": False,
    "count": 2,
    "files": ["/srv/hello/a\x1b", "/srv/hello/b"],
}
HOME = {"path": "/opt/tidegate2/hello", "release": "hello", "version": "", "home": True}


def beside(copies: Any) -> list[tuple[str, Any, str, str]]:
    results = {"web1": {"releases": [], "copies": copies}, "web2": {"unreachable": True}}
    named = compare_beside(results, {"web1": [], "web2": NotSeen("unreachable", "")}, {})
    assert all(one["remedy"] for one in named)
    return [(one["host"], one["release"], one["kind"], one["detail"]) for one in named]


def test_copies_are_named() -> None:
    assert beside({"found": [COPY, HOME], "problems": ["/srv has more than 5"]}) == [
        ("web1", "hello", "copies", "/srv/hello has copies of 2 files of hello 1.0: /srv/hello/a?, /srv/hello/b"),
        ("web1", "hello", "copies", "/opt/tidegate2/hello has releases of hello, beside the root where they belong"),
        ("web1", None, "unreadable", "nobody knows whether it has copies of releases: /srv has more than 5"),
    ]


@pytest.mark.parametrize(
    "odd", [7, [], {}, {"found": [], "problems": [1]}, {"found": [7], "problems": []}, {"found": [{**COPY, "count": "2"}], "problems": []}]
)
def test_copies_of_another_form_are_no_answer(odd: Any) -> None:
    assert [one[2] for one in beside(odd)] == ["unreadable"]
