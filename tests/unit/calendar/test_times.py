# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of an event that are not of one kind: read as they are meant, longer for a freeze, shorter for a window, or refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.ics import read_events
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ics_files import BERLIN, read, write

HERE = "X-WR-TIMEZONE:Europe/Berlin\n"
DAY = "DTSTART;VALUE=DATE:20270315\nDTEND;VALUE=DATE:20270316\nRRULE:FREQ=DAILY"  # from 14 23:00 in UTC
TIMED = f"DTSTART;{BERLIN}:20270315T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"  # 09:00 in UTC


def days(*starts: int) -> list[tuple[str, str]]:
    return [(f"{day:02} 23:00", f"{day + 1:02} 23:00") for day in starts]


def hours(*starts: int) -> list[tuple[str, str]]:
    return [(f"{day} 09:00", f"{day} 10:00") for day in starts]


@pytest.mark.parametrize(
    ("text", "freeze", "window"),
    [
        (f"{DAY};UNTIL=20270316T230000Z", days(14, 15, 16), days(14, 15, 16)),  # local midnight of the last day
        (f"{DAY};UNTIL=20270317T000000Z", days(14, 15, 16), days(14, 15, 16)),
        (f"{DAY};UNTIL=20270316T000000", days(14, 15), days(14, 15)),
        (f"{DAY};UNTIL=20270314T230000Z", days(14), days(14)),  # the only one
        (f"{DAY};COUNT=3\nEXDATE:20270315T230000Z", days(14, 16), days(14, 16)),
        (f"{DAY};COUNT=3\nEXDATE:20270316T000000Z", days(14, 16), days(14, 16)),
        (f"{DAY};COUNT=1\nRDATE:20270317T000000", days(14, 16), days(14, 16)),
        ("DTSTART;VALUE=DATE:20270315\nDTEND:20270315T230001Z", [("14 23:00", "15 23:00")], [("14 23:00", "15 23:00")]),
        ("DTSTART;VALUE=DATE:20270315\nDURATION:PT12H", [("14 23:00", "15 11:00")], [("14 23:00", "15 11:00")]),
        (f"DTSTART;{BERLIN}:20270315T100000\nDTEND;VALUE=DATE:20270316", [("15 09:00", "16 23:00")], [("15 09:00", "15 23:00")]),
        (f"DTSTART;{BERLIN}:20270315T100000\nDTEND:20270315T110000", hours(15), hours(15)),
        (f"DTSTART;{BERLIN}:20270315T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;UNTIL=20270317", hours(15, 16, 17), hours(15, 16, 17)),
        (f"DTSTART;{BERLIN}:20270315T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;UNTIL=20270317T100000", hours(15, 16, 17), hours(15, 16, 17)),
        ("DTSTART:20270315T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;UNTIL=20270316T090000Z", hours(15, 16), hours(15, 16)),
        (f"{TIMED}\nEXDATE;VALUE=DATE:20270316", hours(15, 17), hours(15, 17)),
        (f"{TIMED}\nEXDATE:20270316T090000Z", hours(15, 17), hours(15, 17)),
        (f"{TIMED}\nEXDATE:20270316T100000", hours(15, 17), hours(15, 17)),
        (f"{TIMED}\nEXDATE;TZID=America/New_York:20270316T100000", hours(15, 16, 17), hours(15, 17)),
        (f"{TIMED}\nEXDATE:20270316T100000Z", hours(15, 16, 17), hours(15, 17)),
        (f"{TIMED}\nRDATE;VALUE=DATE:20270320", [*hours(15, 16, 17), ("19 23:00", "20 23:00")], hours(15, 16, 17, 20)),
        (f"{TIMED}\nRDATE:20270320T100000", hours(15, 16, 17, 20), hours(15, 16, 17, 20)),
        (f"{TIMED}\nRDATE;VALUE=PERIOD:20270320T090000Z/PT2H", [*hours(15, 16, 17), ("20 09:00", "20 11:00")], None),
    ],
)
def test_times_are_read_as_they_are_meant(
    tmp_path: Path, text: str, freeze: list[tuple[str, str]], window: list[tuple[str, str]] | None
) -> None:
    path = write(tmp_path, text, head=HERE)
    assert read(path, "2027-03-10", 15, longer=True) == freeze
    assert read(path, "2027-03-10", 15) == (freeze if window is None else window)


