# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import ci_changes
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z").filter(ci_changes.is_name)
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=5,
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["ansible_host", "rack", "cpu_count"]), JSON)
WORDS = st.none() | st.sampled_from(["", "web", "ams", "north wing"])
ROWS = st.builds(
    lambda name, optional: {"name": name} | optional,
    NAMES,
    st.fixed_dictionaries({}, optional={"class": WORDS, "site": WORDS, "environment": WORDS, "attributes": ATTRIBUTES}),
)


@pytest.mark.parametrize(
    "name",
    ["", "all", "ungrouped", "-web", ".web", "a b", "a/b", "a\n", "web[1:9]", "!web", "web,db", "wéb", "{{ x }}", "x" * 255, None, 7],
)
def test_a_name_that_could_mean_other_hosts_is_refused(name: object) -> None:
    with pytest.raises(DocumentError):
        ci_changes.checked([{"name": name}])


def test_every_fault_of_every_row_is_told_at_once() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a b", "colour": "red"},
        {"name": "web1", "site": "x\ny", "attributes": {"a-b": 1, "tidegate_ci": 2, "class": 3}},
        {"name": "web2", "attributes": {"rate": float("nan")}, "relations": [{"kind": "runs_on"}, {"kind": "?", "target": "all"}]},
        {"name": "web3", "attributes": [1]},
        {"name": "web3", "attributes": {"when": object()}},
    ]
    with pytest.raises(DocumentError) as caught:
        ci_changes.checked(rows)
    said = str(caught.value)
    for part in (
        "'a b' can't be",
        "'colour'",
        "site is",
        "'a-b'",
        "'tidegate_ci'",
        "'class' can't",
        "has a number",
        "kind and a target",
        "'all'",
    ):
        assert part in said
    assert "cis[3] 'web3': attributes is not a mapping" in said
    assert "cis[4] 'web3': attributes has a value" in said
    assert "given 2 times" in said


def test_a_value_that_is_refused_is_not_repeated() -> None:
    class Secret:
        def __repr__(self) -> str:
            return "hunter2"

    with pytest.raises(DocumentError) as caught:
        ci_changes.checked([{"name": "web1", "attributes": {"key": Secret()}}])
    assert "hunter2" not in str(caught.value)


@given(st.lists(ROWS, unique_by=lambda row: row["name"]))
def test_putting_the_same_twice_changes_nothing(rows: list[dict[str, Any]]) -> None:
    checked = ci_changes.checked(rows)
    first = ci_changes.plan({}, checked)
    assert first.created == [row["name"] for row in rows]
    # what a database would give back
    stored = {name: json.loads(json.dumps(after)) for name, (_before, after) in first.diffs.items()}
    second = ci_changes.plan(stored, checked)
    assert second.unchanged == first.created
    assert not second.diffs


@given(ROWS, ROWS)
def test_what_is_left_out_stays_as_it_is(one: dict[str, Any], other: dict[str, Any]) -> None:
    before = ci_changes.plan({}, ci_changes.checked([one])).diffs[one["name"]][1]
    row = ci_changes.checked([other | {"name": one["name"]}])[0]
    result = ci_changes.plan({one["name"]: before}, [row])
    after = result.diffs[one["name"]][1] if result.diffs else before
    for key, value in after.items():
        assert value == (row[key] if key in row else before[key])


def test_merged_attributes_leave_others_and_null_takes_away() -> None:
    before = {"web1": {"status": "installed", "revision": 3, "attributes": {"rack": 7, "old": 1, "none": None}}}
    (row,) = ci_changes.checked([{"name": "web1", "attributes": {"bios": "2", "old": None, "gone": None}}])
    result = ci_changes.plan(before, [row], merge=True)
    assert result.diffs["web1"][1]["attributes"] == {"rack": 7, "none": None, "bios": "2"}
    assert result.revisions == {"web1": 4}
    assert ci_changes.plan(before, [row]).diffs["web1"][1]["attributes"] == row["attributes"]
    assert ci_changes.plan({}, [row], merge=True).diffs["web1"][1]["attributes"] == {"bios": "2"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"attributes": {"motd": "x" * (50 << 20)}}, "attribute 'motd' is larger than 64 kB"),
        ({"attributes": {"motd": ["a", {"b": "x\0y"}]}}, "attribute 'motd' has a character that no text has"),
        ({"attributes": {"motd": {"x\0": 1}}}, "attribute 'motd' has a character that no text has"),
        ({"attributes": {"motd": "\ud800"}}, "attribute 'motd' has a character that no text has"),
        ({"site": "a\0"}, "site is"),
        ({"owned_by": "\udfff"}, "owned_by is"),
        ({"status": "broken"}, "status is 'broken'; it is one of planned, in_stock, installed, maintenance, retired"),
        ({"status": ""}, "status is ''"),
        ({"revision": True}, "revision is True"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
def test_what_no_database_should_hold_is_refused_in_a_short_sentence(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        ci_changes.checked([{"name": "web1", **row}])
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", ["a\\u0000", "\U0001f600", "{{ omit }}", "\x01"])
def test_odd_texts_are_attributes_like_others(value: str) -> None:
    assert ci_changes.checked([{"name": "web1", "attributes": {"motd": value}}])[0]["attributes"] == {"motd": value}


def test_all_attributes_of_a_ci_have_a_limit_too() -> None:
    many = {f"a{number}": "x" * 60_000 for number in range(18)}
    rows = ci_changes.checked([{"name": "web1", "attributes": many}])
    with pytest.raises(DocumentError, match="CI web1: its attributes are larger than 1 MB"):
        ci_changes.plan({}, rows)
    large = {"web1": {"status": "installed", "attributes": {**many, "more": 1}}}  # from before there was a limit: it may shrink
    assert ci_changes.plan(large, rows).updated == ["web1"]


def test_the_history_keeps_only_what_differs() -> None:
    before = {"site": "ams", "class": "web", "attributes": {}}
    assert ci_changes.difference(before, before | {"site": "fra"}) == {"before": {"site": "ams"}, "after": {"site": "fra"}}
