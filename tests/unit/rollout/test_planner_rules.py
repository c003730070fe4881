# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan has to keep, held against it by a checker that knows nothing of the planner."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, product
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Constraints, Rings, Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.planner import Limit, Limits, Plan, PlanHost, plan_waves
from effort import growth
from hypothesis import assume, given
from hypothesis import strategies as st

SITES, RINGS = (None, "ams", "fra", "lon"), ("early", "broad", None)


@dataclass(frozen=True)
class Case:
    """What is asked of a plan, in the plainest form."""

    site: dict[str, str | None]
    ring: dict[str, int]
    pairs: tuple[tuple[str, str], ...]
    sets: tuple[tuple[tuple[str, ...], int], ...]
    canary: frozenset[str]
    size: int
    steps: tuple[int, ...]
    shuffled_by: str = ""

    def plan(self, hosts: Sequence[str] = ()) -> Plan:
        planned = [PlanHost(name, self.site[name], self.ring[name]) for name in hosts or self.site]
        rollout = Rollout(canary=Share(self.size), steps=self.steps, constraints=Constraints(rings=Rings("ring", RINGS)))
        limits = tuple(Limit(f"set {number}", members, most) for number, (members, most) in enumerate(self.sets))
        return plan_waves(planned, rollout, self.pairs, Limits(limits, self.canary, self.shuffled_by))


@st.composite
def cases(draw: st.DrawFn, most: int = 25) -> Case:
    names = [f"h{number:02}" for number in range(draw(st.integers(1, most)))]
    line = draw(st.permutations(names))
    few = st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=8).map(tuple)
    places = st.tuples(st.integers(0, len(names) - 1), st.integers(0, len(names) - 1)).filter(lambda two: two[0] < two[1])
    pairs = draw(st.lists(places, max_size=12)) if len(names) > 1 else []
    sites = draw(st.lists(st.sampled_from(SITES), min_size=len(names), max_size=len(names)))
    rings = draw(st.lists(st.integers(0, draw(st.integers(0, 2))), min_size=len(names), max_size=len(names)))
    return Case(
        dict(zip(names, sites, strict=True)),
        dict(zip(names, rings, strict=True)),
        tuple((line[first], line[second]) for first, second in pairs),
        tuple(draw(st.lists(st.tuples(few, st.integers(1, 3)), max_size=4))),
        frozenset(draw(st.sets(st.sampled_from(names), max_size=2))),
        draw(st.integers(0, 4)),
        (*sorted(draw(st.sets(st.integers(1, 99), max_size=3))), 100),
        draw(st.sampled_from(["", "hello 1.0"])),
    )


