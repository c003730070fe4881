# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: the truth about where a deployment stands, in the CMDB's database.

Every change is one transaction that checks the state machine, changes the state and appends the event (:mod:`.moves`). Here is how a
deployment begins, is taken over and is let go of; other files have what its steps write about hosts (:mod:`.host_moves`), what its gates
and people decide (:mod:`.decisions`), and what people say of hosts (:mod:`.host_statements`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from ..errors import ConflictError
from ..licence import entitlements as licences
from . import states
from .data_change import DataStatement, in_doubt
from .decisions import Decisions
from .deployments import (
    LATE_ROUND,
    PLANNED,
    TAKEN_OVER,
    Deployment,
    Run,
    rollout_to_dict,
)
from .holder import Holder
from .host_moves import HostMoves
from .host_statements import HostStatements
from .locks import superseded_by
from .moves import LEASE
from .options import Rollout
from .states import DataState, DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

_D, _H, _W = DeploymentState, HostState, WaveState


class Journal(HostMoves, HostStatements, Decisions):
    """The deployments of one CMDB, to be written."""

    def begin(
        self,
        rfc: str,
        package: Mapping[str, str],
        waves: Sequence[Sequence[str]],
        rollout: Rollout,
        holder: Holder,
        now: datetime,
        also: Callable[[sa.Connection, int], None] = lambda _connection, _deployment_id: None,
        *,
        why: Mapping[str, Any] | None = None,
        scope: str = "",
    ) -> Run:
        """Write the plan of a new deployment and lock its CIs, all or nothing; ``also`` is done in the same transaction, with its id.

        ``package`` has ``name``, ``version`` and ``digest``; ``why`` is what the journal keeps of the plan besides its waves, see
        :meth:`.planner.Plan.to_dict`; ``scope`` is the query that selected the hosts, so that those can be named which it selects later.
        What supports the same release on one of the hosts is complete with this. Raises :class:`ConflictError` naming who holds a CI, or
        who drives this RFC: of two that begin at once one is first.
        """
        t = self._t
        hosts = [(host, number) for number, wave in enumerate(waves, 1) for host in wave]
        with self._cmdb.begin() as connection:
            self._refuse_begun(connection, rfc)
            self._refuse_locked(connection, [host for host, _number in hosts], None)
            token = self._next_token(connection, now)
            deployment_id = connection.execute(
                t.deployment.insert()
                .returning(t.deployment.c.id)
                .values(
                    rfc=rfc,
                    release=package["name"],
                    version=package["version"],
                    digest=package["digest"],
                    state=_D.PLANNED,
                    data_state=DataState.NOT_MIGRATED if rollout.data_host else DataState.NONE,
                    options=rollout_to_dict(rollout),
                    holder=str(holder),
                    token=token,
                    lease_until=now + LEASE,
                    created=now,
                )
            ).scalar_one()
            connection.execute(
                t.wave.insert(), [{"deployment_id": deployment_id, "number": n, "state": _W.CLOSED} for n in range(1, len(waves) + 1)]
            )
            connection.execute(
                t.deployment_host.insert(),
                [
                    {
                        "deployment_id": deployment_id,
                        "host": host,
                        "wave": number,
                        "position": position,
                        "state": _H.PLANNED,
                        "updated": now,
                    }
                    for position, (host, number) in enumerate(hosts)
                ],
            )
            self._lock(connection, deployment_id, [host for host, _number in hosts])
            about: dict[str, Any] = {"waves": [list(wave) for wave in waves], **holder.to_dict(), "scope": scope}
            self._append(connection, deployment_id, now, PLANNED, data=about | ({"plan": dict(why)} if why else {}))
            self._move(connection, self._load(connection, deployment_id), _D.STAGING, now)
            self._end_support(connection, self._load(connection, deployment_id), {host for host, _number in hosts}, now)
            also(connection, deployment_id)
        return Run(deployment_id, token)

    def begin_late(
        self,
        deployment_id: int,
        waves: Sequence[Sequence[str]],
        holder: Holder,
        now: datetime,
        *,
        ordered: bool = False,
        why: Mapping[str, Any] | None = None,
        also: Callable[[sa.Connection, int], None] = lambda _connection, _deployment_id: None,
    ) -> Run:
        """Plan hosts that are late anew, in ``waves`` of their own behind those that there are, and lock them, all or nothing.

        A host that the deployment does not have yet becomes one of it. ``ordered`` is as for :meth:`take_over`, and ``why`` and ``also``
        are as for :meth:`begin`.
        Raises :class:`ConflictError` when the deployment is not supporting any more, another controller drives it, one of the hosts is not
        late, or is locked by another deployment.
        """
        t = self._t
        h = t.deployment_host.c
        with self._cmdb.begin() as connection:
            deployment = self._load(connection, deployment_id)
            driven = self._driven(connection, deployment, holder, now)
            if driven and not ordered:
                raise ConflictError(driven)
            if deployment.state is not _D.SUPPORTING:
                raise ConflictError(f"{deployment.label} is {deployment.state} by now, so nobody is brought in late; run this again")
            self._reconcile(connection, deployment_id, now)
            there = {target.host: target for target in self._targets(connection, deployment_id)}
            hosts = [host for wave in waves for host in wave]
            others = [host for host in hosts if host in there and there[host].state not in states.LATE]
            if others:
                raise ConflictError(f"{others[0]} is {there[others[0]].state} in {deployment.label} by now, not late; run this again")
            self._refuse_locked(connection, hosts, deployment_id)
            token = self._drive(connection, deployment, holder, now, lease_until=now + LEASE, open_until=None)
            about = {**holder.to_dict(), "from": deployment.holder, "ordered": ordered}
            self._append(connection, deployment_id, now, TAKEN_OVER, data=about)
            first = max(self._wave_states(connection, deployment_id)) + 1
            numbers = range(first, first + len(waves))
            connection.execute(t.wave.insert(), [{"deployment_id": deployment_id, "number": n, "state": _W.CLOSED} for n in numbers])
            about = {"waves": [list(wave) for wave in waves], "holder": str(holder), **({"plan": dict(why)} if why else {})}
            self._append(connection, deployment_id, now, LATE_ROUND, wave=first, data=about)
            position = int(connection.scalar(sa.select(sa.func.max(h.position)).where(h.deployment_id == deployment_id)) or 0)
            for number, wave in zip(numbers, waves, strict=True):
                for host in wave:
                    position += 1
                    place: dict[str, Any] = {"wave": number, "position": position}
                    if host in there:
                        # The detail stays, and tells that it is not planned for the first time.
                        since = there[host].detail or f"it was {there[host].state}"
                        self._move_host(connection, deployment_id, there[host], _H.PLANNED, now, since, **place)
                    else:
                        of_host = {"deployment_id": deployment_id, "host": host, "state": _H.PLANNED, "updated": now}
                        connection.execute(t.deployment_host.insert(), of_host | place)
            self._lock(connection, deployment_id, hosts)
            self._move(connection, self._load(connection, deployment_id), _D.STAGING, now)
            self._relock(connection, deployment_id)
            also(connection, deployment_id)
        return Run(deployment_id, token)

    def give_up_round(self, deployment_id: int, holder: Holder, why: str, now: datetime) -> bool:
        """End a late round that waits, or was left in staging, and can't go on; whoever it was to bring in stays late, and says ``why``.

        Returns whether there was such a round; of one in which a host may be changing, or that another controller drives, nothing ends.
        """
        w = self._t.wave.c
        with self._cmdb.begin() as connection:
            deployment, first = self._load(connection, deployment_id), self._round_start(connection, deployment_id)
            targets = self._targets(connection, deployment_id)
            of_round = [target for target in targets if target.wave >= first]
            waits = first > 1 and deployment.state in (_D.STAGING, _D.HELD)
            if not waits or any(target.state in (*states.UNKNOWN, _H.STUCK) for target in of_round):
                return False
            if self._driven(connection, deployment, holder, now):
                return False
            self._drive(connection, deployment, holder, now, lease_until=None)
            for target in of_round:
                if target.state in (_H.PLANNED, _H.STAGED):
                    self._move_host(connection, deployment_id, target, _H.STAGE_FAILED, now, why)
            active = [target.host for target in of_round if target.state is _H.ACTIVE]
            self._install(connection, deployment, dict.fromkeys(active, (deployment.version, deployment.digest)), now)
            licences.mark_used(connection, deployment_id, active, now)
            decided = {"state": _W.DECIDED, "decision": "hold", "reason": why, "decided": now}
            connection.execute(self._t.wave.update().where(w.deployment_id == deployment_id, w.state == _W.OPEN).values(**decided))
            self._append(connection, deployment_id, now, "late_round_ended", data={"reason": why})
            self._complete(connection, self._load(connection, deployment_id), now)
        return True

    def take_over(
        self,
        deployment_id: int,
        holder: Holder,
        now: datetime,
        until: datetime | None = None,
        *,
        ordered: bool = False,
        said: DataStatement | None = None,
        within: sa.Connection | None = None,
    ) -> Run:
        """Continue an open deployment whose controller has ended, or that waits for a person. ``until``: see :meth:`decide_wave`.

        ``ordered``: a person says that the other controller is gone; ``said``: what they say of the data that it has changed. It is held as
        long as nobody knows how these are. ``within``: the caller's transaction, if there is one. Raises :class:`ConflictError` while the
        other controller drives the deployment.
        """
        with self._begin_or(within) as connection:
            deployment = self._load(connection, deployment_id)
            driven = self._driven(connection, deployment, holder, now)
            if driven and not ordered:
                raise ConflictError(driven)
            token = self._drive(connection, deployment, holder, now, lease_until=now + LEASE, open_until=until)
            about = {**holder.to_dict(), "from": deployment.holder, "ordered": ordered}
            self._append(connection, deployment_id, now, TAKEN_OVER, data=about)
            if said is not None:
                self._take_statement(connection, deployment, said, now)
                deployment = self._load(connection, deployment_id)
            doubt = in_doubt(deployment, self._data_log(connection, deployment_id))
            if doubt and deployment.state is _D.ACTIVATING:
                self._move(connection, deployment, _D.HELD, now, doubt)
            elif deployment.state is _D.PLANNED:
                self._move(connection, deployment, _D.STAGING, now)
            elif deployment.state is _D.BAKING:
                self._move(connection, deployment, _D.ACTIVATING, now)  # its hosts are looked at again before it goes on
            elif deployment.state is _D.HELD and not doubt:
                first = self._round_start(connection, deployment_id)
                waves = self._wave_states(connection, deployment_id)
                opened = any(number >= first and state is not _W.CLOSED for number, state in waves.items())
                self._move(connection, deployment, _D.ACTIVATING if opened else _D.STAGING, now)
            self._reconcile(connection, deployment_id, now)
            if deployment.state is _D.SUPPORTING and any(x.state in states.UNKNOWN for x in self._targets(connection, deployment_id)):
                self._move(connection, deployment, _D.ACTIVATING, now)  # one that had got lost is there again: it is looked at
            self._pass_over_late_wave(connection, Run(deployment_id, token), now)
            self._relock(connection, deployment_id)
        return Run(deployment_id, token)

    def release_lease(self, run: Run, now: datetime) -> None:
        """Give up the lease: this controller has ended its work, for now or for good."""
        with self._writing(run, now) as (connection, _deployment):
            self._end_lease(connection, run, now)

    def note(self, run: Run, event: str, data: Mapping[str, Any], now: datetime) -> None:
        """Append what has been done about the deployment outside this CMDB: told, written to a change system, checked."""
        with self._writing(run, now) as (connection, _deployment):
            self._append(connection, run.deployment, now, event, data=data)

    def renew(self, run: Run, now: datetime) -> None:
        """Say that this controller is still at work; raises :class:`ConflictError` when another one has taken over."""
        with self._writing(run, now):
            pass

    def _end_support(self, connection: sa.Connection, by: Deployment, hosts: Collection[str], now: datetime) -> None:
        """What supports the same release as ``by``, which has just begun, on one of ``hosts`` is complete: these get a later one."""
        d, h = self._t.deployment.c, self._t.deployment_host.c
        supporting = sa.select(d.id).where(d.release == by.release, d.state == _D.SUPPORTING, d.id != by.id).order_by(d.id)
        for number in connection.scalars(supporting).all():
            shared = sorted(set(connection.scalars(sa.select(h.host).where(h.deployment_id == number))).intersection(hosts))
            if shared:
                self._finish(connection, self._load(connection, number), _D.COMPLETED, now, superseded_by(by.label, by.version, shared))
