# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The course of a change follows from its deployment, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Course, Outcome, course_of
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment, Target
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState

START = datetime(2027, 3, 1, 22, tzinfo=UTC)
DONE = Deployment(1, "CHG0001", "hello", "1.0", "sha256:", DeploymentState.COMPLETED, 1, "", Rollout(), START, START + timedelta(hours=1))
MET, MISSED = Outcome("answers", True), Outcome("sings", False, "it is silent")


def target(state: HostState, detail: str = "") -> Target:
    return Target(f"web-{state}", 1, state, None, None, detail, START)


ACTIVE, FAILED, LOST = target(HostState.ACTIVE), target(HostState.FAILED, "no room"), target(HostState.LOST)


@pytest.mark.parametrize(
    ("state", "targets", "outcomes", "code"),
    [
        (DeploymentState.COMPLETED, [ACTIVE], [], "successful"),
        (DeploymentState.COMPLETED, [ACTIVE], [MET], "successful"),
        (DeploymentState.COMPLETED, [ACTIVE], [MET, MISSED], "successful_issues"),
        (DeploymentState.COMPLETED, [ACTIVE, FAILED], [MET], "successful_issues"),
        (DeploymentState.COMPLETED, [ACTIVE, LOST], [], "successful_issues"),
        (DeploymentState.BACKED_OUT, [target(HostState.BACKED_OUT)], None, "unsuccessful"),
        (DeploymentState.BACKED_OUT, [target(HostState.BACKED_OUT)], [MET], "unsuccessful"),
        (DeploymentState.CANCELLED, [target(HostState.STAGED)], None, "unsuccessful"),
    ],
)
def test_what_is_over_closes(state: DeploymentState, targets: list[Target], outcomes: list[Outcome] | None, code: str) -> None:
    course = course_of(replace(DONE, state=state), targets, outcomes, "That is how it ended.")
    assert (course.state, course.close_code) == (0, code)
    assert (course.work_start, course.work_end) == (START, START + timedelta(hours=1))
    assert course.close_notes.startswith("That is how it ended.")
    assert Course.from_dict(course.to_dict()) == course
    for one in outcomes or ():
        assert one.name in course.close_notes


@pytest.mark.parametrize("state", [DeploymentState.ACTIVATING, DeploymentState.HELD, DeploymentState.BACKING_OUT])
def test_what_is_not_over_is_being_implemented(state: DeploymentState) -> None:
    assert course_of(replace(DONE, state=state, finished=None), [ACTIVE], None, "") == Course(-1, START)


def test_a_change_whose_objectives_are_not_known_is_not_closed() -> None:
    assert course_of(DONE, [ACTIVE], None, "") == Course(-1, START)


@pytest.mark.parametrize("state", [DeploymentState.STAGING, DeploymentState.HELD, DeploymentState.CANCELLED])
def test_what_never_began_leaves_the_change_where_it_is(state: DeploymentState) -> None:
    assert course_of(replace(DONE, state=state, started=None, finished=None), [target(HostState.STAGED)], None, "") == Course()