@pytest.mark.parametrize("longer", [True, False])
@pytest.mark.parametrize(
    ("series", "which", "left"),
    [
        (f"{DAY};COUNT=3", "RECURRENCE-ID:20270315T230000Z", days(14, 16)),
        (f"{DAY};COUNT=3", "RECURRENCE-ID:20270316T000000", days(14, 16)),
        (TIMED, "RECURRENCE-ID;VALUE=DATE:20270316", hours(15, 17)),
        (TIMED, "RECURRENCE-ID;TZID=America/New_York:20270316T050000", hours(15, 17)),
        (TIMED, "RECURRENCE-ID:20270316T100000", hours(15, 17)),
    ],
)
def test_an_occurrence_that_was_moved_is_found_however_it_is_named(
    tmp_path: Path, series: str, which: str, left: list[tuple[str, str]], longer: bool
) -> None:
    start = "DTSTART;VALUE=DATE:20270322" if "VALUE=DATE" in series else f"DTSTART;{BERLIN}:20270322T100000\nDURATION:PT1H"
    both = [f"BEGIN:VEVENT\nUID:one\nDTSTAMP:20260101T000000Z\n{one}\nEND:VEVENT\n" for one in (f"{which}\n{start}", series)]
    found = read(write(tmp_path, *both, head=HERE), "2027-03-10", 15, longer)
    assert found == [*left, ("21 23:00", "22 23:00") if "VALUE=DATE" in series else ("22 09:00", "22 10:00")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            f"{DAY};COUNT=3\nEXDATE:20270316T101500",
            "the event 'odd' has an EXDATE at 2027-03-16T10:15:00, a time of day, although it is of whole",
        ),
        (f"{DAY};COUNT=3\nRDATE:20270316T101500", "the event 'odd' has an RDATE at 2027-03-16T10:15:00"),
        (f"{DAY};COUNT=3\nRDATE;VALUE=PERIOD:20270316T101500Z/PT1H", "the event 'odd' has an RDATE with the period 2027-03-16T10:15:00"),
        ("DTSTART;TZID=Europe:20270315T100000\nDURATION:PT1H", "the event 'odd' has DTSTART in the time zone 'Europe', which is not known"),
        (
            'DTSTART;TZID="America":20270315T100000\nDURATION:PT1H',
            "the event 'odd' has DTSTART in the time zone 'America', which is not known",
        ),
        ("DTSTART:20270315T100000Z\nDURATION:PT1H\nRDATE;X=1;TZID=Asia:20270316T100000", "has RDATE in the time zone 'Asia'"),
    ],
)
def test_what_has_no_plain_meaning_is_refused_by_event_and_property(tmp_path: Path, text: str, problem: str) -> None:
    for longer in (True, False):
        with pytest.raises(TidegateError, match=r"Outlook.*Google Calendar.*Exchange") as caught:
            read(write(tmp_path, f"SUMMARY:odd\n{text}", head=HERE), "2027-03-10", 15, longer)
        assert problem in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / "test.ics"))


@pytest.mark.parametrize("name", ["W. Europe Standard Time", "Europe/Berlin"])
def test_the_calendar_s_zone_has_the_name_that_its_program_gives_it(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path, f"{DAY};COUNT=1", head=f"X-WR-TIMEZONE:{name}\n"), "2027-03-10", 9) == days(14)
    assert read(write(tmp_path, f"DTSTART;TZID={name}:20270315T100000\nDURATION:PT1H"), "2027-03-15") == hours(15)


