# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of deployments that several controllers drive, each a slice of the hosts: who has come, and how far each has got."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime

from ..errors import ConflictError, TidegateError
from . import states
from .data_change import DataStatement
from .deployments import JOINED, Deployment, Run, Target
from .holder import Holder
from .journal import Journal
from .moves import LEASE
from .slices import SEVERAL, Meeting, Slice, View, slice_fault, waits_for
from .states import DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

CLOSING = "closing"


class SliceJournal(Journal):
    """The deployments of one CMDB, as controllers share them."""

    def join(
        self,
        deployment_id: int,
        hosts: Collection[str],
        holder: Holder,
        now: datetime,
        until: datetime | None = None,
        *,
        ordered: bool = False,
        said: DataStatement | None = None,
        within: sa.Connection | None = None,
        back: bool = False,
    ) -> Run:
        """Drive the slice of a deployment that is ``hosts``, as far as it has them. The other parameters are those of :meth:`take_over`.

        ``back``: to have it taken back, so those that bring it forward are not joined. Who comes when nobody drives it takes it over, and
        the others join that one. Raises :class:`ConflictError` while a controller drives all of it, or one of the hosts, and when none of
        the hosts is the deployment's.
        """
        t = self._t
        with self._begin_or(within) as connection:
            deployment = self._load(connection, deployment_id)
            if fault := slice_fault(deployment.rollout):
                raise TidegateError(f"{deployment.label} can't be driven by several controllers: {fault}")
            driven = self._driven(connection, deployment, holder, now)
            away = back and deployment.state is not DeploymentState.BACKING_OUT
            if deployment.holder != SEVERAL or not driven or away or deployment.state is DeploymentState.HELD:
                if driven and not ordered:
                    raise ConflictError(driven)
                self.take_over(deployment_id, holder, now, until, ordered=ordered, said=said, within=connection)
                connection.execute(t.deployment.update().where(t.deployment.c.id == deployment_id).values(holder=SEVERAL))
                deployment = self._load(connection, deployment_id)
                self._try_again(connection, deployment, now)
            token = self._next_token(connection, now)
            mine = [target for target in self._targets(connection, deployment_id) if target.host in hosts]
            if not mine:
                raise ConflictError(f"{deployment.label} has no host of this slice of the inventory; leave this slice away, or correct it")
            self._refuse_claimed(connection, deployment, mine, holder, now, ordered)
            about = {"token": token, "deployment_id": deployment_id, "epoch": deployment.token, "holder": str(holder)}
            connection.execute(t.controller.insert().values(**about, lease_until=now + LEASE))
            claim = t.deployment_host.update().where(t.deployment_host.c.deployment_id == deployment_id).values(controller=token)
            connection.execute(claim.where(t.deployment_host.c.host == sa.bindparam("own")), [{"own": target.host} for target in mine])
            self._append(connection, deployment_id, now, JOINED, data={**holder.to_dict(), "hosts": [target.host for target in mine]})
        return Run(deployment_id, token, deployment.token)

    def _try_again(self, connection: sa.Connection, deployment: Deployment, now: datetime) -> None:
        """Who goes on with staging tries again what could not be staged, so that its gate waits for it."""
        if deployment.state is not DeploymentState.STAGING:
            return
        first = self._round_start(connection, deployment.id)
        for target in self._targets(connection, deployment.id):
            if target.wave >= first and target.state is HostState.STAGE_FAILED:
                self._move_host(connection, deployment.id, target, HostState.PLANNED, now, target.detail)

    def _refuse_claimed(
        self, connection: sa.Connection, deployment: Deployment, mine: Collection[Target], holder: Holder, now: datetime, ordered: bool
    ) -> None:
        """Raise :class:`ConflictError` when somebody who is at work has one of these hosts; who had one before is at an end with this."""
        claimed = {target.controller: target.host for target in mine if target.controller is not None}
        for row in self._controllers(connection, deployment):
            if row.token not in claimed:
                continue
            alive = row.ended is None and row.holder != str(holder) and self._is_alive(connection, deployment.id, row, now)
            # Who is to be gone, as a person says, is followed by somebody who has all of its hosts.
            followed = ordered and self._hosts_of(connection, deployment, row.token) <= {target.host for target in mine}
            if alive and not followed:
                raise ConflictError(
                    f"{claimed[row.token]} is in the slice of {row.holder} too, so both would change it; give each slice hosts of its own"
                )
            table = self._t.controller
            connection.execute(table.update().where(table.c.token == row.token).values(ended=now))
            others = self._t.deployment_host
            left = (others.c.deployment_id == deployment.id, others.c.controller == row.token)
            connection.execute(others.update().where(*left).values(controller=None))

    def _hosts_of(self, connection: sa.Connection, deployment: Deployment, token: int) -> set[str]:
        h = self._t.deployment_host.c
        return set(connection.scalars(sa.select(h.host).where(h.deployment_id == deployment.id, h.controller == token)))

    def view(self, run: Run, now: datetime) -> View:
        """How a deployment stands with all its controllers, for the one that ``run`` is of."""
        t = self._t
        with self._cmdb.read() as connection:
            deployment = self._load(connection, run.deployment)
            waves = {number: WaveState(state) for number, state in self._wave_states(connection, run.deployment).items()}
            first = self._round_start(connection, run.deployment)
            back = deployment.state is DeploymentState.BACKING_OUT  # which is of all rounds
            hosts: dict[int | None, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
            targets = self._targets(connection, run.deployment)
            for target in targets:
                if waits_for(target.state) and (back or target.wave >= first):
                    hosts[target.controller][target.wave].add(target.host)
            c = t.controller.c
            rows = connection.execute(sa.select(t.controller).where(c.deployment_id == run.deployment, c.epoch == run.epoch)).all()
            # Nobody waits for one that stands still for longer than its lease, whether it is there or not.
            led = [row for row in rows if row.ended is None and row.lease_until > now]
            alive = {row.token for row in led if row.token == run.token or self._is_alive(connection, run.deployment, row, now)}

        def of(token: int | None) -> dict[int, frozenset[str]]:
            return {number: frozenset(names) for number, names in hosts.get(token, {}).items()}

        slices = {
            row.token: Slice(
                row.token,
                row.holder,
                row.token in alive,
                row.place,
                row.back,
                row.done is not None,
                row.stop,
                of(row.token),
            )
            for row in rows
        }
        touched = frozenset(target.host for target in targets if target.state in states.TOUCHED)
        return View(run.token, deployment.state, waves, slices, of(None), touched)

    def came_to(self, run: Run, place: Meeting, now: datetime) -> None:
        """This controller has visited all its hosts that come before a place."""
        self._note(run, now, place=place.rank)

    def takes_back(self, run: Run, wave: int, now: datetime) -> None:
        """This controller has taken back all its hosts of the waves behind ``wave``."""
        self._note(run, now, back=wave)

    def is_done(self, run: Run, now: datetime) -> None:
        """No step of this controller visits a host any more."""
        self._note(run, now, done=now)

    def asks_to_stop(self, run: Run, why: str, now: datetime) -> None:
        """Somebody has interrupted this controller, so no gate shall open another wave."""
        self._note(run, now, stop=why)

    def _note(self, run: Run, now: datetime, **values: object) -> None:
        table = self._t.controller
        with self._writing(run, now) as (connection, _deployment):
            connection.execute(table.update().where(table.c.token == run.token).values(**values))

    def closes(self, run: Run, now: datetime) -> bool:
        """Whether what is done once at the end is this controller's to do: it is the first that asks."""
        j = self._t.journal.c
        with self._writing(run, now) as (connection, deployment):
            asked = sa.select(j.data).where(j.deployment_id == run.deployment, j.event == CLOSING, j.host.is_(None))
            first = all(data["epoch"] != run.epoch for data in connection.scalars(asked))
            if first:
                about = {"epoch": run.epoch, "holder": deployment.holder}
                self._append(connection, run.deployment, now, CLOSING, data=about)
        return first

    def count_as_late(self, run: Run, hosts: Collection[str], why: str, now: datetime) -> None:
        """Nobody has come for ``hosts`` in time, so the first wave does not wait for them."""
        with self._writing(run, now) as (connection, deployment):
            for target in self._targets(connection, run.deployment):
                waiting = target.controller is None and target.state in (HostState.PLANNED, HostState.STAGED)
                if deployment.state is DeploymentState.STAGING and target.host in hosts and waiting:
                    self._move_host(connection, run.deployment, target, HostState.STAGE_FAILED, now, why)
