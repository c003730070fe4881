# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases were retired or purged, and what keeps one from being purged.

It is kept in the CMDB and not in the library, because the CMDB is what knows where a release is needed: that, the change and its line
in the history are one transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..cmdb.chain import append_history
from ..cmdb.schema import schema
from ..errors import ConflictError, StateError
from ..rfc.debts import debts
from ..rollout.states import OPEN, DeploymentState

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from ..cmdb.store import Cmdb

_NAMED = 5  # hosts that a sentence names


class ReleaseState(StrEnum):
    """A release that nothing is said of is ``archived``; ``retired`` hides it; ``purged`` took it out of the library."""

    ARCHIVED = "archived"
    RETIRED = "retired"
    PURGED = "purged"


@dataclass(frozen=True)
class Status:
    """What became of a release: the package that it was, why, by whom and when."""

    state: ReleaseState
    digest: str
    reason: str
    actor: str
    at: datetime

    def sentence(self, name: str, version: str) -> str:
        """What became of it, for a person."""
        return f"{name} {version} was {self.state} on {self.at.date().isoformat()} by {self.actor} because: {self.reason}"


def status(cmdb: Cmdb, name: str, version: str, connection: sa.Connection | None = None) -> Status | None:
    """What became of a release; ``None`` when it is just archived, or was never."""
    table = schema().release_status
    select = sa.select(table).where(table.c.release == name, table.c.version == version)
    with cmdb.read() if connection is None else contextlib.nullcontext(connection) as reader:
        row = reader.execute(select).one_or_none()
    return Status(ReleaseState(row.state), row.digest, row.reason, row.actor, row.at) if row else None


def statuses(connection: sa.Connection) -> dict[tuple[str, str], Status]:
    """What became of each release that is not just archived, by name and version."""
    rows = connection.execute(sa.select(schema().release_status))
    return {(row.release, row.version): Status(ReleaseState(row.state), row.digest, row.reason, row.actor, row.at) for row in rows}


def enter_status(connection: sa.Connection, said: Retirement, state: ReleaseState) -> None:
    """Enter what became of a release by another CMDB, in a transaction that may write."""
    _write(connection, said, state)


@dataclass(frozen=True)
class Retirement:
    """Somebody changes the state of the package of a release at a moment, for a reason."""

    name: str
    version: str
    digest: str
    reason: str
    actor: str
    at: datetime


def retire(cmdb: Cmdb, change: Retirement, write: bool) -> bool:
    """Hide a release; false when it is already. Raises :class:`StateError` when it was purged."""
    with cmdb.begin() if write else cmdb.read() as connection:
        before = status(cmdb, change.name, change.version, connection)
        if before is not None and before.state is ReleaseState.PURGED:
            raise StateError(f"{before.sentence(change.name, change.version)}; archive the same release again and set it to archived first")
        if before is not None:
            return False
        if write:
            _write(connection, change, ReleaseState.RETIRED)
    return True


def restore(cmdb: Cmdb, change: Retirement, write: bool) -> bool:
    """Undo that a release was retired or purged; false when it was neither. :class:`ConflictError` when it is another package now."""
    with cmdb.begin() if write else cmdb.read() as connection:
        before = status(cmdb, change.name, change.version, connection)
        if before is None:
            return False
        if before.digest != change.digest:
            raise ConflictError(
                f"{before.sentence(change.name, change.version)}; it was {before.digest}, and what is archived as that now is "
                f"{change.digest}; a version never changes, so use another one"
            )
        if write:
            _write(connection, change, ReleaseState.ARCHIVED)
    return True


def mark_purged(cmdb: Cmdb, change: Retirement, write: bool) -> None:
    """Record that a release is purged, just before it is.

    Raises :class:`StateError` when it was not retired, and :class:`ConflictError` with everything that still needs it. A release that
    is recorded as purged may be marked again, by the same rules; that leaves no second line in the history.
    """
    with cmdb.begin() if write else cmdb.read() as connection:
        before = status(cmdb, change.name, change.version, connection)
        if before is None:
            raise StateError(f"{change.name} {change.version} is not retired; retire it first, so that nobody starts to use it")
        owed = [debt for debt in debts(cmdb, connection, release=change.name) if debt.digest == change.digest and debt.settled is None]
        needed = [
            *_needed(connection, change),
            *(f"{debt.rfc} owes {debt.duty} for it, which is settled with a signature beside it" for debt in owed),
        ]
        if needed:
            raise ConflictError(f"{change.name} {change.version} was not purged: " + "; ".join(needed))
        if write and before.state is not ReleaseState.PURGED:
            # What was seen of it stays, though nobody misses it while it is purged: it may come back, and then so must what people said.
            _write(connection, change, ReleaseState.PURGED)


def _write(connection: sa.Connection, change: Retirement, state: ReleaseState) -> None:
    t = schema()
    said = {"digest": change.digest, "reason": change.reason}
    connection.execute(
        sa.delete(t.release_status).where(t.release_status.c.release == change.name, t.release_status.c.version == change.version)
    )
    if state is not ReleaseState.ARCHIVED:
        row = {"release": change.name, "version": change.version, "state": state, "actor": change.actor, "at": change.at}
        connection.execute(sa.insert(t.release_status), row | said)
    line: dict[str, Any] = {"at": change.at, "actor": change.actor, "event": f"release {state}"}
    append_history(connection, [line | {"data": {"release": change.name, "version": change.version} | said}])


def _needed(connection: sa.Connection, change: Retirement) -> Iterable[str]:
    """A sentence for each thing that still needs the package."""
    t = schema()
    d, h, i = t.deployment.c, t.deployment_host.c, t.installation.c
    same = sa.or_(i.digest == change.digest, i.version == change.version)
    installed = sa.select(t.ci.c.name).join(t.installation, i.ci_id == t.ci.c.id).where(i.release == change.name, same)
    hosts = list(connection.scalars(installed.order_by(t.ci.c.name)))
    if hosts:
        yield f"it is installed on {_listed(hosts)}"
    ends = sa.or_(d.digest == change.digest, h.previous_digest == change.digest)
    of_release = (
        sa.select(d.id, d.rfc).outerjoin(t.deployment_host, h.deployment_id == d.id).where(d.release == change.name, ends).distinct()
    )
    for row in connection.execute(of_release.where(d.state.in_(OPEN)).order_by(d.id)):
        yield f"the deployment {row.rfc}#{row.id} is open and may need it"
    newest = (
        sa.select(h.host, sa.func.max(d.id).label("id"))
        .join(t.deployment, d.id == h.deployment_id)
        .where(d.release == change.name, d.state == DeploymentState.COMPLETED)
        .group_by(h.host)
        .subquery()
    )
    last = sa.and_(h.deployment_id == newest.c.id, h.host == newest.c.host)
    for row in connection.execute(of_release.join(newest, last).order_by(d.id)):
        yield f"{row.rfc}#{row.id}, the last deployment on some hosts, can still be backed out"
    completed = sa.select(d.digest).where(d.release == change.name, d.state == DeploymentState.COMPLETED).order_by(d.id.desc()).limit(1)
    if connection.scalar(completed) == change.digest:
        yield f"it is the last stable version of {change.name}"


def _listed(hosts: list[str]) -> str:
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    return ", ".join(hosts[:_NAMED]) + more
