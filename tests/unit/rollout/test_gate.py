# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: rules by rank, and what must hold for every input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import BakeVerdict
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import (
    GateDecision,
    GateInputs,
    StageCounts,
    WaveCounts,
    decide,
    decide_late,
    decide_late_staging,
    decide_staging,
    unless_interrupted,
    unless_past_return,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from hypothesis import given
from hypothesis import strategies as st

SMALL = st.integers(-1, 12)
SHARES = st.builds(Share, st.integers(0, 110), st.booleans())
ROLLOUTS = st.builds(Rollout, wave_budget=SHARES, total_budget=SHARES, on_failure=st.sampled_from(["back_out", "hold"]))
COUNTS = st.builds(
    lambda active, failed, lost, undone: WaveCounts(active + failed + lost + undone, active, failed, lost, undone), *4 * [SMALL]
)
ANY_COUNTS = COUNTS | st.builds(WaveCounts, *5 * [SMALL])
INPUTS = st.builds(
    GateInputs,
    wave=st.integers(1, 3),
    of=st.integers(1, 3),
    counts=ANY_COUNTS,
    bad_so_far=SMALL,
    total=st.integers(0, 40),
    rollout=ROLLOUTS,
    stop=st.sampled_from(["", "the RFC is on hold"]),
    stuck=SMALL,
)
GENEROUS = Rollout(wave_budget=Share(100, percent=True), total_budget=Share(100, percent=True))


def gate(active: int = 4, *, failed: int = 0, lost: int = 0, undone: int = 0, **other: Any) -> GateInputs:
    counts = WaveCounts(active + failed + lost + undone, active, failed, lost, undone)
    inputs = GateInputs(wave=2, of=3, counts=counts, bad_so_far=counts.bad, total=20, rollout=Rollout(), stop="")
    return replace(inputs, **other)


def test_a_whole_wave_proceeds_and_says_so() -> None:
    decision = decide(gate())
    assert (decision.decision, decision.reason) == ("proceed", "4 of 4 hosts in wave 2 of 3 active")


@pytest.mark.parametrize("bad", [{"failed": 1}, {"lost": 1}])
@pytest.mark.parametrize("on_failure", ["back_out", "hold"])
def test_a_failure_over_the_wave_budget_gives_the_policys_answer(bad: dict[str, int], on_failure: Any) -> None:
    decision = decide(gate(3, **bad, rollout=Rollout(total_budget=Share(9), on_failure=on_failure)))
    assert decision.decision == on_failure
    assert decision.reason == "1 of 4 hosts in wave 2 of 3 failed or got lost, over the budget of 0"


def test_failures_of_earlier_waves_count_against_the_total_budget() -> None:
    rollout = Rollout(wave_budget=Share(2), total_budget=Share(10, percent=True))
    assert decide(gate(3, failed=1, bad_so_far=2, rollout=rollout)).decision == "proceed"
    decision = decide(gate(3, failed=1, bad_so_far=3, rollout=rollout))
    assert decision.decision == "back_out"
    assert decision.reason == "3 of 20 hosts in the deployment so far failed or got lost, over the budget of 10%, which tolerates 2"


def test_a_cumulative_count_that_forgot_this_wave_does_not_hide_its_failures() -> None:
    rollout = Rollout(wave_budget=Share(5), total_budget=Share(1))
    assert decide(gate(3, failed=2, bad_so_far=0, rollout=rollout)).decision == "back_out"


def test_a_percentage_that_amounts_to_less_than_a_host_tolerates_none() -> None:
    rollout = Rollout(wave_budget=Share(10, percent=True), total_budget=Share(9))
    assert decide(gate(4, failed=1, rollout=rollout)).decision == "back_out"


def test_a_failure_within_budget_proceeds_and_names_stuck_hosts() -> None:
    decision = decide(gate(3, failed=1, rollout=GENEROUS, stuck=1))
    assert decision.decision == "proceed"
    assert "1 failed or lost within the budget of 100%; 1 host stuck" in decision.reason


@pytest.mark.parametrize("on_failure", ["back_out", "hold"])
def test_no_budget_is_meant_for_a_host_that_went_back_by_itself(on_failure: Any) -> None:
    rollout = Rollout(wave_budget=Share(3), total_budget=Share(3), on_failure=on_failure)
    decision = decide(gate(3, failed=1, rollout=rollout, went_back=1))
    assert decision.decision == on_failure
    assert "1 host in wave 2 of 3 could not be reached anew to confirm the release, for which there is no budget" in decision.reason
    assert decide(gate(3, failed=1, rollout=rollout)).decision == "proceed"
    late, ends_round = decide_late(gate(3, failed=1, rollout=rollout, went_back=1, late=True))
    assert (late.decision, ends_round) == ("hold", False)


def test_hosts_not_done_hold() -> None:
    decision = decide(gate(3, undone=1))
    assert (decision.decision, decision.reason) == ("hold", "1 of 4 hosts in wave 2 of 3 not done, so its outcome is not known")


def test_a_wave_nobody_tried_holds_rather_than_backs_out() -> None:
    assert decide(gate(0, undone=4)).decision == "hold"


def test_a_spent_budget_outranks_hosts_not_done_and_a_closed_window() -> None:
    assert decide(gate(2, failed=1, undone=1, stop="the RFC is on hold")).decision == "back_out"


def test_a_wave_without_one_active_host_never_proceeds_whatever_the_budget() -> None:
    decision = decide(gate(0, failed=2, lost=2, rollout=GENEROUS))
    assert (decision.decision, decision.reason) == ("back_out", "none of 4 hosts in wave 2 of 3 runs the release")


def test_what_stops_the_next_wave_holds_unless_there_is_none() -> None:
    decision = decide(gate(stop="the RFC is on hold"))
    assert (decision.decision, decision.reason) == ("hold", "the RFC is on hold; 4 of 4 hosts in wave 2 of 3 active")
    assert decide(gate(stop="the RFC is on hold", wave=3)).decision == "proceed"


@pytest.mark.parametrize("counts", [WaveCounts(5, 4), WaveCounts(3, 4), WaveCounts(0, 0), WaveCounts(4, 5, undone=-1), WaveCounts(30, 30)])
def test_counts_that_do_not_add_up_hold(counts: WaveCounts) -> None:
    decision = decide(gate(counts=counts))
    assert decision.decision == "hold"
    assert "don't add up" in decision.reason


@given(INPUTS)
def test_the_gate_answers_anything_with_a_sentence_that_counts_hosts(inputs: GateInputs) -> None:
    decision = decide(inputs)
    assert decision.decision in ("proceed", "hold", inputs.rollout.on_failure)
    assert decision.reason
    assert "\n" not in decision.reason


@given(INPUTS)
def test_only_a_known_and_good_outcome_proceeds(inputs: GateInputs) -> None:
    if decide(inputs).decision != "proceed":
        return
    counts = inputs.counts
    assert counts.active > 0
    assert counts.undone == 0
    assert counts.active + counts.bad == counts.size
    assert counts.bad <= inputs.rollout.wave_budget.at_most(counts.size)
    assert max(inputs.bad_so_far, counts.bad) <= inputs.rollout.total_budget.at_most(inputs.total)
    if inputs.wave < inputs.of:
        assert inputs.stop == ""


@given(INPUTS, st.integers(0, 5), st.integers(0, 5), st.sampled_from(["failed", "lost"]))
def test_more_failures_never_turn_a_stop_into_proceed(inputs: GateInputs, more: int, elsewhere: int, what: str) -> None:
    counts = inputs.counts
    worse_counts = replace(counts, active=counts.active - more, **{what: getattr(counts, what) + more})
    worse = replace(inputs, counts=worse_counts, bad_so_far=inputs.bad_so_far + more + elsewhere)
    possible = min(counts.failed, counts.lost, counts.undone) >= 0  # or fewer hosts than none could grow to something sound
    if possible and counts.active >= more and decide(inputs).decision != "proceed":
        assert decide(worse).decision != "proceed"


def test_staging_everywhere_proceeds() -> None:
    decision = decide_staging([StageCounts(1, 1), StageCounts(7, 7)], Rollout())
    assert (decision.decision, decision.reason) == ("proceed", "8 of 8 hosts staged")


def test_staging_holds_when_a_host_is_not_done_or_over_a_budget() -> None:
    tolerant = Rollout(wave_budget=Share(1), total_budget=Share(1))
    assert decide_staging([StageCounts(2, 2), StageCounts(7, 6)], Rollout()).reason == "staging is not done on 1 of 9 hosts"
    assert decide_staging([StageCounts(2, 2), StageCounts(7, 6, 1)], Rollout()).decision == "hold"
    assert decide_staging([StageCounts(2, 2), StageCounts(7, 6, 1)], tolerant).decision == "proceed"
    assert decide_staging([StageCounts(2, 1, 1), StageCounts(7, 6, 1)], tolerant).decision == "hold"
    assert decide_staging([StageCounts(2, 2), StageCounts(7, 5, 2)], tolerant).decision == "hold"


def test_staging_that_left_a_wave_empty_or_saw_nothing_holds() -> None:
    assert decide_staging([StageCounts(1, 0, 1), StageCounts(7, 7)], GENEROUS).reason == "none of 1 host of wave 1 has the release staged"
    assert decide_staging([], Rollout()).decision == "hold"
    assert decide_staging([StageCounts(0, 0)], Rollout()).decision == "hold"


@given(st.lists(st.builds(StageCounts, SMALL, SMALL, SMALL), max_size=4), ROLLOUTS)
def test_staging_never_backs_out_and_proceeds_only_within_budget(waves: list[StageCounts], rollout: Rollout) -> None:
    decision = decide_staging(waves, rollout).decision
    assert decision in ("proceed", "hold")
    if decision == "proceed":
        assert all(wave.undone == 0 and wave.staged > 0 and wave.failed <= rollout.wave_budget.at_most(wave.size) for wave in waves)
        assert sum(wave.failed for wave in waves) <= rollout.total_budget.at_most(sum(wave.size for wave in waves))


def test_a_package_that_is_not_trusted_any_more_holds_what_would_start() -> None:
    held = decide(gate(stop="nobody signed it"))
    assert held == GateDecision("hold", "nobody signed it; 4 of 4 hosts in wave 2 of 3 active")
    assert decide(gate(wave=3, stop="nobody signed it")).decision == "proceed"
    assert decide(gate(3, failed=1, stop="nobody signed it")).decision == "back_out"
    assert decide_staging([StageCounts(2, 2)], Rollout(), "nobody signed it") == GateDecision("hold", "nobody signed it")
    assert decide_staging([StageCounts(2, 1, 1)], Rollout(), "nobody signed it").reason.startswith("1 of 2 hosts of wave 1")


@given(INPUTS)
def test_an_interrupted_run_never_proceeds_and_still_backs_out(inputs: GateInputs) -> None:
    decision = decide(inputs)
    held = unless_interrupted(decision, "interrupted by SIGINT (ann@here)")
    assert held.decision == ("back_out" if decision.decision == "back_out" else "hold")
    assert decision.reason in held.reason
    assert unless_interrupted(decision, "") == decision


@pytest.mark.parametrize("decision", ["proceed", "hold", "back_out"])
def test_behind_the_point_of_no_return_a_gate_holds_instead_of_backing_out(decision: Any) -> None:
    decided = GateDecision(decision, "because")
    assert unless_past_return(decided, "") == decided
    past = unless_past_return(decided, "it is past the point of no return")
    assert past.decision == ("hold" if decision == "back_out" else decision)
    assert past.reason.startswith("because")
    assert ("past the point of no return" in past.reason) == (decision == "back_out")


@given(INPUTS)
def test_a_wave_of_late_hosts_takes_nothing_back_unless_the_budget_of_all_is_spent(inputs: GateInputs) -> None:
    decision, ends_round = decide_late(inputs)
    spent = max(inputs.bad_so_far, inputs.counts.bad) > inputs.rollout.total_budget.at_most(inputs.total)
    everybodys = decide(inputs)
    if spent or everybodys.decision == "proceed":
        assert (decision, ends_round) == (everybodys, False)
    else:
        assert decision.decision == "hold"
    if ends_round:  # what is over has an outcome for each of its hosts
        assert inputs.counts.undone == 0
        assert not spent


@pytest.mark.parametrize("on_failure", ["back_out", "hold"])
def test_a_late_wave_that_fails_within_the_budget_of_all_ends_its_round(on_failure: Any) -> None:
    rollout = Rollout(wave_budget=Share(50, percent=True), total_budget=Share(3), on_failure=on_failure)
    decision, ends_round = decide_late(gate(0, failed=1, bad_so_far=3, rollout=rollout))
    over = "1 host in wave 2 of 3 failed or got lost, over the budget of 50%, which tolerates 0"
    assert (decision.decision, ends_round) == ("hold", True)
    assert decision.reason == f"{over}; where the release is live it stays, and what is left stays late"
    assert decide_late(gate(0, failed=1, undone=1, bad_so_far=3, rollout=rollout))[1] is False
    assert decide_late(gate(0, failed=1, bad_so_far=4, rollout=rollout))[0].decision == on_failure


@pytest.mark.parametrize("on_failure", ["back_out", "hold"])
def test_a_late_wave_that_does_badly_waits_for_a_person(on_failure: Any) -> None:
    rollout = Rollout(total_budget=Share(3), on_failure=on_failure)
    decision, ends_round = decide_late(gate(metrics=BakeVerdict("bad", "errors are bad"), rollout=rollout))
    assert (decision.decision, ends_round) == ("hold", False)
    assert "errors are bad" in decision.reason
    decision, ends_round = decide_late(gate(0, failed=1, stuck=1, rollout=rollout))
    assert (decision.decision, ends_round) == ("hold", False)


def test_late_hosts_that_can_not_be_staged_hold_nobody() -> None:
    assert decide_late_staging(StageCounts(3, 2, 1)) == (GateDecision("proceed", "2 of 3 hosts staged late, 1 stay late"), False)
    assert decide_late_staging(StageCounts(2, 0, 2)) == (GateDecision("hold", "none of 2 hosts that came late could be staged"), True)
    assert decide_late_staging(StageCounts(2, 0, 1)) == (GateDecision("hold", "staging is not done on 1 of 2 hosts"), False)
    assert decide_late_staging(StageCounts(2, 2), "it snows") == (GateDecision("hold", "it snows"), False)
    assert decide_late_staging(StageCounts(0, 0))[0].decision == "hold"


@pytest.mark.parametrize(("outcome", "decision"), [("good", "proceed"), ("bad", "back_out"), ("inconclusive", "hold"), ("baking", "hold")])
def test_what_is_measured_decides_of_a_wave_that_would_proceed(outcome: Any, decision: str) -> None:
    found = decide(gate(metrics=BakeVerdict(outcome, "errors are so")))
    assert (found.decision, "errors are so" in found.reason) == (decision, True)


@pytest.mark.parametrize("outcome", ["good", "bad", "inconclusive", "baking"])
def test_what_is_measured_makes_nothing_better(outcome: Any) -> None:
    metrics = BakeVerdict(outcome, "errors are so")
    assert decide(gate(failed=1, metrics=metrics)).decision == "back_out"
    assert decide(gate(undone=1, metrics=metrics)).decision == "hold"
    assert decide(gate(stop="the RFC is on hold", metrics=metrics)).decision == ("back_out" if outcome == "bad" else "hold")


def test_bad_metrics_hold_where_failures_do() -> None:
    found = decide(gate(metrics=BakeVerdict("bad", "errors is bad"), rollout=Rollout(on_failure="hold")))
    assert (found.decision, found.reason) == ("hold", "errors is bad; 4 of 4 hosts in wave 2 of 3 active")


@given(INPUTS)
def test_what_a_gate_goes_by_is_stored_and_read_again(inputs: GateInputs) -> None:
    assert decide(GateInputs.from_dict(inputs.to_dict())) == decide(inputs)
