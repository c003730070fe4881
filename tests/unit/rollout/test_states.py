# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machines: closed tables whose final states are final and whose other states lead somewhere."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout import states
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import (
    DEPLOYMENT,
    HOST,
    OPEN,
    TOUCHED,
    WAVE,
    DeploymentState,
    HostState,
    WaveState,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

Table = Mapping[StrEnum, frozenset[StrEnum]]
TABLES = [(DEPLOYMENT, DeploymentState), (WAVE, WaveState), (HOST, HostState)]
# Where a machine may rest for good when nobody does anything any more.
ENDS: dict[type[StrEnum], set[StrEnum]] = {
    DeploymentState: {DeploymentState.COMPLETED, DeploymentState.BACKED_OUT, DeploymentState.CANCELLED},
    WaveState: {WaveState.DECIDED},
    HostState: {HostState.ACTIVE, HostState.BACKED_OUT},
}


def reachable(table: Table, start: StrEnum) -> set[StrEnum]:
    seen, todo = {start}, [start]
    while todo:
        for new in table[todo.pop()] - seen:
            seen.add(new)
            todo.append(new)
    return seen


@pytest.mark.parametrize(("table", "kind"), TABLES)
def test_every_state_has_a_row_and_leads_only_to_states_of_its_machine(table: Table, kind: type[StrEnum]) -> None:
    assert set(table) == set(kind)
    assert all(new in kind for row in table.values() for new in row)


@pytest.mark.parametrize(("table", "kind"), TABLES)
def test_every_state_has_a_way_to_an_end_and_can_be_reached_from_the_first(table: Table, kind: type[StrEnum]) -> None:
    for state in kind:
        assert reachable(table, state) & ENDS[kind], state
    assert reachable(table, next(iter(kind))) == set(kind)


@pytest.mark.parametrize("state", [DeploymentState.BACKED_OUT, DeploymentState.CANCELLED])
def test_final_deployments_stay_final_and_say_so(state: DeploymentState) -> None:
    for new in DeploymentState:
        with pytest.raises(StateError, match="nothing, it is final"):
            states.check(DEPLOYMENT, state, new, "deployment 7")


def test_a_refused_transition_names_who_and_what_is_allowed() -> None:
    with pytest.raises(StateError, match=r"web1 is planned and can't become active; from here it may become: stage_failed, staged"):
        states.check(HOST, HostState.PLANNED, HostState.ACTIVE, "web1")


def test_a_deployment_holds_its_hosts_until_it_has_ended() -> None:
    assert set(DeploymentState) - OPEN == ENDS[DeploymentState]


def test_a_completed_deployment_leaves_only_by_back_out() -> None:
    assert DEPLOYMENT[DeploymentState.COMPLETED] == {DeploymentState.BACKING_OUT}


def test_touched_hosts_are_those_a_back_out_can_visit_and_has_not_finished() -> None:
    may_return = {state for state in HostState if HostState.BACKING_OUT in HOST[state]}
    assert may_return == TOUCHED | {HostState.BACKED_OUT}


class Host(RuleBasedStateMachine):
    """A host that makes any transition, legal or not: what :data:`TOUCHED` says must stay true."""

    def __init__(self) -> None:
        super().__init__()
        self.state = HostState.PLANNED
        self.flipped = False  # the release has, or may have, been made live and was not taken back since

    @rule(new=st.sampled_from(HostState))
    def go(self, new: HostState) -> None:
        old = self.state
        try:
            states.check(HOST, old, new, "host")
        except StateError:
            assert new not in HOST[old]
            return
        assert new in HOST[old]
        self.state = new
        if new is HostState.ACTIVATING:
            self.flipped = True
        elif new is HostState.BACKED_OUT:
            self.flipped = False

    @precondition(lambda self: self.flipped)
    @invariant()
    def a_host_that_may_run_the_release_is_touched(self) -> None:
        assert self.state in TOUCHED

    @precondition(lambda self: not self.flipped)
    @invariant()
    def a_host_that_was_never_flipped_is_left_alone(self) -> None:
        assert self.state not in TOUCHED or self.state is HostState.BACKING_OUT or self.state is HostState.OWED


TestHost = Host.TestCase
