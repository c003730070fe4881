# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who decides at a gate, and who waits for whom, when several controllers drive one deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slices import (
    STAGING,
    Meeting,
    Slice,
    SliceMove,
    View,
    asked_to_stop,
    at_place,
    before_back_out,
    before_end,
    before_wave,
    slice_fault,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, WaveState

_D, _W = DeploymentState, WaveState


def some(token: int, *waves: int, alive: bool = True, at: Meeting | None = None, **more: Any) -> Slice:
    hosts = {number: frozenset({f"w{number}t{token}"}) for number in waves}
    return Slice(token, f"run {token}", alive, at.rank if at else None, waves=hosts, **more)


def view(
    *slices: Slice,
    state: DeploymentState = _D.ACTIVATING,
    waves: Sequence[WaveState] = (),
    unclaimed: Mapping[int, frozenset[str]] | None = None,
) -> View:
    open_ = unclaimed or {}
    every = [hosts for one in (*(some.waves for some in slices), open_) for hosts in one.values()]
    numbered = dict(enumerate(waves or (_W.OPEN, _W.CLOSED, _W.CLOSED), 1))
    return View(1, state, numbered, {one.token: one for one in slices}, open_, frozenset().union(*every))


ONE, TWO = Meeting(1), Meeting(2)


def test_places_come_in_the_order_in_which_they_are_visited() -> None:
    places = [Meeting(STAGING), Meeting(1, instant=True), Meeting(1), Meeting(2, instant=True), Meeting(2)]
    assert [place.rank for place in places] == sorted({place.rank for place in places})


def test_nobody_decides_before_all_have_come() -> None:
    found = at_place(view(some(1, 1, at=ONE), some(2, 1)), ONE)
    assert found.move is SliceMove.WAIT
    assert found.why == "run 2, which has w1t2, at the gate of wave 1"


def test_the_one_that_came_first_decides() -> None:
    all_there = view(some(1, 1, at=ONE), some(2, 1, at=ONE))
    assert at_place(all_there, ONE).move is SliceMove.DECIDE
    assert at_place(replace(all_there, mine=2), ONE).move is SliceMove.WAIT


def test_when_that_one_is_gone_the_next_decides() -> None:
    gone = view(some(1, 1, at=ONE, alive=False), some(2, 1, at=ONE))
    assert at_place(replace(gone, mine=2), ONE).move is SliceMove.DECIDE


def test_who_has_no_host_in_the_wave_is_not_waited_for() -> None:
    assert at_place(view(some(1, 1, at=ONE), some(2, 2), some(3)), ONE).move is SliceMove.DECIDE
    assert at_place(view(some(1, 1, at=ONE), some(2, 2, alive=False)), ONE).move is SliceMove.DECIDE


def test_who_is_gone_before_it_came_holds_the_deployment() -> None:
    found = at_place(view(some(1, 1, at=ONE), some(2, 1, alive=False)), ONE)
    assert found.move is SliceMove.HOLD
    assert found.why == "run 2, which has w1t2, has ended before it came to the gate of wave 1; run deploy again for each slice"


def test_nobody_holds_while_others_are_at_their_hosts() -> None:
    gone_and_under_way = view(some(1, 1, at=ONE), some(2, 1, alive=False), some(3, 1))
    found = at_place(gone_and_under_way, ONE)
    assert (found.move, found.under_way, found.why) == (SliceMove.WAIT, True, "run 3, which has w1t3, at the gate of wave 1")
    waiting = view(some(1, 2), some(2, 1, alive=False), some(3, 1))
    assert before_wave(waiting, STAGING).move is SliceMove.WAIT


def test_who_is_done_is_not_waited_for_and_decides_nothing() -> None:
    assert at_place(view(some(1, 1, at=ONE), some(2, 1, done=True)), ONE).move is SliceMove.DECIDE
    assert at_place(replace(view(some(1, 1, at=ONE, done=True), some(2, 1, at=ONE)), mine=2), ONE).move is SliceMove.DECIDE


def test_a_controller_whose_hosts_could_all_not_be_staged_is_waited_for_as_it_tries_again() -> None:
    staging = view(some(1, 1, at=Meeting(STAGING)), some(2), state=_D.STAGING, waves=(_W.CLOSED,))
    assert at_place(staging, Meeting(STAGING)).move is SliceMove.WAIT
    gone = view(some(1, 1, at=Meeting(STAGING)), some(2, alive=False), state=_D.STAGING, waves=(_W.CLOSED,))
    assert at_place(gone, Meeting(STAGING)).move is SliceMove.DECIDE


def test_a_wave_that_is_measured_is_decided_before_anybody_goes_on() -> None:
    baking = view(some(1, 1), some(2, 1, at=ONE), state=_D.BAKING)
    assert before_wave(baking, STAGING).move is SliceMove.WAIT
    alone = view(some(1, 1), some(2, 1, at=ONE, alive=False), state=_D.BAKING)
    assert before_wave(alone, STAGING).move is SliceMove.HOLD


