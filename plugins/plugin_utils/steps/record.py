# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the record of a change up to what the journal says: in the CMDB's register, and in the change system that it comes from.

The journal is what is still to be written: each time everything since the last success is, so whatever failed is made up for by the next
step, or when the same command runs again. No deployment waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from ..errors import TidegateError
from ..report.progress import counted
from ..rfc.course import Course, Outcome, course_of
from ..rfc.model import IMPLEMENT, Rfc
from ..rfc.register import cleared_fingerprint, update_register
from ..rfc.source import Change
from ..rollout.deployments import CHECKED, LATE_ROUND, NOT_RECORDED, PLANNED, RECORDED, Deployment, JournalEntry, Run
from ..rollout.journal import Journal
from ..rollout.states import DeploymentState

# Makes the checks that are an RFC's objectives; raises TidegateError when that must not be done.
CheckObjectives = Callable[[Rfc], list[Outcome]]

# What is said of these in the change; the others are the journal's own business.
_NOTED = (PLANNED, LATE_ROUND, "staging_decided", "decided", "backing_out", "supporting", "completed", "backed_out", "cancelled")


def move_to_implement(journal: Journal, run: Run, change: Change, now: datetime) -> str:
    """Say in the change that it is being implemented; return why that could not be done, for then nothing may start."""
    deployment = journal.deployment(run.deployment)
    course = Course(IMPLEMENT, deployment.started or now)
    try:
        change.record(course, (), _last(journal.events(run.deployment))[1])
    except TidegateError as error:
        return f"{deployment.rfc} could not be brought to Implement: {error}"
    return ""


def sync_change_record(journal: Journal, run: Run, change: Change | None, sentence: str, now: datetime) -> list[str]:
    """Write the course that the journal describes; return what could not be written. ``sentence`` says how the deployment stands."""
    deployment = journal.deployment(run.deployment)
    events = journal.events(run.deployment)
    course = course_of(deployment, journal.targets(run.deployment), outcomes(events), sentence)
    update_register(journal.cmdb, deployment.rfc, course, now)
    if change is None:
        return []
    upto, before = _last(events)
    new = [event for event in events if event.seq > upto]
    notes = [_note(deployment, event) for event in new if event.event in _NOTED]
    if not notes and course == (before or Course()):
        return []
    try:
        change.record(course, notes, before)
    except TidegateError as error:
        journal.note(run, NOT_RECORDED, {"problem": str(error)}, now)
        return [f"the change was not brought up to date, run the same command again to make up for it: {error}"]
    journal.note(run, RECORDED, {"upto": events[-1].seq, "course": course.to_dict()}, now)
    return []


def check_objectives(
    journal: Journal, run: Run, change: Change | None, make: CheckObjectives, now: datetime
) -> tuple[list[Outcome], list[str]]:
    """Check the objectives of a change whose deployment is complete, once; return them and what stood in the way.

    When it is supporting they are checked as well, for people want to know it then, and what they come to in the end counts.
    """
    deployment = journal.deployment(run.deployment)
    events = journal.events(run.deployment)
    checked = outcomes(events)
    if deployment.state not in (DeploymentState.COMPLETED, DeploymentState.SUPPORTING) or change is None:
        return checked or [], []
    ended = max((event.seq for event in events if event.event == DeploymentState.COMPLETED), default=0)
    if checked is not None and max(event.seq for event in events if event.event == CHECKED) > ended:
        return checked or [], []
    try:
        rfc = change.read()
    except TidegateError as error:
        return [], [f"the objectives were not checked, run the same command again: {error}"]
    if rfc.fingerprint != cleared_fingerprint(journal.cmdb, deployment.rfc):
        what = f"the objectives were not checked, for {deployment.rfc} was edited since it was cleared"
        return [], [f"{what}; give it its text back and run the same command again"]
    try:
        found = make(rfc)
    except TidegateError as error:
        return [], [f"the objectives were not checked: {error}; mend that and run the same command again"]
    journal.note(run, CHECKED, {"results": [asdict(one) for one in found]}, now)
    return found, [f"objective {one.name} was not met: {one.detail}" for one in found if not one.met]


def outcomes(events: Iterable[JournalEntry]) -> list[Outcome] | None:
    """What became of the objectives, ``None`` while they were not checked."""
    found = [event.data["results"] for event in events if event.event == CHECKED]
    return [Outcome(**one) for one in found[-1]] if found else None


def _last(events: Sequence[JournalEntry]) -> tuple[int, Course | None]:
    """Up to which event the change is up to date, and the course that was written then."""
    recorded = [event for event in events if event.event == RECORDED]
    return (recorded[-1].data["upto"], Course.from_dict(recorded[-1].data["course"])) if recorded else (0, None)


def _note(deployment: Deployment, event: JournalEntry) -> str:
    what = event.event.replace("_", " ")
    if event.event in ("staging_decided", "decided"):
        after = "staging" if event.event == "staging_decided" else f"wave {event.wave}" if event.wave else "the last wave"
        what = f"gate after {after}: {event.data['decision'].replace('_', ' ')}: {event.data['reason']}"
    elif event.event in (PLANNED, LATE_ROUND):
        waves = event.data["waves"]
        which = "planned" if event.event == PLANNED else "late hosts planned"
        what = f"{which} in {counted(len(waves), 'wave')} for {counted(sum(map(len, waves)), 'host')} by {event.data['holder']}"
    elif event.data.get("reason"):
        what = f"{what}: {event.data['reason']}"
    return f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC {deployment.label} {deployment.release} {deployment.version}: {what}"
