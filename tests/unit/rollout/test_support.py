# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.metrics.model import Bake, BakeVerdict, Metric
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.support import LateHost, Support, late_sentence

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DOWN = LateHost("web3", "unreachable")


def support(*late: LateHost, hours: float = 0, days: float = 0, decided: datetime = BEGAN) -> Support:
    return Support(Rollout(support_hours=hours, late_days=days), BEGAN, decided, late)


@pytest.mark.parametrize("days", [0, 7])
def test_nobody_late_and_no_hours_is_the_end(days: float) -> None:
    assert support(days=days).barriers(BEGAN) == []
    assert support(days=days).left_behind == ""


def test_late_hosts_are_waited_for_until_nobody_is_brought_in_any_more() -> None:
    waiting = support(DOWN, days=7)
    sentence = "web3 is late (unreachable); deploy again brings it in until 2026-03-08 12:00 UTC"
    assert waiting.barriers(BEGAN) == waiting.barriers(BEGAN + 7 * DAY - HOUR) == [sentence]
    assert waiting.barriers(BEGAN + 7 * DAY) == []
    assert waiting.left_behind == "web3 is late (unreachable) for good, for late hosts were brought in until 2026-03-08 12:00 UTC"


def test_a_policy_that_lets_nobody_in_waits_for_nobody_and_says_no_more_of_it() -> None:
    assert (support(DOWN).barriers(BEGAN), support(DOWN).left_behind) == ([], "")


@pytest.mark.parametrize("kind", ["firmware", "hardware"])
def test_nobody_is_brought_in_late_with_devices(kind: str) -> None:
    of_devices = Support(Rollout(late_days=7, **{kind: True}), BEGAN, BEGAN, (DOWN,))
    assert (of_devices.barriers(BEGAN), of_devices.left_behind, of_devices.lets_in(BEGAN)) == ([], "", False)


def test_what_is_not_known_of_hosts_keeps_support_from_its_end() -> None:
    (barrier,) = Support(Rollout(), BEGAN, BEGAN, (), tuple(f"web{number}" for number in range(1, 8))).barriers(BEGAN + DAY)
    assert barrier == "it is not known what web1, web2, web3, web4, web5 and 2 more run; deploy again looks"


def test_hours_count_from_the_last_wave_and_days_from_the_begin() -> None:
    later = support(DOWN, hours=24, days=1, decided=BEGAN + 5 * HOUR)
    assert len(later.barriers(BEGAN + DAY - HOUR)) == 2
    assert later.barriers(BEGAN + DAY) == ["its early-life support is until 2026-03-02 17:00 UTC"]
    assert later.barriers(BEGAN + DAY + 5 * HOUR) == []


def test_a_sentence_names_some_and_counts_the_rest_and_quotes_no_novel() -> None:
    many = [LateHost(f"web{number}", "x" * 500 if number == 1 else "") for number in range(1, 9)]
    said = late_sentence(many)
    assert said == f"web1 is late ({'x' * 120} ...), web2 is late, web3 is late, web4 is late, web5 is late and 3 more are"


EXIT = Bake(60, (Metric("errors", "errors", good="< 1"),))


def test_exit_criteria_are_asked_for_when_nothing_else_is_in_the_way() -> None:
    waiting = Support(Rollout(support_hours=1, support_exit=EXIT), BEGAN, BEGAN, ())
    assert not waiting.asks_exit(BEGAN)
    assert waiting.barriers(BEGAN) == ["its early-life support is until 2026-03-01 13:00 UTC"]
    assert waiting.asks_exit(BEGAN + HOUR)
    assert waiting.barriers(BEGAN + HOUR) == ["its exit criteria were not measured; deploy again measures them"]
    assert not Support(Rollout(support_hours=1), BEGAN, BEGAN, ()).asks_exit(BEGAN + HOUR)


@pytest.mark.parametrize("outcome", ["bad", "inconclusive"])
def test_exit_criteria_that_are_not_met_keep_support_open(outcome: Literal["bad", "inconclusive"]) -> None:
    measured = Support(Rollout(support_exit=EXIT), BEGAN, BEGAN, (), exit=BakeVerdict(outcome, "errors is 5"))
    assert measured.barriers(BEGAN) == ["its exit criteria are not met (errors is 5); deploy again measures them"]
    assert measured.asks_exit(BEGAN)
    good = replace(measured, exit=BakeVerdict("good", ""))
    assert (good.barriers(BEGAN), good.asks_exit(BEGAN)) == ([], False)
