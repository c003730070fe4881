# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.ci_changes import PutResult, Triple, checked, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.model import (
    AroundPut,
    CiModel,
    build_model,
    class_key,
    faults_of_put,
    faults_of_relations,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import shipped_document, shipped_model

OWN = {
    "classes": {
        "Server": {"required": ["owned_by", "rack"], "unique": ["asset_tag"]},
        "kiln": {"host": False},
    },
    "relations": {"heats": {"from": ["kiln"], "to": ["room"], "acyclic": True, "hits": "target"}},
}


def put(*rows: Mapping[str, Any], current: Mapping[str, Mapping[str, Any]] | None = None) -> PutResult:
    return plan(current or {}, checked(rows))


def said(result: PutResult, around: AroundPut | None = None, model: CiModel | None = None) -> list[str]:
    return [str(problem) for problem in faults_of_put(model or shipped_model(), result, around or AroundPut())]


def there(name: str, **parts: Any) -> dict[str, Any]:
    return put({"name": name, **parts}).diffs[name][1] | {"name": name, "revision": 1}


@pytest.mark.parametrize("name", ["server", "Server", "cmdb_ci_linux_server", "Patch-Panel", "data center", None, ""])
def test_classes_that_are_known_are_so_however_they_are_written(name: str | None) -> None:
    assert said(put({"name": "a", "class": name})) == []


def test_an_unknown_class_is_refused_with_the_nearest_one() -> None:
    (fault,) = said(put({"name": "a", "class": "servr"}))
    assert fault.startswith("CI a: the model has no class 'servr'; did you mean server? If not, add it to the classes of the team's model")


def test_what_is_wrong_already_stays_until_it_is_touched() -> None:
    current = {"a": there("a", **{"class": "coffee"})}
    assert said(put({"name": "a", "site": "ams"}, current=current)) == []
    assert said(put({"name": "a", "class": "Coffee"}, current=current)) == []
    assert len(said(put({"name": "a", "class": "tea"}, current=current))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("ABC-1", "abc-1"), (" abc-1", "ABC-1"), ("STRASSE", "stra\u00dfe"), (["x", "abc-1"], "ABC-1"), (7, "7")],
)
def test_two_cis_with_one_serial_are_both_named(one: object, other: object) -> None:
    rows = [{"name": "a", "attributes": {"serial": one}}, {"name": "b", "class": "rack", "attributes": {"serial": other}}]
    (fault,) = said(put(*rows))
    assert fault.startswith("CI a: its serial is that of b too")
    assert "set its status to retired" in fault
    (fault,) = said(put(rows[1]), AroundPut(others=[there("a", attributes={"serial": one})]))
    assert fault.startswith("CI b: its serial is that of a too")


@pytest.mark.parametrize("value", ["", None, [], {}, True, " "])
def test_no_value_is_nobodys(value: object) -> None:
    assert said(put(*({"name": name, "attributes": {"serial": value}} for name in "ab"))) == []


def test_what_is_retired_holds_no_address_until_it_is_back() -> None:
    old = there("old", status="retired", attributes={"address": "192.0.2.1"})
    new = there("new", attributes={"address": "192.0.2.1"})
    assert said(put({"name": "new", "attributes": {"address": "192.0.2.1"}}), AroundPut(others=[old])) == []
    assert len(said(put({"name": "old", "status": "installed"}, current={"old": old}), AroundPut(others=[new]))) == 1


def test_duplicates_from_before_are_left_alone() -> None:
    one, other = (there(name, attributes={"serial": "x"}) for name in ("a", "b"))
    assert (
        said(put({"name": "a", "site": "ams", "attributes": {"serial": "x", "y": 1}}, current={"a": one}), AroundPut(others=[other])) == []
    )


def test_a_name_in_another_case_is_refused() -> None:
    (fault,) = said(put({"name": "Web1"}), AroundPut(names={"web1": "web1"}))
    assert fault == "CI Web1: web1 is a CI too, and they differ in case only; write web1 if it is the same, or give another name"
    assert len(said(put({"name": "a"}, {"name": "A"}))) == 1


