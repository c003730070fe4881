# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calendars are read as calendar programs write them; what can be taken in two ways, or keeps the machine busy, is refused."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import libs
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar import ics
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.ics import read_calendars, read_events
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.model import CalendarFiles, Event
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ics_files import BERLIN, OWN_ZONE, read, write


def test_an_event_says_where_and_for_what_it_is(tmp_path: Path) -> None:
    text = f"SUMMARY:Night, as usual\nDTSTART;{BERLIN}:20270301T220000\nDURATION:PT4H\nLOCATION:ams\\, fra\nCATEGORIES:hello,shop"
    (event,) = read_events(write(tmp_path, text), datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 3, 3, tzinfo=UTC), longer=False)
    start = datetime(2027, 3, 1, 21, tzinfo=UTC)
    assert event == Event(
        "Night, as usual", start, start + timedelta(hours=4), frozenset({"ams", "fra"}), frozenset({"hello", "shop"}), "test.ics"
    )
    assert event.opens("ams", "hello")
    assert not event.opens("lon", "hello")
    assert not event.opens(None, "hello")
    assert event.stops(None, "hello")
    assert not event.stops("ams", "other")


@pytest.mark.parametrize(
    ("kind", "times", "said"),
    [
        ("VTODO", "DTSTART:20261224T080000Z\nDUE:20261226T080000Z", "the task 'Change freeze' is no event"),
        ("VJOURNAL", "DTSTART;VALUE=DATE:20261224", "the journal entry 'Change freeze' is no event"),
        ("VFREEBUSY", "FREEBUSY:20261224T080000Z/PT8H", "the busy time 'Change freeze' is no event"),
    ],
)
def test_a_freeze_that_is_written_as_no_event_is_not_lost(tmp_path: Path, kind: str, times: str, said: str) -> None:
    body = f"BEGIN:{kind}\nUID:1\nDTSTAMP:20260101T000000Z\nSUMMARY:Change freeze\n{times}\nEND:{kind}\n"
    path = tmp_path / "test.ics"
    path.write_text(f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{body}END:VCALENDAR\n")
    span = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    with pytest.raises(TidegateError, match=said):
        read_events(path, *span, longer=True)
    assert read_events(path, *span, longer=False) == []  # a window that is none opens nothing


def test_recurrence_exceptions_and_changed_occurrences_are_honoured(tmp_path: Path) -> None:
    rule = f"""DTSTART;{BERLIN}:20270301T220000
DTEND;{BERLIN}:20270302T020000
RRULE:FREQ=DAILY;UNTIL=20270308T210000Z
EXDATE;{BERLIN}:20270303T220000"""
    moved = f"""BEGIN:VEVENT
UID:0@example
DTSTAMP:20260101T000000Z
RECURRENCE-ID;{BERLIN}:20270304T220000
DTSTART;{BERLIN}:20270304T230000
DTEND;{BERLIN}:20270305T000000
END:VEVENT
"""
    cancelled = moved.replace("20270304T2", "20270305T2").replace("DTEND", "STATUS:CANCELLED\nDTEND").replace("20270305T0", "20270306T0")
    found = read(write(tmp_path, rule, moved, cancelled), "2027-03-01", 30)
    assert found == [
        ("01 21:00", "02 01:00"),
        ("02 21:00", "03 01:00"),
        ("04 22:00", "04 23:00"),
        ("06 21:00", "07 01:00"),
        ("07 21:00", "08 01:00"),
        ("08 21:00", "09 01:00"),
    ]


@pytest.mark.parametrize(("zone", "head"), [("Europe/Berlin", ""), ("Our Office", OWN_ZONE)])
def test_times_keep_to_the_clock_of_their_zone_when_it_changes(tmp_path: Path, zone: str, head: str) -> None:
    text = f"DTSTART;TZID={zone}:20270301T220000\nDTEND;TZID={zone}:20270302T020000\nRRULE:FREQ=DAILY"
    path = write(tmp_path, text, head=head)
    assert read(path, "2027-03-27", 3)[1:] == [("27 21:00", "28 01:00"), ("28 20:00", "29 00:00"), ("29 20:00", "30 00:00")]
    autumn = read(path, "2027-10-30", 3)
    assert ("30 20:00", "31 00:00") in autumn  # 02:00 comes twice
    assert ("31 21:00", "01 01:00") in autumn
    assert ("30 20:00", "31 01:00") in read(path, "2027-10-30", 3, longer=True)


@pytest.mark.parametrize(("zone", "head"), [("Europe/Berlin", ""), ("Our Office", OWN_ZONE)])
@pytest.mark.parametrize(("start", "end"), [("013000", "023000"), ("023000", "043000")])
def test_a_window_in_an_hour_that_the_clock_skips_is_refused(tmp_path: Path, zone: str, head: str, start: str, end: str) -> None:
    text = f"SUMMARY:early\nDTSTART;TZID={zone}:20270320T{start}\nDTEND;TZID={zone}:20270320T{end}\nRRULE:FREQ=DAILY"
    path = write(tmp_path, text, head=head)
    assert len(read(path, "2027-03-26")) == 1  # it is only this one night
    with pytest.raises(
        TidegateError, match=r"the event 'early' (starts|ends) \(DT(START|END)\) at 2027-03-28T02:30:00, an hour that .* skips"
    ):
        read(path, "2027-03-27", 2)


def test_an_hour_that_comes_twice_makes_a_window_shorter_and_a_freeze_longer(tmp_path: Path) -> None:
    path = write(tmp_path, f"DTSTART;{BERLIN}:20271031T023000\nDTEND;{BERLIN}:20271031T040000")
    assert read(path, "2027-10-31") == [("31 01:30", "31 03:00")]
    assert read(path, "2027-10-31", longer=True) == [("31 00:30", "31 03:00")]
    path = write(tmp_path, f"DTSTART;{BERLIN}:20271031T010000\nDTEND;{BERLIN}:20271031T023000")
    assert read(path, "2027-10-31") == [("30 23:00", "31 00:30")]
    assert read(path, "2027-10-31", longer=True) == [("30 23:00", "31 01:30")]
    path = write(tmp_path, f"DTSTART;{BERLIN}:20271031T021000\nDTEND;{BERLIN}:20271031T025000")
    assert read(path, "2027-10-31") == []


def test_whole_days_are_those_of_the_calendar_s_zone(tmp_path: Path) -> None:
    text = "SUMMARY:Christmas\nDTSTART;VALUE=DATE:20271224\nDTEND;VALUE=DATE:20271227"
    path = write(tmp_path, text, head="X-WR-TIMEZONE:America/New_York\n")
    assert read(path, "2027-12-24", 3) == [("24 05:00", "27 05:00")]
    where = r"'Christmas' starts \(DTSTART\) at 2027-12-24 in no time zone; write X-WR-TIMEZONE:Europe/Berlin"
    with pytest.raises(TidegateError, match=where):
        read(write(tmp_path, text), "2027-12-24", 3)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("DTSTART:20270301T220000\nDTEND:20270301T230000", "in no time zone"),
        ("DTSTART:20270301T220000Z", "has no length"),
        ("DTSTART:20270301T220000Z\nDTEND:20270301T210000Z", "can't be read|has no length"),
        ("DTSTART:20270301T220000Z\nDURATION:PT1S\nRRULE:FREQ=SECONDLY", "more often than 24 times a day"),
        ("DTSTART:20270301T220000Z\nDURATION:PT1S\nRRULE:FREQ=hourly", "more often than 24 times a day"),
        ("DTSTART:20270301T220000Z\nDURATION:PT1S\nRRULE:FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=0,5,10,15,20,25,30,35,40", "more often than 24"),
        ("DTSTART:tomorrow\nDURATION:PT1H", "can't be read|no time"),
        ("DURATION:PT1H", "the event with the UID '0@example' has no DTSTART"),
        ("DTSTART:20270301T220000Z\nDURATION:-PT1H", "has no length"),
        ("DTSTART:20270201T220000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;INTERVAL=0", "has an RRULE with INTERVAL below 1"),
        ("DTSTART:20270201T220000Z\nDURATION:PT1H\nRRULE:", "has an RRULE without a FREQ"),
        ("DTSTART:20270201T220000Z\nDURATION:PT1H\nRRULE;FREQ=DAILY", "has an RRULE without a FREQ"),
        ("DTSTART:20270201T220000Z\nDURATION:PT1H\nRRULE FREQ=DAILY", "has a line that can't be read: .*RRULE FREQ=DAILY"),
        ("DTSTART:20270201T220000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY", "has an EXRULE, which RFC 5545 has no more"),
        ("DTSTART:20270301T220000Z\nDURATION:PT1H\nLOCATION:ams\nLOCATION:fra", "has more than one LOCATION"),
        ("DTSTART:20270301T220000Z\nDURATION:PT1H\nSTATUS:CONFIRMED\nSTATUS:CANCELLED", "has more than one STATUS"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(TidegateError, match=what) as caught:
        read(write(tmp_path, text), "2027-03-01", 2)
    assert "test.ics" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no calendar", b"BEGIN:VCALENDAR", b"\xff\xfe\x00", b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR"]
)
def test_what_is_no_calendar_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.ics"
    path.write_bytes(content)
    with pytest.raises(TidegateError, match=r"broken\.ics"):
        read(path, "2027-03-01")


