# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.ci_changes import WORDS
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, DocumentError, NotFoundError, TidegateError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        yield opened


def _history(cmdb: Cmdb) -> list[tuple[Any, ...]]:
    table = schema().history
    with cmdb.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table.c.event, table.c.ci, table.c.data).order_by(table.c.seq))]


def _record(cmdb: Cmdb, *rows: dict[str, Any], at: datetime = NOW) -> int:
    with cmdb.begin() as connection:
        return cmdb.record_installations(connection, rows, "test", at)


def _hello(ci: str, version: str | None, **more: Any) -> dict[str, Any]:
    return {"ci": ci, "release": "hello", "version": version, "digest": version and f"sha256:{version}", **more}


def test_a_ci_is_read_as_it_was_written(cmdb: Cmdb) -> None:
    ci = {"name": "web1", "class": "web", "site": "ams", "environment": None, "attributes": {"ü": [1, {"a": None}], "text": "\u2028'\"\\"}}
    ci["attributes"] = {"text": "ü\u2028'\"\\", "deep": [1, {"a": None}], "rate": 0.1, "on": True}
    cmdb.put_cis([ci], "test")
    more = {"status": "installed", **dict.fromkeys(("owned_by", "support_group", "location", "time_zone")), "revision": 1}
    assert cmdb.cis() == [ci | more]


def test_cis_come_sorted_by_name_whatever_the_database_collates(cmdb: Cmdb) -> None:
    names = ["B", "a", "_c", "D", "d1", "a.b", "a-b", "10", "9"]
    cmdb.put_cis([{"name": name} for name in names], "test")
    assert [ci["name"] for ci in cmdb.cis()] == sorted(names)


