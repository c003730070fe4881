# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people say of a deployment's hosts: gone for good, brought back by hand, accepted as they are, exchanged, there again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from ..errors import ConflictError, StateError
from . import states
from .deployments import (
    Deployment,
    Run,
    Target,
    as_remark,
)
from .holder import Holder
from .moves import DONE_BY_HAND, Moves
from .readings import installed_by_reading
from .states import DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

_D, _H, _W = DeploymentState, HostState, WaveState


def not_by_hand(deployment: Deployment, target: Target) -> str:
    """Why nobody can have brought a host back by hand, in a sentence."""
    return (
        f"{target.host} is {target.state} in {deployment.label}; only a host that is stuck, lost or still to be backed out can be brought "
        "back by hand, the others go back by backout"
    )


class HostStatements(Moves):
    """The deployments of one CMDB, with what people say of their hosts."""

    def write_off(self, connection: sa.Connection, host: str, detail: str, holder: Holder, now: datetime, write: bool) -> list[str]:
        """A person says that ``host`` will not come back: each open deployment goes on without it, and gives up its lock.

        In the transaction that notes it in the CMDB. ``detail`` is what the host's state is explained with. Returns the labels of these
        deployments. Raises :class:`ConflictError` while another controller drives one that may be about to change the host.
        """
        t = self._t
        rows = connection.execute(
            sa.select(t.deployment.c.id, t.deployment_host.c.state, t.wave.c.state.label("wave"), t.lock.c.ci)
            .join(t.deployment_host, t.deployment_host.c.deployment_id == t.deployment.c.id)
            .join(t.wave, (t.wave.c.deployment_id == t.deployment.c.id) & (t.wave.c.number == t.deployment_host.c.wave))
            .outerjoin(t.lock, (t.lock.c.deployment_id == t.deployment.c.id) & (t.lock.c.ci == host))
            .where(t.deployment_host.c.host == host, t.deployment.c.state.in_(states.OPEN))
            .order_by(t.deployment.c.id)
        ).all()
        left = []
        for row in rows:
            deployment = self._load(connection, row.id)
            first = "run deploy or backout with -e tidegate_take_over=true first"  # that is for a run which then goes on with it
            driven = self._driven(connection, deployment, holder, now, first) if row.ci is not None else ""
            if driven:
                raise ConflictError(driven)
            if states.may_write_off(deployment.state, _W(row.wave), _H(row.state)):
                left.append(deployment.label)
                if write:
                    self._move_host(connection, row.id, self._target(connection, row.id, host), _H.WRITTEN_OFF, now, detail)
                    self._relock(connection, row.id)
                    if deployment.state is _D.SUPPORTING:
                        self._note_barriers(connection, deployment, now)
        return left

    def done_by_hand(
        self,
        run: Run,
        hosts: Mapping[str, Mapping[str, Any]],
        person: str,
        reason: str,
        now: datetime,
        within: sa.Connection | None = None,
    ) -> None:
        """A person says to have brought ``hosts`` back by hand: each is where it was before, in journal and CMDB, by that person's word.

        The value of each is what the history has besides. Raises :class:`StateError` for a host that is not stuck, lost or still to be
        backed out by this deployment, which has to be backing out, or that another one has locked. ``within``: see :meth:`take_over`.
        """
        with self._writing(run, now, within=within) as (connection, deployment):
            if deployment.state is not _D.BACKING_OUT:
                raise StateError(f"{deployment.label} is {deployment.state}, not backing out; run backout first")
            for host, more in hosts.items():
                self._require_lock(connection, deployment, host)
                target = self._target(connection, deployment.id, host)
                if target.state not in states.BY_HAND:
                    raise StateError(not_by_hand(deployment, target))
                said = {"by": person, "reason": reason, "from": target.state, "detail": target.detail}
                self._append(connection, deployment.id, now, DONE_BY_HAND, host, target.wave, said)
                detail = as_remark(f"brought back by hand, says {person}: {reason}")
                self._move_host(connection, deployment.id, target, _H.BACKED_OUT, now, detail)
                self._install(connection, deployment, {host: (target.previous_version, target.previous_digest)}, now)
                row = {
                    "ci": host,
                    "release": deployment.release,
                    "version": target.previous_version,
                    "deployment_id": deployment.id,
                    "actor": person,
                    "reason": reason,
                }
                self._cmdb.note_done_by_hand(connection, row, now, {"deployment": deployment.label, **more})

    def accept(
        self,
        run: Run,
        hosts: Mapping[str, Mapping[str, Any]],
        person: str,
        reason: str,
        now: datetime,
        within: sa.Connection,
    ) -> None:
        """A person accepts that ``hosts``, which nothing brings back, stay as they are; the CMDB has what they were read to run.

        The value of each is what the journal has besides. Raises :class:`StateError` for one that the deployment has not touched, or is
        done with.
        """
        with self._writing(run, now, within=within) as (connection, deployment):
            targets = {host: self._target(connection, deployment.id, host) for host in hosts}
            self._install(connection, deployment, installed_by_reading(connection, deployment, targets.values()), now)
            for host, more in hosts.items():
                self._require_lock(connection, deployment, host)
                target = targets[host]
                detail = as_remark(f"stays as it is, as {person} accepts: {reason}")
                said = {"by": person, "reason": reason, "from": target.state, **more}
                self._move_host(connection, deployment.id, target, _H.ACCEPTED, now, detail, more=said)

    def ways_out(self, deployment: Deployment, but: Collection[str] = ()) -> str:
        """What a person can do about hosts that no firmware brings back, other than ``but``; empty when there are none."""
        with self._cmdb.read() as connection:
            return self._ways_out(connection, deployment, but)

    def waiting_for_people(self, deployment: Deployment) -> str:
        """Which work orders of a deployment wait for somebody, as a sentence goes on with it; empty for none."""
        if not deployment.rollout.hardware:
            return ""
        from ..dhs.work_order import WAITING  # noqa: PLC0415 - for releases of hardware alone
        from ..dhs.work_orders import list_work_orders  # noqa: PLC0415 - as above

        with self._cmdb.read() as connection:
            orders = list_work_orders(connection, deployments=[deployment.id], states=WAITING)
        others = f"; and {len(orders) - 1} more" if len(orders) > 1 else ""
        return f"; people have to act: {orders[0].sentence()}{others}" if orders else ""

    def by_hand(self, deployment_id: int) -> set[str]:
        """The hosts that a person said to have brought back by hand, so that no step goes there any more."""
        with self._cmdb.read() as connection:
            return self._by_hand(connection, deployment_id)

    def out_of_service(self, deployment_id: int, hosts: Collection[str]) -> list[str]:
        """Which of ``hosts`` a release's role has taken out of service, and not brought back."""
        j = self._t.journal.c
        events = sa.select(j.host, j.event).where(j.deployment_id == deployment_id, j.event.in_(("drained", "restored")))
        with self._cmdb.read() as connection:
            last = {row.host: row.event for row in connection.execute(events.order_by(j.seq))}
        return [host for host in hosts if last.get(host) == "drained"]

    def swapped(self, connection: sa.Connection, deployment_id: int, host: str, about: Mapping[str, Any], now: datetime) -> None:
        """A person said that a unit of a host was exchanged, in the transaction that notes it in the hardware storage."""
        target = self._target(connection, deployment_id, host)
        self._append(connection, deployment_id, now, "swapped", host, target.wave, about)

    def returned(self, connection: sa.Connection, hosts: Iterable[str], why: str, now: datetime) -> None:
        """Hosts that were written off are there again. The open deployments that left them out take them back when they go on.

        Those that are supporting do so at once, for nobody drives them, and there the hosts are late.
        """
        t = self._t
        h = t.deployment_host.c
        open_ = sa.select(t.deployment.c.id).where(t.deployment.c.state.in_(states.OPEN))
        for host in hosts:
            left_out = sa.select(h.deployment_id, h.wave).where(h.host == host, h.state == _H.WRITTEN_OFF, h.deployment_id.in_(open_))
            for row in connection.execute(left_out.order_by(h.deployment_id)).all():
                self._append(connection, row.deployment_id, now, "returned", host, row.wave, {"detail": why})
                deployment = self._load(connection, row.deployment_id)
                if deployment.state is _D.SUPPORTING:
                    self._reconcile(connection, row.deployment_id, now)
                    self._note_barriers(connection, deployment, now)