def test_a_calendar_that_recurs_for_ages_costs_no_time(tmp_path: Path) -> None:
    texts = [f"DTSTART:19000101T{hour:02}0000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY" for hour in range(3)]
    texts.append("DTSTART:19000101T000000Z\nDURATION:PT1H\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30")
    began = time.process_time()
    assert len(read(write(tmp_path, *texts), "2027-03-01", 2)) >= 6
    assert time.process_time() - began < 20


def test_every_calendar_of_the_policy_is_read_and_every_fault_is_told(tmp_path: Path) -> None:
    write(tmp_path, "DTSTART:20270301T220000Z\nDURATION:PT1H", name="a.ics")
    write(tmp_path, "DTSTART:20270301T230000Z\nDURATION:PT1H", name="b.ics")
    span = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 3, 3, tzinfo=UTC)
    found = read_calendars(CalendarFiles(windows=(str(tmp_path / "*.ics"),)), *span)
    assert [event.file for event in found.windows or ()] == ["a.ics", "b.ics"]
    assert found.freezes is None
    assert read_calendars(CalendarFiles(), *span).windows is None
    write(tmp_path, "DTSTART:20270301T220000\nDURATION:PT1H", name="c.ics")
    with pytest.raises(TidegateError) as caught:
        read_calendars(CalendarFiles((str(tmp_path / "c.ics"), str(tmp_path / "no*.ics")), (str(tmp_path / "gone.ics"),)), *span)
    assert [word for word in ("c.ics", "no*.ics", "gone.ics") if word in str(caught.value)] == ["c.ics", "no*.ics", "gone.ics"]


