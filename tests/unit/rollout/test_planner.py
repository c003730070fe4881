# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: order, canary, percentages, groups."""

from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.planner import PlanHost, plan_waves
from effort import growth
from hypothesis import given
from hypothesis import strategies as st

SHARES = st.builds(Share, st.integers(0, 150), st.booleans())
STEPS = st.lists(st.integers(1, 100), max_size=5).map(lambda steps: tuple(sorted(steps)))
ROLLOUTS = st.builds(Rollout, canary=SHARES, steps=STEPS)
HOSTS = st.dictionaries(st.text(min_size=1, max_size=4), st.none() | st.sampled_from(["east", "west", ""]), min_size=1, max_size=60).map(
    lambda groups: [PlanHost(name, group) for name, group in groups.items()]
)


def fleet(number: int, group: str | None = None, prefix: str = "h") -> list[PlanHost]:
    return [PlanHost(f"{prefix}{index:03}", group) for index in range(number)]


def sizes(waves: tuple[tuple[str, ...], ...]) -> list[int]:
    return [len(wave) for wave in waves]


@pytest.mark.parametrize(
    ("hosts", "rollout", "expected"),
    [
        (8, Rollout(), [1, 7]),
        (8, Rollout(canary=Share(2), steps=(50, 100)), [2, 2, 4]),
        (100, Rollout(canary=Share(1, percent=True), steps=(10, 50, 100)), [1, 9, 40, 50]),
        (5, Rollout(canary=Share(10, percent=True), steps=(25, 100)), [1, 1, 3]),
        (3, Rollout(canary=Share(10)), [3]),
        (1, Rollout(), [1]),
        (4, Rollout(canary=Share(0)), [1, 3]),
        (10, Rollout(canary=Share(5), steps=(10, 20, 100)), [5, 5]),
        (10, Rollout(canary=Share(1), steps=(50,)), [1, 4, 5]),
    ],
)
def test_canary_first_then_cumulative_percentages_to_the_last_host(hosts: int, rollout: Rollout, expected: list[int]) -> None:
    assert sizes(plan_waves(fleet(hosts), rollout).waves) == expected


def test_groups_follow_one_another_and_no_wave_mixes_them() -> None:
    hosts = fleet(2, None, "n") + fleet(4, "west", "w") + fleet(4, "east", "e")
    waves = plan_waves(hosts, Rollout(canary=Share(1), steps=(100,))).waves
    assert waves == (("e000",), ("e001", "e002", "e003"), ("w000", "w001", "w002", "w003"), ("n000", "n001"))


def test_canary_larger_than_the_first_group_ends_with_that_group() -> None:
    hosts = fleet(2, "east", "e") + fleet(8, "west", "w")
    assert sizes(plan_waves(hosts, Rollout(canary=Share(5))).waves) == [2, 8]


@given(HOSTS, ROLLOUTS)
def test_every_host_is_in_exactly_one_wave_and_no_wave_is_empty(hosts: list[PlanHost], rollout: Rollout) -> None:
    waves = plan_waves(hosts, rollout).waves
    assert all(waves)
    assert sorted(name for wave in waves for name in wave) == sorted(host.name for host in hosts)
    assert len(waves[0]) <= max(1, rollout.canary.at_least(len(hosts)))


@given(HOSTS, ROLLOUTS, st.randoms(use_true_random=False))
def test_order_of_the_input_does_not_matter(hosts: list[PlanHost], rollout: Rollout, random: object) -> None:
    shuffled = list(hosts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_waves(shuffled, rollout) == plan_waves(hosts, rollout)


@given(HOSTS, ROLLOUTS)
def test_each_percentage_is_the_end_of_a_wave(hosts: list[PlanHost], rollout: Rollout) -> None:
    done, ends = 0, set()
    waves = plan_waves(hosts, rollout).waves
    for wave in waves:
        done += len(wave)
        ends.add(done)
    wanted = {Share(step, percent=True).at_least(len(hosts)) for step in rollout.steps}
    assert {end for end in wanted if end > len(waves[0])} <= ends


@given(HOSTS, ROLLOUTS)
def test_a_wave_holds_hosts_of_one_group_only_and_a_group_is_finished_before_the_next(hosts: list[PlanHost], rollout: Rollout) -> None:
    group = {host.name: host.group for host in hosts}
    seen: list[str | None] = []
    for wave in plan_waves(hosts, rollout).waves:
        (only,) = {group[name] for name in wave}
        if not seen or seen[-1] != only:
            assert only not in seen
            seen.append(only)


def test_no_host_is_an_error_that_names_the_scope() -> None:
    with pytest.raises(TidegateError, match="scope of the RFC"):
        plan_waves([], Rollout())


def test_a_name_that_comes_twice_is_named() -> None:
    with pytest.raises(TidegateError, match="web1, web2;"):
        plan_waves([PlanHost("web2"), PlanHost("web1"), PlanHost("web1", "x"), PlanHost("web2"), PlanHost("ok")], Rollout())


def test_a_plan_for_a_hundred_thousand_hosts_costs_no_more_for_each_than_one_for_a_few() -> None:
    hosts = [PlanHost(f"host{index}", f"site{index % 40}") for index in range(100_000)]
    rollout = Rollout(canary=Share(1, percent=True), steps=(10, 50, 100))
    assert growth(lambda count: plan_waves(hosts[:count], rollout), 10_000, 10) < 4  # quadratic work has 10