@pytest.mark.parametrize(
    "name", ["Europe", "Nowhere/At all", "(UTC+01:00) Amsterdam, Berlin", "/etc/passwd", "../Berlin", "localtime", "/etc/localtime"]
)
def test_a_calendar_s_zone_that_nobody_knows_is_refused_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(TidegateError, match="its X-WR-TIMEZONE is the time zone") as caught:
        read(write(tmp_path, f"{DAY};COUNT=1", DAY, head=f"X-WR-TIMEZONE:{name}\n"), "2027-03-10", 9)
    assert len(str(caught.value).splitlines()) == 1


def test_every_calendar_in_a_file_is_read_in_its_own_zone(tmp_path: Path) -> None:
    berlin = write(tmp_path, f"{DAY};COUNT=1", head=HERE).read_text()
    tokyo = write(tmp_path, f"{DAY};COUNT=1", head="X-WR-TIMEZONE:Asia/Tokyo\n").read_text()
    both = tmp_path / "both.ics"
    both.write_text(berlin + "\n" + tokyo)
    assert read(both, "2027-03-10", 9) == [("14 15:00", "15 15:00"), *days(14)]
    both.write_text(berlin + tokyo.removesuffix("END:VCALENDAR\n"))  # cut short on its way
    with pytest.raises(TidegateError, match="has something that is in no complete VCALENDAR"):
        read(both, "2027-03-10", 9)


def test_the_event_that_no_parser_understands_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, f"SUMMARY:good\n{DAY};COUNT=1", f"SUMMARY:bad\nDTSTART;{BERLIN}:20270315T100000\nDURATION:nonsense", head=HERE)
    with pytest.raises(TidegateError, match="the event 'bad' "):
        read(path, "2027-03-10", 9)


def events(*texts: str, head: str = "") -> str:
    body = "".join(f"BEGIN:VEVENT\nUID:one\nDTSTAMP:20260101T000000Z\n{text}\nEND:VEVENT\n" for text in texts)
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-\n{head}{body}END:VCALENDAR\n"


@pytest.mark.parametrize("longer", [True, False])
@pytest.mark.parametrize("added", ["20270101T000000Z/P100D", "20270101T000000Z/20270411T000000Z"])
def test_a_period_that_was_added_counts_until_it_ends(tmp_path: Path, added: str, longer: bool) -> None:
    path = write(tmp_path, f"DTSTART:20261201T090000Z\nDURATION:PT1H\nRDATE;VALUE=PERIOD:{added}")
    assert read(path, "2027-03-15", 1, longer) == [("01 00:00", "11 00:00")]
    assert read(path, "2027-04-11", 1, longer) == []


@pytest.mark.parametrize("longer", [True, False])
def test_occurrences_from_one_on_are_cancelled_together(tmp_path: Path, longer: bool) -> None:
    path = tmp_path / "test.ics"
    cancel = f"RECURRENCE-ID;RANGE=THISANDFUTURE;{BERLIN}:20270316T100000\nDTSTART;{BERLIN}:20270316T100000\nDURATION:PT1H"
    path.write_text(events(TIMED) + events(cancel, head="METHOD:CANCEL\n"))
    assert read(path, "2027-03-10", 15, longer) == hours(15)
    path.write_text(events(TIMED) + events(cancel.replace(";RANGE=THISANDFUTURE", ""), head="METHOD:CANCEL\n"))
    assert read(path, "2027-03-10", 15, longer) == hours(15, 17)


@pytest.mark.parametrize(
    ("series", "cancelled", "left"),
    [
        (TIMED, "RECURRENCE-ID;VALUE=DATE:20270316\nDTSTART;VALUE=DATE:20270316", hours(15, 17)),
        (f"{DAY};COUNT=3", "RECURRENCE-ID:20270315T230000Z\nDTSTART:20270315T230000Z\nDURATION:P1D", days(14, 16)),
    ],
)
def test_a_window_that_is_cancelled_by_its_day_or_by_a_time_of_its_day_opens_nothing(
    tmp_path: Path, series: str, cancelled: str, left: list[tuple[str, str]]
) -> None:
    (tmp_path / "test.ics").write_text(events(series, head=HERE) + events(cancelled, head=f"METHOD:CANCEL\n{HERE}"))
    assert read(tmp_path / "test.ics", "2027-03-10", 15) == left
    assert len(read(tmp_path / "test.ics", "2027-03-10", 15, longer=True)) == 3  # what can be taken in two ways goes on for a freeze


