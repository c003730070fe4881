# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates judged again by lines of the journal: whatever they were decided by, the same sentence comes out, and a changed line shows."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.answer import MetricAnswer
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.judge import BakeRecord, Measurement, judge
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import Bake, Metric
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.bake_record import (
    BAKE,
    DECIDED,
    MEASURED,
    Line,
    begun_data,
    judge_again,
    unfinished,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import (
    Circumstances,
    GateInputs,
    WaveCounts,
    basis_of,
    decide_in,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
METRIC = Metric("errors", "up", good="< 1", every=60, count=2, failures=1, errors=1, inconclusive=1)
ANSWERS = st.sampled_from([MetricAnswer({"web1": 0}), MetricAnswer({"web1": 9}), MetricAnswer({}, "no value"), MetricAnswer(error="gone")])
TEXTS = st.sampled_from(["", "; a word", "it can't be brought back"])


def lines_of(record: BakeRecord, wave: int = 1) -> list[Line]:
    measured = [Line(one.at, MEASURED, wave, one.to_dict()) for one in record.measurements]
    return [Line(record.begun, BAKE, wave, begun_data(record)), *measured]


def bake_of(answers: list[MetricAnswer]) -> BakeRecord:
    record = BakeRecord(Bake(1, (METRIC,)), NOW, ("web1",))
    for number, answer in enumerate(answers):
        record = record.with_one(Measurement("errors", NOW + timedelta(minutes=number), answer))
    return record


def decided(record: BakeRecord | None, minutes: int, failed: int = 0, circumstances: Circumstances | None = None, **more: Any) -> Line:
    """The line of a gate, as the journal has it and reads it again."""
    at = NOW + timedelta(minutes=minutes)
    counts = WaveCounts(1 + failed, 1, failed)
    metrics = judge(record, at) if record else None
    rollout = more.pop("rollout", Rollout())
    inputs = GateInputs(1, 2, counts, failed, 5, rollout, metrics=metrics, **{"stop": "", **more})
    circumstances = circumstances or Circumstances()
    data = {**asdict(decide_in(inputs, circumstances)), **basis_of(inputs, circumstances)}
    return Line(at + timedelta(seconds=7), DECIDED, 1, json.loads(json.dumps(data)))


@given(st.lists(ANSWERS, max_size=5), st.integers(0, 9), st.integers(0, 2), st.builds(Circumstances, TEXTS, TEXTS, TEXTS, TEXTS), st.data())
def test_every_gate_says_the_same_again(
    answers: list[MetricAnswer], minutes: int, failed: int, circumstances: Circumstances, data: st.DataObject
) -> None:
    record = data.draw(st.sampled_from([None, bake_of(answers)]))
    rollout = Rollout(
        wave_budget=Share(data.draw(st.integers(0, 2))), total_budget=Share(2), on_failure=data.draw(st.sampled_from(["hold", "back_out"]))
    )
    line = decided(record, minutes, failed, circumstances, stop=data.draw(TEXTS), rollout=rollout)
    again = judge_again([*(json_lines(lines_of(record)) if record else []), line])
    assert [gate.same for gate in again] == [True]


def json_lines(lines: list[Line]) -> list[Line]:
    return [replace(line, data=json.loads(json.dumps(dict(line.data)))) for line in lines]


def test_a_number_that_was_changed_afterwards_shows() -> None:
    record = bake_of([MetricAnswer({"web1": 9}), MetricAnswer({"web1": 9})])
    lines = [*lines_of(record), decided(record, 1)]
    assert judge_again(lines)[0].decided.decision == "back_out"
    forged = replace(record, measurements=tuple(replace(one, answer=MetricAnswer({"web1": 0})) for one in record.measurements))
    found = judge_again([*lines_of(forged), lines[-1]])[0]
    assert (found.same, found.again.decision) == (False, "proceed")


def test_measurements_that_were_taken_away_show() -> None:
    record = bake_of([MetricAnswer({"web1": 0}), MetricAnswer({"web1": 0})])
    found = judge_again([decided(record, 1)])[0]
    assert (found.same, found.again.reason.partition(";")[0]) == (False, "the journal has nothing that was measured")


def test_a_gate_of_a_time_before_that_is_left_out() -> None:
    assert judge_again([Line(NOW, DECIDED, 1, {"decision": "proceed", "reason": "because"})]) == []


def test_a_bake_goes_on_until_its_gate_has_decided_that_it_was_not_good() -> None:
    good, bad = bake_of([MetricAnswer({"web1": 0})] * 2), bake_of([MetricAnswer({"web1": 9})] * 2)
    assert unfinished([], 1) is None
    assert unfinished(lines_of(good, wave=2), 1) is None
    assert unfinished(lines_of(good), 1) == good
    assert unfinished([*lines_of(good), decided(good, 5, stop="the RFC is on hold")], 1) == good
    assert unfinished([*lines_of(good), decided(good, 0)], 1) == good  # interrupted while it baked
    assert unfinished([*lines_of(bad), decided(bad, 5)], 1) is None
    assert unfinished([*lines_of(bad), decided(bad, 5), *lines_of(good)], 1) == good
