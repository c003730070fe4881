# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release gets on with what is on a CI and around it, now and at every step of the way, or it is said what does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.compatibility.judge import (
    Compatibility,
    Deployed,
    Installed,
    Needs,
    Surroundings,
    judge,
    with_plan_faults,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.planner import PlanHost, plan_waves
from effort import growth
from hypothesis import given
from hypothesis import strategies as st

CI = {"class": "server", "attributes": {"model": "R750", "packages": {"openssl": "3.0.11-1"}, "firmware": {"bios": "2.4"}}}
MANY = Rollout(canary=Share(1), steps=(25, 50, 100))


def on(name: str, versions: str, scheme: str = "pep440") -> dict[str, str]:
    return {"release": name, "versions": versions, "scheme": scheme}


def has(**releases: str) -> dict[str, Installed]:
    return {name: Installed(version, f"{name}:{version}") for name, version in releases.items()}


def hello(*requires: Mapping[str, Any], conflicts: Iterable[Mapping[str, Any]] = (), version: str = "2.0") -> Deployed:
    return Deployed("hello", version, f"hello:{version}", Needs(tuple(requires), tuple(conflicts)))


def told(deployed: Deployed, **around: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = judge(deployed, Surroundings(**{"scope": {"web1": CI}, **around}))
    return found.faults, found.unknown


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"ci_class": ["server", "web"]}, ""),
        ({"ci_class": ["database"]}, "the class database, it has server"),
        ({"hardware": ["R750"]}, ""),
        ({"hardware": ["R640", "R650"]}, "the model R640 or R650, it has R750"),
        ({"firmware": "bios", "versions": ">=2.4", "scheme": "pep440"}, ""),
        ({"firmware": "bios", "versions": ">=2.10", "scheme": "pep440"}, "firmware bios >=2.10, it has 2.4"),
        ({"package": "openssl"}, ""),
        ({"package": "openssl", "versions": ">=3,<3.1", "scheme": "deb"}, ""),
        ({"package": "openssl", "versions": ">=3.1", "scheme": "deb"}, "package openssl >=3.1, it has 3.0.11-1"),
        ({"package": "libfoo", "versions": ">=3.1", "scheme": "deb"}, "package libfoo >=3.1, it has none"),
    ],
)
def test_what_a_ci_is_and_has_is_held_against_what_is_required(condition: dict[str, Any], says: str) -> None:
    assert told(hello(condition)) == ((f"web1: hello 2.0 requires {says}",) if says else (), ())
    holds = not says
    conflicting, unknown = told(hello(conflicts=[condition]))
    assert (len(conflicting), unknown) == (holds, ())


@pytest.mark.parametrize(
    ("condition", "ci", "says"),
    [
        ({"ci_class": ["server"]}, {"class": None, "attributes": {}}, "its class is not known"),
        ({"hardware": ["R750"]}, {"class": "server", "attributes": {}}, "its attribute model is not known"),
        ({"package": "openssl"}, {"class": "server", "attributes": {}}, "its attribute packages is not known"),
        ({"package": "openssl"}, {"class": "server", "attributes": {"packages": ["openssl"]}}, "its attribute packages is not known"),
        ({"firmware": "bios"}, {"class": "server", "attributes": {"firmware": {}}}, "its firmware bios is not known"),
        ({"firmware": "bios"}, {"class": "server", "attributes": {"firmware": {"bios": 2.4}}}, "firmware bios is no text"),
        ({"firmware": "bios", "versions": ">=2.0.0", "scheme": "semver"}, CI, "'2.4' is no version of the scheme semver"),
    ],
)
def test_what_is_not_known_or_not_ordered_is_unknown_and_never_passes(condition: dict[str, Any], ci: dict[str, Any], says: str) -> None:
    for deployed in (hello(condition), hello(conflicts=[condition])):
        faults, unknown = told(deployed, scope={"web1": ci})
        assert faults == ()
        assert len(unknown) == 1
        assert unknown[0].startswith("web1: ")
        assert says in unknown[0]