def test_why_one_was_interrupted_is_everybodys_reason() -> None:
    assert asked_to_stop(view(some(1, 1), some(2, 1))) == ""
    assert asked_to_stop(view(some(1, 1), some(2, 1, stop="interrupted by SIGINT"))) == "interrupted by SIGINT"


def test_the_first_wave_waits_for_whoever_has_the_other_hosts() -> None:
    missing = {2: frozenset({"web9"})}
    staging = view(some(1, 1, at=Meeting(STAGING)), state=_D.STAGING, waves=(_W.CLOSED, _W.CLOSED), unclaimed=missing)
    found = at_place(staging, Meeting(STAGING))
    assert (found.move, found.unclaimed) == (SliceMove.WAIT, ("web9",))
    later = view(some(1, 1, at=ONE), unclaimed=missing)
    assert at_place(later, ONE).move is SliceMove.DECIDE  # that is a matter of wave 2


@pytest.mark.parametrize("state", [_D.HELD, _D.BACKING_OUT, _D.COMPLETED, _D.SUPPORTING, _D.CANCELLED])
def test_nobody_waits_when_nothing_goes_forward(state: DeploymentState) -> None:
    absent = view(some(1, 1, at=ONE), some(2, 1), state=state)
    assert at_place(absent, ONE).move is SliceMove.GO
    assert before_wave(absent, 1).move is SliceMove.GO


def test_what_is_decided_is_not_decided_again() -> None:
    decided = view(some(1, 1, at=ONE), some(2, 1), waves=(_W.DECIDED, _W.OPEN))
    assert at_place(decided, ONE).move is SliceMove.GO
    assert at_place(view(some(1, 1, at=Meeting(1, instant=True))), Meeting(1, instant=True), said=True).move is SliceMove.GO


def test_the_next_wave_of_ones_own_is_waited_for() -> None:
    here = view(some(1, 1, 3, at=ONE), some(2, 2), waves=(_W.DECIDED, _W.OPEN, _W.CLOSED))
    assert before_wave(here, 1).move is SliceMove.WAIT
    assert before_wave(replace(here, mine=2), 1).move is SliceMove.GO
    assert before_wave(replace(here, waves={1: _W.DECIDED, 2: _W.DECIDED, 3: _W.OPEN}), 1).move is SliceMove.GO


def test_a_wave_that_others_left_behind_is_held_by_who_waits_for_the_next() -> None:
    here = view(some(1, 1, 3, at=ONE), some(2, 2, alive=False), waves=(_W.DECIDED, _W.OPEN, _W.CLOSED))
    assert before_wave(here, 1).move is SliceMove.HOLD
    came = view(some(1, 1, 3, at=ONE), some(2, 2, alive=False, at=TWO), waves=(_W.DECIDED, _W.OPEN, _W.CLOSED))
    assert before_wave(came, 1).why.endswith("has ended before the gate of wave 2 was decided; run deploy again for each slice")


def test_later_waves_are_taken_back_first() -> None:
    back = view(some(1, 1, 2), some(2, 1, 2), state=_D.BACKING_OUT)
    assert before_back_out(back, 2).move is SliceMove.GO
    assert before_back_out(back, 1).move is SliceMove.WAIT
    assert before_back_out(view(some(1, 1), some(2, 1, 2, back=2), state=_D.BACKING_OUT), 1).move is SliceMove.WAIT
    for other in (some(2, 1, 2, back=1), some(2, 1, 2, done=True), some(2, 1, 2, alive=False), some(2, 1)):
        assert before_back_out(view(some(1, 1, 2), other, state=_D.BACKING_OUT), 1).move is SliceMove.GO


def test_the_end_of_a_back_out_is_about_all_hosts() -> None:
    assert before_end(view(some(1, 1), some(2, 1), state=_D.BACKING_OUT)).move is SliceMove.WAIT
    assert before_end(view(some(1, 1), some(2, 1, done=True), state=_D.BACKING_OUT)).move is SliceMove.GO
    assert before_end(view(some(1, 1), some(2, 1), state=_D.HELD)).move is SliceMove.GO
    assert before_end(view(some(1, 1), some(2, 1), state=_D.COMPLETED)).move is SliceMove.WAIT
    missing = view(some(1, 1), state=_D.BACKING_OUT, unclaimed={2: frozenset({"web9"})})
    assert before_end(missing).unclaimed == before_back_out(missing, 1).unclaimed == ("web9",)
    assert before_end(replace(missing, touched=frozenset())).move is SliceMove.GO
    staging = view(some(1, 1), state=_D.STAGING, unclaimed={1: frozenset({"web9"})})
    assert before_end(staging).move is SliceMove.GO
    assert before_end(staging, staging=True).unclaimed == ("web9",)


def test_what_one_controller_does_for_a_whole_wave_is_not_shared() -> None:
    assert slice_fault(Rollout()) == ""
    assert "brings firmware" in slice_fault(Rollout(firmware=True))
