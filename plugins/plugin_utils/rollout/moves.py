# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the state of a deployment, of its hosts and of its data is changed: what each transaction of the journal checks and appends.

A controller writes under the fencing token that it got when it began the deployment or took it over; a lower one is refused, so that one
which was given up for dead can't write when it wakes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from ..cmdb.chain import append_journal
from ..errors import ConflictError, NotFoundError, StateError
from ..licence import entitlements as licences
from . import states
from .data_change import DataStatement, after_statement, no_way_back, words
from .deployments import (
    Deployment,
    Run,
    Target,
    deployment_of,
    target_of,
)
from .holder import Holder
from .locks import Locks
from .slices import SEVERAL
from .states import DataState, DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

LEASE = timedelta(minutes=10)
DONE_BY_HAND = "done_by_hand"
_D, _H, _W = DeploymentState, HostState, WaveState


class Moves(Locks):
    """The deployments of one CMDB with the moves of their states. What begins with an underscore belongs into a transaction."""

    def _ways_out(self, connection: sa.Connection, deployment: Deployment, but: Collection[str] = ()) -> str:
        if not deployment.rollout.firmware:
            return ""
        from .stranded import stranded, ways_out  # noqa: PLC0415 - each fork loads this module, and few deployments go back

        found = stranded(connection, deployment.id, self._targets(connection, deployment.id))
        return ways_out([one for one in found if one.host not in but], deployment.rfc)

    def _begin_or(self, within: sa.Connection | None) -> AbstractContextManager[sa.Connection]:
        return self._cmdb.begin() if within is None else nullcontext(within)

    @contextmanager
    def _writing(
        self, run: Run, now: datetime, start: bool = False, within: sa.Connection | None = None, decides: bool = False
    ) -> Iterator[tuple[sa.Connection, Deployment]]:
        """A write transaction of the run that holds the deployment, the caller's if there is one; renews its lease.

        With ``start`` it raises :class:`StateError` when it is too late to start anything; with ``decides``, :class:`ConflictError` when
        the run is one of several and its lease is over.
        """
        table = self._t.deployment
        with self._begin_or(within) as connection:
            row = self._row(connection, run.deployment)
            deployment = deployment_of(row)
            lease_until, holder = (row.lease_until, row.holder) if run.epoch is None else self._slice_of(connection, run)
            renewed = connection.execute(
                table.update().where(table.c.id == run.deployment, table.c.token == run.shared).values(lease_until=now + LEASE)
            ).rowcount
            if renewed != 1 or (run.epoch is not None and lease_until is None):
                raise ConflictError(f"another controller has taken {deployment.label} over; this run must not go on")
            if run.epoch is not None:
                deployment = replace(deployment, token=run.token, holder=holder, epoch=run.epoch)
                self._renew_slice(connection, run, lease_until, now)
            if decides and run.epoch is not None and lease_until is not None and lease_until <= now:
                raise ConflictError(
                    f"the lease of this controller ended, so the others of {deployment.label} go on without it; run deploy again"
                )
            for what, end in (("its lease ended", lease_until), ("its window closed or a freeze began", row.open_until)):
                if start and end is not None and end <= now:
                    raise StateError(f"{what} for {deployment.label} at {end.isoformat(timespec='seconds')}; run deploy again")
            yield connection, deployment

    def _slice_of(self, connection: sa.Connection, run: Run) -> tuple[datetime | None, str]:
        """When the lease of a controller of several ends, ``None`` when it drives no slice of the deployment any more; and who that is."""
        c = self._t.controller.c
        mine = (c.token == run.token, c.deployment_id == run.deployment, c.epoch == run.epoch, c.ended.is_(None))
        row = connection.execute(sa.select(c.lease_until, c.holder).where(*mine)).one_or_none()
        return (row.lease_until, row.holder) if row else (None, "")

    def _renew_slice(self, connection: sa.Connection, run: Run, lease_until: datetime | None, now: datetime) -> None:
        """Renew the lease of a controller of several, unless it is over: the others have gone on without it."""
        if lease_until is not None and lease_until > now:
            table = self._t.controller
            connection.execute(table.update().where(table.c.token == run.token).values(lease_until=now + LEASE))

    def _end_lease(self, connection: sa.Connection, run: Run, now: datetime) -> None:
        deployment, controller = self._t.deployment, self._t.controller
        if run.epoch is not None:
            connection.execute(controller.update().where(controller.c.token == run.token).values(ended=now))
            others = (controller.c.deployment_id == run.deployment, controller.c.epoch == run.epoch, controller.c.ended.is_(None))
            if connection.execute(sa.select(controller.c.token).where(*others).limit(1)).first():
                return
        connection.execute(deployment.update().where(deployment.c.id == run.deployment).values(lease_until=None))

    def _own_target(self, connection: sa.Connection, run: Run, host: str) -> Target:
        """A host that ``run`` writes about. Raises :class:`ConflictError` when another controller of the deployment has it."""
        target = self._target(connection, run.deployment, host)
        if target.controller != (None if run.epoch is None else run.token):
            raise ConflictError(f"{host} is in the slice of another controller now; this run must not go on with it")
        return target

    def _target(self, connection: sa.Connection, deployment_id: int, host: str) -> Target:
        table = self._t.deployment_host
        row = connection.execute(sa.select(table).where(table.c.deployment_id == deployment_id, table.c.host == host)).one_or_none()
        if row is None:
            raise NotFoundError(f"{host} is not part of deployment {deployment_id}; it is outside the RFC's scope")
        return target_of(row)

    def _drive(self, connection: sa.Connection, deployment: Deployment, holder: Holder, now: datetime, **values: Any) -> int:
        """From now on ``holder`` drives a deployment, all of it, with these ``values`` of its row; return its token."""
        t, token = self._t, self._next_token(connection, now)
        of_deployment = t.deployment.c.id == deployment.id
        connection.execute(t.deployment.update().where(of_deployment).values(holder=str(holder), token=token, **values))
        if deployment.holder == SEVERAL:  # whose tokens are worth nothing any more
            hosts = t.deployment_host
            connection.execute(hosts.update().where(hosts.c.deployment_id == deployment.id).values(controller=None))
        return token

    def _next_token(self, connection: sa.Connection, now: datetime) -> int:
        """Higher than any before, in this CMDB and, as it follows the clock, in one that hosts knew before it."""
        tables = (self._t.deployment, self._t.controller)
        highest = max(connection.scalar(sa.select(sa.func.max(table.c.token))) or 0 for table in tables)
        return max(highest + 1, int(now.timestamp() * 1000))

    def _append(
        self,
        connection: sa.Connection,
        deployment_id: int,
        now: datetime,
        event: str,
        host: str | None = None,
        wave: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        line = {"deployment_id": deployment_id, "at": now, "event": event, "host": host, "wave": wave, "data": dict(data or {})}
        append_journal(connection, [line])

    def _move(self, connection: sa.Connection, deployment: Deployment, new: DeploymentState, now: datetime, reason: str = "") -> None:
        states.check(states.DEPLOYMENT, deployment.state, new, f"deployment {deployment.label}")
        barrier = ""
        if new is _D.BACKING_OUT:
            barrier = no_way_back(deployment, self._data_log(connection, deployment.id)) or self._ways_out(connection, deployment)
        if barrier:
            raise StateError(barrier)
        table = self._t.deployment
        values: dict[str, Any] = {"state": new, "reason": reason}
        if new is _D.ACTIVATING:
            values["started"] = sa.func.coalesce(table.c.started, sa.literal(now, table.c.started.type))
        if new in (_D.COMPLETED, _D.BACKED_OUT, _D.CANCELLED):
            values["finished"] = now
        changed = connection.execute(
            table.update().where(table.c.id == deployment.id, table.c.state == deployment.state).values(**values)
        ).rowcount
        if changed != 1:
            raise ConflictError(f"deployment {deployment.label} has changed meanwhile; run this again")
        self._append(connection, deployment.id, now, new, data={"from": deployment.state, "reason": reason})
        if new is _D.BACKING_OUT:
            self._reconcile(connection, deployment.id, now)
        if new in (_D.HELD, _D.BACKING_OUT, _D.SUPPORTING):
            self._relock(connection, deployment.id)

    def _move_data(
        self, connection: sa.Connection, deployment: Deployment, new: DataState, now: datetime, data: Mapping[str, Any] | None = None
    ) -> None:
        """Data are now, or are about to be, as ``new`` says."""
        states.check(states.DATA, deployment.data, new, f"what {deployment.label} does to data")
        table = self._t.deployment
        same = (table.c.id == deployment.id, table.c.data_state == deployment.data)
        if connection.execute(table.update().where(*same).values(data_state=new)).rowcount != 1:
            raise ConflictError(f"the data of {deployment.label} have changed meanwhile; run this again")
        self._append(connection, deployment.id, now, new, data={"host": deployment.rollout.data_host, **(data or {})})

    def _take_statement(self, connection: sa.Connection, deployment: Deployment, said: DataStatement, now: datetime) -> None:
        """Write down what a person says of the data, unless that is on record already."""
        new = after_statement(deployment, self._data_log(connection, deployment.id), said)
        if new is not deployment.data:
            about = {"said": said.what, "attempt": said.attempt, "reason": said.reason, "by": said.by, **said.signed}
            self._move_data(connection, deployment, new, now, about)

    def _by_hand(self, connection: sa.Connection, deployment_id: int) -> set[str]:
        j = self._t.journal.c
        return set(connection.scalars(sa.select(j.host).where(j.deployment_id == deployment_id, j.event == DONE_BY_HAND)))

    def _require_data(self, deployment: Deployment) -> None:
        """Raise :class:`StateError` unless the data are as the release needs them."""
        if deployment.data not in states.READY:
            given_up = deployment.data in (DataState.REVERSED, DataState.KEPT)  # by a person who wants the hosts back
            then = "so it only goes back; run backout again" if given_up else "so no host may change yet; run deploy again"
            raise StateError(f"the data of {deployment.label} are {words(deployment.data)}, {then}")

    def _finish(self, connection: sa.Connection, deployment: Deployment, new: DeploymentState, now: datetime, reason: str = "") -> None:
        done = {x.host for x in self._targets(connection, deployment.id) if x.state in states.TOUCHED}
        later = self._superseded(connection, deployment, done - self._locked(connection, deployment.id))
        for host, label in later.items():
            target = self._target(connection, deployment.id, host)
            self._move_host(connection, deployment.id, target, _H.SUPERSEDED, now, f"left as it is, for {label} has changed it since")
        self._move(connection, deployment, new, now, reason)
        connection.execute(self._t.lock.delete().where(self._t.lock.c.deployment_id == deployment.id))
        active = [x.host for x in self._targets(connection, deployment.id) if new is _D.COMPLETED and x.state is _H.ACTIVE]
        licences.close_reservations(connection, deployment.id, active)
        if deployment.rollout.firmware or deployment.rollout.hardware:
            self._finish_units(connection, deployment, new, active, now)

    def _finish_units(
        self, connection: sa.Connection, deployment: Deployment, new: DeploymentState, active: Collection[str], now: datetime
    ) -> None:
        """Give back the units that were reserved, cancel what nobody has begun, and say which firmware spares have to have from now on."""
        from ..dhs.assets import release_spares  # noqa: PLC0415 - each fork loads this module, and a deployment ends once
        from ..dhs.work_order import WorkOrderState  # noqa: PLC0415 - as above
        from ..dhs.work_orders import cancel_work_orders, list_work_orders  # noqa: PLC0415 - as above
        from .firmware_levels import lower_levels, raise_levels  # noqa: PLC0415 - as above

        release_spares(connection, deployment.id, deployment.holder, now)
        begun_by_nobody = (WorkOrderState.PLANNED, WorkOrderState.OPEN)
        cancel_work_orders(connection, list_work_orders(connection, deployments=[deployment.id], states=begun_by_nobody), now)
        if deployment.rollout.hardware:
            return
        if new is _D.COMPLETED:
            raise_levels(connection, deployment, active, now)
        elif new is _D.BACKED_OUT:
            back = [x.host for x in self._targets(connection, deployment.id) if x.state is _H.BACKED_OUT]
            lower_levels(connection, deployment, back, self._by_hand(connection, deployment.id), now)

    def _move_host(
        self,
        connection: sa.Connection,
        deployment_id: int,
        target: Target,
        new: HostState,
        now: datetime,
        detail: str,
        more: Mapping[str, Any] = MappingProxyType({}),
        **values: Any,
    ) -> None:
        """Change a host's state; ``values`` are other columns of it, ``more`` is what the event says besides."""
        table = self._t.deployment_host
        states.check(states.HOST, target.state, new, target.host)
        connection.execute(
            table.update()
            .where(table.c.deployment_id == deployment_id, table.c.host == target.host)
            .values(state=new, detail=detail, updated=now, **values)
        )
        self._append(connection, deployment_id, now, new, target.host, target.wave, {"detail": detail, **values, **more})

    def _complete(self, connection: sa.Connection, deployment: Deployment, now: datetime) -> None:
        """Every wave is decided: the deployment is complete, or supporting as long as something stands in the way of that."""
        support = self._support(connection, deployment, now)
        barriers = support.barriers(now)
        later = self._later_deployment(connection, deployment) if barriers else ""
        if later or not barriers:
            self._finish(connection, deployment, _D.COMPLETED, now, later or support.left_behind)
        elif deployment.state is _D.SUPPORTING:
            self._note_barriers(connection, deployment, now)
        else:
            self._move(connection, deployment, _D.SUPPORTING, now, "; ".join(barriers))

    def _why_supporting(self, connection: sa.Connection, deployment: Deployment, now: datetime) -> str:
        return "; ".join(self._support(connection, deployment, now).barriers(now))

    def _note_barriers(self, connection: sa.Connection, deployment: Deployment, now: datetime) -> None:
        """Say in its row why a deployment is supporting, which other hosts may have changed."""
        table = self._t.deployment
        why = self._why_supporting(connection, deployment, now)
        connection.execute(table.update().where(table.c.id == deployment.id, table.c.reason != why).values(reason=why))

    def _set_start_deadline(self, connection: sa.Connection, deployment_id: int, until: datetime | None) -> None:
        connection.execute(self._t.deployment.update().where(self._t.deployment.c.id == deployment_id).values(open_until=until))

    def _reconcile(self, connection: sa.Connection, deployment_id: int, now: datetime) -> None:
        """Leave out hosts that have been written off or removed from the CMDB meanwhile, and take back those that are there again."""
        t = self._t
        deployment = self._load(connection, deployment_id)
        if deployment.state not in states.OPEN:
            return
        targets = self._targets(connection, deployment_id)
        waves = self._wave_states(connection, deployment_id)
        planned = sa.select(t.deployment_host.c.host).where(t.deployment_host.c.deployment_id == deployment_id)
        there = set(connection.scalars(sa.select(t.ci.c.name).where(t.ci.c.name.in_(planned))))
        gone = {name: f"written off ({row['reason']})" for name, row in self._cmdb.write_offs(connection=connection).items()}
        for target in targets:
            why = gone.get(target.host) if target.host in there else "not in the CMDB any more"
            if why is not None and states.may_write_off(deployment.state, waves[target.wave], target.state):
                self._move_host(connection, deployment_id, target, _H.WRITTEN_OFF, now, why)
            elif why is None and target.state is _H.WRITTEN_OFF:
                new = self._state_of_returned(connection, deployment, target.host)
                self._move_host(connection, deployment_id, target, new, now, "it was written off, and is there again")

    def _state_of_returned(self, connection: sa.Connection, deployment: Deployment, host: str) -> HostState:
        """How a host stands that was written off and is there again."""
        if deployment.state is _D.BACKING_OUT:
            return _H.OWED if self._was_touched(connection, deployment.id, host) else _H.STAGE_FAILED
        if deployment.state is _D.SUPPORTING:
            # Nothing was under way there when it was written off, so it is as it was.
            j = self._t.journal.c
            about = (j.deployment_id == deployment.id, j.host == host, j.event.in_(sorted(set(HostState) - {_H.WRITTEN_OFF})))
            last = connection.scalar(sa.select(j.event).where(*about).order_by(j.seq.desc()).limit(1))
            if last in states.LATE:
                return HostState(last)
        return _H.LOST if self._was_touched(connection, deployment.id, host) else _H.STAGE_FAILED

    def _was_touched(self, connection: sa.Connection, deployment_id: int, host: str) -> bool:
        j = self._t.journal.c
        same = sa.select(j.seq).where(j.deployment_id == deployment_id, j.host == host, j.event == _H.ACTIVATING)
        return connection.execute(same.limit(1)).first() is not None

    def _install(
        self, connection: sa.Connection, deployment: Deployment, live: Mapping[str, tuple[str | None, str | None]], now: datetime
    ) -> None:
        """Record what ``live`` says each host runs of this release: version and digest, or ``(None, None)`` for nothing."""
        rows = [
            {"ci": host, "release": deployment.release, "version": version, "digest": digest, "deployment_id": deployment.id}
            for host, (version, digest) in live.items()
        ]
        if rows:
            self._cmdb.record_installations(connection, rows, actor=deployment.label, at=now)
