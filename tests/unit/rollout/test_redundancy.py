# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two that are redundant are never down at the same time, whoever is killed, and none that is broken keeps the others from going back."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.redundancy import (
    TROUBLED,
    UNDER_WAY,
    TurnDecision,
    Visit,
    are_redundant,
    decide_turn,
    is_well,
    named_in,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HOST, TOUCHED, HostState
from hypothesis import given, settings
from hypothesis import strategies as st

_H = HostState


@pytest.mark.parametrize(
    ("one", "other", "redundant"),
    [
        ({"redundant_with": ["b"]}, {}, True),
        ({}, {"redundant_with": ["a", "c"]}, True),
        ({"redundant_with": "b"}, {}, True),
        ({"redundant_with": ["c"]}, {"redundant_with": ["c"]}, False),
        ({"chassis": "c1", "role": "fabric"}, {"chassis": "c1", "role": "fabric"}, True),
        ({"chassis": 1, "role": "fabric"}, {"chassis": "1", "role": "fabric"}, True),
        ({"chassis": "c1", "role": "fabric"}, {"chassis": "c2", "role": "fabric"}, False),
        ({"chassis": "c1", "role": "fabric"}, {"chassis": "c1", "role": "blade"}, False),
        ({"chassis": "c1"}, {"chassis": "c1"}, False),
        ({"role": "web"}, {"role": "web"}, False),
        ({"chassis": "", "role": ""}, {"chassis": "", "role": ""}, False),
    ],
)
def test_a_ci_says_with_which_it_is_redundant_and_that_is_meant_in_both_directions(
    one: dict[str, Any], other: dict[str, Any], redundant: bool
) -> None:
    assert are_redundant("a", one, "b", other) is redundant
    assert are_redundant("b", other, "a", one) is redundant
    assert not are_redundant("a", one, "a", one)


@pytest.mark.parametrize("said", [5, {"b": 1}, ["b", 5], [""], [["b"]]])
def test_what_is_no_list_of_names_is_none(said: Any) -> None:
    assert named_in({"redundant_with": said}) is None
    assert named_in({}) == []


STAGE, OVER, ACTIVATE = (("firmware_step", {"step": step, "component": "BIOS"}) for step in ("stage", "over", "activate"))
LOOKED = ("firmware_step", {"step": "read", "component": "BIOS"})


def state(name: HostState) -> tuple[str, dict[str, Any]]:
    return str(name), {"detail": ""}


@pytest.mark.parametrize(
    ("events", "well"),
    [
        ([], True),
        ([state(_H.ACTIVATING), STAGE, OVER, state(_H.STARTED)], True),
        ([state(_H.ACTIVATING), STAGE, OVER, state(_H.STUCK)], False),
        ([state(_H.ACTIVATING), STAGE, state(_H.LOST)], False),
        ([state(_H.ACTIVATING), STAGE, OVER, state(_H.FAILED)], True),
        ([state(_H.ACTIVATING), LOOKED, state(_H.LOST)], True),  # it was given nothing
        ([state(_H.ACTIVATING), STAGE, OVER, state(_H.STARTED), state(_H.LOST)], False),
        # There is no way down, so nothing was done: it runs as before.
        ([state(_H.ACTIVATING), STAGE, OVER, state(_H.ACTIVE), state(_H.BACKING_OUT), LOOKED, state(_H.OWED)], True),
        ([state(_H.ACTIVATING), STAGE, OVER, state(_H.STUCK), state(_H.BACKING_OUT), LOOKED, state(_H.OWED)], False),
        ([state(_H.ACTIVATING), STAGE, OVER, state(_H.ACTIVE), state(_H.BACKING_OUT), STAGE, state(_H.OWED)], False),
        # Killed within; the run that goes on finds nothing that it could ask.
        ([state(_H.ACTIVE), state(_H.BACKING_OUT), STAGE, state(_H.BACKING_OUT), LOOKED, state(_H.OWED)], False),
        ([state(_H.ACTIVE), state(_H.BACKING_OUT), STAGE, state(_H.BACKING_OUT), ACTIVATE, OVER, state(_H.OWED)], False),
        ([state(_H.STUCK), state(_H.BACKING_OUT), STAGE, OVER, state(_H.BACKED_OUT)], True),
    ],
)
def test_whether_a_device_works_is_what_it_was_given_and_what_was_read_then(events: list[tuple[str, dict[str, Any]]], well: bool) -> None:
    assert is_well(events) is well


def visit(state: HostState, host: str = "b", **more: Any) -> Visit:
    return Visit(host, 1, "CHG1#1", state, **more)


