# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy's constraints come to for the CIs of a scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.constraints import Neighbours, asks_for_others, plan_input
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Constraints, Rings, Rollout, Share, StayUp
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.planner import Limits, PlanHost, plan_waves

HALF = Share(50, percent=True)


def ci(name: str, kind: str = "server", gone: bool = False, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "class": kind, "site": "ams", "written_off": {"reason": "dead"} if gone else None, "attributes": attributes}


def limits(
    cis: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]] = (),
    services: Mapping[str, Sequence[str]] | None = None,
    **asked: Any,
) -> Limits:
    return plan_input(cis, Rollout(constraints=Constraints(**asked)), Neighbours(others, services or {}), "hello 1.0")[1]


def kept(found: Limits) -> list[tuple[str, tuple[str, ...], int]]:
    return [(limit.why, limit.hosts, limit.at_most) for limit in found.limits]


def test_nothing_asked_is_no_limit() -> None:
    assert limits([ci("a"), ci("b")]) == Limits()
    assert not asks_for_others(Rollout())
    assert asks_for_others(Rollout(constraints=Constraints(stay_up=StayUp(redundant=HALF))))


def test_rings_are_by_attribute_by_field_or_by_expression() -> None:
    cis = [ci("a", ring="early"), ci("b", ring=2), ci("c", ring=True), ci("d")]

    def ringed(by: str, *order: str | None) -> list[int]:
        rollout = Rollout(constraints=Constraints(rings=Rings(by, order)))
        hosts, found = plan_input(cis, rollout, Neighbours(), "hello 1.0")
        assert not found.faults
        return [host.ring for host in hosts]

    assert ringed("ring", "early", "true", "2", None) == [0, 2, 1, 3]
    assert ringed("site", "fra", "ams") == [1, 1, 1, 1]
    assert ringed("attributes.ring == 'early' && 'first' || null", "first", None) == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("rings", "fault"),
    [
        (Rings("ring", ("early",)), "b: the ring 'late', which rollout.rings.order does not have; add it there, or correct the CMDB"),
        (Rings("attributes.[", ("early",)), "rollout.rings.by, 'attributes.[', can't be evaluated: "),
        (Rings("none", ("early",)), "a, b: no ring, which rollout.rings.order does not have"),
        (Rings("rings", ("early", None)), "no host of the CMDB has a ring by rings; correct rollout.rings.by, or the CMDB"),
        (Rings("attributes.rings", (None,)), "no host of the CMDB has a ring by attributes.rings;"),
    ],
)
def test_who_is_in_no_ring_is_a_fault(rings: Rings, fault: str) -> None:
    found = limits([ci("a", ring="early"), ci("b", ring="late")], rings=rings)
    assert len(found.faults) == 1
    assert found.faults[0].startswith(fault)


def test_the_canary_is_by_name_or_by_query() -> None:
    cis = [ci("a"), ci("b", canary=True), ci("c")]
    assert limits(cis, canary_hosts=("c",)).canary == {"c"}
    assert limits(cis, canary_hosts="[?attributes.canary]").canary == {"b"}
    assert limits(cis, canary_hosts="[?attributes.canary].name").canary == {"b"}


@pytest.mark.parametrize(
    ("canary", "fault"),
    [
        (("x", "a"), "the canary x is not among the hosts that get the release; correct rollout.canary_hosts, or the scope"),
        (
            "[?attributes.canary]",
            "rollout.canary_hosts, '[?attributes.canary]', picks none of the hosts; correct it in the policy, or the scope",
        ),
        ("length(@)", "rollout.canary_hosts: the query 'length(@)' doesn't give a list;"),
        ("['x']", "the canary x is not among the hosts that get the release;"),
    ],
)
def test_a_canary_that_is_nobody_is_a_fault(canary: Any, fault: str) -> None:
    found = limits([ci("a"), ci("b")], canary_hosts=canary)
    assert len(found.faults) == 1
    assert found.faults[0].startswith(fault)


def test_a_class_has_a_share_in_a_wave_and_one_host_at_least() -> None:
    cis = [ci("a"), ci("b", "database"), ci("c", "database"), ci("d", "database")]
    assert kept(limits(cis, classes={"Database": HALF})) == [("a wave has 1 of class Database at most", ("b", "c", "d"), 1)]
    assert kept(limits(cis, classes={"database": Share(10, percent=True)}))[0][2] == 1
    assert kept(limits(cis[:1], cis[1:], classes={"database": HALF})) == []
    unknown = limits(cis, classes={"databas": HALF})
    assert unknown.faults == ("no host of the CMDB is of class databas; correct rollout.classes, or the CMDB",)


def test_what_is_redundant_is_each_ci_with_those_that_stand_in_for_it() -> None:
    chain = [ci("a", redundant_with="b"), ci("b", redundant_with=["c"]), ci("c"), ci("d", chassis=1, role="psu")]
    found = limits(chain, [ci("e", chassis="1", role="psu")], stay_up=StayUp(redundant=HALF))
    assert kept(found) == [
        ("redundant a, b keeps 1 of 2 up", ("a", "b"), 1),
        ("redundant a, b, c keeps 2 of 3 up", ("a", "b", "c"), 1),
        ("redundant b, c keeps 1 of 2 up", ("b", "c"), 1),
        ("redundant d, e keeps 1 of 2 up", ("d",), 1),  # e is not in scope, and stays up
    ]
    wrong = limits([ci("a", redundant_with=7)], stay_up=StayUp(redundant=HALF))
    assert wrong.faults == ("a: its attribute redundant_with is no list of names; correct the CMDB",)
    alone = limits([ci("a", redundant_with=["b", "x"]), ci("b")], stay_up=StayUp(redundant=HALF))
    assert alone.faults == ("a: it is redundant_with x, no host of the CMDB; correct that there",)
    # What a host says that the release does not go to is not for this RFC to mend.
    others = [ci("c", redundant_with=7), ci("d", redundant_with="x")]
    assert limits([ci("a")], others, stay_up=StayUp(redundant=HALF)).faults == ()


