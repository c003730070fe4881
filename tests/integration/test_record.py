# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a change is brought up to what the journal says, in whichever step that succeeds, on both kinds of CMDB."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.redaction import NOTHING
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Course, Outcome
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.objectives import evaluate_objectives
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import register_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import CHECKED, Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.conclude import conclude
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.record import move_to_implement, outcomes, sync_change_record
from documents import loaded_rfc

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "b" * 64
RFC = loaded_rfc(
    short_description="hello 2.0",
    start_date=NOW - timedelta(hours=1),
    end_date=NOW + timedelta(hours=1),
    backout_plan="Back.",
    version="2.0",
    digest=DIGEST,
    fingerprint="as approved",
    objectives=(
        {"name": "works", "command": [sys.executable, "-c", "import os; assert os.environ['TIDEGATE_RFC'] == 'CHG0001'"], "timeout": 10},
        {"name": "sings", "command": ["false"], "timeout": 0.1},
    ),
)


@dataclass
class Record:
    """A change somewhere that can be down."""

    rfc: Rfc = RFC
    down: bool = False
    courses: list[Course] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self) -> Rfc:
        if self.down:
            raise TidegateError("it is down")
        return self.rfc

    def record(self, course: Course, notes: Iterable[str], before: Course | None) -> None:
        if self.down:
            raise TidegateError("it is down")
        self.courses.append(course)
        self.notes += notes


@pytest.fixture
def journal(cmdb_url: str) -> Iterator[Journal]:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": name, "class": "server"} for name in ("web1", "web2")], actor="test")
        yield Journal(cmdb)


def activated(journal: Journal, rollout: Rollout = Rollout()) -> Run:  # noqa: B008 - it never changes
    """A deployment whose only wave is active, its gate not yet asked."""
    package = {"name": "hello", "version": "2.0", "digest": DIGEST}
    run = journal.begin(
        "CHG0001", package, [["web1", "web2"]], rollout, Holder.this_run(), NOW, lambda now, _id: register_change(now, RFC, ["web1"], NOW)
    )
    for target in journal.targets(run.deployment):
        journal.staged(run, target.host, None, NOW)
    journal.decide_staging(run, GateDecision("proceed", "all staged"), NOW)
    for host in ("web1", "web2"):
        journal.activating(run, host, NOW)
        journal.activated(run, host, HostState.STARTED, "", NOW)
        journal.activated(run, host, HostState.ACTIVE, "", NOW)
    return run


def completed(journal: Journal) -> Run:
    run = activated(journal)
    journal.decide_wave(run, 1, GateDecision("proceed", "all active"), NOW)
    return run


def end(journal: Journal, run: Run, change: Record | None) -> dict[str, Any]:
    return conclude(journal, run, change, "completed", lambda *_: [], lambda rfc: evaluate_objectives(rfc, NOTHING), NOW)


def test_what_could_not_be_written_is_made_up_for_and_nothing_is_written_twice(journal: Journal) -> None:
    run, change = activated(journal), Record(down=True)
    assert "it is down" in sync_change_record(journal, run, change, "", NOW)[0]
    assert "it is down" in move_to_implement(journal, run, change, NOW)
    change.down = False
    assert sync_change_record(journal, run, change, "", NOW) == []
    assert [note.split(": ", 1)[1] for note in change.notes][1:] == ["gate after staging: proceed: all staged"]
    assert change.courses == [Course(-1, NOW)]
    assert sync_change_record(journal, run, change, "", NOW) == []
    assert len(change.courses) == 1


def test_the_end_says_what_went_wrong_and_the_same_command_makes_up_for_it(journal: Journal) -> None:
    run, change = completed(journal), Record(down=True)
    result = end(journal, run, change)
    assert result["failed"] is False
    assert "the objectives were not checked, run the same command again: it is down" in result["warnings"]
    assert len(result["warnings"]) == 2
    assert "it is down" not in result["msg"], "one cause, once"
    change.down = False
    result = end(journal, run, change)
    assert [(one["name"], one["met"]) for one in result["objectives"]] == [("works", True), ("sings", False)]
    assert (change.courses[-1].state, change.courses[-1].close_code) == (0, "successful_issues")
    again = end(journal, run, change)
    assert again["objectives"] == result["objectives"]
    assert "warnings" not in again
    assert len(change.courses) == 1


def test_the_objectives_of_an_edited_rfc_are_not_run(journal: Journal) -> None:
    run, change = completed(journal), Record()
    change.rfc = replace(
        RFC, fingerprint="something else", objectives=({"name": "x", "command": ["touch", "/nonexistent/x"], "timeout": 1},)
    )
    result = end(journal, run, change)
    assert "edited since it was cleared" in result["warnings"][0]
    assert outcomes(journal.events(run.deployment)) is None
    assert change.courses == [Course(-1, NOW)]  # and so it is not closed


def test_in_support_the_change_stays_in_implement_and_its_objectives_are_checked_again_in_the_end(journal: Journal) -> None:
    run, change, met = activated(journal, Rollout(support_hours=1)), Record(), [False]

    def conclude_at(now: datetime) -> dict[str, Any]:
        return conclude(journal, run, change, "completed", lambda *_: [], lambda _rfc: [Outcome("sings", met[0])], now)

    journal.decide_wave(run, 1, GateDecision("proceed", "all active"), NOW)
    assert conclude_at(NOW)["state"] == "supporting"
    assert change.courses == [Course(-1, NOW)]
    assert [one.met for one in outcomes(journal.events(run.deployment)) or ()] == [False]
    met[0] = True
    assert conclude_at(NOW)["state"] == "supporting"
    assert [one.met for one in outcomes(journal.events(run.deployment)) or ()] == [False]  # once, as long as it lasts
    assert conclude_at(NOW + timedelta(hours=1))["state"] == "completed"
    assert (change.courses[-1].state, change.courses[-1].close_code) == (0, "successful")
    assert conclude_at(NOW + timedelta(hours=1))["objectives"] == [{"name": "sings", "met": True, "detail": ""}]
    assert len([event for event in journal.events(run.deployment) if event.event == CHECKED]) == 2


def test_without_an_rfc_nothing_is_asked_and_the_change_stays_open(journal: Journal) -> None:
    run = completed(journal)
    result = end(journal, run, None)
    assert (result["failed"], result["objectives"]) == (False, [])


def test_the_end_gives_up_the_lease_whatever_was_written_after_it(journal: Journal) -> None:
    run = completed(journal)
    end(journal, run, Record())
    elsewhere = Holder("ann", "other-machine", 4711, 99, "feedbeef")
    assert journal.take_over(run.deployment, elsewhere, NOW).token > run.token