def test_a_release_is_required_on_the_ci_or_on_one_that_it_depends_on() -> None:
    wants = hello(on("db", ">=2,<3"))
    uses = (("web1", "db1"),)
    assert told(wants, installed={"web1": has(db="2.1")}) == ((), ())
    assert told(wants, installed={"db1": has(db="2.1")}, uses=uses) == ((), ())
    assert told(wants)[0] == ("web1: hello 2.0 requires release db >=2,<3, which is neither on it nor on a CI that it depends on",)
    assert told(wants, installed={"db1": has(db="2.1")})[0] != ()
    assert told(wants, installed={"db1": has(db="2.1")}, uses=(("db1", "web1"),))[0] != ()
    assert told(wants, installed={"db1": has(db="3.0")}, uses=uses)[0] == ("web1: hello 2.0 requires release db >=2,<3, db1 has 3.0",)
    odd = "web1: release db >=2,<3 can't be judged: 'stable' is no version of the scheme pep440"
    assert told(wants, installed={"db1": has(db="stable")}, uses=uses) == ((), (odd,))


def test_a_conflict_is_one_whichever_depends_on_the_other() -> None:
    against = hello(conflicts=[on("db", "<2")])
    for uses in ((("web1", "db1"),), (("db1", "web1"),)):
        assert told(against, installed={"db1": has(db="1.9")}, uses=uses)[0] == (
            "web1: hello 2.0 conflicts with release db <2, db1 has 1.9",
        )
        assert told(against, installed={"db1": has(db="2.0")}, uses=uses) == ((), ())
    assert told(against, installed={"web1": has(db="1.0")})[0] == ("web1: hello 2.0 conflicts with release db <2, it has 1.0",)


def test_who_depends_on_a_ci_in_scope_is_asked_what_it_requires() -> None:
    installed = {"shop1": has(shop="5.0"), "web1": has(hello="1.0")}
    uses = (("shop1", "web1"),)
    needs: dict[str, Needs | Exception] = {"shop:5.0": Needs(requires=(on("hello", "<2"), on("db", ">=9")))}
    assert told(hello(), installed=installed, uses=uses, needs=needs)[0] == (
        "shop1: its shop 5.0 requires release hello <2, web1 gets 2.0",
    )
    assert told(hello(version="1.5"), installed=installed, uses=uses, needs=needs) == ((), ())
    assert told(hello(), installed=installed, uses=(), needs=needs) == ((), ())
    needs["shop:5.0"] = TidegateError("its config is damaged")
    assert told(hello(), installed=installed, uses=uses, needs=needs) == (
        (),
        ("shop1: what shop 5.0 requires could not be found out (its config is damaged)",),
    )


def test_what_is_on_a_ci_in_scope_or_below_it_may_conflict() -> None:
    needs = {"db:1.0": Needs(conflicts=(on("hello", ">=2"),))}
    assert told(hello(), installed={"db1": has(db="1.0")}, uses=(("web1", "db1"),), needs=needs)[0] == (
        "db1: its db 1.0 conflicts with release hello >=2, web1 gets 2.0",
    )
    assert told(hello(), installed={"web1": has(db="1.0")}, needs=needs)[0] == (
        "web1: its db 1.0 conflicts with release hello >=2, it gets 2.0",
    )


def order(old: Needs, new: Needs, *uses: tuple[str, str], versions: Mapping[str, str] | None = None) -> Compatibility:
    names = {name for pair in uses for name in pair}
    installed = {name: has(hello=(versions or {}).get(name, "1.0")) for name in names}
    known = {f"hello:{version}": old for version in ("1.0", "1.1")}
    return judge(Deployed("hello", "2.0", "hello:2.0", new), Surroundings(dict.fromkeys(names, CI), installed, uses, known))