def test_a_class_has_what_it_requires_and_what_is_its_own() -> None:
    model = build_model(shipped_document(), OWN)
    assert len(said(put({"name": "a", "class": "server"}), model=model)) == 2
    good = {"class": "server", "owned_by": "ops", "attributes": {"rack": 7, "asset_tag": "t1"}}
    assert said(put({"name": "a", **good}), model=model) == []
    assert len(said(put({"name": "a", **good}, {"name": "b", "class": "rack", "attributes": {"asset_tag": "T1"}}), model=model)) == 1
    lacking = {"a": there("a", **{"class": "server"})}
    assert said(put({"name": "a", "site": "ams"}, current=lacking), model=model) == []
    assert len(said(put({"name": "a", "owned_by": ""}, current={"a": there("a", **good)}), model=model)) == 1


def test_what_a_team_says_of_a_class_leaves_the_rest_of_it() -> None:
    model = build_model(shipped_document(), OWN)
    server, rack = model.of("server"), model.of("rack")
    assert server is not None
    assert rack is not None
    assert (server.host, rack.host) == (True, False)
    assert model.kinds["runs_on"].acyclic


CLASSES = {"room1": "room", "kiln1": "kiln", "web1": "server", "plain": None, "odd": "coffee"}


@pytest.mark.parametrize(
    ("triple", "fault"),
    [
        (("kiln1", "room1", "heats"), ""),
        (("web1", "room1", "heats"), "it can't begin at web1, a server; it may at one of kiln"),
        (("kiln1", "web1", "heats"), "it can't end at web1, a server; it may at one of room"),
        (("plain", "odd", "heats"), ""),
        (("web1", "web1", "uses"), "web1 is related to itself"),
        (("web1", "plain", "runs_onn"), "the model has no kind 'runs_onn'; did you mean runs_on?"),
    ],
)
def test_relations_lead_from_and_to_what_their_kind_allows(triple: Triple, fault: str) -> None:
    found = [str(one) for one in faults_of_relations(build_model(shipped_document(), OWN), [triple], CLASSES)]
    assert len(found) == bool(fault)
    assert fault in "".join(found)


def test_a_circle_is_named_once_with_all_that_are_in_it() -> None:
    def runs_on(*pairs: str) -> list[Triple]:
        return [(one, other, "runs_on") for one, other in pairs]

    def found(new: list[Triple], old: list[Triple]) -> list[str]:
        return [str(one) for one in faults_of_relations(shipped_model(), new, {}, old)]

    (fault,) = found(runs_on("ca"), runs_on("ab", "bc", "cd"))
    assert fault == "relation c runs_on a: it closes a circle, c -> a -> b -> c; leave out one of these relations"
    assert len(found(runs_on("ab", "ba", "cd"), [])) == 1
    assert found(runs_on("ab", "ac", "bd", "cd"), []) == []  # two ways to one end are no circle
    assert found([("a", "b", "runs_on"), ("b", "a", "part_of"), ("a", "b", "uses"), ("b", "a", "uses")], []) == []
    assert found(runs_on("xa"), runs_on("ab", "ba")) == []  # that one was there before
    chain = [(f"n{number}", f"n{number + 1}", "runs_on") for number in range(5000)]
    (fault,) = found([("n5000", "n0", "runs_on")], chain)
    assert len(fault) < 300


def test_another_class_has_to_fit_the_relations_that_are_there() -> None:
    current = {"rack7": there("rack7", **{"class": "rack"})}
    around = AroundPut(classes={"web1": "server"}, relations=[("web1", "rack7", "stands_in")])
    (fault,) = said(put({"name": "rack7", "class": "server"}, current=current), around)
    assert "relation web1 stands_in rack7: it can't end at rack7, a server" in fault


def test_class_keys() -> None:
    assert class_key("cmdb_ci_IP-Switch") == class_key(" ip  switch ") == "ip_switch"