@pytest.mark.parametrize("longer", [True, False])
@pytest.mark.parametrize(("day", "left"), [(16, [15, 17]), (17, [15, 16])])
def test_one_that_is_cancelled_of_many_that_were_moved_is_the_only_one(tmp_path: Path, day: int, left: list[int], longer: bool) -> None:
    later = f"RECURRENCE-ID;RANGE=THISANDFUTURE;{BERLIN}:20270316T100000\nDTSTART;{BERLIN}:20270316T120000\nDURATION:PT1H"
    cancel = f"RECURRENCE-ID;{BERLIN}:202703{day}T100000\nDTSTART;{BERLIN}:202703{day}T120000\nDURATION:PT1H"
    (tmp_path / "test.ics").write_text(events(TIMED, later) + events(cancel, head="METHOD:CANCEL\n"))
    assert [int(start[:2]) for start, _end in read(tmp_path / "test.ics", "2027-03-10", 15, longer)] == left


@pytest.mark.parametrize("longer", [True, False])
def test_a_range_is_one_in_whatever_letters(tmp_path: Path, longer: bool) -> None:
    later = f"RECURRENCE-ID;RANGE=thisAndFuture;{BERLIN}:20270316T100000\nDTSTART;{BERLIN}:20270316T120000\nDURATION:PT1H"
    (tmp_path / "test.ics").write_text(events(TIMED, later))
    found = read(tmp_path / "test.ics", "2027-03-10", 15, longer)
    assert found == [("15 09:00", "15 10:00"), ("16 11:00", "16 12:00"), ("17 11:00", "17 12:00")]


@pytest.mark.parametrize("longer", [True, False])
def test_an_occurrence_that_is_excepted_is_none_after_its_series_was_moved_either(tmp_path: Path, longer: bool) -> None:
    later = f"RECURRENCE-ID;RANGE=THISANDFUTURE;{BERLIN}:20270316T100000\nDTSTART;{BERLIN}:20270316T120000\nDURATION:PT1H"
    (tmp_path / "test.ics").write_text(events(f"{TIMED.replace('COUNT=3', 'COUNT=4')}\nEXDATE;{BERLIN}:20270317T100000", later))
    found = read(tmp_path / "test.ics", "2027-03-10", 15, longer)
    assert found == [("15 09:00", "15 10:00"), ("16 11:00", "16 12:00"), ("18 11:00", "18 12:00")]


@pytest.mark.parametrize("longer", [True, False])
@pytest.mark.parametrize("own", ["RRULE:FREQ=DAILY;COUNT=9", "RDATE:20270320T090000Z"])
def test_a_changed_occurrence_with_a_recurrence_of_its_own_is_refused(tmp_path: Path, own: str, longer: bool) -> None:
    changed = f"RECURRENCE-ID;{BERLIN}:20270316T100000\nDTSTART;{BERLIN}:20270316T120000\nDURATION:PT1H\nSUMMARY:odd\n{own}"
    (tmp_path / "test.ics").write_text(events(TIMED, changed))
    with pytest.raises(TidegateError, match="the event 'odd' has both a RECURRENCE-ID and a recurrence of its own"):
        read(tmp_path / "test.ics", "2027-03-10", 15, longer)


