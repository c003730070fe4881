# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy measures: all that could not be measured or judged is said when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import Compared
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.communication import Channel
from documents import policy_of, write_document

METRIC = {"name": "errors", "query": "rate(errors{instance=~$hosts}[1m])", "good": "< 0.01", "bad": ">= 0.05"}
SOURCE = {"address": {"environment": "PROMETHEUS_URL"}, "token": {"file": "prometheus.token"}}
VALUES: dict[str, Any] = {"name": "latency", "query": "x", "compare": {"kind": "values"}}


def written(path: Path, bake: str = "bake", source: Any = SOURCE, **metric: Any) -> Path:
    changed = {key: value for key, value in {**METRIC, **metric}.items() if value is not ...}
    sections = {"rollout": {bake: {"minutes": 10, "metrics": [changed]}}, **({"prometheus": source} if source else {})}
    return write_document(path / "policy.yml", policy_of(**sections))


def test_a_bake_is_read_with_where_its_metrics_come_from(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path))
    assert policy.prometheus is not None
    assert policy.prometheus.address == Channel("PROMETHEUS_URL")
    assert policy.prometheus.token == Channel(file=str(tmp_path / "prometheus.token"))
    assert policy.rollout.bake is not None
    assert policy.rollout.bake_of(1) == policy.rollout.bake_of(2) == policy.rollout.bake
    assert (policy.rollout.bake.metrics[0].good, policy.rollout.bake_minutes(1)) == ("< 0.01", 10)


def test_the_canary_can_have_a_bake_of_its_own(tmp_path: Path) -> None:
    rollout = {"bake": {"minutes": 1, "metrics": [METRIC]}, "canary_bake": {"minutes": 2, "metrics": [VALUES]}}
    policy = load_policy(write_document(tmp_path / "policy.yml", policy_of(rollout=rollout, prometheus=SOURCE)))
    first, other = policy.rollout.bake_of(1), policy.rollout.bake_of(2)
    assert first is not None
    assert other is not None
    assert first.metrics[0].compare == Compared("values")
    assert other.metrics[0].name == "errors"


def test_without_a_bake_there_is_none(tmp_path: Path) -> None:
    policy = load_policy(None)
    assert (policy.rollout.bake, policy.rollout.canary_bake, policy.prometheus) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"good": "< 0.01 or 3"}, "'< 0.01 or 3' is no condition that can be read; write an operator and a number"),
        ({"bad": "errors > 3"}, "is no condition that can be read"),
        ({"bad": "> 0.005"}, "would be good and bad; let no number meet both"),
        ({"good": ..., "bad": ...}, "it has to be said in one way what is good"),
        ({"compare": {"kind": "values"}}, "it has to be said in one way what is good"),
        ({"query": "up{instance=~$host}"}, "the query has $host, which stands for nothing"),
        ({"query": 'up{instance=~"web.*$"}'}, "the query has a $ that stands for nothing"),
        ({"source": None}, "nothing says where the metrics come from"),
        ({"source": {"token": {"environment": "TOKEN"}}}, "there is a token and nobody to give it to"),
        ({"every": 0}, "every"),
        ({"count": 1.5}, "count"),
        ({"name": "Errors of requests"}, "name"),
        ({"label": "instance-name"}, "label"),
        ({"colour": "red"}, "colour"),
        ({**VALUES, "good": ..., "bad": ...}, "has too few hosts left to compare with; put it under canary_bake"),
        ({**VALUES, "good": ..., "bad": ..., "bake": "canary_bake", "of": "wave"}, "hosts are compared one by one"),
        ({**VALUES, "good": ..., "bad": ..., "bake": "canary_bake", "compare": {"kind": "counts"}}, "counts have a total"),
        (
            {**VALUES, "good": ..., "bad": ..., "bake": "canary_bake", "compare": {"kind": "counts", "total": "y", "worse": "lower"}},
            "more of a count is always worse",
        ),
        (
            {**VALUES, "good": ..., "bad": ..., "bake": "canary_bake", "compare": {"kind": "counts", "total": "up$"}},
            "the query has a $ that stands for nothing",
        ),
    ],
)
def test_what_could_not_be_measured_or_judged_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(DocumentError) as refused:
        load_policy(written(tmp_path, **changes))
    assert why in str(refused.value)


def test_two_metrics_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_document(
        tmp_path / "policy.yml", policy_of(rollout={"bake": {"minutes": 1, "metrics": [METRIC, dict(METRIC)]}}, prometheus=SOURCE)
    )
    with pytest.raises(DocumentError, match="there is a metric errors already"):
        load_policy(path)