ONLY_OLD, ONLY_NEW = Needs(requires=(on("hello", "<2"),)), Needs(requires=(on("hello", ">=2"),))


def test_when_an_old_consumer_needs_an_old_provider_it_goes_first() -> None:
    assert order(ONLY_OLD, Needs(), ("a", "b")).order == (("a", "b"),)
    assert order(Needs(), Needs(conflicts=(on("hello", "<2"),)), ("a", "b")).faults != ()


def test_when_a_new_consumer_needs_a_new_provider_that_goes_first() -> None:
    assert order(Needs(), ONLY_NEW, ("a", "b")).order == (("b", "a"),)


def test_what_gets_on_either_way_has_no_order() -> None:
    assert order(Needs(), Needs(requires=(on("hello", ">=1"),)), ("a", "b")) == Compatibility()
    assert order(ONLY_OLD, ONLY_NEW, ("a", "b"), versions={"a": "2.0"}).order == ()


def test_two_of_which_neither_may_go_first_are_refused_by_name() -> None:
    found = order(ONLY_OLD, ONLY_NEW, ("a", "b"))
    assert found.faults == (
        "a: it depends on b, and neither may get hello 2.0 first: 1.0 on it does not get on with 2.0 there, nor 2.0 on it with 1.0 there",
    )


def test_those_that_would_each_have_to_wait_for_the_other_are_refused_by_name() -> None:
    found = order(Needs(), ONLY_NEW, ("a", "b"), ("b", "c"), ("c", "a"))
    assert len(found.faults) == 1
    assert "would each have to get hello 2.0 before the next" in found.faults[0]
    assert {"a", "b", "c"} <= set(found.faults[0].replace(",", "").split())


def test_a_plan_that_was_begun_and_does_not_keep_the_order_is_a_fault() -> None:
    found = order(Needs(), ONLY_NEW, ("a", "b"))
    assert with_plan_faults(found, [["b"], ["a"]]) == with_plan_faults(found, [["a"]]) == found
    for waves in ([["a"], ["b"]], [["a", "b"]]):
        assert with_plan_faults(found, waves).faults == ("a: it gets the release with or before b by the plan, and has to get it after",)


HOSTS = [f"h{number}" for number in range(7)]
PAIRS = st.lists(st.tuples(st.sampled_from(HOSTS), st.sampled_from(HOSTS)).filter(lambda pair: pair[0] != pair[1]), max_size=8)
ROLLOUTS = st.builds(
    Rollout,
    canary=st.builds(Share, st.integers(1, 3)),
    steps=st.lists(st.integers(1, 100), max_size=3).map(lambda steps: (*sorted(steps), 100)),
)
VERSIONS = st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(["1.0", "1.1"]), max_size=7)
NEEDS = st.builds(
    Needs,
    requires=st.lists(st.sampled_from([on("hello", "<2"), on("hello", ">=2"), on("hello", ">=1.1"), on("hello", "!=1.1")]), max_size=1).map(
        tuple
    ),
    conflicts=st.lists(st.sampled_from([on("hello", "==1.0"), on("hello", "==1.1"), on("hello", "==2.0")]), max_size=1).map(tuple),
)


@given(PAIRS, ROLLOUTS, st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(["ams", "fra"])))
def test_waves_keep_every_order_that_there_can_be_and_refuse_the_others(
    pairs: list[tuple[str, str]], rollout: Rollout, groups: dict[str, str]
) -> None:
    hosts = [PlanHost(name, groups.get(name)) for name in HOSTS[:5]]
    names = {host.name for host in hosts}
    inside = [pair for pair in pairs if set(pair) <= names]
    possible = any(all(line.index(a) < line.index(b) for a, b in inside) for line in permutations(names))
    try:
        waves = plan_waves(hosts, rollout, pairs).waves
    except TidegateError:
        assert not possible
        return
    assert possible
    assert sorted(host for wave in waves for host in wave) == sorted(names)
    place = {host: number for number, wave in enumerate(waves) for host in wave}
    assert all(place[a] < place[b] for a, b in inside)
    assert len(waves[0]) <= max(1, rollout.canary.at_least(len(hosts)))
    assert all(len({groups.get(host) for host in wave}) == 1 for wave in waves)


