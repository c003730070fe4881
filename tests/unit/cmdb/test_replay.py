# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.replay import NOT_REPLAYED, REPLAYED, PastCmdb, differences, replay
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema

AT = datetime(2027, 5, 3, tzinfo=UTC)


def _line(ci: str | None, event: str, data: Any) -> dict[str, Any]:
    return {"at": AT, "actor": "test", "ci": ci, "event": event, "data": data}


CREATED = _line("web1", "created", {"after": {"site": "ams", "attributes": {"a": 1}}})


@pytest.mark.parametrize(
    "line",
    [
        _line("web1", "installed", {}),
        _line("web1", "updated", "no JSON"),
        _line("web1", "updated", {"after": {"attributes": None}}),
        _line("web1", "related", {"target": "web9", "kind": "uses"}),
        _line("web9", "updated", {"before": {}, "after": {"site": None, "relations": [{}]}}),
        _line("web1", "written off", None),
        _line(None, "created", {"after": {}}),
        _line("web1", "seen", {}),
    ],
)
def test_what_nobody_could_have_written_or_is_of_no_ci_changes_nothing_else(line: dict[str, Any]) -> None:
    found = replay([CREATED, line])
    assert found.cis["web1"] == {"site": "ams", "attributes": {"a": 1}}
    assert (found.relations, found.installations, found.write_offs) == (set(), {}, {})


def test_a_ci_that_is_removed_takes_all_along_and_begins_anew() -> None:
    lines = [
        CREATED,
        _line("db1", "created", {"after": {"attributes": {}, "relations": [{"kind": "uses", "target": "web1"}]}}),
        _line("web1", "installed", {"release": "hello", "version": "1", "digest": "sha256:1", "deployment_id": None}),
        _line("web1", "written off", {"reason": "burnt"}),
        _line("web1", "removed", {"before": {}}),
        CREATED,
    ]
    assert replay(lines) == PastCmdb({"db1": {"attributes": {}}, "web1": {"site": "ams", "attributes": {"a": 1}}})


def test_differences_name_each_ci_and_what_of_it() -> None:
    past = PastCmdb(
        {"web1": {"site": "ams", "attributes": {"a": 1, "b": None}}, "web2": {"attributes": {}}},
        {("web1", "web2", "uses")},
        {("web1", "hello"): {"version": "1", "digest": "x"}, ("web2", "hello"): {"version": "1", "digest": "x"}},
    )
    present = PastCmdb(
        {"web1": {"site": "ams", "attributes": {"a": 2}, "of_later": 1}, "web3": {"attributes": {}}},
        {("web1", "web3", "uses")},
        {("web1", "hello"): {"version": "2", "digest": "x"}, ("web1", "other"): {"version": "1"}},
        {"web3": {"by": "x"}},
    )
    assert [sentence for _ci, sentence in differences(past, present)] == [
        "other on web1 is in the CMDB, and not in the history",
        "the attribute a of web1 is 2 in the CMDB, and the history says 1",
        "the attribute b of web1 is None in the CMDB, and the history says None",
        "the relation web1 uses web2 is in the history, and not in the CMDB",
        "the relation web1 uses web3 is in the CMDB, and not in the history",
        "version of hello on web1 is '2' in the CMDB, and the history says '1'",
        "the CI web2 is in the history, and not in the CMDB",
        "the CI web3 is in the CMDB, and not in the history",
        "the write-off of web3 is {'by': 'x'} in the CMDB, and the history says None",
    ]
    assert differences(past, past) == []


def test_each_table_is_held_against_the_history_or_it_is_said_why_not() -> None:
    assert sorted([*REPLAYED, *NOT_REPLAYED]) == sorted(schema().chain.metadata.tables)


SET = {"set": "packages", "sha256": "1", "reason": "as it was"}
RULE = {"model": "R750", "stockroom": "ams", "target": 3}


def test_records_are_what_the_last_line_about_them_says() -> None:
    lines = [
        CREATED,
        _line("web1", "set recorded", SET),
        _line("web1", "set recorded", SET | {"sha256": "2"}),
        _line(None, "model set", {"before": {}, "after": {"classes": {}}}),
        _line(None, "entitlement entered", {"name": "acme", "seats": 1, "valid_from": None, "valid_until": "2027-05-03T02:00:00+02:00"}),
        _line(None, "entitlement entered", {"name": "other", "seats": 1, "valid_from": None, "valid_until": None}),
        _line(None, "entitlement removed", {"name": "other", "seats": 1}),
        _line(None, "stock rule", {"before": None, "after": RULE}),
        _line(None, "stock rule", {"before": None, "after": RULE | {"model": "R740"}}),
        _line(None, "stock rule", {"before": RULE | {"model": "R740"}, "after": None}),
        {**_line("web1", "asset install", {"after": {"state": "in_use"}}), "asset": "A1"},
        _line(None, "release retired", {"release": "hello", "version": "1", "digest": "d", "reason": "it leaks"}),
        _line(None, "release purged", {"release": "hello", "version": "2", "digest": "d", "reason": "it leaks"}),
        _line(None, "release archived", {"release": "hello", "version": "2", "digest": "d", "reason": "mended"}),
    ]
    at = AT.isoformat()
    found = replay(lines).records
    assert found == {
        ("", "the model of CIs"): {"document": {"classes": {}}},
        ("web1", "the record of packages of web1"): {**{"sha256": "2", "entries": "2", "actor": "test", "reason": "as it was", "at": at}},
        ("", "the entitlement acme"): {"name": "acme", "seats": 1, "valid_from": None, "valid_until": at},
        ("", "the stock rule for R750 in ams"): RULE,
        ("", "the unit A1"): {"state": "in_use"},
        ("", "what became of hello 1"): {"digest": "d", "state": "retired", "reason": "it leaks", "actor": "test", "at": at},
    }
    assert [*replay([*lines, _line("web1", "removed", {}), CREATED]).records.keys()] == [key for key in found if key[0] != "web1"]
    assert replay([_line(None, "release retired", {"release": "hello"}), _line(None, "stock rule", {"after": None})]).records == {}
