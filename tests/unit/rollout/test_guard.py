# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can be left to go back by itself."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.guard import confirm_fault, confirm_remark
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout

CONFIG: dict[str, Any] = {
    "name": "hello",
    "version": "1.0",
    "hooks": {"start": {"timeout": 20}},
    "health": [{"timeout": 15}, {"timeout": 5}],
}


@pytest.mark.parametrize(
    ("minutes", "stable", "own"), [(0, 0, {}), (0.7, 0, {}), (1, 10, {}), (1, 100, {"stable": 5}), (0.1, 0, {"ansible": {}})]
)
def test_time_enough_is_no_fault(minutes: float, stable: float, own: dict[str, Any]) -> None:
    assert confirm_fault({**CONFIG, **own}, Rollout(confirm_minutes=minutes, stable=stable)) == ""


@pytest.mark.parametrize(("minutes", "stable", "own"), [(0.5, 0, {}), (2 / 3, 0, {}), (1, 20, {}), (1, 0, {"stable": 30})])
def test_less_than_the_release_may_take_is_one(minutes: float, stable: float, own: dict[str, Any]) -> None:
    assert confirm_fault({**CONFIG, **own}, Rollout(confirm_minutes=minutes, stable=stable)).startswith(
        f"hosts would go back by themselves {minutes * 60:g} seconds after they were switched, and hello 1.0 may take "
    )


@pytest.mark.parametrize("kind", ["ansible", "firmware", "hardware"])
def test_what_no_host_undoes_alone_is_said_and_not_guarded(kind: str) -> None:
    assert "hosts don't go back by themselves" in confirm_remark({**CONFIG, kind: {}}, Rollout(confirm_minutes=5))
    assert confirm_remark({**CONFIG, kind: {}}, Rollout()) == confirm_remark(CONFIG, Rollout(confirm_minutes=5)) == ""
    assert confirm_remark(CONFIG, Rollout(confirm_minutes=4)).startswith(
        "hosts go back by themselves after 4 minutes, and a wave may take 5"
    )
    own: dict[str, Any] = {"role": "app"} if kind == "ansible" else {kind: True}
    assert not Rollout(confirm_minutes=5, **own).guarded
    assert not Rollout(confirm_minutes=5, tree=False).guarded
    assert Rollout(confirm_minutes=5).guarded
    assert not Rollout().guarded