def test_a_put_says_what_it_did_and_the_history_keeps_it(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": "web1", "site": "ams"}, {"name": "web2", "site": "ams"}], "test")
    result = cmdb.put_cis([{"name": "web1", "site": "fra"}, {"name": "web2", "site": "ams"}, {"name": "web3"}], "test")
    assert (result.created, result.updated, result.unchanged) == (["web3"], ["web1"], ["web2"])
    assert _history(cmdb)[2:] == [
        ("created", "web3", {"after": {**dict.fromkeys(WORDS), "status": "installed", "attributes": {}}, "revision": 1}),
        ("updated", "web1", {"before": {"site": "ams"}, "after": {"site": "fra"}, "revision": 2}),
    ]


def test_putting_the_same_again_writes_nothing(cmdb: Cmdb) -> None:
    rows = [{"name": "web1", "attributes": {"rack": 1}, "relations": [{"kind": "runs_on", "target": "web2"}]}, {"name": "web2"}]
    cmdb.put_cis(rows, "test")
    before = cmdb.marker()
    assert cmdb.put_cis(rows, "test").unchanged == ["web1", "web2"]
    assert cmdb.marker() == before


def test_a_dry_run_says_the_same_and_writes_nothing(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": "web1"}], "test")
    before = cmdb.marker()
    rows = [{"name": "web1", "site": "ams"}, {"name": "web2"}]
    told = cmdb.put_cis(rows, "test", dry_run=True)
    assert cmdb.remove_cis(["web1"], "test", dry_run=True) == ["web1"]
    assert cmdb.marker() == before
    assert told == cmdb.put_cis(rows, "test")


def test_one_bad_row_and_nothing_is_written(cmdb: Cmdb) -> None:
    with pytest.raises(DocumentError):
        cmdb.put_cis([{"name": "web1"}, {"name": "all"}], "test")
    with pytest.raises(NotFoundError, match="rack9"):
        cmdb.put_cis([{"name": "web1", "relations": [{"kind": "stands_in", "target": "rack9"}]}], "test")
    assert cmdb.cis() == []
    assert cmdb.marker() == ""


def test_relations_follow_what_the_cis_say(cmdb: Cmdb) -> None:
    def put(*targets: str) -> None:
        cmdb.put_cis([{"name": "web1", "relations": [{"kind": "uses", "target": target} for target in targets]}], "test")

    cmdb.put_cis([{"name": name} for name in ("db1", "db2", "db3")], "test")
    put("db1", "db2")
    put("db3", "db2")
    cmdb.put_cis([{"name": "web1", "site": "ams"}], "test")
    assert [row["target"] for row in cmdb.relations()] == ["db2", "db3"]
    assert _history(cmdb)[-2][2]["after"] == {"relations": [{"kind": "uses", "target": "db2"}, {"kind": "uses", "target": "db3"}]}


def test_relate_and_unrelate_touch_only_what_differs(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": "a"}, {"name": "b"}], "test")
    assert cmdb.relate([("a", "b", "uses"), ("b", "a", "uses")], "test") == [("a", "b", "uses"), ("b", "a", "uses")]
    assert cmdb.relate([("a", "b", "uses")], "test") == []
    assert cmdb.unrelate([("a", "b", "uses"), ("a", "b", "owns")], "test") == [("a", "b", "uses")]
    assert cmdb.relations(["a"]) == [{"source": "b", "target": "a", "kind": "uses"}]
    with pytest.raises(NotFoundError, match="no CI c"):
        cmdb.relate([("a", "c", "uses")], "test")


def test_removing_takes_relations_along_and_remembers_them(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": "a"}, {"name": "b"}], "test")
    cmdb.relate([("a", "b", "uses")], "test")
    assert cmdb.remove_cis(["b", "nobody"], "test") == ["b"]
    assert cmdb.relations() == []
    event, name, data = _history(cmdb)[-1]
    assert (event, name, data["before"]["relations"]) == ("removed", "b", [{"source": "a", "target": "b", "kind": "uses"}])


def test_a_ci_in_use_is_not_removed_nor_are_the_others(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": "a"}, {"name": "b"}, {"name": "c"}], "test")
    tables = schema()
    with cmdb.begin() as connection:
        deployment = {"rfc": "CHG1", "release": "hello", "version": "1", "digest": "x", "state": "staging", "options": {}, "holder": "me"}
        connection.execute(sa.insert(tables.deployment), deployment | {"token": 1, "created": NOW})
        connection.execute(sa.insert(tables.lock), {"ci": "a", "deployment_id": 1})
    _record(cmdb, _hello("b", "1"))
    with pytest.raises(ConflictError, match=r"a is held by deployment 1; b has hello 1 installed"):
        cmdb.remove_cis(["a", "b", "c"], "test")
    assert len(cmdb.cis()) == 3


def test_installations_are_recorded_in_bulk_and_once(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": f"web{number}"} for number in range(1200)], "test")
    rows = [_hello(f"web{number}", "1") for number in range(1200)]
    assert _record(cmdb, *rows) == 1200
    assert _record(cmdb, *rows, at=LATER) == 0
    assert _record(cmdb, _hello("web7", "2"), _hello("web8", None), _hello("web9", "1"), at=LATER) == 2
    by_ci = {row["ci"]: row for row in cmdb.installations()}
    assert len(by_ci) == 1199
    assert (by_ci["web7"]["version"], by_ci["web7"]["since"]) == ("2", LATER)
    assert (by_ci["web9"]["version"], by_ci["web9"]["since"], by_ci["web9"]["state"]) == ("1", NOW, "active")
    said = {"release": "hello", "version": "2", "digest": "sha256:2", "deployment_id": None}
    assert _history(cmdb)[-2] == ("installed", "web7", said | {"previous_version": "1", "previous_digest": "sha256:1"})
    assert _history(cmdb)[-1][:2] == ("uninstalled", "web8")


def test_an_installation_on_an_unknown_ci_is_refused(cmdb: Cmdb) -> None:
    with pytest.raises(NotFoundError, match="no CI nobody"):
        _record(cmdb, _hello("nobody", "1"))
    with pytest.raises(TidegateError, match="twice"):
        _record(cmdb, _hello("web1", "1"), _hello("web1", "2"))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("[?site=='ams']", ["web1", "web2"]),
        ("[?class=='web' && attributes.rack > `6`].name", ["web2"]),
        ("[?installations.hello.version=='1']", ["web1"]),
        ("[?site=='nowhere']", []),
        ("[].name | reverse(@)", ["db1", "web1", "web2"]),
    ],
)
def test_a_query_picks_cis(cmdb: Cmdb, query: str, names: list[str]) -> None:
    _three(cmdb)
    assert [ci["name"] for ci in cmdb.query(query)] == names


@pytest.mark.parametrize(
    "query", ["[?site==", "nonsense", "[].attributes", "[].attributes.rack", "['web1','ghost']", "length(@)", "abs(@)"]
)
def test_a_query_that_gives_no_cis_is_refused_in_one_sentence(cmdb: Cmdb, query: str) -> None:
    _three(cmdb)
    with pytest.raises(TidegateError) as caught:
        cmdb.query(query)
    assert "\n" not in str(caught.value)
    assert query in str(caught.value)


def test_the_marker_changes_with_cis_and_installations(cmdb: Cmdb) -> None:
    markers = [cmdb.marker()]
    for change in (
        lambda: cmdb.put_cis([{"name": "a"}, {"name": "b"}], "test"),
        lambda: cmdb.relate([("a", "b", "uses")], "test"),
        lambda: _record(cmdb, _hello("a", "1")),
        lambda: _record(cmdb, _hello("a", None)),
        lambda: cmdb.remove_cis(["a"], "test"),
    ):
        change()
        markers.append(cmdb.marker())
    assert len(set(markers)) == len(markers)


def _three(cmdb: Cmdb) -> None:
    cmdb.put_cis(
        [
            {"name": "web1", "class": "web", "site": "ams", "attributes": {"rack": 5}},
            {"name": "web2", "class": "web", "site": "ams", "attributes": {"rack": 7}},
            {"name": "db1", "class": "db", "site": "fra"},
        ],
        "test",
    )
    _record(cmdb, _hello("web1", "1"))
