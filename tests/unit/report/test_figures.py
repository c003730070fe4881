# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What figures are, and how few events they are silent about; what they come to is compared with raw rows in test_figures_facts.py."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures import (
    FIGURES,
    LEAST,
    TOO_FEW,
    UNKNOWN,
    Amount,
    AuditCount,
    FigureFacts,
    Happening,
    StartedDeployment,
    count_figures,
    months_until,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState

NOW = datetime(2027, 1, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


def deployment(number: int, state: str = "completed", **of: object) -> StartedDeployment:
    about = {"rfc": f"CHG{number}", "release": "shop", "digest": f"sha256:{number}", "started": NOW - HOUR * number}
    return StartedDeployment(number, state=DeploymentState(state), **{**about, **of})  # type: ignore[arg-type]


def whole(*deployments: StartedDeployment) -> dict[str, Amount]:
    return dict(count_figures(FigureFacts(deployments), NOW, 3).everything.whole)


def test_every_figure_says_what_it_is_and_whose() -> None:
    figures = count_figures(FigureFacts(), NOW, 2).everything
    assert list(figures.whole) == [one.name for one in FIGURES]
    assert list(figures.months) == [one.name for one in FIGURES if not one.fleet]
    assert {len(each) for each in figures.months.values()} == {2}
    assert all(one.definition.endswith(".") and one.source and re.fullmatch("tidegate_[a-z0-9_]+", one.metric) for one in FIGURES)
    assert [one.title for one in FIGURES if one.source.startswith("DORA")] == [one.title for one in FIGURES[:5]]
    assert len({one.metric for one in FIGURES}) == len(FIGURES)


def test_a_share_of_few_is_no_share() -> None:
    few = [deployment(number, "backed_out" if number == 1 else "completed") for number in range(1, LEAST)]
    assert whole(*few)["backed_out"] == Amount(None, LEAST - 1, TOO_FEW)
    assert whole(*few, deployment(LEAST))["backed_out"] == Amount(0.2, LEAST)
    assert whole(*few)["deployment_frequency"].events == LEAST - 1


def test_a_median_of_few_is_no_median() -> None:
    def held(number: int) -> StartedDeployment:
        at = NOW - HOUR * number
        return deployment(number, gates=(at,), lives=(at + HOUR * number,))

    assert whole(*map(held, range(1, LEAST)))["failed_deployment_recovery_time"] == Amount(None, LEAST - 1, TOO_FEW)
    assert whole(*map(held, range(1, LEAST + 1)))["failed_deployment_recovery_time"] == Amount(3 * 3600, LEAST)


def test_what_nobody_looked_for_is_not_nothing() -> None:
    assert whole()["drift_found"] == whole()["spares_short"] == Amount(None, 0, UNKNOWN)
    audits = [AuditCount(NOW, (("missing", "", ""),), complete=False), AuditCount(NOW - HOUR, ())]
    assert count_figures(FigureFacts(audits=audits), NOW, 1).everything.whole["drift_found"] == Amount(None, 2, UNKNOWN)


@pytest.mark.parametrize(
    ("now", "count", "months"),
    [
        (NOW, 1, ["2027-01"]),
        (NOW, 3, ["2026-11", "2026-12", "2027-01"]),
        (datetime.fromisoformat("2027-01-01T00:30:00+01:00"), 2, ["2026-11", "2026-12"]),
    ],
)
def test_months_are_those_of_utc(now: datetime, count: int, months: list[str]) -> None:
    assert list(months_until(now, count)) == months


def test_the_time_before_the_first_deployment_makes_none_rarer() -> None:
    assert whole(deployment(1), deployment(2))["deployment_frequency"].value == pytest.approx(2 / 14 * 30)
    assert whole(deployment(1), deployment(24 * 30))["deployment_frequency"].value == pytest.approx(2 / 45 * 30)
    first = datetime(2027, 1, 1, 1, tzinfo=UTC)
    hour = count_figures(FigureFacts([deployment(1, started=first)]), first, 1)
    assert hour.everything.whole["deployment_frequency"] == Amount(30, 1)


def test_a_deployment_counts_for_each_of_its_teams_and_once_for_all() -> None:
    one = deployment(1, teams=frozenset({"web", "dba"}))
    figures = count_figures(FigureFacts([one], overdue=[Happening(NOW - HOUR * 24 * 400, "old", frozenset({"dba"}))]), NOW, 1)
    assert {name: group.whole["deployment_frequency"].events for name, group in figures.teams.items()} == {"dba": 1, "web": 1}
    assert figures.everything.whole["deployment_frequency"].events == 1
    assert figures.releases["old"].whole["overdue_duties"] == figures.teams["dba"].whole["overdue_duties"] == Amount(1, 1)
    assert [each.events for each in figures.everything.months["overdue_duties"]] == [0]


def test_an_archived_journal_is_left_out_where_it_is_needed() -> None:
    found = count_figures(FigureFacts([deployment(number, archived=True) for number in range(1, 7)]), NOW, 1)
    assert found.archived == 6
    assert found.everything.whole["change_fail_rate"] == found.everything.whole["out_of_window"] == Amount(None, 0, TOO_FEW)
    assert found.everything.whole["successful"] == Amount(1, 6)


def test_what_is_over_at_once_took_no_time_and_is_no_failure_that_lasts() -> None:
    at_once = deployment(1, gates=(NOW,), lives=(NOW - HOUR, NOW))
    assert (at_once.recovery, deployment(1, gates=(NOW,), lives=(NOW - HOUR,)).recovery) == (0, None)


def test_the_page_about_figures_has_each_of_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "figures.md").read_text()
    source = {one.name: f"[{one.source}]({one.url})" if one.url else one.source for one in FIGURES}
    lacking = [one.name for one in FIGURES if f"| {one.title} | {one.definition} | {source[one.name]} | `{one.metric}` |" not in page]
    assert lacking == []
