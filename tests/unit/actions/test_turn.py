# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker waits for another's turn as long as that has minutes, says what it waits for, and not after somebody has interrupted the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import activity
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import turn as waiter
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.turn import await_turn
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.redundancy import Turn, TurnDecision, Visit
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState


class Clock:
    """One that does not wait, and hears what the process is at meanwhile."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, set[str]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits |= set(activity._waits)


class Journal:
    """It is somebody's turn until ``frees`` seconds have gone by; from ``second`` on that of another."""

    def __init__(self, clock: Clock, frees: float, second: float = 1e9) -> None:
        self.clock, self.frees, self.second, self.renewed = clock, frees, second, 0

    def look_at_turn(self, _run: Any, _host: str, _now: Any, *, back: bool = False) -> Turn:
        if self.clock.now >= self.frees:
            return Turn(TurnDecision.GRANTED)
        other = "b" if self.clock.now < self.second else "c"
        return Turn(TurnDecision.WAIT, f"{other} is at it", Visit(other, 1, "CHG1#1", HostState.ACTIVATING))

    def take_turn(self, run: Any, host: str, now: Any, *, back: bool = False, given_up: bool = False) -> tuple[Any, Turn]:
        turn = self.look_at_turn(run, host, now)
        if turn.decision is TurnDecision.WAIT and given_up:
            turn = Turn(TurnDecision.REFUSED, turn.why)
        return (None if turn.decision is TurnDecision.WAIT else "target"), turn

    def renew(self, _run: Any, _now: Any) -> None:
        self.renewed += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiter, "time", clock)
    return clock


def wait(journal: Any, patience: float = 600, interrupted: Any = lambda: "") -> tuple[Any, Turn]:
    deployment: Any = SimpleNamespace(run=None)
    return await_turn(journal, deployment, "a", lambda _visit: patience, interrupted)


def test_it_waits_says_for_what_and_keeps_its_lease(clock: Clock) -> None:
    journal = Journal(clock, 300)
    assert wait(journal) == ("target", Turn(TurnDecision.GRANTED))
    assert clock.waits == {"b is at it"}
    assert journal.renewed in (4, 5)
    assert 300 <= clock.now < 306
    assert activity._waits == []


def test_it_gives_up_when_the_others_minutes_are_over_and_another_has_its_own(clock: Clock) -> None:
    assert wait(Journal(clock, 1e9), 100)[1].decision is TurnDecision.REFUSED
    assert 100 <= clock.now < 106
    clock.now = 0
    assert wait(Journal(clock, 1e9, second=90), 100)[1].why == "c is at it"
    assert 190 <= clock.now < 200


def test_nothing_is_begun_after_an_interruption(clock: Clock) -> None:
    assert wait(Journal(clock, 1e9), interrupted=lambda: "Ctrl-C" if clock.now > 3 else "")[0] is None
    assert clock.now < 10