def test_groups_and_services_are_counted_over_the_whole_cmdb_and_who_was_written_off_is_down() -> None:
    cis, others = [ci("a", cluster="c1"), ci("b", cluster="c1")], [ci("c", cluster="c1"), ci("d", gone=True, cluster="c1")]
    assert kept(limits(cis, others, stay_up=StayUp(groups={"cluster": HALF}))) == [("cluster c1 keeps 2 of 4 up", ("a", "b"), 1)]
    serving = limits(cis, others, {"shop": ["a", "b", "c", "x"]}, stay_up=StayUp(services={"shop": Share(1)}))
    assert kept(serving) == [("service shop keeps 1 of 3 up", ("a", "b"), 2)]


@pytest.mark.parametrize(
    ("others", "stay_up", "fault"),
    [
        (
            [],
            StayUp(groups={"set": Share(75, percent=True)}),
            "set set12 has 1 host, 25% of 1 is none, so a can't change; lower rollout.stay_up.groups.set, or correct the CMDB",
        ),
        (
            [ci("b", set="set12"), ci("c", gone=True, set="set12")],
            StayUp(groups={"set": Share(2)}),
            "set set12 has 3 hosts, 1 of them written off, 2 have to stay up, so a can't change;",
        ),
        ([], StayUp(services={"shop": HALF}), "the service shop depends on no host of the CMDB; relate it by depends_on,"),
        ([], StayUp(groups={"sets": HALF}), "no host of the CMDB has sets; correct rollout.stay_up.groups, or the CMDB"),
        ([ci("b", set="")], StayUp(groups={"site": HALF, "blank": HALF}), "no host of the CMDB has blank;"),
    ],
)
def test_what_can_not_stay_up_is_a_fault(others: list[dict[str, Any]], stay_up: StayUp, fault: str) -> None:
    found = limits([ci("a", set="set12")], others, stay_up=stay_up)
    assert len(found.faults) == 1
    assert found.faults[0].startswith(fault)


def test_a_host_without_a_group_is_in_none() -> None:
    cis = [ci("a", set=""), ci("b", set=""), ci("c"), ci("d", set="s"), ci("e", set="s")]
    assert kept(limits(cis, stay_up=StayUp(groups={"set": HALF}))) == [("set s keeps 1 of 2 up", ("d", "e"), 1)]


def test_of_many_sets_that_can_not_be_kept_the_first_are_said_and_how_many_more() -> None:
    found = limits([ci(f"h{number:03}") for number in range(500)], stay_up=StayUp(groups={"name": Share(1)}))
    assert len(found.faults) == 11
    assert found.faults[-1] == "490 more that rollout.stay_up.groups.name is about can't change either"


def test_a_ring_that_only_others_have_is_a_ring() -> None:
    found = limits([ci("a")], [ci("b", ring="early")], rings=Rings("ring", ("early", None)))
    assert found.faults == ()


def test_a_canary_that_was_written_off_is_left_out_while_another_is_there() -> None:
    constraints = Constraints(canary_hosts=("a", "x"))
    cis = [ci("a"), ci("b")]
    found = plan_input(cis, Rollout(constraints=constraints), Neighbours(written_off={"x"}), "hello 1.0")[1]
    assert (found.canary, found.faults) == ({"a"}, ())
    assert found.remarks == ("the canary is without x, written off; name others in rollout.canary_hosts",)
    assert plan_waves([PlanHost("a"), PlanHost("b")], Rollout(), (), found).warnings == found.remarks
    none = plan_input(cis, Rollout(constraints=constraints), Neighbours(written_off={"a", "x"}), "hello 1.0")[1]
    assert none.canary == {"a"}  # it is among those that get the release, so it was written off in the meantime, and is there again
    only = plan_input(cis[1:], Rollout(constraints=constraints), Neighbours(written_off={"a", "x"}), "hello 1.0")[1]
    assert only.faults == ("the canary a, x was written off; name another in rollout.canary_hosts",)


def test_a_group_that_the_release_does_not_go_to_is_no_fault() -> None:
    assert limits([ci("a")], [ci("b", set="s")], stay_up=StayUp(groups={"set": Share(1)})) == Limits()


def test_hostile_values_stay_on_one_line() -> None:
    found = limits([ci("a", set="x\nmaster: \x1b[31m")], stay_up=StayUp(groups={"set": Share(1)}))
    assert all("\n" not in fault and "\x1b" not in fault for fault in found.faults)


def test_shuffled_hosts_are_planned_by_release() -> None:
    cis = [ci(f"h{number:02}") for number in range(30)]
    rollout = Rollout(constraints=Constraints(shuffle=True))
    first = {release: plan_waves(*_planned(cis, rollout, release)).waves[0] for release in ("hello 1.0", "hello 1.1", "hello 1.2")}
    assert len(set(first.values())) > 1
    assert plan_waves(*_planned(list(reversed(cis)), rollout, "hello 1.1")).waves[0] == first["hello 1.1"]


def _planned(cis: Sequence[Mapping[str, Any]], rollout: Rollout, release: str) -> tuple[Any, ...]:
    hosts, found = plan_input(cis, rollout, Neighbours(), release)
    return hosts, rollout, (), found