def broken(case: Case, waves: Sequence[Sequence[str]]) -> set[str]:
    """Which rules the waves break."""
    place = {host: number for number, wave in enumerate(waves) for host in wave}
    if sorted(host for wave in waves for host in wave) != sorted(case.site):
        return {"every host is in exactly one wave"}
    if not all(waves):
        return {"no wave is empty"}
    ends = set(accumulate(map(len, waves)))
    steps = {-(-len(case.site) * step // 100) for step in case.steps}
    canary_is_right = set(waves[0]) == case.canary if case.canary else len(waves[0]) <= max(1, case.size)
    rest = waves[1:] if case.canary else waves
    rings = [{case.ring[host] for host in wave} for wave in rest]
    kept = {
        "who provides comes before who depends on it": all(place[first] < place[later] for first, later in case.pairs),
        "the canary is alone, and no other than the policy says": canary_is_right,
        "no wave has more of a set than may change at once": all(
            len(set(members) & set(wave)) <= most for members, most in case.sets for wave in waves
        ),
        "a ring is finished before the next one": all(len(one) == 1 for one in rings) and [*map(min, rings)] == sorted(map(min, rings)),
        "no wave mixes sites": all(len({case.site[host] for host in wave}) == 1 for wave in rest),
        "sites come in order, where nobody waits for one of a later site": _are_in_order(case, rest),
        "each step ends a wave": {end for end in steps if end > len(waves[0])} <= ends,
    }
    return {rule for rule, is_kept in kept.items() if not is_kept}


def _are_in_order(case: Case, waves: Sequence[Sequence[str]]) -> bool:
    """Whether sites come by name, none last, in each ring, or somebody has to wait for a host of a later one."""

    def place(host: str) -> tuple[int, bool, str]:
        return case.ring[host], case.site[host] is None, case.site[host] or ""

    if any(place(first) > place(later) and case.canary.isdisjoint((first, later)) for first, later in case.pairs):
        return True
    places = [place(wave[0]) for wave in waves]
    return places == sorted(places)


def refusal(case: Case, hosts: Sequence[str] = ()) -> str:
    """Why there is no plan; empty when there is one."""
    try:
        case.plan(hosts)
    except TidegateError as error:
        return str(error)
    return ""


@given(cases())
def test_a_plan_keeps_every_rule_or_is_refused(case: Case) -> None:
    assume(not refusal(case))
    plan = case.plan()
    assert broken(case, plan.waves) == set()
    assert plan.bound.at_least <= len(plan.waves)
    assert all(plan.reason_of()[host] for host in case.site)
    assert not any("None%" in reason for reason in plan.reasons)
    # What the journal keeps of it is read back.
    assert Plan.from_dict([list(wave) for wave in plan.waves], plan.to_dict()) == plan


@given(cases())
def test_what_a_host_is_said_to_wait_for_held_it_back(case: Case) -> None:
    """No wave ends before there is no room, and the wave before has what a reason says."""
    assume(not refusal(case))
    plan = case.plan()
    for number, (before, wave, whys) in enumerate(zip(plan.waves, plan.waves[1:], plan.why[1:], strict=False), 2):
        for host, reason in zip(wave, (plan.reasons[why] for why in whys), strict=True):
            kind, _space, rest = reason.partition(" ")
            if kind == "set":
                members, most = case.sets[int(rest)]
                assert host in members
                assert len(set(members).intersection(before)) == most
            elif kind == "after":
                assert (rest.split(" ")[0], host) in case.pairs or (rest.split(" ")[0]) in case.site
            elif reason.startswith("the step to "):
                assert sum(map(len, plan.waves[: number - 1])) in {-(-len(case.site) * step // 100) for step in case.steps}


def test_limits_that_overlap_leave_no_room_unused() -> None:
    """The first of a set's queue has to wait for another set: the next one gets its place."""
    one, other = Limit("one", ("b", "e", "f"), 1), Limit("other", ("c", "d", "e"), 1)
    plan = plan_waves(hosts(*"abcdef"), Rollout(), (), Limits((one, other)))
    assert plan.waves == (("a",), ("b", "c"), ("d", "f"), ("e",))
    assert plan.reason_of()["e"] == "one"


def test_limits_that_overlap_cost_no_more_for_each_of_many() -> None:
    def planned(count: int) -> Plan:
        chance = random.Random(1)  # noqa: S311 - no secret
        names = [f"h{number:06}" for number in range(count)]
        limits = tuple(Limit(f"set{place}", tuple(chance.sample(names, count // 3)), count // 40) for place in range(6))
        return plan_waves(hosts(*names), Rollout(), (), Limits(limits))

    assert growth(planned, 2_000) < 4  # quadratic work has 8


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_in_which_hosts_and_pairs_come_does_not_matter(case: Case, chance: random.Random) -> None:
    names, pairs = list(case.site), list(case.pairs)
    chance.shuffle(names)
    chance.shuffle(pairs)
    other = replace(case, pairs=tuple(pairs))
    assert bool(refusal(other, names)) == bool(refusal(case))
    assert refusal(case) or other.plan(names) == case.plan()


@given(cases(most=4))
def test_what_is_refused_can_not_be_planned_and_no_plan_has_fewer_waves_than_the_bound(case: Case) -> None:
    names, possible = sorted(case.site), []
    for places in product(range(len(names)), repeat=len(names)):
        waves = [[name for name, place in zip(names, places, strict=True) if place == number] for number in range(max(places) + 1)]
        if not broken(case, waves):
            possible.append(len(waves))
    why = refusal(case)
    if why:
        assert not possible or "nothing is tried before the others" in why
    else:
        assert case.plan().bound.at_least <= min(possible)


def hosts(*names: str, **more: Any) -> list[PlanHost]:
    return [PlanHost(name, **more) for name in names]


def faults(*names: PlanHost, order: tuple[tuple[str, str], ...] = (), limits: Limits | None = None, rings: bool = False) -> str:
    rollout = Rollout(constraints=Constraints(rings=Rings("ring", RINGS) if rings else None))
    with pytest.raises(TidegateError) as caught:
        plan_waves(names, rollout, order, limits)
    return str(caught.value)


def test_fifty_pairs_take_four_waves() -> None:
    names = [f"{kind}{number:02}" for kind in ("app", "db") for number in range(50)]
    pairs = [(f"db{number:02}", f"app{number:02}") for number in range(50)]
    plan = plan_waves(hosts(*names), Rollout(steps=(10, 50, 100)), pairs)
    assert [len(wave) for wave in plan.waves] == [1, 9, 40, 50]
    assert plan.bound.at_least == 4
    sited = [PlanHost(name, f"site{number % 7}") for number, name in enumerate(names)]
    assert len(plan_waves(sited, Rollout(steps=(10, 50, 100)), pairs).waves) <= 3 + 2 * 7 + 1


def test_each_host_has_the_one_constraint_that_put_it_there() -> None:
    planned = [PlanHost("a1", "ams"), PlanHost("a2", "ams"), PlanHost("a3", "ams"), PlanHost("a4", "ams"), PlanHost("f1", "fra")]
    keeps = Limit("cluster web keeps 1 of 2 up", ("a2", "a3"), 1)
    rollout = Rollout(order_by="site")
    plan = plan_waves(planned, rollout, [("f1", "a4")], Limits((keeps,)))
    assert plan.waves == (("a1",), ("a2",), ("a3",), ("f1",), ("a4",))
    assert list(plan.reason_of().values()) == [
        "the canary, the first in order",
        "the canary comes first, alone",
        "cluster web keeps 1 of 2 up",
        "site ams comes first",
        "after f1 of site fra",
    ]
    steps = plan_waves(hosts("a", "b", "c", "d"), Rollout(steps=(50, 100)), [("b", "d")])
    assert steps.reason_of()["c"] == "the step to 50% comes first"
    assert steps.reason_of()["d"] == "after b"
    ringed = Rollout(constraints=Constraints(rings=Rings("ring", RINGS)))
    assert plan_waves([PlanHost("a"), PlanHost("b", None, 1)], ringed).reason_of()["b"] == "ring early comes first"


@pytest.mark.parametrize("turn", [1, -1])
def test_of_several_that_a_host_waits_for_the_first_in_order_is_named(turn: int) -> None:
    later = [PlanHost("a1", "ams"), PlanHost("f1", "fra"), PlanHost("f2", "fra")]
    rollout = Rollout(order_by="site", canary=Share(2))
    assert plan_waves(later, rollout, [("f1", "a1"), ("f2", "a1")][::turn]).reason_of()["a1"] == "after f1 of site fra"
    plain = plan_waves(hosts("a", "b", "z"), Rollout(canary=Share(2)), [("a", "z"), ("b", "z")][::turn])
    assert plain.reason_of()["z"] == "after a"


@pytest.mark.parametrize(
    ("planned", "more", "sentence"),
    [
        (hosts("a", "b"), {"limits": Limits(canary=frozenset("ab"))}, "the canary is all 2 hosts, so nothing is tried before the others"),
        (hosts("a", "b"), {"order": (("a", "b"),), "limits": Limits(canary=frozenset("b"))}, "the canary b gets the release after a;"),
        (
            hosts("a", "b", "c"),
            {"limits": Limits((Limit("redundant a, b keeps 1 of 2 up", ("a", "b"), 1),), frozenset("ab"))},
            "the canary has a, b, and redundant a, b keeps 1 of 2 up; leave 1 of them out",
        ),
        (
            [PlanHost("app"), PlanHost("db", None, 1)],
            {"order": (("db", "app"),), "rings": True},
            "rings contradict what hosts depend on: db of ring broad gets the release before app of ring early;",
        ),
        (hosts("a", "b", "c"), {"order": (("a", "b"), ("b", "a"))}, "hosts that wait for one another"),
        (hosts("a"), {"limits": Limits(faults=("set12 has 1 host",))}, "set12 has 1 host"),
    ],
)
def test_what_can_not_be_kept_is_refused(planned: list[PlanHost], more: dict[str, Any], sentence: str) -> None:
    assert sentence in faults(*planned, **more)


def test_all_that_can_not_be_kept_is_said_at_once() -> None:
    planned = [PlanHost("app"), PlanHost("db", None, 1), PlanHost("x"), PlanHost("y")]
    said = faults(
        *planned,
        order=(("db", "app"), ("x", "y"), ("y", "x")),
        limits=Limits(canary=frozenset("x"), faults=("set1 has 1 host",)),
        rings=True,
    )
    assert [line.split(" ")[0] for line in said.splitlines()] == ["set1", "the", "rings", "hosts"]


def test_the_first_host_differs_from_release_to_release_and_is_always_the_same_for_one() -> None:
    planned = hosts(*(f"h{number:02}" for number in range(20)))
    first = {version: plan_waves(planned, Rollout(), (), Limits(shuffled_by=f"hello {version}")).waves[0] for version in range(20)}
    assert len(set(first.values())) > 5
    assert plan_waves(planned, Rollout(), (), Limits(shuffled_by="hello 7")).waves[0] == first[7]
    assert plan_waves(planned, Rollout()).waves[0] == ("h00",)


def test_many_waves_and_a_canary_that_is_everybody_come_with_a_warning() -> None:
    many = Rollout(steps=tuple(range(2, 101, 2)), constraints=Constraints(max_waves=50))
    plan = plan_waves(hosts(*(f"h{number:02}" for number in range(100))), many)
    assert len(plan.waves) == 51
    assert plan.warnings[0].startswith(
        "the plan has 51 waves, more than max_waves of the policy (50); not fewer than 51 are possible, for the"
    )
    assert plan_waves(hosts("a", "b"), Rollout(canary=Share(5))).warnings == (
        "the canary is all 2 hosts, so nothing is tried before the others",
    )
    assert plan_waves(hosts("a", "b"), Rollout()).warnings == plan_waves(hosts("a"), Rollout()).warnings == ()


def test_pairs_and_sets_of_a_hundred_thousand_hosts_cost_no_more_for_each_than_of_a_few() -> None:
    def planned(count: int) -> Plan:
        chance = random.Random(1)  # noqa: S311 - no secret
        names = [f"h{number:06}" for number in range(count)]
        pairs = [(names[chance.randrange(count // 5)], names[chance.randrange(count // 5, count)]) for _pair in range(3 * count)]
        sets = tuple(Limit(f"set{place}", tuple(names[place : place + 8]), 2) for place in range(0, count, 8))
        return plan_waves(hosts(*names), Rollout(steps=(10, 50, 100)), pairs, Limits(sets))

    assert growth(planned, 4_000) < 4  # quadratic work has 8


def test_one_host_at_a_time_costs_no_more_for_each_of_many() -> None:
    def planned(count: int) -> Plan:
        names = tuple(f"h{number:06}" for number in range(count))
        return plan_waves(hosts(*names), Rollout(), (), Limits((Limit("all", names, 1),)))

    assert growth(planned, 1_000) < 4  # quadratic work has 8
