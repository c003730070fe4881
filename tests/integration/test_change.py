# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole deployments on lab hosts under a change in ServiceNow, as a user runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import servicenow
from fleet import Fleet
from schemas import assert_schema
from servicenow import Instance

BROKEN = {"hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["/bin/nothing"], "timeout": 10}}}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with servicenow.serve(tmp_path) as instance:
        for name, value in instance.environment.items():
            monkeypatch.setenv(name, value)
        yield instance


def deploy(fleet: Fleet, instance: Instance, number: str) -> subprocess.CompletedProcess[str]:
    done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": instance.address(number)})
    assert servicenow.PASSWORD not in done.stdout
    return done


def test_a_change_takes_its_whole_course_in_the_change_system(fleet: Fleet, instance: Instance) -> None:
    instance.change("CHG0001", ("hello", "1.0", fleet.archive("1.0")))
    done = deploy(fleet, instance, "CHG0001")
    assert done.returncode == 0, done.stdout
    assert set(fleet.served().values()) == {"1.0"}
    change = instance.record("CHG0001")
    assert (change["state"], change["close_code"]) == ("0", "successful"), done.stdout
    assert change["close_notes"] == "CHG0001: hello 1.0 is live on 3 of 3 hosts."
    assert [entry["state"] for entry in instance.course if "state" in entry] == ["-1", "0"]
    assert change["work_start"] <= change["work_end"] != ""
    notes = instance.said("CHG0001")
    assert (
        notes.index("gate after staging: proceed") < notes.index("gate after wave 1: proceed") < notes.index("gate after wave 2: proceed")
    )
    assert fleet.rows("select state, close_code from change where number = 'CHG0001'") == [(0, "successful")]
    assert "ignored" not in done.stdout
    asked = len(instance.requests)
    again = deploy(fleet, instance, "CHG0001")
    assert again.returncode == 0, again.stdout
    assert not [entry for entry in instance.requests[asked:] if entry[0] != "GET"], again.stdout

    instance.change("CHG0002", ("hello", "1.1", fleet.archive("1.1", **BROKEN)))
    done = deploy(fleet, instance, "CHG0002")
    assert done.returncode != 0
    assert set(fleet.served().values()) == {"1.0"}
    change = instance.record("CHG0002")
    assert (change["state"], change["close_code"]) == ("0", "unsuccessful"), done.stdout
    assert "was backed out" in change["close_notes"]


@pytest.mark.thorough
def test_a_change_that_is_put_on_hold_between_waves_stops_the_next_one(
    fleet: Fleet, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.change("CHG0001", ("hello", "1.0", fleet.archive("1.0")))
    written = instance.update

    def update(table: str, sys_id: str, body: dict[str, str]) -> None:
        written(table, sys_id, body)
        if body.get("state") == "-1":
            instance.tables[table][sys_id]["on_hold"] = "true"

    monkeypatch.setattr(instance, "update", update)
    held = deploy(fleet, instance, "CHG0001")
    assert held.returncode != 0
    assert "the RFC is on hold" in held.stdout
    assert sorted(fleet.host_states("CHG0001").values()) == ["active", "staged", "staged"]
    assert "gate after wave 1: hold: the RFC is on hold" in instance.said("CHG0001")
    assert instance.record("CHG0001")["state"] == "-1"

    instance.record("CHG0001")["on_hold"] = "false"
    instance.down = True  # nobody knows whether it may go on
    held = deploy(fleet, instance, "CHG0001")
    assert held.returncode != 0
    assert sorted(fleet.host_states("CHG0001").values()) == ["active", "staged", "staged"]

    instance.down = False
    done = deploy(fleet, instance, "CHG0001")
    assert done.returncode == 0, done.stdout
    assert (instance.record("CHG0001")["state"], instance.record("CHG0001")["close_code"]) == ("0", "successful")


def test_a_change_that_silently_stays_where_it_is_holds_before_anything_is_live(fleet: Fleet, instance: Instance) -> None:
    instance.change("CHG0001", ("hello", "1.0", fleet.archive("1.0")))
    instance.ignores = {"state"}
    held = deploy(fleet, instance, "CHG0001")
    assert held.returncode != 0
    assert "ignored what was written without saying so: state should be '-1' and is '-2'" in " ".join(held.stdout.split())
    assert set(fleet.host_states("CHG0001").values()) == {"staged"}
    assert fleet.served() == dict.fromkeys(fleet.hosts)


def test_a_change_system_that_fails_at_the_end_costs_no_host_anything_and_is_caught_up_with(fleet: Fleet, instance: Instance) -> None:
    instance.change("CHG0001", ("hello", "1.0", fleet.archive("1.0")))
    instance.ignores = {"close_code", "work_notes"}
    done = deploy(fleet, instance, "CHG0001")
    assert done.returncode == 0, done.stdout
    assert set(fleet.served().values()) == {"1.0"}
    said = " ".join(done.stdout.split())
    assert "the work note is not there" in said
    assert "close_code should be 'successful' and is ''" in said
    assert fleet.rows("select count(*) > 0 from journal where event = 'change_not_recorded'") == [(1,)]

    instance.ignores = set()
    done = deploy(fleet, instance, "CHG0001")
    assert done.returncode == 0, done.stdout
    assert instance.record("CHG0001")["close_code"] == "successful"
    assert instance.said("CHG0001").count("gate after wave 1") == 1


def test_what_the_objectives_say_closes_the_change(fleet: Fleet, instance: Instance) -> None:
    first = next(iter(fleet.hostvars().values()))["ansible_host"]
    met = {"name": "says its version", "http": {"url": f"http://{first}:8081/", "contains": "1.0"}, "timeout": 5}
    missed = {"name": "sings", "http": {"url": f"http://{first}:8081/", "contains": "la la"}, "timeout": 1}
    digest = fleet.archive("1.0")
    rfc = fleet.rfc("CHG0001", "1.0", digest, objectives=[met, missed])
    before = rfc.read_text()
    done = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc), "tidegate_report": str(fleet.path / "report")})
    assert done.returncode == 0, done.stdout
    assert "objective sings was not met" in " ".join(done.stdout.split())
    assert rfc.read_text() == before
    report = json.loads((fleet.path / "report" / "report.json").read_text())
    assert_schema("report", report)
    assert report["deployments"][0]["close_code"] == "successful_issues"
    ((state, code, notes),) = fleet.rows("select state, close_code, close_notes from change")
    assert (state, code) == (0, "successful_issues")
    assert "Objective says its version: met" in notes
    assert "Objective sings: not met: health check 'sings' did not pass within 1 s" in notes

    page = (fleet.path / "report" / "index.html").read_text()
    assert "closed as <strong>successful issues</strong>" in page
    assert "✓ says its version: met" in page
    assert "✕ sings: not met, health check" in page

    undone = fleet.play("tidegate.release.backout", {"tidegate_rfc": str(rfc)})
    assert undone.returncode == 0, undone.stdout
    assert fleet.rows("select state, close_code from change") == [(0, "unsuccessful")]


