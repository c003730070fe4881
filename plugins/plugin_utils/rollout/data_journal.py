# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of data that a release's own role changes: what is about to be done to them is written first, and what became of it after."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from ..errors import StateError
from . import states
from .data_change import in_doubt, last_attempt, not_to_migrate
from .deployments import Deployment, Run, Target, deployment_of
from .states import DATA_FAILED, DataState, DeploymentState, HostState
from .wave_journal import WaveJournal

with suppress(ImportError):
    import sqlalchemy as sa

_D, _H = DeploymentState, HostState
_DONE = {DataState.MIGRATING: DataState.MIGRATED, DataState.REVERSING: DataState.REVERSED}
_UNTOUCHED = {DataState.MIGRATING: DataState.NOT_MIGRATED, DataState.REVERSING: DataState.MIGRATED}


class DataJournal(WaveJournal):
    """The deployments of one CMDB, and what they do to data."""

    def begin_migrate(self, run: Run, now: datetime) -> Target:
        """Write ahead that data are about to be migrated; return the host that it is done on, as it is.

        Raises :class:`StateError` when it is not the time for that, it was begun before, or the host is not there for it.
        """
        with self._writing(run, now, start=True) as (connection, deployment):
            if deployment.state is not _D.ACTIVATING:
                raise StateError(f"{deployment.label} is {deployment.state}, not activating, so no data are migrated; run deploy again")
            target = self._target(connection, deployment.id, deployment.rollout.data_host)
            why = not_to_migrate(deployment, [target])
            if why:
                raise StateError(f"{why}; back out and raise a new RFC")
            self._begin(connection, deployment, DataState.MIGRATING, now)
        return target

    def begin_reverse(self, run: Run, now: datetime) -> Target:
        """Write ahead that data are about to be reversed, as :meth:`begin_migrate` does; every host has to be back before."""
        with self._writing(run, now) as (connection, deployment):
            if deployment.state is not _D.BACKING_OUT:
                raise StateError(f"{deployment.label} is {deployment.state}, not backing out, so its data stay as they are")
            why = self._reverse_barrier(connection, deployment)
            if why:
                raise StateError(why)
            self._begin(connection, deployment, DataState.REVERSING, now)
            return self._target(connection, deployment.id, deployment.rollout.data_host)

    def end_data(self, run: Run, problem: str, begun: bool, now: datetime) -> None:
        """What became of the step: ``problem`` is why it was not seen to end well. A deployment that goes forward is held with one.

        ``begun``: false when it is known that none of its tasks was.
        """
        with self._writing(run, now) as (connection, deployment):
            old = deployment.data
            if old not in states.IN_DOUBT:
                raise StateError(f"nothing was done to the data of {deployment.label}; this is a defect, please report it")
            if not problem:
                self._move_data(connection, deployment, _DONE[old], now)
                return
            if begun:
                about = {"host": deployment.rollout.data_host, "detail": problem}
                self._append(connection, deployment.id, now, DATA_FAILED[old], data=about)
            else:
                self._move_data(connection, deployment, _UNTOUCHED[old], now, {"detail": problem})
            if deployment.state is _D.ACTIVATING:
                doubt = in_doubt(deployment, self._data_log(connection, deployment.id))
                self._move(connection, deployment, _D.HELD, now, doubt if begun else f"no data were migrated: {problem}")

    def reverse_barrier(self, deployment: Deployment) -> str:
        """Why the data of a deployment that is backing out can't be reversed yet; empty when they can, or need not."""
        with self._cmdb.read() as connection:
            return self._reverse_barrier(connection, deployment) if deployment.data is DataState.MIGRATED else ""

    def later_change(self, deployment: Deployment) -> str:
        """Why the data of a deployment can't be reversed whatever its hosts run: others have changed them since. Empty when none has."""
        with self._cmdb.read() as connection:
            return self._later_change(connection, deployment)

    def unknown_data(self, now: datetime) -> list[tuple[Deployment, str]]:
        """Deployments whose data a person has to look at, which no run has in hand, each with why; in the order of their numbers."""
        d = self._t.deployment.c
        idle = (d.lease_until.is_(None)) | (d.lease_until <= now)
        with self._cmdb.read() as connection:
            rows = connection.execute(
                sa.select(self._t.deployment)
                .where(d.state.in_(states.OPEN), d.data_state.in_(sorted(states.IN_DOUBT)), idle)
                .order_by(d.id)
            )
            found = [deployment_of(row) for row in rows]
            return [(one, in_doubt(one, self._data_log(connection, one.id))) for one in found]

    def _later_change(self, connection: sa.Connection, deployment: Deployment) -> str:
        d, h = self._t.deployment.c, self._t.deployment_host.c
        mine = sa.select(h.host).where(h.deployment_id == deployment.id)
        theirs = sa.select(h.deployment_id).where(h.deployment_id > deployment.id, h.host.in_(mine))
        changed = d.data_state.in_(sorted({*states.CHANGED, DataState.KEPT}))
        row = connection.execute(
            sa.select(d.id, d.rfc)
            .where(d.id > deployment.id, d.release == deployment.release, changed, d.id.in_(theirs))
            .order_by(d.id.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            return ""
        return (
            f"{row.rfc}#{row.id} has changed the data since, and they are not as before that; bring them back as they were and say so: "
            f"{self._ways(connection, deployment)}"
        )

    def _ways(self, connection: sa.Connection, deployment: Deployment) -> str:
        number = last_attempt(self._data_log(connection, deployment.id))
        return (
            f"-e tidegate_data=as_before:{number}, or -e tidegate_data=kept:{number} if the release before gets on with them as they are, "
            "with the reason as tidegate_reason"
        )

    def _reverse_barrier(self, connection: sa.Connection, deployment: Deployment) -> str:
        later_change = self._later_change(connection, deployment)
        if later_change:
            return later_change
        targets = self._targets(connection, deployment.id)
        mine = self._locked(connection, deployment.id)
        if any(target.host == deployment.rollout.data_host and target.state is _H.WRITTEN_OFF for target in targets):
            return f"{deployment.rollout.data_host} is written off; back out with {self._ways(connection, deployment)}"
        if deployment.rollout.data_host in self._by_hand(connection, deployment.id):
            return (
                f"{deployment.rollout.data_host} was brought back by hand, so no step goes there any more; bring its data back by hand, "
                f"too, and back out with {self._ways(connection, deployment)}"
            )
        # A host that others have taken, or changed, since may have a version by now that needs the data as they are.
        others = {target.host for target in targets if target.state is not _H.WRITTEN_OFF} - mine
        later = self._superseded(connection, deployment, others)
        if later:
            host, label = min(later.items())
            return (
                f"{host} was changed by {label} since, and may need the data as they are; back that out first, or back this out with "
                f"{self._ways(connection, deployment)}"
            )
        t = self._t
        locked = sa.select(t.lock.c.ci, t.deployment.c.rfc).join(t.deployment, t.deployment.c.id == t.lock.c.deployment_id)
        same = (t.deployment.c.release == deployment.release, t.lock.c.deployment_id != deployment.id)
        taken = [row for row in connection.execute(locked.where(*same).order_by(t.lock.c.ci)) if row.ci in others]
        if taken:
            return f"{taken[0].ci} is locked by {taken[0].rfc}, which may need the data as they are; let that end, and run this again"
        owed = [target.host for target in targets if target.state in states.TOUCHED]
        return f"{', '.join(owed[:5])} still have to go back before its data" if owed else ""

    def _begin(self, connection: sa.Connection, deployment: Deployment, state: DataState, now: datetime) -> None:
        self._require_lock(connection, deployment, deployment.rollout.data_host)
        self._move_data(connection, deployment, state, now)
