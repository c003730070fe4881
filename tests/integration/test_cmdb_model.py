# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of CIs as a CMDB holds writers to it, and writers that leave each other's work alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.impact import impact
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import (
    SHIPPED,
    load_team_model,
    set_model,
    shipped_document,
    unknown_in,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, DocumentError, NotFoundError, TidegateError
from cmdb_workers import merge_one_by_one

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        yield opened


def refusal(cmdb: Cmdb, *rows: dict[str, Any], **options: Any) -> str:
    """What is said when these are put; nothing was written."""
    before = cmdb.marker(), cmdb.cis(), cmdb.relations()
    with pytest.raises(TidegateError) as caught:
        cmdb.put_cis(rows, "test", **options)
    assert (cmdb.marker(), cmdb.cis(), cmdb.relations()) == before
    return str(caught.value)


def test_what_is_against_the_model_is_refused_with_all_faults_and_nothing_is_written(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": "web1", "attributes": {"serial": "S1"}}, {"name": "vm1"}, {"name": "srv1"}], "test")
    cmdb.relate([("vm1", "srv1", "runs_on")], "test")
    said = refusal(
        cmdb,
        {"name": "WEB1"},
        {"name": "new", "class": "nonsense", "attributes": {"serial": "s1"}, "time_zone": "Mars/Olympus"},
        {"name": "srv1", "relations": [{"kind": "runs_on", "target": "vm1"}]},
        {"name": "vm1", "relations": [{"kind": "runs_on", "target": "srv1"}, {"kind": "huhs", "target": "srv1"}]},
    )
    assert said.splitlines() == [
        "CI new: the model has no class 'nonsense'; add it to the classes of the team's model with tidegate.release.cmdb_model",
        "CI WEB1: web1 is a CI too, and they differ in case only; write web1 if it is the same, or give another name",
        "CI new: its serial is that of web1 too, 's1'; correct one of them, write web1 if they are the same, "
        "or set its status to retired if it is gone",
        "relation vm1 huhs srv1: the model has no kind 'huhs'; add it to the kinds of the team's model with tidegate.release.cmdb_model",
        "relation srv1 runs_on vm1: it closes a circle, srv1 -> vm1 -> srv1; leave out one of these relations",
        "CI new: there is no time zone 'Mars/Olympus'; write it like Europe/Berlin",
    ]
    for triple in (("srv1", "vm1", "runs_on"), ("vm1", "vm1", "uses"), ("vm1", "srv1", "huhs")):
        with pytest.raises(DocumentError):
            cmdb.relate([("web1", "srv1", "uses"), triple], "test")
    assert len(cmdb.relations()) == 1


def test_a_ci_that_is_retired_keeps_all_and_is_refused_while_it_is_in_use(cmdb: Cmdb) -> None:
    cmdb.put_cis([{"name": "a"}, {"name": "b"}, {"name": "c"}], "test")
    cmdb.relate([("a", "b", "uses")], "test")
    row = {"ci": "b", "release": "hello", "version": "1", "digest": "sha256:1"}
    with cmdb.begin() as connection:
        cmdb.record_installations(connection, [row], "test", NOW)
        deployment = {"rfc": "CHG1", "release": "hello", "version": "1", "digest": "x", "state": "staging", "options": {}, "holder": "me"}
        connection.execute(sa.insert(schema().deployment), deployment | {"token": 1, "created": NOW})
        connection.execute(sa.insert(schema().lock), {"ci": "c", "deployment_id": 1})
    for status in ("retired", "in_stock", "planned"):
        said = refusal(cmdb, *({"name": name, "status": status} for name in "abc"))
        assert "b has hello 1 installed; c is held by deployment 1" in said
    cmdb.put_cis([{"name": "a", "status": "retired"}, {"name": "b", "status": "maintenance"}], "test")
    assert [ci["status"] for ci in cmdb.cis()] == ["retired", "maintenance", "installed"]
    assert cmdb.relations(["a"])
    with cmdb.begin() as connection:
        cmdb.write_off(connection, "b", "burnt", "test", NOW, {})
    cmdb.put_cis([{"name": "b", "status": "retired"}], "test")
    assert cmdb.installations(["b"]) == []


def test_a_team_sets_its_model_for_all_who_write(cmdb: Cmdb, tmp_path: Path) -> None:
    cmdb.put_cis([{"name": "k1"}], "test")
    (tmp_path / "model.yml").write_text("schema: 1\nclasses:\n  kiln: {host: false, required: [owned_by]}\n")
    with cmdb.begin() as connection:
        set_model(connection, load_team_model(tmp_path / "model.yml"), "ann", NOW, {"rfc": "CHG1"})
    assert "it has no owned_by" in refusal(cmdb, {"name": "k1", "class": "kiln"})
    cmdb.put_cis([{"name": "k1", "class": "kiln", "owned_by": "potters"}], "test")
    with cmdb.begin() as connection:
        set_model(connection, {}, "ann", NOW, {})
        assert unknown_in(connection, cmdb.model(connection)) == ["class 'kiln' of 1 CI"]
        history = schema().history.c
        lines = connection.execute(sa.select(history.actor, history.data).where(history.event == "model set").order_by(history.seq)).all()
    assert [(actor, data.get("rfc"), bool(data["before"])) for actor, data in lines] == [("ann", "CHG1", False), ("ann", None, True)]
    cmdb.put_cis([{"name": "k1", "site": "ams"}], "test")


def test_the_shipped_model_is_a_good_document(tmp_path: Path) -> None:
    assert load_team_model(SHIPPED) == {key: value for key, value in shipped_document().items() if key != "schema"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: 2", "schema is the number 2"),
        ("schema: 1\nclasses: {kiln: {}}", ":2: it does not say whether a kiln is a host; add host: true or host: false"),
        ("schema: 1\nclasses: {kiln: {hots: true}}", "did you mean host?"),
        ("schema: 1\nclasses: {kiln: }", "classes.kiln is empty"),
        ("schema: 1\nclasses: [kiln]", "classes is a list"),
        ("schema: 1\nrelations: {heats: {to: [kiln]}}", "there is no class kiln"),
        ("schema: 1\nrelations: {heats: {hits: all}}", "it has to be one of source, target, both, none"),
        ("schema: 1\nunique: ['a b']", "unique.0 is 'a b'"),
    ],
)
def test_a_bad_model_is_refused_by_name_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "model.yml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_team_model(tmp_path / "model.yml")
    assert said in str(caught.value)


def test_a_stale_revision_is_refused_and_says_who_wrote_between(cmdb: Cmdb) -> None:
    assert cmdb.put_cis([{"name": "a", "revision": 0}, {"name": "b"}], "ann").revisions == {"a": 1, "b": 1}
    cmdb.put_cis([{"name": "a", "site": "ams", "revision": 1}], "bob", note={"rfc": "CHG7", "reason": "moved"})
    cmdb.relate([("a", "b", "uses")], "cid")
    said = refusal(cmdb, {"name": "a", "site": "fra", "revision": 1}, {"name": "b", "revision": 1}, {"name": "c", "revision": 1})
    assert "a is of revision 3 and not 1: bob at " in said
    assert " under CHG7 (updated), cid at " in said
    assert "c is not in the CMDB" in said
    assert "b is" not in said
    assert "ann" not in said
    assert "a is of revision 3 and not 0" in refusal(cmdb, {"name": "a", "revision": 0})
    assert cmdb.put_cis([{"name": "a", "site": "fra", "revision": 3}], "ann").revisions == {"a": 4}


def test_two_users_write_disjoint_attributes_of_the_same_cis_and_all_are_there(cmdb_url: str) -> None:
    """Each of eight processes has an attribute of its own, and writes 50 CIs at once."""
    names = [f"web{number}" for number in range(1000)]
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": name, "attributes": {"rack": 7}} for name in names], "test")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=merge_one_by_one, args=(cmdb_url, names, f"own{number}", 50)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    with Cmdb.open(cmdb_url) as cmdb:
        for ci in cmdb.cis():
            assert ci["attributes"] == {"rack": 7, **{f"own{number}": ci["name"] for number in range(8)}}
            assert ci["revision"] == 9


def test_an_impact_follows_the_model_and_says_by_which_chain(cmdb: Cmdb) -> None:
    cmdb.put_cis(
        [{"name": name} for name in ("shop", "web1", "web2", "db1", "srv1", "backup", "lb")] + [{"name": "r7", "class": "rack"}], "test"
    )
    cmdb.relate(
        [
            ("srv1", "r7", "stands_in"),
            ("db1", "srv1", "runs_on"),
            ("web1", "db1", "uses"),
            ("web2", "db1", "uses"),
            ("shop", "web1", "depends_on"),
            ("shop", "web2", "depends_on"),
            ("db1", "shop", "depends_on"),
            ("backup", "db1", "backs_up"),
            ("lb", "web1", "connected_to"),
        ],
        "test",
    )
    with cmdb.read() as connection:
        model = cmdb.model(connection)
        hit = impact(connection, model, ["r7", "nobody"])
        assert {name: one.hops for name, one in hit.items()} == {"srv1": 1, "db1": 2, "web1": 3, "web2": 3, "shop": 4, "lb": 4}
        assert hit["shop"].chain == ("srv1 stands_in r7", "db1 runs_on srv1", "web1 uses db1", "shop depends_on web1")
        assert impact(connection, model, ["r7"], hops=2).keys() == {"srv1", "db1"}
        assert impact(connection, model, ["backup"]) == {}
        assert impact(connection, model, ["srv1"], upstream=True).keys() == {"r7"}
        up = impact(connection, model, ["lb"], upstream=True)
        assert up["r7"].chain == ("lb connected_to web1", "web1 uses db1", "db1 runs_on srv1", "srv1 stands_in r7")
    with pytest.raises(NotFoundError):
        cmdb.relate([("ghost", "r7", "uses")], "test")
    with pytest.raises(ConflictError):
        cmdb.put_cis([{"name": "lb", "revision": 99}], "test")