@pytest.mark.parametrize(
    "times",
    [
        "DTSTART;TZID=Foo/Bar:20270301T080000\nDTEND;TZID=Foo/Bar:20270301T200000",
        "DTSTART:20270201T080000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY\nEXDATE;TZID=Foo/Bar:20270301T080000",
        "DTSTART:20270201T080000Z\nDURATION:PT1H\nRDATE;TZID=Foo/Bar:20270301T080000",
    ],
)
def test_a_zone_that_nobody_knows_is_not_taken_for_the_calendar_s(tmp_path: Path, times: str) -> None:
    path = write(tmp_path, f"SUMMARY:odd\n{times}", head="X-WR-TIMEZONE:America/New_York\n")
    with pytest.raises(TidegateError, match=r"the event 'odd' has [A-Z]+ in the time zone 'Foo/Bar', which is not known here"):
        read(path, "2027-03-01")


@pytest.mark.parametrize("name", ["(UTC+01:00) Berlin, Bern", "tzone://Microsoft/Custom"])
@pytest.mark.parametrize("value", [":20270301T100000", ";VALUE=DATE-TIME:20270301T100000"])
def test_a_zone_may_have_a_colon_in_its_name_and_no_quotation_marks(tmp_path: Path, name: str, value: str) -> None:
    event = f"SUMMARY:odd\nDTSTART;TZID={name}{value}\nDTEND;TZID={name}{value.replace('T10', 'T11')}"
    zone = OWN_ZONE.replace("Our Office", name)
    assert read(write(tmp_path, event, head=zone), "2027-03-01") == [("01 09:00", "01 10:00")]
    with pytest.raises(TidegateError, match=re.escape(f"in the time zone '{name}', which is not known here")):
        read(write(tmp_path, event), "2027-03-01")