def allows(needs: Needs, version: str) -> bool:
    """What the conditions above say of a version, without the code that is looked at."""
    number = float(version)
    said = {"<2": number < 2, ">=2": number >= 2, ">=1.1": number >= 1.1, "!=1.1": number != 1.1}
    barred = {"==1.0": number == 1.0, "==1.1": number == 1.1, "==2.0": number == 2.0}
    return all(said[one["versions"]] for one in needs.requires) and not any(barred[one["versions"]] for one in needs.conflicts)


@given(PAIRS, VERSIONS, NEEDS, NEEDS, ROLLOUTS)
def test_at_no_moment_of_the_plan_does_one_meet_another_that_it_does_not_get_on_with(
    pairs: list[tuple[str, str]], versions: dict[str, str], old: Needs, new: Needs, rollout: Rollout
) -> None:
    installed = {name: has(hello=version) for name, version in versions.items()}
    around = Surroundings(dict.fromkeys(HOSTS, CI), installed, tuple(pairs), {"hello:1.0": old, "hello:1.1": old})
    found = judge(Deployed("hello", "2.0", "hello:2.0", new), around)

    def clash(live: Mapping[str, str]) -> set[tuple[str, str]]:
        said = {name: new if version == "2.0" else old for name, version in live.items()}
        barred = {name: Needs(conflicts=one.conflicts) for name, one in said.items()}
        return {(a, b) for a, b in pairs if a in live and b in live and not (allows(said[a], live[b]) and allows(barred[b], live[a]))}

    def clashes(plan: Iterable[Iterable[str]]) -> bool:
        """Whether at any moment two meet that don't get on and one of which was changed: in a wave any may be before any other."""
        live = dict(versions)
        for wave in plan:
            flipping = list(wave)
            before = dict(live)
            for mask in range(1, 2 ** len(flipping)):
                live = before | {name: "2.0" for bit, name in enumerate(flipping) if mask >> bit & 1}
                if any("2.0" in (live[a], live[b]) for a, b in clash(live)):
                    return True
        return False

    if not found.faults:
        assert not clashes(plan_waves([PlanHost(name) for name in HOSTS], rollout, found.order).waves)
    elif len(used := {name for pair in pairs for name in pair}) <= 5:
        assert all(clashes([name] for name in line) for line in permutations(used))


def test_ten_thousand_cis_cost_no_more_for_each_than_a_few() -> None:
    found, waves = _judged_and_planned(10_000)
    assert found.faults == ("web0, web1 and 9998 more: hello 2.0 requires firmware bios >=9, it has 2.4",)
    assert len(found.order) == 9_999
    assert len(waves) >= 14
    assert growth(_judged_and_planned, 1_000) < 4  # quadratic work has 8


