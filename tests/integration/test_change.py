# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole deployments on lab hosts under a change in ServiceNow, as a user runs them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import servicenow
from fleet import Fleet
from servicenow import Instance

BROKEN = {"hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["bin/nothing"], "timeout": 10}}}


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
    assert not [entry for entry in instance.requests[asked:] if entry[0] != "GET"], again.stdout

    instance.change("CHG0002", ("hello", "1.1", fleet.archive("1.1", **BROKEN)))
    done = deploy(fleet, instance, "CHG0002")
    assert done.returncode != 0
    assert set(fleet.served().values()) == {"1.0"}
    change = instance.record("CHG0002")
    assert (change["state"], change["close_code"]) == ("0", "unsuccessful"), done.stdout
    assert "was backed out" in change["close_notes"]