def test_a_zone_that_a_calendar_describes_is_not_the_next_calendar_s(tmp_path: Path) -> None:
    event = "DTSTART;TZID=Customized Time Zone:20270301T100000\nDURATION:PT1H"
    zone = OWN_ZONE.replace("Our Office", "Customized Time Zone")
    assert read(write(tmp_path, event, head=zone), "2027-03-01") == [("01 09:00", "01 10:00")]
    other = zone.replace("+0100", "+0500").replace("+0200", "+0600")
    assert read(write(tmp_path, event, head=other), "2027-03-01") == [("01 05:00", "01 06:00")]
    with pytest.raises(TidegateError, match="which is not known here"):
        read(write(tmp_path, event), "2027-03-01")


def test_whole_days_count_until_they_end_where_they_are(tmp_path: Path) -> None:
    text = "DTSTART;VALUE=DATE:20270201\nRRULE:FREQ=DAILY;UNTIL=20270301"
    path = write(tmp_path, text, head="X-WR-TIMEZONE:America/Los_Angeles\n")  # there it is the evening of the last one
    evening = datetime(2027, 3, 2, 3, tzinfo=UTC)
    (event,) = read_events(path, evening, evening + timedelta(hours=1), longer=True)
    assert (event.start, event.end) == (datetime(2027, 3, 1, 8, tzinfo=UTC), datetime(2027, 3, 2, 8, tzinfo=UTC))
    assert read_events(path, event.end, event.end + timedelta(hours=1), longer=True) == []
    path = write(tmp_path, "DTSTART;VALUE=DATE:20270305", head="X-WR-TIMEZONE:Pacific/Kiritimati\n")
    noon = datetime(2027, 3, 4, 12, tzinfo=UTC)
    assert len(read_events(path, noon, noon + timedelta(hours=1), longer=True)) == 1


def test_two_events_of_one_name_are_refused(tmp_path: Path) -> None:
    one = "BEGIN:VEVENT\nUID:same\nDTSTAMP:20260101T000000Z\nDTSTART:20270301T010000Z\nDTEND:20270301T020000Z\nEND:VEVENT\n"
    with pytest.raises(TidegateError, match="two events have the UID 'same'"):
        read(write(tmp_path, one, one.replace("T01", "T11").replace("T02", "T12")), "2027-03-01")
    other = one.replace("UID:same\n", "")
    path = write(tmp_path, "DTSTART:20270301T030000Z\nDURATION:PT1H", name="t.ics")
    path.write_text(path.read_text().replace("BEGIN:VEVENT\n", f"{other}{other}BEGIN:VEVENT\n", 1))
    assert len(read(path, "2027-03-01")) == 3


def test_hours_that_an_event_lasts_are_hours_when_the_clock_changes(tmp_path: Path) -> None:
    path = write(tmp_path, f"DTSTART;{BERLIN}:20270301T010000\nDURATION:PT3H\nRRULE:FREQ=DAILY")
    assert read(path, "2027-03-28") == [("28 00:00", "28 03:00"), ("28 23:00", "29 02:00")]
    assert read(path, "2027-10-31")[0] == ("30 23:00", "31 02:00")
    path = write(tmp_path, f"DTSTART;{BERLIN}:20270327T120000\nDURATION:P1D")
    assert read(path, "2027-03-27") == [("27 11:00", "28 10:00")]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ics")
    with pytest.raises(TidegateError, match=r"pipe\.ics can't be read: it is no file"):
        read(tmp_path / "pipe.ics", "2027-03-01")


def test_without_its_library_no_calendar_is_said_to_be_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libs, "lacking", lambda need: ("recurring-ical-events>=99",) if need == "calendars" else ())
    files = CalendarFiles(windows=(str(write(tmp_path, "DTSTART:20270301T220000Z\nDURATION:PT1H")),))
    with pytest.raises(TidegateError, match="recurring-ical-events"):
        read_calendars(files, datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 3, 3, tzinfo=UTC))


