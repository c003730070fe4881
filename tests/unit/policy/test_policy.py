# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy says only what it changes; the shipped one says the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share

Write = Callable[..., Path]


def test_the_shipped_policy_asks_for_an_approval_and_tolerates_no_failure() -> None:
    policy = load_policy()
    assert policy.approvals == {"normal": 1, "standard": 0, "emergency": 1}
    assert policy.rollout == Rollout(steps=(25, 50, 100), order_by="site")


def test_what_a_policy_leaves_out_has_the_shipped_value(write: Write) -> None:
    policy = load_policy(write("policy"))
    assert policy.approvals == {"normal": 2, "standard": 0, "emergency": 1}
    assert policy.rollout == Rollout(canary=Share(10, percent=True), steps=(50, 100), order_by="site", wave_budget=Share(1))
    assert load_policy(write("policy", approvals=..., rollout=...)) == load_policy()
    assert load_policy(write("policy", rollout={"order_by": None})).rollout.order_by is None


@pytest.mark.parametrize(
    ("rollout", "what"),
    [
        ({"canary": "10"}, "rollout.canary is '10'"),
        ({"canary": -1}, "rollout.canary is the number -1"),
        ({"budget": 1}, "rollout.budget is the number 1"),
        ({"budget": {"wave": "5 %"}}, "rollout.budget.wave is '5 %'"),
        ({"budget": {"all": 1}}, "all is not a key of rollout.budget"),
        ({"on_failure": "ignore"}, "rollout.on_failure is 'ignore'"),
        ({"order_by": ""}, "rollout.order_by is empty"),
        ({"steps": [100, 50]}, "the steps are [100, 50]"),
    ],
)
def test_what_is_no_rollout_is_refused(write: Write, rollout: dict[str, Any], what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_policy(write("policy", rollout=rollout))
    assert any(problem.what.startswith(what) for problem in caught.value.problems), caught.value
