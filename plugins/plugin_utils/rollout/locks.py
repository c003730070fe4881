# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a deployment has locked against others, and what keeps it from beginning, going on or going back.

Which hosts these are is for :func:`.states.locks` to say; here is what the database has of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from ..errors import ConflictError, StateError
from ..licence import entitlements as licences
from . import states
from .deployments import JOINED, PLANNED, TAKEN_OVER, Deployment, Deployments
from .holder import Holder
from .slices import SEVERAL
from .states import DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

_D, _H, _W = DeploymentState, HostState, WaveState


def superseded_by(label: str, version: str, hosts: Sequence[str]) -> str:
    """Why support ended, when a later deployment has begun on some of its hosts."""
    return f"{label} brings {version} to {hosts[0]}{f' and {len(hosts) - 1} more' if len(hosts) > 1 else ''}, which ends its support"


def is_dead(holder: str) -> bool:
    """Whether a controller, as the journal names it, is known to have ended."""
    found = Holder.parse(holder)
    return found is not None and found.is_dead()


class Locks(Deployments):
    """The deployments of one CMDB with their locks. What begins with an underscore belongs into a transaction of the journal's."""

    def refuse_superseded(self, deployment_id: int) -> None:
        """Raise :class:`ConflictError` when a later deployment has changed what this one made active."""
        with self._cmdb.read() as connection:
            self._refuse_superseded(connection, self._load(connection, deployment_id))

    def refuse_plan(self, rfc: str, hosts: Sequence[str]) -> None:
        """Raise what :meth:`begin` would raise, as far as that can be said without writing."""
        with self._cmdb.read() as connection:
            self._refuse_begun(connection, rfc)
            self._refuse_locked(connection, hosts, None)

    def refuse_driven(self, deployment_id: int, holder: Holder, now: datetime) -> None:
        """Raise :class:`ConflictError` while another controller than ``holder`` drives a deployment."""
        with self._cmdb.read() as connection:
            driven = self._driven(connection, self._load(connection, deployment_id), holder, now)
        if driven:
            raise ConflictError(driven)

    def refuse_resume(self, deployment: Deployment) -> None:
        """Raise :class:`ConflictError` when another deployment has, or has changed, a host that a held one had not touched and gave up."""
        if deployment.state is not _D.HELD:
            return
        with self._cmdb.read() as connection:
            late = self._round_start(connection, deployment.id) > 1
            later = self._later_deployment(connection, deployment) if late else ""
            if later:
                raise ConflictError(f"the late round of {deployment.label} goes no further: {later}")
            waves = self._wave_states(connection, deployment.id)
            targets = self._targets(connection, deployment.id)
            given_up = {x.host for x in targets if x.state in (_H.PLANNED, _H.STAGED) and waves[x.wave] is not _W.DECIDED}
            self._refuse_locked(connection, sorted(given_up), deployment.id)
            changed = next((row for row in self._changed_since(connection, deployment) if row.host in given_up), None)
        if changed is not None:
            then = "raise" if late else f"back {deployment.rfc} out, and raise"
            raise ConflictError(
                f"{changed.rfc}#{changed.id} has changed {changed.host} since {deployment.label} was planned, which gave the host up when "
                f"it was held; {then} a new RFC for what is left"
            )

    def refuse_backout(self, deployment: Deployment) -> None:
        """Raise :class:`ConflictError` when a finished deployment is not the last one on its CIs, or another holds one of them."""
        if deployment.state in (_D.COMPLETED, _D.SUPPORTING):
            with self._cmdb.read() as connection:
                self._refuse_superseded(connection, deployment)
                touched = [target.host for target in self._targets(connection, deployment.id) if target.state in states.TOUCHED]
                self._refuse_locked(connection, touched, deployment.id)

    def _relock(self, connection: sa.Connection, deployment_id: int, recorded: bool = False) -> None:
        """Lock the hosts that the deployment may change, as far as nobody else has them, and give up the others.

        Hosts that went back are given up when it is ``recorded`` what they run. What was reserved for hosts that are given up and was not
        used is free as well.
        """
        t = self._t
        deployment, waves = self._load(connection, deployment_id), self._wave_states(connection, deployment_id)
        targets = self._targets(connection, deployment_id)
        first = self._round_start(connection, deployment_id)
        begun = any(state is not _W.CLOSED for number, state in waves.items() if number >= first)
        # What an earlier round did not come to is over with it.
        waves |= {number: _W.DECIDED for number in waves if number < first}
        changed = deployment.data in states.CHANGED
        by_data = {x.host for x in targets if changed and (deployment.state is _D.BACKING_OUT or x.host == deployment.rollout.data_host)}
        live = self._has_supported(connection, deployment_id)
        wanted = {x.host for x in targets if states.locks(deployment.state, waves[x.wave], x.state, begun, x.host in by_data, live)}
        mine = self._locked(connection, deployment_id)
        if not recorded:
            wanted |= {x.host for x in targets if x.state is _H.BACKED_OUT and x.host in mine}
        free = mine - wanted
        if free:
            connection.execute(t.lock.delete().where(t.lock.c.ci == sa.bindparam("of_ci")), [{"of_ci": host} for host in sorted(free)])
            licences.release_reserved(connection, deployment_id, free)
        new = wanted - mine
        if new:
            others = set(connection.scalars(sa.select(t.lock.c.ci).where(t.lock.c.deployment_id != deployment_id)))
            new -= others | self._superseded(connection, deployment, new - others).keys()
            if new:
                self._lock(connection, deployment_id, sorted(new))

    def _require_lock(self, connection: sa.Connection, deployment: Deployment, host: str) -> None:
        """Raise :class:`StateError` unless the deployment has the lock of ``host``."""
        t = self._t
        row = connection.execute(
            sa.select(t.deployment.c.id, t.deployment.c.rfc)
            .join(t.lock, t.lock.c.deployment_id == t.deployment.c.id)
            .where(t.lock.c.ci == host)
        ).one_or_none()
        if row is None or row.id != deployment.id:
            other = f"{row.rfc}#{row.id} has it" if row else "it was given up"
            raise StateError(f"{host} is not locked by {deployment.label}, {other}; run this again when nothing else changes the host")

    def _superseded(self, connection: sa.Connection, deployment: Deployment, hosts: Collection[str]) -> dict[str, str]:
        """Which of ``hosts`` a later deployment of the same release has changed since this one did, and the label of the last of these.

        A host that another deployment brought back to this one's package is this one's own again; of one that is locked it is not known yet
        what it will come to.
        """
        if not hosts:
            return {}
        # Those that changed each host last, this one among them.
        last = {row.host: row for row in self._changed_since(connection, deployment, and_itself=True)}
        t = self._t
        undone = (_H.BACKED_OUT, _H.FAILED)
        later = {
            row.host: f"{row.rfc}#{row.id}"
            for row in last.values()
            if row.id != deployment.id and row.host in hosts and not (row.state in undone and row.previous_digest == deployment.digest)
        }
        locked = set(connection.scalars(sa.select(t.lock.c.ci))) if later else set()
        return {host: label for host, label in later.items() if host not in locked}

    def _changed_since(self, connection: sa.Connection, deployment: Deployment, *, and_itself: bool = False) -> Sequence[Any]:
        """The times that a host was about to change since a deployment was planned, by another of its release, in order.

        Each with the ``host``, the ``id`` and ``rfc`` of that deployment, and the ``state`` that the host is in there by now and its
        ``previous_digest``.
        """
        t = self._t
        j, d, h = t.journal.c, t.deployment.c, t.deployment_host.c
        planned = connection.execute(sa.select(sa.func.min(j.seq)).where(j.deployment_id == deployment.id)).scalar_one()
        others = sa.select(d.id, d.rfc).where(d.release == deployment.release, *([] if and_itself else [d.id != deployment.id])).subquery()
        rows = (
            sa.select(j.host, others.c.id, others.c.rfc, h.state, h.previous_digest)
            .join(others, others.c.id == j.deployment_id)
            .join(t.deployment_host, (h.deployment_id == j.deployment_id) & (h.host == j.host))
            .where(j.seq > planned, j.event.in_((_H.ACTIVATING, _H.BACKING_OUT)), j.host.is_not(None))
            .order_by(j.seq)
        )
        return connection.execute(rows).all()

    def _later_deployment(self, connection: sa.Connection, deployment: Deployment) -> str:
        """That a later deployment of the same release has one of the hosts, in a sentence; empty when none has."""
        t = self._t
        d, h = t.deployment.c, t.deployment_host.c
        mine = sa.select(h.host).where(h.deployment_id == deployment.id)
        rows = (
            sa.select(d.id, d.rfc, d.version, h.host)
            .join(t.deployment_host, h.deployment_id == d.id)
            .where(d.release == deployment.release, d.id > deployment.id, d.state != _D.CANCELLED, h.host.in_(mine))
            .order_by(d.id, h.position)
        )
        found = connection.execute(rows).all()
        of_first = [row.host for row in found if row.id == found[0].id]
        return superseded_by(f"{found[0].rfc}#{found[0].id}", found[0].version, of_first) if found else ""

    def _lock(self, connection: sa.Connection, deployment_id: int, hosts: Sequence[str]) -> None:
        try:
            connection.execute(self._t.lock.insert(), [{"ci": host, "deployment_id": deployment_id} for host in hosts])
        except sa.exc.IntegrityError as error:
            raise ConflictError("the CIs in scope changed in the CMDB while this was planned; run it again") from error

    def _driven(
        self,
        connection: sa.Connection,
        deployment: Deployment,
        holder: Holder,
        now: datetime,
        gone: str = "run this again with -e tidegate_take_over=true",
    ) -> str:
        """Who else drives a deployment, in a sentence; empty when nobody does. ``gone``: what to do when that one is gone."""
        d = self._t.deployment.c
        if deployment.holder == SEVERAL:
            drivers = [row for row in self._controllers(connection, deployment) if row.ended is None]
        else:
            drivers = [connection.execute(sa.select(d.holder, d.lease_until).where(d.id == deployment.id)).one()]
        alive = [row for row in drivers if row.holder != str(holder) and self._is_alive(connection, deployment.id, row, now)]
        if not alive:
            return ""
        last = max(alive, key=lambda one: one.lease_until)
        others = f" and {len(alive) - 1} more" if len(alive) > 1 else ""
        if self._is_there(connection, deployment.id, last.holder):
            return (
                f"{deployment.label} is being driven by {last.holder}{others}, which is there, however long it says nothing; wait "
                f"for it to end, or end it; to go on without it, {gone}"
            )
        return (
            f"{deployment.label} is being driven by {last.holder}{others}; wait for it to end, or until its lease ends at "
            f"{last.lease_until.isoformat(timespec='seconds')}; if you know that it is gone, {gone}"
        )

    def _is_alive(self, connection: sa.Connection, deployment_id: int, row: Any, now: datetime) -> bool:
        """Whether a controller may be at work, by what can be seen of it and else by its lease; ``row`` has its name and when that ends."""
        if row.lease_until is None or is_dead(row.holder):
            return False
        there = self._is_there(connection, deployment_id, row.holder)
        return bool(row.lease_until > now) if there is None else there

    def _is_there(self, connection: sa.Connection, deployment_id: int, holder: str) -> bool | None:
        """Whether a controller is there still, by the mark that it has left in the journal; ``None`` when that can't be said from here."""
        j = self._t.journal.c
        begun = (j.deployment_id == deployment_id, j.host.is_(None), j.event.in_((PLANNED, TAKEN_OVER, JOINED)))
        events = connection.scalars(sa.select(j.data).where(*begun).order_by(j.seq.desc()))
        mark = next((data.get("mark") for data in events if data.get("holder") == holder), None)
        return None if mark is None else self._cmdb.is_there(mark, connection)

    def _controllers(self, connection: sa.Connection, deployment: Deployment) -> Sequence[Any]:
        """Those who have come to a deployment that several controllers drive, in that order; its ``token`` is what they have in common."""
        c = self._t.controller.c
        rows = sa.select(self._t.controller).where(c.deployment_id == deployment.id, c.epoch == deployment.token).order_by(c.token)
        return connection.execute(rows).all()

    def _refuse_begun(self, connection: sa.Connection, rfc: str) -> None:
        """Of two that plan one RFC at the same moment, the second learns here of the first."""
        table = self._t.deployment
        row = connection.execute(sa.select(table).where(table.c.rfc == rfc, table.c.state.in_(states.OPEN))).first()
        if row is not None:
            raise ConflictError(
                f"{rfc}#{row.id} is being driven by {row.holder}, which has just begun it; run this again when that has ended"
            )

    def _refuse_locked(self, connection: sa.Connection, hosts: Sequence[str], mine: int | None) -> None:
        t = self._t
        locks = sa.select(t.lock.c.ci, t.lock.c.deployment_id).where(t.lock.c.deployment_id != (mine or 0))
        wanted = set(hosts)
        held = [row for row in connection.execute(locks) if row.ci in wanted]
        if held:
            first = self._load(connection, held[0].deployment_id)
            raise ConflictError(
                f"{len(held)} of the CIs ({', '.join(sorted(row.ci for row in held)[:3])}) are locked by {first.label}, which is "
                f"{first.state} under {first.holder}; let it end, or back it out, before deploying to them"
            )

    def _refuse_superseded(self, connection: sa.Connection, deployment: Deployment) -> None:
        t = self._t
        rows = connection.execute(
            sa.select(t.ci.c.name, t.installation.c.version)
            .join(t.installation, t.installation.c.ci_id == t.ci.c.id)
            .join(t.deployment, t.deployment.c.id == t.installation.c.deployment_id)
            .where(
                t.installation.c.release == deployment.release,
                t.installation.c.deployment_id != deployment.id,
                # What a later deployment brought back when it was backed out is this one's own again.
                (t.installation.c.digest != deployment.digest) | (t.deployment.c.state != _D.BACKED_OUT),
                t.ci.c.name.in_(
                    sa.select(t.deployment_host.c.host).where(
                        t.deployment_host.c.deployment_id == deployment.id, t.deployment_host.c.state == _H.ACTIVE
                    )
                ),
            )
        ).all()
        if rows:
            raise ConflictError(
                f"{rows[0].name} runs {deployment.release} {rows[0].version} by a later deployment than {deployment.label}; "
                "back the later one out first"
            )