def test_what_a_calendar_makes_us_compute_has_a_limit_and_the_event_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ics, "_SECONDS", 0.5)
    before = signal.getsignal(signal.SIGVTALRM)
    never = "SUMMARY:never\nDTSTART;VALUE=DATE:20270302\nRRULE:FREQ=DAILY;BYDAY=MO,TU;BYSETPOS=-366"
    with pytest.raises(TidegateError, match=r"test\.ics: .* more than 0\.5 seconds of processor time at the event 'never'; let"):
        read(write(tmp_path, never, head="X-WR-TIMEZONE:Europe/Berlin\n"), "2027-03-01", longer=True)
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_components_that_begin_and_never_end_are_refused_without_a_search_of_each(tmp_path: Path) -> None:
    for line in ("BEGIN:VCALENDAR\n", "BEGIN:VEVENT\n"):  # of this many a search for the end of each would take hours
        path = tmp_path / "freeze.ics"
        path.write_text(line * 300_000)
        with pytest.raises(TidegateError, match="no complete VCALENDAR"):
            read_events(path, datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC), longer=True)


def test_a_zone_that_would_change_every_second_is_refused(tmp_path: Path) -> None:
    part = "BEGIN:{0}\nDTSTART:19000101T000000\nTZOFFSETFROM:+0{1}00\nTZOFFSETTO:+0{2}00\nRRULE:FREQ=SECONDLY\nEND:{0}\n"
    zone = f"BEGIN:VTIMEZONE\nTZID:Bomb\n{part.format('STANDARD', 2, 1)}{part.format('DAYLIGHT', 1, 2)}END:VTIMEZONE\n"
    with pytest.raises(TidegateError, match="its description of the time zone 'Bomb' has an RRULE that is not yearly"):
        read(write(tmp_path, "DTSTART;TZID=Bomb:20270301T100000\nDURATION:PT1H", head=zone), "2027-03-01")


def test_too_many_occurrences_are_refused_and_never_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ics, "_EVENTS", 20)
    path = write(tmp_path, "DTSTART:20270301T220000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=30")
    with pytest.raises(TidegateError, match="it has more than 20 events between"):
        read(path, "2027-03-01", 60)
    assert len(read(path, "2027-03-01", 9)) == 9


def test_a_fault_that_many_events_share_is_said_once_and_of_many_the_first_are(tmp_path: Path) -> None:
    same = [f"SUMMARY:e{number}\nDTSTART;TZID=Foo/Bar:20270301T080000\nDTEND;TZID=Foo/Bar:20270301T090000" for number in range(40)]
    with pytest.raises(TidegateError, match="the event 'e0' has DTSTART in the time zone 'Foo/Bar'") as caught:
        read(write(tmp_path, *same), "2027-03-01")
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(TidegateError, match="and 30 more of its events") as caught:
        read(write(tmp_path, *(text.replace(";TZID=Foo/Bar", "") for text in same)), "2027-03-01")
    assert len(str(caught.value).splitlines()) == 11


@pytest.mark.parametrize(
    "event",
    [
        "DTSTART;VALUE=DATE:99991231",
        "DTSTART:00010101T000000\nDURATION:P1D\nRRULE:FREQ=YEARLY",
        "DTSTART:20270301T080000Z\nDURATION:P99999999D",
        "DTSTART:20270301T080000Z\nDURATION:PT1H\nSEQUENCE:x",
        "DTSTART:20270301T080000Z\nDURATION:PT1H\nRECURRENCE-ID:never",
        "DTSTART:20270301T080000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=many",
        "DTSTART:20270301T080000Z\nDURATION:PT1H\nRRULE:FREQ=MONTHLY;BYDAY=99MO",
        "DTSTART:20270301T080000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;X-NEW=1",
        "DTSTART:20270301T080000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;BYSETPOS=1",
        "DTSTART:20270301T080000Z\nDURATION:PT1H\nEXDATE:never",
    ],
)
@pytest.mark.parametrize("longer", [True, False])
def test_whatever_stands_in_a_file_it_is_read_or_refused_by_name(tmp_path: Path, event: str, longer: bool) -> None:
    for head in ("X-WR-TIMEZONE:Europe/Berlin\n", "BEGIN:VTIMEZONE\nEND:VTIMEZONE\n", "CALSCALE:JULIAN\n"):
        path = write(tmp_path, f"SUMMARY:odd\n{event}", head=head)
        try:
            read(path, "2027-03-01", 5, longer)
        except TidegateError as error:
            assert str(error).startswith((f"{path}: the event 'odd'", f"{path}: can't be read"))  # noqa: PT017 reading it is as good