def test_the_second_waits_for_the_first_and_is_not_touched_when_that_did_not_come_back() -> None:
    own = visit(_H.STAGED, "a")
    assert decide_turn(own, []).decision is TurnDecision.GRANTED
    waits = decide_turn(own, [visit(_H.ACTIVATING, driven=True)])
    assert (waits.decision, waits.why) == (TurnDecision.WAIT, "b, which is redundant with it, is activating by CHG1#1")
    assert decide_turn(own, [visit(_H.STARTED)]).decision is TurnDecision.GRANTED
    refused = decide_turn(own, [visit(_H.STUCK, well=False)])
    assert refused.decision is TurnDecision.REFUSED
    assert refused.why == (
        "b, which is redundant with it, is stuck in CHG1#1, and may not work; mend that first, for this may be the last one that works"
    )
    assert decide_turn(own, [visit(_H.LOST)]).decision is TurnDecision.GRANTED  # it was given nothing
    assert "is activating in CHG1#1, which nobody drives" in decide_turn(own, [visit(_H.ACTIVATING)]).why
    # The last one that works is not taken down to bring it back either.
    assert decide_turn(visit(_H.ACTIVE, "a"), [visit(_H.OWED, well=False)], back=True).decision is TurnDecision.REFUSED
    # What has its firmware already is only looked at again by a run that goes on.
    assert decide_turn(visit(_H.ACTIVE, "a"), [visit(_H.STUCK, well=False)]).decision is TurnDecision.GRANTED


def test_who_had_the_turn_when_its_run_was_killed_has_it_still_and_what_is_broken_goes_back_whatever_the_others_are() -> None:
    assert decide_turn(visit(_H.ACTIVATING, "a"), [visit(_H.STUCK, well=False)]).decision is TurnDecision.GRANTED
    assert decide_turn(visit(_H.STUCK, "a", well=False), [visit(_H.OWED, well=False)]).decision is TurnDecision.GRANTED
    assert decide_turn(visit(_H.STUCK, "a", well=False), [visit(_H.BACKING_OUT, well=False, driven=True)]).decision is TurnDecision.WAIT


NAMES = ("a", "b", "c", "d")
ASK, END, KILL, RESUME = "ask", "end", "kill", "resume"
moves = st.tuples(
    st.sampled_from((ASK, END, KILL, RESUME)),
    st.sampled_from(NAMES),
    st.sampled_from([_H.STARTED, _H.FAILED, _H.STUCK, _H.LOST, _H.BACKED_OUT, _H.OWED]),
)


@settings(max_examples=300, deadline=None)
@given(
    pairs=st.sets(st.sampled_from([(x, y) for x in NAMES for y in NAMES if x < y])),
    of=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    moves=st.lists(moves, max_size=60),
)
def test_in_whatever_order_hosts_of_two_deployments_are_visited_no_two_redundant_ones_have_the_turn(
    pairs: set[tuple[str, str]], of: list[int], moves: list[tuple[str, str, HostState]]
) -> None:
    """A model of two controllers whose workers ask, end, and are killed and gone on with, at any time."""
    states, well, driven = dict.fromkeys(NAMES, _H.STAGED), dict.fromkeys(NAMES, True), [True, True]
    deployment = dict(zip(NAMES, of, strict=True))

    def seen(name: str) -> Visit:
        number = deployment[name]
        return Visit(name, number, f"CHG{number}", states[name], well[name], driven[number])

    for move, name, end in moves:
        number = deployment[name]
        if move in (KILL, RESUME):
            driven[number] = move == RESUME
        elif not driven[number]:
            continue
        elif move == ASK:
            target = _H.BACKING_OUT if states[name] in TOUCHED - {_H.ACTIVATING} or states[name] is _H.BACKING_OUT else _H.ACTIVATING
            partners = [other for other in NAMES if (min(name, other), max(name, other)) in pairs]
            turn = decide_turn(seen(name), map(seen, partners), back=target is _H.BACKING_OUT)
            if target in HOST[states[name]] and turn.decision is TurnDecision.GRANTED:
                states[name] = target
        elif states[name] in UNDER_WAY and end in HOST[states[name]]:
            states[name], well[name] = end, end not in TROUBLED
        for one, other in pairs:
            assert not {states[one], states[other]} <= UNDER_WAY
    # Nobody waits for good: as soon as everybody drives and those that have the turn end, whoever asks gets an answer.
    for name in NAMES:
        if states[name] in UNDER_WAY:
            states[name] = _H.STARTED if states[name] is _H.ACTIVATING else _H.BACKED_OUT
    assert all(decide_turn(seen(name), map(seen, NAMES)).decision is not TurnDecision.WAIT for name in NAMES)