@pytest.mark.thorough
def test_a_back_out_that_the_change_system_missed_is_caught_up_with_by_either_command(fleet: Fleet, instance: Instance) -> None:
    for number, version, verb in (("CHG0001", "1.0", "deploy"), ("CHG0002", "1.1", "backout")):
        instance.change(number, ("hello", version, fleet.archive(version, **BROKEN)))
        instance.ignores = {"close_code"}
        failed = deploy(fleet, instance, number)
        assert failed.returncode != 0
        assert "close_code should be 'unsuccessful' and is ''" in " ".join(failed.stdout.split())
        assert fleet.state(number) == "backed_out"
        instance.ignores = set()
        again = fleet.play(f"tidegate.release.{verb}", {"tidegate_rfc": instance.address(number)})
        assert (again.returncode == 0) is (verb == "backout"), again.stdout
        assert instance.record(number)["close_code"] == "unsuccessful", again.stdout


def test_a_change_that_is_edited_or_canceled_while_it_is_under_way_stops_the_next_wave(fleet: Fleet, instance: Instance) -> None:
    written = instance.update
    edits = {"CHG0001": {"backout_plan": "None."}, "CHG0002": {"state": "4"}}
    words = {"CHG0001": "edited since it was cleared", "CHG0002": "the RFC is Canceled"}

    def update(table: str, sys_id: str, body: dict[str, str]) -> None:
        written(table, sys_id, body)
        row = instance.tables[table][sys_id]
        if "gate after staging" in body.get("work_notes", ""):
            row.update(edits[row["number"]])

    instance.update = update  # type: ignore[method-assign]
    for number, version in (("CHG0001", "1.0"), ("CHG0002", "1.1")):
        instance.change(number, ("hello", version, fleet.archive(version)))
        held = deploy(fleet, instance, number)
        assert held.returncode != 0
        assert words[number] in " ".join(held.stdout.split())
        assert sorted(fleet.host_states(number).values()) == ["active", "staged", "staged"]
        if number == "CHG0001":  # cleared again as it reads now, it goes on
            done = deploy(fleet, instance, number)
            assert done.returncode == 0, done.stdout
