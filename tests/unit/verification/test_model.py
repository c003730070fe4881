# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CMDB of a lab has the relations of live, as far as there are doubles, and no circle that live does not have."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.verification.miniature import live_host, miniature, with_untouched
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.model import Model, Relation, model
from hypothesis import given
from hypothesis import strategies as st


def ci(name: str, class_: str | None = "web", site: str | None = "ams", **releases: str) -> dict[str, Any]:
    installed = {release: {"version": version, "digest": f"{release}:{version}"} for release, version in releases.items()}
    return {"name": name, "class": class_, "site": site, "environment": None, "attributes": {"rack": 7}, "installations": installed}


def mirrored(limit: int, scope: list[dict[str, Any]], relations: list[Relation], *around: dict[str, Any]) -> Model:
    everything = {one["name"]: one for one in (*scope, *around)}
    return model(miniature(map(live_host, scope), limit), {one["name"]: one for one in scope}, everything, relations)


def test_relations_between_hosts_and_with_what_is_around_them_are_there() -> None:
    relations = [("web1", "db1", "depends_on"), ("rack7", "db1", "holds"), ("db9", "rack7", "stands_in")]
    found = mirrored(8, [ci("web1"), ci("db1", "database")], relations, ci("rack7", "rack"), ci("db9"))
    assert found.relations == (("rack7", "db1", "holds"), ("web1", "db1", "depends_on"))
    assert [row["name"] for row in found.neighbours] == ["rack7"]
    assert found.lacking == ()


def test_a_neighbour_does_not_take_the_name_of_a_double() -> None:
    found = mirrored(8, [ci("Web1")], [("Web1", "web1", "depends_on")], ci("web1", "database", database="3.1"))
    assert found.relations == (("web1", "web1-2", "depends_on"),)
    assert [(row["ci"], row["version"]) for row in found.installed] == [("web1-2", "3.1")]


def test_a_host_without_a_double_is_stood_for_by_one_that_is_like_it() -> None:
    scope = [ci("web1"), ci("db1", "database"), ci("db2", "database", hello="1.0"), ci("db3", "database", hello="1.0")]
    scope.append(ci("db4", "database", hello="1.0"))
    two = [("web1", "db3", "depends_on"), ("web1", "db4", "depends_on")]
    assert mirrored(3, scope, two).relations == (("web1", "db2", "depends_on"),)
    found = mirrored(3, scope, [("web1", "db3", "depends_on"), ("db3", "web1", "depends_on"), ("db3", "web1", "backs_up")])
    assert found.relations == (("db2", "web1", "backs_up"), ("db2", "web1", "depends_on"))
    assert found.lacking == ("in the lab no web has the relation depends_on with a database",)


def test_nothing_known_of_a_host_is_nothing_in_the_lab() -> None:
    assert live_host(ci("web1", None, None)).group == ("", "")
    assert mirrored(8, [ci("web1", None, None)], []).doubles == (
        {"name": "web1", "class": None, "site": None, "environment": "lab", "attributes": {"rack": 7}},
    )


@given(
    limit=st.integers(1, 6),
    classes=st.lists(st.sampled_from(["web", "db"]), min_size=2, max_size=9),
    edges=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20),
)
def test_what_has_no_circle_live_has_none_in_the_lab(limit: int, classes: list[str], edges: list[tuple[int, int]]) -> None:
    scope = [ci(f"host{number}", class_) for number, class_ in enumerate(classes)]
    relations = sorted({(f"host{one}", f"host{two}", "depends_on") for one, two in edges if one < two < len(scope)})
    found = mirrored(limit, scope, relations)
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for source, target, _kind in found.relations:
        sorter.add(source, target)
    sorter.prepare()
    names = {row["name"] for row in found.doubles}
    assert all({source, target} <= names for source, target, _kind in found.relations)
    assert len(set(found.relations)) == len(found.relations)
    kept = [relation for relation in relations if set(relation[:2]) <= names]
    assert set(kept) <= set(found.relations)


def test_a_second_double_of_a_host_is_related_as_the_first_is() -> None:
    scope = [ci("web1", hello="1.0")]
    plan = with_untouched(miniature(map(live_host, scope), 8), "hello", lambda _host: frozenset())
    around = {one["name"]: one for one in (*scope, ci("db1", "database"), ci("lb1"))}
    found = model(plan, {"web1": scope[0]}, around, [("web1", "db1", "depends_on"), ("lb1", "web1", "sends_to")])
    assert sorted(found.relations) == [
        ("lb1", "web1", "sends_to"),
        ("lb1", "web1-untouched", "sends_to"),
        ("web1", "db1", "depends_on"),
        ("web1-untouched", "db1", "depends_on"),
    ]
    assert [row["name"] for row in found.doubles] == ["web1", "web1-untouched"]
