# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An axis of time: what is on it is where it was, and can be seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.report.timeline import Axis, Stretch
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
MOMENTS = st.integers(-5000, 5000).map(lambda seconds: (START + timedelta(seconds=seconds)).isoformat())


def test_a_bar_is_where_it_was() -> None:
    axis = Axis.over(["2026-03-01T10:00:00Z", None, "2026-03-01T14:00:00Z"])
    assert axis is not None
    assert axis.stretch("2026-03-01T11:00:00Z", "2026-03-01T13:00:00Z") == Stretch(25.0, 50.0)
    assert axis.stretch("2026-03-01T13:00:00+00:00", None) == Stretch(75.0, 25.0)
    assert axis.stretch(None, "2026-03-01T13:00:00Z") is None
    assert axis.stretch("2026-03-01T14:00:00Z", "2026-03-01T14:00:00Z") == Stretch(99.0, 1.0)


def test_without_a_moment_there_is_no_axis() -> None:
    assert Axis.over([None, ""]) is None


@given(st.lists(MOMENTS, min_size=1, max_size=4), MOMENTS, MOMENTS)
def test_no_bar_leaves_the_axis(over: list[str], first: str, second: str) -> None:
    axis = Axis.over(over)
    assert axis is not None
    bar = axis.stretch(min(first, second), max(first, second))
    assert bar is not None
    assert bar.left >= 0
    assert bar.width >= 1
    assert bar.left + bar.width <= 100.01


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(minutes=1), ["10:00:00", "10:00:30", "10:01:00"]),
        (timedelta(days=1), ["03-01 10:00", "03-01 22:00", "03-02 10:00"]),
        (timedelta(days=90), ["2026-03-01", "2026-04-15", "2026-05-30"]),
    ],
)
def test_its_words_are_as_fine_as_it_is_long(length: timedelta, words: list[str]) -> None:
    assert [text for _place, text in Axis(START, START + length).ticks()] == words
