# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The course of a change: how far it has come and how it ended. It follows from the journal, and is kept in the CMDB's register."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..cmdb.schema import schema
from ..documents import parse_time
from ..rollout.deployments import Deployment, Target
from ..rollout.states import DeploymentState, HostState
from .model import IMPLEMENT, REVIEW, Rfc
from .register import PUBLISHED, status_of

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from ..cmdb.store import Cmdb

SUCCESSFUL, ISSUES, UNSUCCESSFUL = "successful", "successful_issues", "unsuccessful"
_NAMED = 20  # hosts in the close notes


@dataclass(frozen=True)
class Outcome:
    """Whether an objective of the RFC was met; ``detail`` says why not."""

    name: str
    met: bool
    detail: str = ""


@dataclass(frozen=True)
class Course:
    """Where a change stands. ``state`` is ``None`` while nothing has begun; times and texts are empty until there is something to say."""

    state: int | None = None
    work_start: datetime | None = None
    work_end: datetime | None = None
    close_code: str = ""
    close_notes: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        times = {
            name: moment.isoformat() if moment else None for name, moment in (("work_start", self.work_start), ("work_end", self.work_end))
        }
        return {"state": self.state, **times, "close_code": self.close_code, "close_notes": self.close_notes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Course:
        """What :meth:`to_dict` made."""
        times = {name: parse_time(data[name]) if data[name] else None for name in ("work_start", "work_end")}
        return cls(data["state"], **times, close_code=data["close_code"], close_notes=data["close_notes"])


def course_of(deployment: Deployment, targets: Sequence[Target], outcomes: Sequence[Outcome] | None, sentence: str) -> Course:
    """The course that a deployment has brought its change to.

    ``outcomes``: those of the RFC's objectives, ``None`` while they are not known, which keeps a completed change from closing.
    ``sentence`` says how the deployment stands.
    """
    if deployment.started is None:
        return Course()  # a deployment that was cancelled before it touched anything may be tried again
    state = deployment.state
    if state is DeploymentState.COMPLETED and outcomes is not None:
        whole = all(target.state is HostState.ACTIVE for target in targets) and all(outcome.met for outcome in outcomes)
        code = SUCCESSFUL if whole else ISSUES
    elif state in (DeploymentState.BACKED_OUT, DeploymentState.CANCELLED):
        code = UNSUCCESSFUL
    else:
        return Course(IMPLEMENT, deployment.started)
    return Course(REVIEW, deployment.started, deployment.finished, code, _notes(sentence, targets, outcomes or ()))


def _notes(sentence: str, targets: Iterable[Target], outcomes: Iterable[Outcome]) -> str:
    lines = [sentence]
    lines += [f"Objective {one.name}: {'met' if one.met else f'not met: {one.detail}'}" for one in outcomes]
    others = [target for target in targets if target.state not in (HostState.ACTIVE, HostState.BACKED_OUT)]
    lines += [f"{one.host}: {one.state}{f', {one.summary}' if one.detail else ''}" for one in others[:_NAMED]]
    return "\n".join(lines)


def enter(connection: sa.Connection, rfc: Rfc, cis: Iterable[str], now: datetime) -> None:
    """Enter a change, as it reads now, in the register; other dates, another title or another status raise its ``sequence``."""
    t = schema()
    values = {
        **{name: getattr(rfc, name) for name in ("type", "release", "version", "digest", "fingerprint", "short_description")},
        **{name: getattr(rfc, name) for name in ("requested_by", "assigned_to", "state", "risk", "start_date", "end_date")},
        "updated": now,
    }
    before = connection.execute(sa.select(t.change).where(t.change.c.number == rfc.number)).mappings().one_or_none()
    if before is None:
        connection.execute(t.change.insert().values(number=rfc.number, **values))
    else:
        again = any(before[name] != values[name] for name in PUBLISHED.values())
        again = again or status_of(before["state"]) != status_of(values["state"])
        sequence = t.change.c.sequence + int(again)
        connection.execute(t.change.update().where(t.change.c.number == rfc.number).values(**values, sequence=sequence))
    connection.execute(t.change_ci.delete().where(t.change_ci.c.number == rfc.number))
    rows = [{"number": rfc.number, "ci": name} for name in sorted(set(cis))]
    if rows:
        connection.execute(t.change_ci.insert(), rows)


def move(cmdb: Cmdb, number: str, course: Course, now: datetime) -> None:
    """Bring the register to a course; a change that is not in it is left out."""
    table = schema().change
    values = {name: value for name, value in vars(course).items() if name != "state" or value is not None}
    with cmdb.begin() as connection:
        before = connection.scalar(sa.select(table.c.state).where(table.c.number == number))
        again = before is not None and status_of(before) != status_of(values.get("state", before))
        values |= {"sequence": table.c.sequence + int(again), "updated": now}
        connection.execute(table.update().where(table.c.number == number).values(**values))


def cleared_as(cmdb: Cmdb, number: str) -> str | None:
    """The fingerprint that the RFC had when it was cleared, if the register has it."""
    table = schema().change
    with cmdb.read() as connection:
        found = connection.scalar(sa.select(table.c.fingerprint).where(table.c.number == number))
    return None if found is None else str(found)