def _judged_and_planned(count: int) -> tuple[Compatibility, tuple[tuple[str, ...], ...]]:
    """CIs that use each other and databases, of which each lacks something, and the waves that they are planned in."""
    names = [f"web{number}" for number in range(count)]
    scope = {name: {"class": "server", "attributes": dict(CI["attributes"])} for name in names}  # type: ignore[call-overload]
    installed = {name: has(hello="1.0", other=f"{number % 5}.0") for number, name in enumerate(names)}
    installed |= {f"db{number}": has(db="2.1") for number in range(100)}
    uses = [(name, f"db{number % 100}") for number, name in enumerate(names)]
    uses += [(names[number], names[number // 2]) for number in range(1, count)]
    needs: dict[str, Needs | Exception] = {f"other:{number}.0": Needs(requires=(on("hello", "<3"),)) for number in range(5)}
    needs |= {"hello:1.0": Needs(), "db:2.1": Needs()}
    wants = hello(
        on("db", ">=2,<3"),
        on("hello", ">=2"),
        {"package": "openssl", "versions": ">=3", "scheme": "deb"},
        {"firmware": "bios", "versions": ">=9", "scheme": "pep440"},
        {"hardware": ["R750"]},
    )
    found = judge(wants, Surroundings(scope, installed, tuple(uses), needs))
    return found, plan_waves([PlanHost(name) for name in names], MANY, found.order).waves


def test_a_ci_that_does_not_get_the_release_but_has_it_is_asked_too() -> None:
    around = {"installed": {"web1": has(hello="1.0"), "shop1": has(hello="1.0")}, "uses": (("shop1", "web1"),)}
    picky = {"hello:1.0": Needs((on("hello", "<2"),))}
    assert told(hello(), **around, needs=picky) == (("shop1: its hello 1.0 requires release hello <2, web1 gets 2.0",), ())
    assert told(hello(version="1.5"), **around, needs=picky) == ((), ())


def test_two_releases_do_not_bring_one_package_to_a_ci() -> None:
    new = Deployed("hello", "2.0", "hello:2.0", Needs(packages=frozenset({"tg-app", "tg-lib"})))
    needs = {"web:1.0": Needs(packages=frozenset({"tg-lib", "tg-web"})), "hello:1.0": new.needs}
    installed = {"web1": has(web="1.0", hello="1.0"), "db1": has(web="1.0")}
    faults, unknown = told(new, installed=installed, needs=needs, uses=(("web1", "db1"),))
    assert faults == ("web1: its web 1.0 brings the package tg-lib, as hello 2.0 does; have one of them bring it",)
    assert unknown == ()


@pytest.mark.parametrize(
    ("has_version", "migrates", "fault"),
    [("1.0", True, "web1: hello 3.0 migrates data and requires release hello >=2.0, it has 1.0"), ("2.0", True, ""), ("1.0", False, "")],
)
@pytest.mark.parametrize("in_scope", [True, False])
def test_what_shares_migrated_data_has_to_be_a_version_that_the_release_gets_on_with(
    has_version: str, migrates: bool, fault: str, in_scope: bool
) -> None:
    deployed = Deployed("hello", "3.0", "hello:3.0", Needs((on("hello", ">=2.0"),)), migrates)
    scope = {"web1": CI, "web2": CI} if in_scope else {"web2": CI}
    installed = {"web1": has(hello=has_version), "web2": has(hello="3.0")}
    needs = {"hello:1.0": Needs(), "hello:2.0": Needs()}
    found = judge(deployed, Surroundings(scope, installed, (("web1", "web2"),), needs))
    assert found.faults == ((fault,) if fault else ())


def test_what_shares_migrated_data_must_not_be_a_version_that_the_release_conflicts_with() -> None:
    deployed = Deployed("hello", "3.0", "hello:3.0", Needs((), (on("hello", "<2.0"),)), True)
    found = judge(deployed, Surroundings({"web1": CI}, {"web1": has(hello="1.9")}))
    assert found.faults == ("web1: hello 3.0 migrates data and conflicts with release hello <2.0, it has 1.9",)


@pytest.mark.parametrize(("old", "new", "refused"), [(True, False, True), (True, True, False), (False, False, False), (False, True, False)])
def test_a_release_without_a_payload_does_not_leave_the_tree_of_the_one_before_live(old: bool, new: bool, refused: bool) -> None:
    deployed = Deployed("hello", "2.0", "hello:2.0", Needs(tree=new))
    faults, unknown = told(deployed, installed={"web1": has(hello="1.0")}, needs={"hello:1.0": Needs(tree=old)})
    said = "web1: hello 2.0 has no payload, so the tree of 1.0 would stay live on it, and what runs from that; give hello 2.0 a payload"
    assert (faults, unknown) == ((said,) if refused else (), ())
