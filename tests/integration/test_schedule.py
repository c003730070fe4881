# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of changes finds those that meet, and the schedule of what is to come can be read by other calendars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import icalendar
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.ics import read_events
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Course
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import (
    overlapping,
    planned,
    register_change,
    update_register,
    withdraw,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import schedule as scheduling
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.schedule import publish, schedule
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import entered_with
from documents import EXAMPLES, example_rfc, loaded_rfc, write_document
from office import run_playbook

START = datetime(2027, 3, 1, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
RFC = loaded_rfc(
    start_date=START,
    end_date=START + 4 * HOUR,
    backout_plan="",
    test_plan="",
    digest="sha256:" + "a" * 64,
    fingerprint="f",
)


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": name, "class": "server", "site": "ams"} for name in ("web1", "web2", "db1", "disk1")], actor="test")
        opened.relate([("web1", "db1", "depends_on"), ("db1", "disk1", "depends_on")], "test")
        yield opened


def put(cmdb: Cmdb, *cis: str, **changes: Any) -> Rfc:
    rfc = replace(RFC, **{"number": "CHG0002", **changes})
    with cmdb.begin() as connection:
        register_change(connection, rfc, cis, START)
    return rfc


@pytest.mark.parametrize(
    ("cis", "changes", "meeting"),
    [
        (("web1",), {}, ("web1",)),
        (("web1", "web2"), {}, ("web1",)),
        (("db1",), {}, ("web1 depends_on db1",)),
        (("disk1",), {}, ("web1 depends_on db1, db1 depends_on disk1",)),
        (("web2",), {}, ()),
        (("web1",), {"number": "CHG0001"}, ()),
        (("web1",), {"start_date": START - 4 * HOUR, "end_date": START}, ()),
        (("web1",), {"start_date": START + 4 * HOUR, "end_date": START + 5 * HOUR}, ()),
        (("web1",), {"start_date": START - HOUR, "end_date": START + timedelta(seconds=1)}, ("web1",)),
        (("web1",), {"start_date": START - HOUR, "end_date": START + 9 * HOUR}, ("web1",)),
        (("web1",), {"state": -5}, ("web1",)),
        (("web1",), {"state": -1}, ("web1",)),
        *((("web1",), {"state": state}, ()) for state in (0, 3, 4)),
    ],
)
def test_changes_at_the_same_time_meet_at_a_ci_or_at_two_that_are_related(
    cmdb: Cmdb, cis: tuple[str, ...], changes: dict[str, Any], meeting: tuple[str, ...]
) -> None:
    put(cmdb, *cis, **changes)
    found = overlapping(cmdb, RFC, {"web1"})
    assert [one.meeting for one in found] == ([meeting] if meeting else [])
    assert [one.other.number for one in found] == (["CHG0002"] if meeting else [])


def test_what_the_model_says_hits_nobody_is_no_conflict(cmdb: Cmdb) -> None:
    put(cmdb, "disk1")
    cmdb.relate([("web2", "disk1", "backs_up")], "test")
    assert overlapping(cmdb, RFC, {"web2"}) == []


def test_a_relation_counts_from_either_end(cmdb: Cmdb) -> None:
    put(cmdb, "web1")
    assert [one.meeting for one in overlapping(cmdb, RFC, {"db1"})] == [("web1 depends_on db1",)]


def test_what_is_done_or_withdrawn_meets_nothing(cmdb: Cmdb) -> None:
    put(cmdb, "web1")
    put(cmdb, "web1", number="CHG0003")
    update_register(cmdb, "CHG0002", Course(-1, START, START + HOUR, "successful", "done"), START)
    with cmdb.begin() as connection:
        withdraw(connection, ["CHG0003"], START)
    assert overlapping(cmdb, RFC, {"web1"}) == []
    assert planned(cmdb, START) == []


def begin(cmdb: Cmdb, number: str, host: str = "web1") -> Run:
    package = {"name": "hello", "version": "1.0", "digest": RFC.digest}
    return Journal(cmdb).begin(number, package, ((host,),), Rollout(), Holder.this_run(), START)


def test_what_was_given_up_before_it_touched_a_host_meets_nothing_until_it_begins_again(cmdb: Cmdb) -> None:
    put(cmdb, "web1")
    run = begin(cmdb, "CHG0002")
    assert [one.number for one in planned(cmdb, START)] == ["CHG0002"]
    Journal(cmdb).order_backout(run, "not today", START)
    assert planned(cmdb, START) == []
    begin(cmdb, "CHG0002")
    assert [one.number for one in planned(cmdb, START)] == ["CHG0002"]


def test_what_is_still_under_way_after_its_window_meets_others(cmdb: Cmdb) -> None:
    put(cmdb, "db1", start_date=START - 8 * HOUR, end_date=START - 4 * HOUR)
    assert overlapping(cmdb, RFC, {"web1"}) == []
    run = begin(cmdb, "CHG0002", "db1")
    assert [one.meeting for one in overlapping(cmdb, RFC, {"web1"})] == [("web1 depends_on db1",)]
    assert overlapping(cmdb, replace(RFC, number="CHG0002"), {"web1"}) == []
    Journal(cmdb).order_backout(run, "not today", START)
    assert overlapping(cmdb, RFC, {"web1"}) == []


def test_what_was_withdrawn_is_not_held_to_the_cis_that_it_was_entered_with(cmdb: Cmdb) -> None:
    rfc = put(cmdb, "web1")
    with cmdb.begin() as connection:
        withdraw(connection, ["CHG0002"], START)
    assert entered_with(cmdb, rfc) == ()
    put(cmdb, "web1")
    assert entered_with(cmdb, rfc) == ("web1",)


def test_what_no_calendar_may_have_is_not_published(cmdb: Cmdb, tmp_path: Path) -> None:
    put(cmdb, "web1", short_description="a\x07b\tc\nd")
    after = publish(cmdb, tmp_path / "releases.ics", (), START, write=False)[1]
    (event,) = icalendar.Calendar.from_ical(after).walk("VEVENT")
    assert str(event["DESCRIPTION"]).startswith("a b c\nd\n")


def test_a_deployment_that_is_open_is_held_to_its_plan_and_not_to_the_register(cmdb: Cmdb) -> None:
    rfc = put(cmdb, "web1")
    assert entered_with(cmdb, rfc) == ("web1",)
    assert entered_with(cmdb, replace(rfc, fingerprint="edited")) == ()
    begin(cmdb, "CHG0002")
    assert entered_with(cmdb, rfc) == ()


class Office:
    """RFCs in files, and what a user runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.digest = archive(EXAMPLES / "hello", create_library(str(path / "dsl")).repository("hello")).digest
        with Cmdb.open(str(path / "cmdb.sqlite"), create=True) as cmdb:
            cmdb.put_cis([{"name": name, "class": "server", "site": site} for name, site in (("web1", "ams"), ("web2", "fra"))], "test")

    def rfc(self, number: str, begins: float, **changes: Any) -> Path:
        times = ((self.now + (begins + hours) * HOUR).isoformat() for hours in (0, 2))
        said = {"number": number, **dict(zip(("start_date", "end_date"), times, strict=True)), **changes}
        return write_document(self.path / f"{number}.yml", example_rfc(self.digest, **said))

    def play(self, playbook: str, *options: str, **variables: Any) -> str:
        extra = [part for pair in variables.items() for part in ("-e", yaml.safe_dump(dict([pair]), default_flow_style=True, width=9999))]
        said = run_playbook(self.path, playbook, *extra, *options)
        assert "Traceback" not in said
        return said


def test_the_schedule_is_kept_and_published(tmp_path: Path) -> None:
    office = Office(tmp_path)
    calendar = tmp_path / "www" / "releases.ics"
    hostile = "Night\nBEGIN:VEVENT; \\, of the lions"
    paths = [str(office.rfc("CHG0001", -1)), str(office.rfc("CHG0002", 0.5, scope="[?name=='web2']", short_description=hostile, state=-4))]
    would = office.play("tidegate.release.schedule", "--check", tidegate_rfcs=paths, tidegate_schedule=str(calendar))
    assert "changed=1" in would
    assert "would be entered, for 1 CI: web2" in would
    assert f"{calendar} would be written: 2 events" in would
    assert not calendar.exists()
    said = office.play("tidegate.release.schedule", "--diff", tidegate_rfcs=paths, tidegate_schedule=str(calendar))
    assert said.startswith("0 ")
    assert "is entered, for 1 CI: web2" in said
    assert f"{calendar} is written: 2 events" in said
    events = icalendar.Calendar.from_ical(calendar.read_bytes()).walk("VEVENT")
    assert [str(event["SUMMARY"]) for event in events] == ["CHG0001: hello 1.0", "CHG0002: hello 1.0"]
    assert [str(event["STATUS"]) for event in events] == ["CONFIRMED", "TENTATIVE"]
    assert [str(event["LOCATION"]) for event in events] == ["ams", "fra"]
    assert str(events[1]["DESCRIPTION"]).startswith(hostile)
    assert events[1]["DTSTART"].dt == office.now + timedelta(minutes=30)
    assert "changed=0" in office.play("tidegate.release.schedule", tidegate_rfcs=paths, tidegate_schedule=str(calendar))

    # They are at different CIs; a third one is not.
    assert "CHG0001 is cleared" in office.play("tidegate.release.clear", tidegate_rfc=paths[0])
    third = str(office.rfc("CHG0003", -1, scope="[*]"))
    refused = office.play("tidegate.release.clear", tidegate_rfc=third)
    assert "CHG0003 is not cleared: conflicts: CHG0001 (hello 1.0, " in refused
    assert "meets it at web1" in refused
    assert "CHG0002 (hello 1.0, " in refused
    assert "changed=1" in office.play("tidegate.release.schedule", tidegate_withdraw=["CHG0001", "CHG0002"])
    assert "CHG0003 is cleared" in office.play("tidegate.release.clear", tidegate_rfc=third)


def test_what_the_scope_selects_is_held_to_what_it_selected_when_the_rfc_was_entered(tmp_path: Path) -> None:
    office = Office(tmp_path)
    rfc = str(office.rfc("CHG0001", -1))
    assert "changed=1" in office.play("tidegate.release.schedule", tidegate_rfcs=[rfc])
    assert "CHG0001 is cleared" in office.play("tidegate.release.clear", tidegate_rfc=rfc)
    with Cmdb.open(str(tmp_path / "cmdb.sqlite")) as cmdb:
        cmdb.put_cis([{"name": "web3", "class": "server", "site": "ams"}], "test")
    refused = office.play("tidegate.release.clear", tidegate_rfc=rfc)
    assert "scope: the scope now also selects web3, which it did not when CHG0001 was entered" in refused
    assert "changed=1" in office.play("tidegate.release.schedule", tidegate_rfcs=[rfc])
    assert "CHG0001 is cleared" in office.play("tidegate.release.clear", tidegate_rfc=rfc)


def test_every_rfc_that_can_not_be_entered_is_told_and_none_is_entered(tmp_path: Path) -> None:
    office = Office(tmp_path)
    good = office.rfc("CHG0001", 1)
    bad = [office.rfc("CHG0002", 1, scope="[?name=='nobody']"), office.rfc("CHG0003", 1, state=3), tmp_path / "none.yml"]
    said = office.play("tidegate.release.schedule", tidegate_rfcs=[str(path) for path in (good, *bad)])
    assert said.startswith("2 ")
    for what in ("the scope of CHG0002 selects no CI", "CHG0003 is Closed, so there is nothing to be done", "none.yml"):
        assert what in said
    with Cmdb.open(str(tmp_path / "cmdb.sqlite")) as cmdb:
        assert planned(cmdb, office.now) == []

    assert "changed=1" in office.play("tidegate.release.schedule", tidegate_rfcs=[str(good)])
    office.play("tidegate.release.schedule", tidegate_withdraw=["CHG0001"], tidegate_rfcs=[str(bad[0])])
    twin = good.rename(tmp_path / "twin.yml")
    said = office.play("tidegate.release.schedule", tidegate_rfcs=[str(twin), str(office.rfc("CHG0001", 2))])
    assert "CHG0001 is named by another of these RFCs too" in said
    with Cmdb.open(str(tmp_path / "cmdb.sqlite")) as cmdb:
        assert [(change.number, change.start) for change in planned(cmdb, office.now)] == [("CHG0001", office.now + HOUR)]


class Desk:
    """A register and a published schedule, without Ansible."""

    def __init__(self, office: Office) -> None:
        self.office, self.file = office, office.path / "releases.ics"
        self.now = office.now

    def schedule(self, *rfcs: Path, withdraw: Sequence[str] = (), write: bool = True) -> tuple[list[str], dict[str, Any]]:
        """What was said, and the events of the file afterwards, or as it would be."""
        self.now += timedelta(seconds=1)
        with Cmdb.open(str(self.office.path / "cmdb.sqlite")) as cmdb:
            done = schedule(cmdb, [str(path) for path in rfcs], withdraw, self.now, write)
            _before, after, sentence = publish(cmdb, self.file, () if write else done.changes, self.now, write)
        calendar = icalendar.Calendar.from_ical(after)
        return [*done.lines, sentence], {str(event["UID"]).partition("@")[0]: event for event in calendar.walk("VEVENT")}


def test_the_sequence_of_an_event_rises_with_its_dates_title_or_status_and_only_then(tmp_path: Path) -> None:
    office = Office(tmp_path)
    desk = Desk(office)

    def sequence(begins: float, **changes: Any) -> tuple[int, datetime]:
        event = desk.schedule(office.rfc("CHG0001", begins, **changes))[1]["CHG0001"]
        assert event["DTSTAMP"].dt == event["LAST-MODIFIED"].dt
        return int(event["SEQUENCE"]), event["LAST-MODIFIED"].dt

    first = sequence(1)
    assert first == (0, desk.now)
    assert sequence(1) == first
    assert sequence(1, risk=2)[0] == 0
    assert sequence(1, state=-1)[0] == 0
    assert sequence(1, scope="[*]")[0] == 0
    assert sequence(2, scope="[*]")[0] == 1
    assert sequence(2, short_description="Something else")[0] == 2
    assert sequence(2, short_description="Something else") == (2, desk.now - timedelta(seconds=1))
    for state, wanted in ((-3, 3), (-4, 3), (-2, 4)):  # tentative, tentative, confirmed
        assert sequence(2, short_description="Something else", state=state)[0] == wanted
    for _again in range(2):
        assert int(desk.schedule(withdraw=["CHG0001"])[1]["CHG0001"]["SEQUENCE"]) == 5
    assert sequence(2, short_description="Something else")[0] == 6
    assert sequence(3, short_description="Something else")[0] == 7


def test_the_sequence_of_an_event_rises_when_its_deployment_is_cancelled_and_when_it_begins_again(tmp_path: Path) -> None:
    office = Office(tmp_path)
    desk = Desk(office)
    rfc = office.rfc("CHG0002", 1)

    def published(*rfcs: Path, write: bool = True) -> tuple[int, str]:
        event = desk.schedule(*rfcs, write=write)[1]["CHG0002"]
        return int(event["SEQUENCE"]), str(event["STATUS"])

    assert published(rfc) == (0, "CONFIRMED")
    with Cmdb.open(str(tmp_path / "cmdb.sqlite")) as cmdb:
        for times in (1, 3):
            run = begin(cmdb, "CHG0002")
            assert published() == (times - 1, "CONFIRMED")
            Journal(cmdb).order_backout(run, "not today", START)
            assert published() == (times, "CANCELLED")
    later = office.rfc("CHG0002", 2)
    assert published(later, write=False) == published(later) == (4, "CANCELLED")


def test_the_sequence_of_an_event_rises_when_a_tentative_change_is_implemented(cmdb: Cmdb) -> None:
    put(cmdb, "web1", state=-4)
    for course, sequence in ((Course(), 0), (Course(-1, START), 1), (Course(-1, START), 1)):
        update_register(cmdb, "CHG0002", course, START)
        assert [change.sequence for change in planned(cmdb, START)] == [sequence]


def test_a_change_that_is_cancelled_stays_in_the_schedule_until_it_would_be_over(tmp_path: Path) -> None:
    office = Office(tmp_path)
    desk = Desk(office)
    rfc, other = office.rfc("CHG0001", 1), office.rfc("CHG0002", 1, scope="[?name=='web2']")
    desk.schedule(rfc, other)
    lines, events = desk.schedule(withdraw=["CHG0001", "CHG0009"])
    assert lines[0].startswith("CHG0001 (hello 1.0, ")
    assert lines[0].endswith(" is withdrawn")
    assert lines[1:] == ["CHG0009 is not in the register, so it is not withdrawn", f"{desk.file} is written: 2 events, 1 of them cancelled"]
    assert [str(events[number]["STATUS"]) for number in ("CHG0001", "CHG0002")] == ["CANCELLED", "CONFIRMED"]
    assert int(events["CHG0001"]["SEQUENCE"]) == 1
    assert "Canceled" in str(events["CHG0001"]["DESCRIPTION"])
    assert desk.schedule(withdraw=["CHG0001"])[0][0] == "CHG0001 is withdrawn already"
    # One that its change system cancelled needs nobody to withdraw it.
    lines, events = desk.schedule(office.rfc("CHG0002", 1, state=4))
    assert lines[0].endswith("is withdrawn")
    assert str(events["CHG0002"]["STATUS"]) == "CANCELLED"
    # What is done anew is told again.
    lines, events = desk.schedule(rfc)
    assert "is entered anew (it was withdrawn), for 1 CI: web1" in lines[0]
    assert str(events["CHG0001"]["STATUS"]) == "CONFIRMED"
    desk.now += 5 * HOUR
    assert desk.schedule()[1] == {}


def test_a_calendar_that_has_subscribed_gets_the_same_bytes_until_something_changes(cmdb: Cmdb, tmp_path: Path) -> None:
    put(cmdb, "web1")
    first = publish(cmdb, tmp_path / "one.ics", (), START, write=True)[1]
    assert publish(cmdb, tmp_path / "other.ics", (), START + HOUR, write=True)[1] == first
    calendar = icalendar.Calendar.from_ical(first)
    assert (str(calendar["METHOD"]), calendar["REFRESH-INTERVAL"].dt) == ("PUBLISH", timedelta(minutes=15))
    assert "REFRESH-INTERVAL;VALUE=DURATION:PT15M\r\nX-PUBLISHED-TTL:PT15M\r\n" in first
    with cmdb.begin() as connection:
        withdraw(connection, ["CHG0002"], START)
    after = icalendar.Calendar.from_ical(publish(cmdb, tmp_path / "one.ics", (), START + HOUR, write=True)[1])
    before, gone = (one.walk("VEVENT")[0] for one in (calendar, after))
    assert before["UID"] == gone["UID"]
    assert (int(before["SEQUENCE"]), int(gone["SEQUENCE"]), str(gone["STATUS"])) == (0, 1, "CANCELLED")


def test_an_empty_schedule_is_a_calendar_with_a_name_and_a_component(tmp_path: Path) -> None:
    desk = Desk(Office(tmp_path))
    lines, events = desk.schedule()
    assert (lines, events) == ([f"{desk.file} is written: no events"], {})
    calendar = icalendar.Calendar.from_ical(desk.file.read_bytes())
    assert [str(calendar[name]) for name in ("NAME", "X-WR-CALNAME")] == ["Forward schedule of releases"] * 2
    assert [component.name for component in calendar.subcomponents] == ["VTIMEZONE"]  # RFC 5545 asks for one
    assert read_events(desk.file, desk.now, desk.now + HOUR, longer=True) == []


def test_what_would_be_scheduled_is_what_is_scheduled_then(tmp_path: Path) -> None:
    office = Office(tmp_path)
    desk = Desk(office)
    desk.schedule(office.rfc("CHG0001", 1), office.rfc("CHG0002", 1, scope="[?name=='web2']"))
    new = [office.rfc("CHG0001", 2), office.rfc("CHG0003", 1.5, scope="[*]", state=-4)]
    before = desk.file.read_bytes(), (office.path / "cmdb.sqlite").read_bytes()
    would, wanted = desk.schedule(*new, withdraw=["CHG0002"], write=False)
    assert (desk.file.read_bytes(), (office.path / "cmdb.sqlite").read_bytes()) == before
    desk.now -= timedelta(seconds=1)
    said, events = desk.schedule(*new, withdraw=["CHG0002"])
    assert [line.replace("would be", "is") for line in would] == said
    assert events == wanted
    assert [(name, int(event["SEQUENCE"]), str(event["STATUS"])) for name, event in sorted(events.items())] == [
        ("CHG0001", 1, "CONFIRMED"),
        ("CHG0002", 1, "CANCELLED"),
        ("CHG0003", 0, "TENTATIVE"),
    ]


@pytest.mark.parametrize(("state", "ended"), [(DeploymentState.COMPLETED, "completed"), (DeploymentState.BACKED_OUT, "backed out")])
def test_what_is_over_is_not_entered_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: DeploymentState, ended: str
) -> None:
    office = Office(tmp_path)
    desk = Desk(office)
    deployment = SimpleNamespace(state=state)
    monkeypatch.setattr(scheduling.Deployments, "latest", lambda _self, number: deployment if number == "CHG0001" else None)
    lines, events = desk.schedule(office.rfc("CHG0001", 1), office.rfc("CHG0002", 8))
    assert f"CHG0001 is over, its deployment is {ended}, so it is not entered" in lines
    assert {*events} == {"CHG0002"}


@pytest.mark.parametrize("write", [True, False])
def test_each_rfc_is_told_with_what_changed_and_each_conflict_once_with_where_and_what_to_do(tmp_path: Path, write: bool) -> None:
    office = Office(tmp_path)
    desk = Desk(office)
    desk.schedule(office.rfc("CHG0001", 1), office.rfc("CHG0002", 8))
    rfcs = [office.rfc("CHG0001", 1), office.rfc("CHG0002", 1.5), office.rfc("CHG0003", 1.5, scope="[*]"), office.rfc("CHG0004", 9)]
    lines = desk.schedule(*rfcs, write=write)[0]
    verb = "is" if write else "would be"
    numbers = [line.partition(" (")[0] for line in lines[:-1]]
    assert numbers == [
        "CHG0001",
        "  conflict: CHG0002",
        "  conflict: CHG0003",
        "CHG0002",
        "  conflict: CHG0003",
        "CHG0003",
        "CHG0004",
    ]
    assert lines[0].endswith(" is unchanged, for 1 CI: web1")
    assert lines[1].endswith(f" meets it at web1; {scheduling._APART}")
    assert lines[3].endswith(f" {verb} entered anew (its dates), for 1 CI: web1")
    assert lines[5].endswith(f" {verb} entered, for 2 CIs: web1, web2")
    # One that is withdrawn at the same time is in nobody's way.
    assert "conflict" not in "".join(desk.schedule(rfcs[0], withdraw=["CHG0002", "CHG0003"], write=write)[0])
    with pytest.raises(TidegateError, match="CHG0001 is to be entered and to be withdrawn; leave one out"):
        desk.schedule(rfcs[0], withdraw=["CHG0001"], write=write)
