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
    DATA,
    DATA_EVENTS,
    DATA_FAILED,
    DEPLOYMENT,
    HOST,
    IN_DOUBT,
    OPEN,
    READY,
    TOUCHED,
    WAVE,
    DataState,
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
    HostState: {HostState.ACTIVE, HostState.BACKED_OUT, HostState.SUPERSEDED, HostState.ACCEPTED},
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


def test_what_is_done_to_data_is_known_in_the_end_and_begun_from_one_state_alone() -> None:
    assert set(DATA) == set(DataState)
    assert reachable(DATA, DataState.NOT_MIGRATED) == set(DataState) - {DataState.NONE}
    for state in set(DataState) - {DataState.NONE}:
        assert reachable(DATA, state) & {DataState.MIGRATED, DataState.REVERSED, DataState.KEPT}
    # Neither step begins anew out of a doubt: a person comes between.
    assert {old for old, new in DATA.items() if DataState.MIGRATING in new} == {DataState.NOT_MIGRATED}
    assert {old for old, new in DATA.items() if DataState.REVERSING in new} == {DataState.MIGRATED}
    assert IN_DOUBT.isdisjoint(READY)
    assert DATA_FAILED.keys() == IN_DOUBT
    assert not DATA_EVENTS & {*HostState, *DeploymentState}


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


def test_a_host_can_be_written_off_until_the_deployment_is_done_with_it_and_comes_back_as_one_to_be_looked_at() -> None:
    done = {HostState.BACKED_OUT, HostState.SUPERSEDED, HostState.ACCEPTED, HostState.WRITTEN_OFF}
    assert {state for state in HostState if HostState.WRITTEN_OFF in HOST[state]} == set(HostState) - done
    assert HOST[HostState.WRITTEN_OFF] == {HostState.STAGE_FAILED, HostState.FAILED, HostState.LOST, HostState.OWED}


CLOSED, OPENED, DECIDED = WaveState


@pytest.mark.parametrize("host", HostState)
def test_a_deployment_locks_what_it_may_still_change_without_being_told_to(host: HostState) -> None:
    """While it runs it may go back by itself; once it is held, somebody has to order that; going back, only what it touched is left."""
    gone = {HostState.WRITTEN_OFF, HostState.SUPERSEDED, HostState.ACCEPTED}
    for deployment in ENDS[DeploymentState]:
        assert not any(states.locks(deployment, wave, host, True) for wave in WaveState)
    for wave in WaveState:
        assert states.locks(DeploymentState.BACKING_OUT, wave, host, True) == (host in TOUCHED)
    for deployment in (DeploymentState.STAGING, DeploymentState.ACTIVATING):
        assert states.locks(deployment, CLOSED, host, False) == (host not in gone)
        for wave in (CLOSED, OPENED):
            assert states.locks(deployment, wave, host, True) == (host not in gone | {HostState.STAGE_FAILED})
    assert states.locks(DeploymentState.ACTIVATING, DECIDED, host, True) == (host in TOUCHED)
    assert states.locks(DeploymentState.HELD, DECIDED, host, True) == (host in states.UNKNOWN)
    for begun in (True, False):
        assert states.locks(DeploymentState.HELD, OPENED, host, begun) == (host in TOUCHED)


@pytest.mark.parametrize("host", HostState)
def test_a_deployment_that_supports_locks_nothing_and_a_late_round_nothing_that_is_finished(host: HostState) -> None:
    gone = {HostState.WRITTEN_OFF, HostState.SUPERSEDED, HostState.ACCEPTED}
    for wave in WaveState:
        assert not any(states.locks(DeploymentState.SUPPORTING, wave, host, True, data) for data in (True, False))
    for deployment in (DeploymentState.STAGING, DeploymentState.ACTIVATING):
        assert states.locks(deployment, DECIDED, host, True, live=True) == (host in states.UNKNOWN)
        assert states.locks(deployment, CLOSED, host, False, live=True) == (host not in gone)
    assert states.locks(DeploymentState.BACKING_OUT, DECIDED, host, True, live=True) == (host in TOUCHED)


def test_late_is_who_runs_whole_what_it_ran_before_and_can_be_planned_anew() -> None:
    assert {state for state in HostState if HostState.PLANNED in HOST[state]} == states.LATE
    assert states.LATE.isdisjoint(states.UNKNOWN | states.BY_HAND)


@pytest.mark.parametrize("host", HostState)
def test_only_a_host_that_a_deployment_waits_for_can_be_written_off_in_it(host: HostState) -> None:
    """Where it waits for none, it says of the host what became of it; and what it may change is always one of those it can do without."""
    for deployment in OPEN:
        for wave in WaveState:
            may = states.may_write_off(deployment, wave, host)
            assert may <= (HostState.WRITTEN_OFF in HOST[host])
            if deployment is DeploymentState.HELD and states.locks(deployment, wave, host, True) and host is not HostState.BACKED_OUT:
                assert may
    assert not states.may_write_off(DeploymentState.HELD, DECIDED, HostState.ACTIVE)


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
        if old is HostState.WRITTEN_OFF and (new is HostState.STAGE_FAILED) is self.flipped:
            return  # the journal knows which of these it is
        self.state = new
        if new is HostState.ACTIVATING:
            self.flipped = True
        elif new is HostState.BACKED_OUT or (old is HostState.FAILED and new is HostState.PLANNED):
            self.flipped = False  # of one that failed it is known that it went back by itself

    @precondition(lambda self: self.flipped)
    @invariant()
    def a_host_that_may_run_the_release_is_touched_unless_it_is_gone_or_anothers(self) -> None:
        assert self.state in TOUCHED | {HostState.WRITTEN_OFF, HostState.SUPERSEDED, HostState.ACCEPTED}

    @precondition(lambda self: not self.flipped)
    @invariant()
    def a_host_that_was_never_flipped_is_left_alone(self) -> None:
        assert self.state not in TOUCHED or self.state is HostState.BACKING_OUT or self.state is HostState.OWED


TestHost = Host.TestCase
