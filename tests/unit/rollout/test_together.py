# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a wave is told an instant, and for which releases and hosts that can be."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import rollout_from_dict, rollout_to_dict
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share, Together
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.together import (
    Armed,
    clock_fault,
    decide_instant,
    for_change,
    instant_fault,
    quorum_fault,
    together_fault,
)
from hypothesis import given
from hypothesis import strategies as st

COUNT = st.integers(0, 60)
QUICK = Armed(0.0, 0.05, 0.1)
CONFIG: dict[str, Any] = {"name": "hello", "version": "1.0"}


@given(st.builds(Share, st.integers(0, 100), st.booleans()), COUNT, COUNT, COUNT, st.integers(0, 50))
def test_nobody_is_told_below_the_quorum_and_everybody_in_time(quorum: Share, armed: int, up: int, others: int, at_once: int) -> None:
    size = armed + up + others
    word = decide_instant(Together(quorum=quorum), size, armed * [QUICK], up, at_once)
    if word.seconds is None:
        assert word.why or (armed == 0 and up == size)
    else:
        assert armed
        assert armed + up >= min(quorum.at_least(size), size)
        assert word.seconds >= max(10, armed / max(at_once, 1))


def test_the_quorum_is_all_unless_the_policy_says_less() -> None:
    word = decide_instant(Together(), 3, 2 * [QUICK], 0, 5)
    assert word.seconds is None
    assert word.why == "2 of 3 hosts could be armed, and the quorum is 100%, so nobody was told an instant"
    assert decide_instant(Together(quorum=Share(60, percent=True)), 3, 2 * [QUICK], 0, 5).seconds == 10
    assert decide_instant(Together(), 3, 2 * [QUICK], 1, 5).seconds == 10  # one has the release already
    assert decide_instant(Together(), 3, [], 2, 5).why == "no host of 3 could be armed"


def test_what_takes_long_to_compare_or_to_tell_has_a_later_instant() -> None:
    assert decide_instant(Together(), 3, [QUICK, QUICK, Armed(0.0, 0.05, 40.0)], 0, 5).seconds == 64
    assert decide_instant(Together(), 50, [*49 * [QUICK], Armed(0.0, 0.5, 0.0)], 0, 5).seconds == pytest.approx(33.15)


@pytest.mark.parametrize(
    ("offset", "bound", "well"),
    [(0.1, 0.1, True), (-0.1, 0.1, True), (0.2, 0.06, False), (-0.3, 0, False), (3600, 0, False), (0, float("inf"), False)],
)
def test_a_clock_that_may_be_further_off_is_refused(offset: float, bound: float, well: bool) -> None:
    fault = clock_fault(Together(), offset, bound)
    assert (fault == "") is well
    assert well or "250 ms are allowed; synchronise it" in fault


def test_it_holds_for_the_releases_and_the_types_of_change_that_are_named() -> None:
    rollout = Rollout(together=Together(releases=("web-*", "hello")))
    assert for_change(rollout, "hello", "normal") is rollout
    assert for_change(rollout, "web-shop", "normal").together
    assert for_change(rollout, "db", "normal").together is None
    assert for_change(Rollout(), "db", "normal").together is None
    by_type = replace(rollout, together=Together(releases=("web-*",), types=("normal", "standard")))
    assert for_change(by_type, "web-shop", "normal") is by_type
    assert for_change(by_type, "web-shop", "emergency").together is None
    assert for_change(by_type, "db", "normal").together is None


@pytest.mark.parametrize(
    ("quorum", "wave", "total", "fault"),
    [
        (Share(100, True), 0, 0, ""),
        (Share(95, True), 0, 9, "without 1 of its 20 hosts, and rollout.budget lets 0 of them fail"),
        (Share(95, True), 1, 0, "wave 2 switch without 1 of its 20 hosts"),
        (Share(95, True), 1, 1, ""),
        (Share(18), 1, 5, "without 2 of its 20 hosts, and rollout.budget lets 1"),
        (Share(40), 0, 0, ""),
    ],
)
def test_a_wave_switches_without_no_more_hosts_than_its_gate_lets_pass(quorum: Share, wave: int, total: int, fault: str) -> None:
    rollout = Rollout(wave_budget=Share(wave), total_budget=Share(total), together=Together(quorum=quorum))
    found = quorum_fault(rollout, [1, 20])
    assert fault in found
    assert bool(fault) == bool(found)
    assert quorum_fault(replace(rollout, together=None), [1, 20]) == ""


def test_an_instant_is_named_for_what_is_switched_at_one() -> None:
    at = datetime(2027, 3, 1, 22, tzinfo=UTC)
    assert instant_fault(CONFIG, Rollout(together=Together()), at) == ""
    assert instant_fault(CONFIG, Rollout(), None) == ""
    for together in (None, Together(releases=("web",)), Together(types=("emergency",))):
        rollout = for_change(Rollout(together=together), "hello", "normal")
        assert "is switched host by host; add it to rollout.together.releases" in instant_fault(CONFIG, rollout, at)


@pytest.mark.parametrize("kind", ["ansible", "firmware", "hardware"])
def test_what_takes_as_long_as_it_takes_is_switched_at_no_instant(kind: str) -> None:
    rollout = Rollout(together=Together())
    assert "its hosts can't be switched at one instant; leave it out of rollout.together.releases" in together_fault(
        {**CONFIG, kind: {}}, rollout
    )
    assert together_fault(CONFIG, rollout) == together_fault({**CONFIG, kind: {}}, Rollout()) == ""
    assert together_fault({**CONFIG, kind: {}}, for_change(Rollout(together=Together(releases=("web",))), "hello", "normal")) == ""


def test_the_journal_reads_what_it_was_given() -> None:
    rollout = Rollout(together=Together(("web",), ("normal",), Share(2), 100, 20))
    written = rollout_to_dict(rollout)
    assert rollout_from_dict(json.loads(json.dumps(written))) == rollout
    del written["together"]["types"]  # as those that were begun before there were any
    assert rollout_from_dict(written) == replace(rollout, together=Together(("web",), (), Share(2), 100, 20))
    assert rollout_from_dict(rollout_to_dict(Rollout())) == Rollout()
