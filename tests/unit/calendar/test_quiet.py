# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quiet hours are by the clocks of a place, whatever these do when summer begins or ends."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.quiet import QuietHours, is_zone
from hypothesis import given
from hypothesis import strategies as st

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns", "UTC")
MINUTE = timedelta(minutes=1)
times = st.integers(0, 24 * 60 - 1).map(lambda minutes: time(minutes // 60, minutes % 60))
moments = st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
# Days around which clocks change in one of the zones, at which a moment rarely is.
changes = st.sampled_from([datetime(2027, 3, 28, tzinfo=UTC), datetime(2027, 10, 31, tzinfo=UTC), datetime(2027, 11, 7, tzinfo=UTC)])
near = st.tuples(changes, st.integers(-2000, 2000)).map(lambda pair: pair[0] + pair[1] * MINUTE)


def shows(quiet: QuietHours, moment: datetime) -> bool:
    """Whether the clocks show a time that is in the hours, worked out another way: by the minute of the day, from the start on."""
    shown = moment.astimezone(ZoneInfo(quiet.zone))
    minute, start, end = (one.hour * 60 + one.minute for one in (shown, quiet.start, quiet.end))
    return (minute - start) % 1440 < (end - start) % 1440


@given(times, times, st.sampled_from(ZONES), moments | near)
def test_what_waits_is_told_at_the_first_moment_that_is_not_quiet(start: time, end: time, zone: str, moment: datetime) -> None:
    quiet = QuietHours(start, end, zone)
    if start == end:
        return  # a policy with such hours is refused
    assert quiet.holds(moment) == shows(quiet, moment)
    over = quiet.over(moment)
    if not shows(quiet, moment):
        assert over == moment
        return
    assert not shows(quiet, over)
    assert shows(quiet, over - MINUTE)
    assert all(shows(quiet, moment + step * MINUTE) for step in range(int((over - moment) / MINUTE)))


@pytest.mark.parametrize(
    ("moment", "over"),
    [
        pytest.param("2027-01-15T22:30+01:00", "2027-01-16T07:00+01:00", id="a-night"),
        pytest.param("2027-03-27T22:30+01:00", "2027-03-28T07:00+02:00", id="the-night-that-is-an-hour-shorter"),
        pytest.param("2027-10-30T22:30+02:00", "2027-10-31T07:00+01:00", id="the-night-that-is-an-hour-longer"),
        pytest.param("2027-06-15T07:00+02:00", "2027-06-15T07:00+02:00", id="its-end-is-not-in-it"),
        pytest.param("2027-06-15T20:00+02:00", "2027-06-16T07:00+02:00", id="its-beginning-is"),
    ],
)
def test_a_night_is_over_when_the_clocks_show_it(moment: str, over: str) -> None:
    quiet = QuietHours(time(20), time(7), "Europe/Berlin")
    assert quiet.over(datetime.fromisoformat(moment)) == datetime.fromisoformat(over)


def test_an_end_that_the_clocks_skip_is_when_they_jump() -> None:
    quiet = QuietHours(time(0), time(2, 30), "Europe/Berlin")
    assert quiet.over(datetime.fromisoformat("2027-03-28T01:10+01:00")) == datetime.fromisoformat("2027-03-28T03:00+02:00")


def test_an_hour_that_comes_twice_is_quiet_twice() -> None:
    quiet = QuietHours(time(2), time(3), "Europe/Berlin")
    assert quiet.over(datetime.fromisoformat("2027-10-31T02:10+02:00")) == datetime.fromisoformat("2027-10-31T03:00+01:00")


def test_a_zone_is_one_of_the_time_zone_database() -> None:
    names = ("Europe/Berlin", "UTC", "Europe", "../etc", "Mars/Olympus")
    assert [name for name in names if is_zone(name)] == ["Europe/Berlin", "UTC"]
