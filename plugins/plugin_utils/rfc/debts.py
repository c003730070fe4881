# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes owe afterwards, duties with a due date: emergencies from the moment that their deployment begins, and those that raised the
firmware of a model, from its end, that its spares get it (``rollout/firmware_levels.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..cmdb.chain import append_history
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..errors import ConflictError, NotFoundError
from ..rollout.states import SPARES, DeploymentState

with suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from .model import Rfc


_LISTED = 5  # units that a message names


@dataclass(frozen=True)
class Debt:
    """A duty that the change ``rfc`` of a release owes until ``due``. ``settled``: when that was done, by ``actor``, as ``note`` says."""

    rfc: str
    duty: str
    release: str
    version: str
    digest: str
    incurred: datetime
    due: datetime
    settled: datetime | None
    actor: str
    note: str

    def overdue(self, now: datetime) -> bool:
        """Whether it should have been settled by now, and is not."""
        return self.settled is None and self.due <= now

    def sentence(self, now: datetime) -> str:
        """The debt, for a person."""
        what = f"{self.rfc} ({self.release} {self.version})"
        if self.settled is not None:
            return f"{what} owed {self.duty}, settled on {self.settled.date().isoformat()} by {self.actor}: {self.note}"
        return f"{what} owes {self.duty} {'since' if self.overdue(now) else 'until'} {self.due.date().isoformat()}"


def delete_debts(connection: sa.Connection, rfc: str) -> None:
    """Of a change that begins anew: drop what it was to owe for attempts that touched no host."""
    table = schema().debt
    connection.execute(table.delete().where(table.c.rfc == rfc))


def incur(connection: sa.Connection, rfc: Rfc, duties: Mapping[str, int], now: datetime) -> None:
    """Note what a change will owe: each duty, so many days from ``now``. What it owes already stays as it is."""
    table = schema().debt
    noted = set(connection.scalars(sa.select(table.c.duty).where(table.c.rfc == rfc.number)))
    new = [{"duty": duty, "due": now + timedelta(days=days)} for duty, days in duties.items() if duty not in noted]
    if new:
        package = {"release": rfc.release, "version": rfc.version, "digest": rfc.digest}
        connection.execute(sa.insert(table), [{**package, **duty, "rfc": rfc.number, "incurred": now} for duty in new])


def debts(
    cmdb: Cmdb,
    connection: sa.Connection | None = None,
    release: str | None = None,
    rfc: str | None = None,
    *,
    settled: bool = True,
) -> list[Debt]:
    """Debts, the earliest due first: every one, or those about a ``release``, or of the change ``rfc``; without those that were
    ``settled`` if that is false.

    A change whose deployments were all cancelled before they touched a host owes nothing.
    """
    t = schema()
    d = t.deployment.c
    begun = sa.select(d.id).where(d.rfc == t.debt.c.rfc, d.state != DeploymentState.CANCELLED).exists()
    these = (column == value for column, value in ((t.debt.c.release, release), (t.debt.c.rfc, rfc)) if value is not None)
    owed = () if settled else (t.debt.c.settled.is_(None),)
    select = sa.select(t.debt).where(begun, *these, *owed).order_by(t.debt.c.due, t.debt.c.rfc, t.debt.c.duty)
    with cmdb.read() if connection is None else nullcontext(connection) as reading:
        return [Debt(**row) for row in reading.execute(select).mappings()]


def refuse_behind(connection: sa.Connection, debt: Debt) -> None:
    """Raise :class:`ConflictError` while spares that a change owes are behind, as read; of another duty people have the last word."""
    if debt.duty != SPARES:
        return
    from ..dhs.assets import units_behind  # noqa: PLC0415 - few changes owe it, and each clearance loads this module

    deployment = schema().deployment.c
    mine = connection.scalars(sa.select(deployment.id).where(deployment.rfc == debt.rfc)).all()
    behind = units_behind(connection, mine)
    if behind:
        more = f" and {len(behind) - _LISTED} more" if len(behind) > _LISTED else ""
        owes = f"{debt.rfc} owes {debt.duty} until they are read to have it"
        raise ConflictError(f"{owes}, and {'; '.join(behind[:_LISTED])}{more}; bring them to level on a bench")


def settle(cmdb: Cmdb, debt: Debt, note: str, actor: str, now: datetime) -> None:
    """Note that a duty was done, in the history too. Raises :class:`NotFoundError` when it is not owed any more, and
    :class:`ConflictError` when what was read says that it is."""
    t = schema()
    with cmdb.begin() as connection:
        refuse_behind(connection, debt)
        same = sa.and_(t.debt.c.rfc == debt.rfc, t.debt.c.duty == debt.duty, t.debt.c.settled.is_(None))
        done = connection.execute(t.debt.update().where(same).values(settled=now, actor=actor, note=note))
        if done.rowcount != 1:
            raise NotFoundError(f"{debt.rfc} does not owe {debt.duty} any more; somebody else has settled it")
        said = {"rfc": debt.rfc, "duty": debt.duty, "release": debt.release, "version": debt.version, "note": note}
        append_history(connection, [{"at": now, "actor": actor, "event": "debt settled", "data": said}])