@pytest.mark.parametrize("longer", [True, False])
@pytest.mark.parametrize("zone", ["America/Santiago", "Africa/Cairo", "America/Havana", "Asia/Beirut"])
def test_a_day_whose_midnight_the_clock_skips_begins_with_its_first_moment(tmp_path: Path, zone: str, longer: bool) -> None:
    day = {"America/Santiago": "20260906", "Africa/Cairo": "20260424", "America/Havana": "20260308", "Asia/Beirut": "20260329"}[zone]
    path = write(tmp_path, f"DTSTART;VALUE=DATE:{day}", head=f"X-WR-TIMEZONE:{zone}\n")
    start, end = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC), timedelta(days=2)
    (event,) = read_events(path, start, start + end, longer)
    here = event.start.astimezone(ZoneInfo(zone))
    assert (f"{here:%Y%m%d %H:%M}", event.end - event.start) == (f"{day} 01:00", timedelta(hours=23))
    path = write(tmp_path, f"DTSTART;TZID={zone}:{day}T000000\nDURATION:PT2H")
    with pytest.raises(TidegateError, match=r"an hour that \S+ skips"):
        read_events(path, start, start + end, longer)


def described(name: str, offset: str, more: str = "", of_part: str = "") -> str:
    part = f"BEGIN:STANDARD\nDTSTART:19700101T000000\n{of_part}TZOFFSETFROM:{offset}\nTZOFFSETTO:{offset}\nEND:STANDARD\n"
    return f"BEGIN:VTIMEZONE\nTZID:{name}\n{more}{part}END:VTIMEZONE\n"


@pytest.mark.parametrize("longer", [True, False])
def test_a_zone_is_read_whatever_a_program_adds_to_its_description(tmp_path: Path, longer: bool) -> None:
    added = "SEQUENCE:9206\nTZURL:https://zone.example\nTZID-ALIAS-OF:Europe/Berlin\nTZUNTIL:20400101T000000Z\nX-OWN;A=b:c\n"
    zone = described("Ours", "+0100", added, "TZNAME;LANGUAGE=de:MEZ\nCOMMENT:none\nX-OWN:1\n")
    assert read(write(tmp_path, "DTSTART;TZID=Ours:20270315T100000\nDURATION:PT1H", head=zone), "2027-03-15", 1, longer) == hours(15)


@pytest.mark.parametrize("longer", [True, False])
@pytest.mark.parametrize("used", ['"(UTC+01:00) Rome, Bern; all"', r'"(UTC+01:00) Rome\, Bern\; all"'])
def test_a_zone_s_name_has_its_signs_escaped_where_it_is_a_text(tmp_path: Path, used: str, longer: bool) -> None:
    zone = described(r"(UTC+01:00) Rome\, Bern\; all", "+0100")
    assert read(write(tmp_path, f"DTSTART;TZID={used}:20270315T100000\nDURATION:PT1H", head=zone), "2027-03-15", 1, longer) == hours(15)


def test_a_zone_that_is_described_in_two_ways_is_refused_or_counts_both(tmp_path: Path) -> None:
    event = "DTSTART;TZID={}:20270315T100000\nDURATION:PT3H"
    path = write(tmp_path, event.format("Ours"), head=described("Ours", "+0100") + described("Ours", "+0200"))
    with pytest.raises(TidegateError, match="describes the time zone 'Ours' in more than one way"):
        read(path, "2027-03-15")
    path = write(tmp_path, event.format("Ours"), head=described("Ours", "+0100") * 2)
    assert read(path, "2027-03-15") == [("15 09:00", "15 12:00")]
    path = write(tmp_path, event.format("Europe/Berlin"), head=described("Europe/Berlin", "+0200") + described("Europe/Berlin", "+0100"))
    assert read(path, "2027-03-15", longer=True) == [("15 08:00", "15 12:00")]
    assert read(path, "2027-03-15") == [("15 09:00", "15 11:00")]


def test_a_summary_in_many_languages_is_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, "SUMMARY;LANGUAGE=de:Ruhe\nSUMMARY;LANGUAGE=en:Quiet\nDTSTART:20270315T100000Z\nDURATION:PT1H\nSTATUS:TENTATIVE")
    start, notes = datetime(2027, 3, 15, tzinfo=UTC), list[str]()
    (event,) = read_events(path, start, start + timedelta(days=1), True, notes)
    assert event.summary == "Ruhe"
    assert "the event 'Ruhe' is not confirmed" in notes[0]
