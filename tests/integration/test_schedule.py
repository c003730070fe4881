# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of changes finds those that meet, and the schedule of what is to come can be read by other calendars."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icalendar
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.home import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.gathering import entered_with
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Course, enter, move
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import overlapping, planned, withdraw
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout

EXAMPLES = Path(__file__).parents[2] / "examples"
START = datetime(2027, 3, 1, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
RFC = Rfc(
    number="CHG0001",
    type="normal",
    state=-2,
    risk=3,
    impact=3,
    short_description="hello 1.0",
    requested_by="rita",
    start_date=START,
    end_date=START + 4 * HOUR,
    backout_plan="",
    test_plan="",
    release="hello",
    version="1.0",
    digest="sha256:" + "a" * 64,
    scope="[*]",
    approvals=(),
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
        enter(connection, rfc, cis, START)
    return rfc


@pytest.mark.parametrize(
    ("cis", "changes", "meeting"),
    [
        (("web1",), {}, ("web1",)),
        (("web1", "web2"), {}, ("web1",)),
        (("db1",), {}, ("web1 depends_on db1",)),
        (("disk1",), {}, ()),  # related to what is related
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


def test_a_relation_counts_from_either_end(cmdb: Cmdb) -> None:
    put(cmdb, "web1")
    assert [one.meeting for one in overlapping(cmdb, RFC, {"db1"})] == [("web1 depends_on db1",)]


def test_what_is_done_or_withdrawn_meets_nothing(cmdb: Cmdb) -> None:
    put(cmdb, "web1")
    put(cmdb, "web1", number="CHG0003")
    move(cmdb, "CHG0002", Course(-1, START, START + HOUR, "successful", "done"), START)
    withdraw(cmdb, ["CHG0003"])
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


def test_a_deployment_that_is_open_is_held_to_its_plan_and_not_to_the_register(cmdb: Cmdb, cmdb_url: str) -> None:
    rfc = put(cmdb, "web1")
    assert entered_with(cmdb_url, rfc) == ("web1",)
    assert entered_with(cmdb_url, replace(rfc, fingerprint="edited")) == ()
    begin(cmdb, "CHG0002")
    assert entered_with(cmdb_url, rfc) == ()


class Office:
    """RFCs in files, and what a user runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.digest = archive(EXAMPLES / "hello", create_library(str(path / "dsl")).repository("hello")).digest
        with Cmdb.open(str(path / "cmdb.sqlite"), create=True) as cmdb:
            cmdb.put_cis([{"name": name, "class": "server", "site": site} for name, site in (("web1", "ams"), ("web2", "fra"))], "test")

    def rfc(self, number: str, begins: float, **changes: Any) -> Path:
        document = yaml.safe_load((EXAMPLES / "rfc.yml").read_text())
        times = ((self.now + (begins + hours) * HOUR).isoformat() for hours in (0, 2))
        document |= {"number": number, **dict(zip(("start_date", "end_date"), times, strict=True)), **changes}
        document["release"]["digest"] = self.digest
        document["approvals"][0]["decided_at"] = self.now.isoformat()
        path = self.path / f"{number}.yml"
        path.write_text(yaml.safe_dump(document))
        return path

    def play(self, playbook: str, *options: str, **variables: Any) -> str:
        extra = [part for pair in variables.items() for part in ("-e", yaml.safe_dump(dict([pair]), default_flow_style=True, width=9999))]
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", "localhost,", *extra, *options],
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
                "TIDEGATE_DSL": str(self.path / "dsl"),
                "TIDEGATE_CMDB": str(self.path / "cmdb.sqlite"),
            },
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return f"{done.returncode} {' '.join(done.stdout.split())}"


def test_the_schedule_is_kept_and_published(tmp_path: Path) -> None:
    office = Office(tmp_path)
    calendar = tmp_path / "www" / "releases.ics"
    hostile = "Night\nBEGIN:VEVENT; \\, of the lions"
    paths = [str(office.rfc("CHG0001", -1)), str(office.rfc("CHG0002", 0.5, scope="[?name=='web2']", short_description=hostile, state=-4))]
    assert "changed=1" in office.play("tidegate.release.schedule", "--check", tidegate_rfcs=paths, tidegate_schedule=str(calendar))
    assert not calendar.exists()
    assert office.play("tidegate.release.schedule", "--diff", tidegate_rfcs=paths, tidegate_schedule=str(calendar)).startswith("0 ")
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
