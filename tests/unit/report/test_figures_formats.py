# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures in a terminal, as data and for Prometheus: the same numbers, and no name of anybody's does anything."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures import (
    FIGURES,
    Amount,
    FigureFacts,
    Figures,
    StartedDeployment,
    count_figures,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_formats import (
    amount_text,
    figures_document,
    figures_lines,
    open_metrics,
    spark,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BY_NAME = {one.name: one for one in FIGURES}


def figures(release: str = "shop", team: str = "web", number: int = 8) -> Figures:
    completed = DeploymentState.COMPLETED
    rows = [
        StartedDeployment(n, f"CHG{n}", release, f"sha256:{n}", completed, NOW - timedelta(days=5 * n), teams=frozenset({team}))
        for n in range(number)
    ]
    return count_figures(FigureFacts(rows), NOW, 3)


@pytest.mark.parametrize(
    ("name", "amount", "text"),
    [
        ("successful", Amount(0.875, 8), "88 %"),
        ("successful", Amount(None, 3, "too few"), "too few"),
        ("change_lead_time", Amount(59, 8), "59 s"),
        ("change_lead_time", Amount(7300, 8), "2 h 1 min"),
        ("change_lead_time", Amount(3.5 * 86400, 8), "3 d 12 h"),
        ("deployment_frequency", Amount(4.26, 8), "4.3 in 30 days"),
        ("without_rfc", Amount(3, 3), "3"),
    ],
)
def test_an_amount_is_as_people_read_it(name: str, amount: Amount, text: str) -> None:
    assert amount_text(BY_NAME[name], amount) == text


def test_a_terminal_of_80_columns_has_all_of_it() -> None:
    many = count_figures(FigureFacts([*(one_of(number) for number in range(30))]), NOW, 12)
    lines = list(figures_lines(many))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "figures from 2025-12-01 to 2026-11-20, a bar for each month"
    assert [line for line in lines if "and 10 more" in line]
    assert lines[1] == f"  {'Deployment frequency':<34}45.0 in 30 days of 30    ▁▁▁▁▁▁▁▁▁▁▁█"


def one_of(number: int) -> StartedDeployment:
    state = DeploymentState.COMPLETED
    return StartedDeployment(number, f"CHG{number}", f"a-release-with-a-long-name-{number}", "d", state, NOW, archived=number == 3)


def test_a_name_moves_no_cursor_and_makes_no_line() -> None:
    lines = list(figures_lines(figures("shop\x1b[2J", "web\nby team")))
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_bars_are_as_high_as_their_months() -> None:
    assert spark([Amount(0, 0), Amount(1, 1), Amount(None, 0, "not known"), Amount(2, 2)]) == "▁▅·█"
    assert spark([Amount(0, 0)]) == "▁"


def test_data_have_every_definition_and_amount() -> None:
    document = json.loads(json.dumps(figures_document(figures())))
    assert [one["name"] for one in document["definitions"]] == list(document["all"])
    assert document["all"]["successful"]["value"] == document["releases"]["shop"]["successful"]["value"] == 1
    months = document["teams"]["web"]["deployment_frequency"]["by_month"]
    assert [one["events"] for one in months] == [0, 4, 4]
    assert document["all"]["drift_found"] == {"value": None, "events": 0, "why": "not known"}


def test_prometheus_reads_no_more_than_one_sample_of_a_line() -> None:
    text = open_metrics(figures('a"b', 'c\\d\ne{x="y"} 1'))
    assert text.endswith("# EOF\n")
    assert 'tidegate_successful_ratio{release="a\\"b"} 1.0\n' in text
    assert 'tidegate_successful_ratio{team="c\\\\d\\ne{x=\\"y\\"} 1"} 1.0\n' in text
    assert not re.search("^tidegate_change_lead_time", text, re.MULTILINE)
    assert 'tidegate_figure_events{figure="change_lead_time"} 0\n' in text
