# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves are put into windows one after the other, each as early as it can be, and never outside of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.model import Calendars, Event, Sites, Span, common, merge, timetable
from hypothesis import given
from hypothesis import strategies as st

ZERO = datetime(2027, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minute: int) -> datetime:
    return ZERO + minute * MINUTE


minutes = st.integers(0, 60)
spans = st.lists(st.tuples(minutes, minutes).map(lambda pair: (at(pair[0]), at(pair[1]))), max_size=6)
sites = st.sets(st.sampled_from(["ams", "fra", "lon"]))
events = st.lists(
    st.builds(
        lambda start, length, where, what: Event("x", at(start), at(start + length), frozenset(where), frozenset(what)),
        minutes,
        st.integers(1, 30),
        sites,
        st.sets(st.sampled_from(["hello", "shop"])),
    ),
    max_size=6,
)
waves = st.lists(st.sets(st.sampled_from(["ams", "fra", "lon", None]), min_size=1).map(frozenset), max_size=4)


def inside(found: list[Span], minute: int) -> bool:
    return any(start <= at(minute) < end for start, end in found)


def test_a_freeze_stops_a_site_however_its_name_is_written_and_a_window_is_only_for_the_very_one() -> None:
    event = Event("x", at(0), at(1), frozenset({"AMS", "Zu\u0308rich"}), frozenset({"Hello"}))
    assert event.stops("ams", "hello")
    assert event.stops("z\u00fcrich", "hello")
    assert not event.stops("fra", "hello")
    assert not event.stops("ams", "shop")
    assert not event.opens("ams", "Hello")
    assert event.opens("AMS", "Hello")


def test_a_freeze_for_what_nobody_has_is_for_all_and_a_window_for_what_nobody_has_is_for_none() -> None:
    ours = (["ams", "fra"], ["hello", "shop"])

    def event(sites: set[str], releases: set[str]) -> Event:
        return Event("x", at(0), at(1), frozenset(sites), frozenset(releases), "x.ics")

    def found(sites: set[str], releases: set[str]) -> tuple[Event, Event, tuple[str, ...]]:
        calendars = Calendars((event(sites, releases),), (event(sites, releases),)).matched(*ours)
        assert calendars.windows is not None
        assert calendars.freezes is not None
        return calendars.windows[0], calendars.freezes[0], calendars.notes

    for sites, releases, names in (({"Germany"}, set(), 1), (set(), {"Holidays", "hello"}, 1), ({"Germany", "fra"}, {"Holidays"}, 2)):
        window, freeze, said = found(sites, releases)
        assert freeze.stops("ams", "hello")
        assert freeze.stops("fra", "shop")
        assert not window.opens("ams", "shop")
        assert len(said) == 2 * names
    window, freeze, said = found({"AMS"}, {"Hello"})
    assert freeze.stops("ams", "hello")
    assert not freeze.stops("fra", "hello")
    assert not freeze.stops("ams", "shop")
    assert not window.opens("ams", "hello")
    assert said == (  # for a window it has to be the very name
        "x.ics has the CATEGORIES 'Hello', which no release in the library or CMDB is called, so its windows count for no release by it",
        "x.ics has the LOCATION 'AMS', which no site in the CMDB is called, so its windows count for no site by it",
    )
    assert found({"ams"}, {"hello"})[2] == ()
    assert Calendars().matched(*ours) == Calendars()


@given(left=spans, right=spans)
def test_merged_and_common_times_are_the_same_minute_by_minute(left: list[Span], right: list[Span]) -> None:
    merged, both = merge(left), common(left, right)
    for minute in range(61):
        assert inside(merged, minute) == inside(left, minute)
        assert inside(both, minute) == (inside(left, minute) and inside(right, minute))
    for some in (merged, both):
        assert all(start < end for start, end in some)
        assert all(first[1] < second[0] for first, second in pairwise(some))


@given(windows=events, plan=waves, length=st.integers(0, 12), end=minutes)
def test_every_wave_is_in_windows_of_all_its_sites_and_after_the_one_before(
    windows: list[Event], plan: list[Sites], length: int, end: int
) -> None:
    found = timetable((at(0), at(end)), plan, [length * MINUTE] * len(plan), Calendars(windows=tuple(windows)), "hello")
    assert bool(found.fault) == (len(found.starts) < len(plan))
    done = at(0)
    for start, where in zip(found.starts, plan, strict=False):
        assert start >= done
        done = start + length * MINUTE
        assert done <= at(end)
        for minute in range(length):
            moment = start + minute * MINUTE
            for site in where:
                assert any(
                    event.start <= moment < event.end
                    and (not event.sites or site in event.sites)
                    and (not event.releases or "hello" in event.releases)
                    for event in windows
                )
    # One that could have started at a minute before did.
    number = len(found.starts)
    if found.fault and number:
        where = plan[number]
        for minute in range(60):
            start = at(minute)
            fits = start >= done and start + length * MINUTE <= at(end)
            covered = all(
                any(
                    event.start <= start + each * MINUTE < event.end
                    and (not event.sites or site in event.sites)
                    and (not event.releases or "hello" in event.releases)
                    for event in windows
                )
                for site in where
                for each in range(max(length, 1))
            )
            assert not (fits and covered)


@given(plan=waves, length=st.integers(0, 12), end=minutes)
def test_without_a_calendar_waves_follow_at_once_as_long_as_there_is_time(plan: list[Sites], length: int, end: int) -> None:
    found = timetable((at(0), at(end)), plan, [length * MINUTE] * len(plan), Calendars(), "hello")
    fit = len(plan) if length == 0 else min(len(plan), end // length)
    assert found.starts == tuple(at(number * length) for number in range(fit))
    assert bool(found.fault) == (fit < len(plan))
