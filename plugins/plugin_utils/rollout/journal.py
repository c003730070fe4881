# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: the truth about where a deployment stands, in the CMDB's database.

Every change is one transaction that checks the state machine, changes the state and appends the event. A controller writes
under the fencing token that it got when it began the deployment or took it over; a lower one is refused, so a controller
that was given up for dead can't write when it wakes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from ..cmdb.chain import append_journal
from ..errors import ConflictError, NotFoundError, StateError
from ..licence import entitlements as licences
from . import states
from .data_change import DataStatement, after_statement, in_doubt, no_way_back, words
from .deployments import (
    HOLD_ASKED,
    LATE_ROUND,
    PLANNED,
    TAKEN_OVER,
    WENT_BACK,
    Deployment,
    Run,
    Target,
    as_remark,
    deployment_of,
    rollout_to_dict,
    target_of,
)
from .gate import GateDecision
from .holder import Holder
from .locks import Locks, superseded_by
from .options import Rollout
from .readings import installed_by_reading
from .slices import SEVERAL
from .states import DataState, DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

LEASE = timedelta(minutes=10)
DONE_BY_HAND = "done_by_hand"
_D, _H, _W = DeploymentState, HostState, WaveState


def not_by_hand(deployment: Deployment, target: Target) -> str:
    """Why nobody can have brought a host back by hand, in a sentence."""
    return (
        f"{target.host} is {target.state} in {deployment.label}; only a host that is stuck, lost or still to be backed out can be brought "
        "back by hand, the others go back by backout"
    )


class Journal(Locks):
    """The deployments of one CMDB, to be written."""

    # -- beginning and taking over -----------------------------------------

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

    def _ways_out(self, connection: sa.Connection, deployment: Deployment, but: Collection[str] = ()) -> str:
        if not deployment.rollout.firmware:
            return ""
        from .stranded import stranded, ways_out  # noqa: PLC0415 - each fork loads this module, and few deployments go back

        found = stranded(connection, deployment.id, self._targets(connection, deployment.id))
        return ways_out([one for one in found if one.host not in but], deployment.rfc)

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

    def release_lease(self, run: Run, now: datetime) -> None:
        """Give up the lease: this controller has ended its work, for now or for good."""
        with self._writing(run, now) as (connection, _deployment):
            self._end_lease(connection, run, now)

    def note(self, run: Run, event: str, data: Mapping[str, Any], now: datetime) -> None:
        """Append what has been done about the deployment outside this CMDB: told, written to a change system, checked."""
        with self._writing(run, now) as (connection, _deployment):
            self._append(connection, run.deployment, now, event, data=data)

    # -- hosts -------------------------------------------------------------

    def staged(self, run: Run, host: str, live: Mapping[str, str] | None, now: datetime) -> None:
        """The release is complete on ``host``; ``live`` (version, digest) is what a back-out returns to."""
        with self._writing(run, now) as (connection, deployment):
            self._refuse_staged(connection, deployment)
            self._stage(connection, run.deployment, self._own_target(connection, run, host), live, now)

    def stage_failed(self, run: Run, host: str, detail: str, now: datetime) -> None:
        """``host`` could not be staged."""
        with self._writing(run, now) as (connection, deployment):
            self._refuse_staged(connection, deployment)
            self._move_host(connection, run.deployment, self._own_target(connection, run, host), _H.STAGE_FAILED, now, detail)

    def _refuse_staged(self, connection: sa.Connection, deployment: Deployment) -> None:
        """Raise :class:`StateError` once the gate after staging has opened the first wave: who is not staged by then is late."""
        if deployment.state is _D.STAGING:
            return
        first = self._round_start(connection, deployment.id)
        if any(state is not _W.CLOSED for number, state in self._wave_states(connection, deployment.id).items() if number >= first):
            raise StateError(f"{deployment.label} is past staging, so this host comes in late; run deploy again for that")

    def activating(self, run: Run, host: str, now: datetime, within: sa.Connection | None = None) -> Target:
        """Write ahead that ``host`` is about to change. ``within``: see :meth:`take_over`.

        Raises :class:`StateError` unless its wave is open, or the host got lost in a wave that is decided; and when what the gate found
        open has closed since, or the lease has ended, for then it is too long ago that the gate looked.
        """
        with self._writing(run, now, start=True, within=within) as (connection, deployment):
            target = self._due(connection, run, deployment, host)
            self._move_host(connection, run.deployment, target, _H.ACTIVATING, now, "")
        return target

    def _due(self, connection: sa.Connection, run: Run, deployment: Deployment, host: str) -> Target:
        """A host that may change now; raises as :meth:`activating` does."""
        target = self._own_target(connection, run, host)
        state = connection.scalar(
            sa.select(self._t.wave.c.state).where(self._t.wave.c.deployment_id == deployment.id, self._t.wave.c.number == target.wave)
        )
        due = state == _W.OPEN or (state == _W.DECIDED and target.state in states.UNKNOWN)
        if deployment.state is not _D.ACTIVATING or not due:
            raise StateError(f"wave {target.wave} of {deployment.label} is not open, so {host} must not change yet; run deploy again")
        self._require_data(deployment)
        self._require_lock(connection, deployment, host)
        return target

    def activated(self, run: Run, host: str, state: HostState, detail: str, now: datetime) -> None:
        """How activation ended: ``started``, ``failed``, ``stuck`` or ``lost``; or the look after it: ``active`` or one of these."""
        with self._writing(run, now) as (connection, _deployment):
            self._move_host(connection, run.deployment, self._own_target(connection, run, host), state, now, detail)

    def target(self, run: Run, host: str) -> Target:
        """One host of a deployment as it stands."""
        with self._cmdb.read() as connection:
            return self._target(connection, run.deployment, host)

    def went_back(self, run: Run, host: str, detail: str, now: datetime) -> None:
        """``host`` has left the release by itself, as nobody reached it anew in time; how it stands since is for :meth:`activated`."""
        with self._writing(run, now) as (connection, deployment):
            target = self._own_target(connection, run, host)
            self._append(connection, deployment.id, now, WENT_BACK, host, target.wave, {"detail": detail})

    def confirming(self, run: Run, host: str, now: datetime) -> Target | None:
        """A host that is about to be looked at again; ``None`` when there is no reason to, for its release has not just come up there.

        Raises :class:`StateError` when that was less than the deployment's ``stable`` seconds ago.
        """
        with self._writing(run, now) as (connection, deployment):
            target = self._own_target(connection, run, host)
            if target.state is not _H.STARTED:
                return None
            if deployment.state is not _D.ACTIVATING:
                raise StateError(f"{deployment.label} is {deployment.state}, not activating, so {host} is not looked at again")
            if now < target.since + timedelta(seconds=deployment.rollout.stable):
                raise StateError(
                    f"the release has to stay healthy on {host} for {deployment.rollout.stable:g} s and came up at "
                    f"{target.since.isoformat(timespec='seconds')}; run deploy again"
                )
        return target

    def renew(self, run: Run, now: datetime) -> None:
        """Say that this controller is still at work; raises :class:`ConflictError` when another one has taken over."""
        with self._writing(run, now):
            pass

    def backing_out(self, run: Run, host: str, now: datetime, within: sa.Connection | None = None) -> Target:
        """Write ahead that ``host`` is about to go back. ``within``: see :meth:`take_over`."""
        with self._writing(run, now, within=within, decides=True) as (connection, deployment):
            target = self._due_back(connection, run, deployment, host)
            self._move_host(connection, run.deployment, target, _H.BACKING_OUT, now, target.detail)
        return target

    def _due_back(self, connection: sa.Connection, run: Run, deployment: Deployment, host: str) -> Target:
        """A host that may go back now; raises :class:`StateError` when it may not."""
        if deployment.state is not _D.BACKING_OUT:
            raise StateError(f"{deployment.label} is {deployment.state}, not backing out, so {host} stays as it is; run backout first")
        self._require_lock(connection, deployment, host)
        return self._own_target(connection, run, host)

    def backed_out(self, run: Run, host: str, state: HostState, detail: str, now: datetime) -> None:
        """How the back-out of ``host`` ended: ``backed_out`` or ``owed``. Without a detail it keeps the one that says why it went back."""
        with self._writing(run, now) as (connection, _deployment):
            target = self._own_target(connection, run, host)
            self._move_host(connection, run.deployment, target, state, now, detail or target.detail)

    # -- decisions ---------------------------------------------------------

    def decide_staging(
        self, run: Run, decision: GateDecision, now: datetime, until: datetime | None = None, *, ends_round: bool = False
    ) -> None:
        """Open the first wave of the round, or hold. ``until`` and ``ends_round``: see :meth:`decide_wave`."""
        with self._writing(run, now, decides=True) as (connection, deployment):
            if deployment.state is not _D.STAGING:
                raise ConflictError(f"the gate after staging of {deployment.label} was already decided; run deploy again to go on")
            self._append(connection, run.deployment, now, "staging_decided", data=asdict(decision))
            if decision.decision == "proceed":
                first = self._round_start(connection, run.deployment)
                self._move(connection, deployment, _D.ACTIVATING, now)
                self._set_start_deadline(connection, run.deployment, until)
                self._open_next(connection, run, first - 1, now)
            elif ends_round:
                self._move(connection, deployment, _D.SUPPORTING, now, self._why_supporting(connection, deployment, now))
            else:
                self._move(connection, deployment, _D.HELD, now, decision.reason)

    def decide_wave(
        self,
        run: Run,
        number: int,
        decision: GateDecision,
        now: datetime,
        until: datetime | None = None,
        basis: Mapping[str, Any] = MappingProxyType({}),
        *,
        ends_round: bool = False,
    ) -> None:
        """Write the gate's decision on an open wave and all that follows from it, in one transaction.

        The wave's installations go to the CMDB; on ``proceed`` the next wave opens or the deployment completes. A ``hold``
        leaves the wave open, so that its gate is asked again when a person has acted. ``until``: when it is too late to start another
        host, ``None`` for never. ``basis``: what it was decided by, for whoever judges again. ``ends_round``: a hold that waits for nobody,
        as those hosts of a late round that are still to come stay late.
        """
        t = self._t
        with self._writing(run, now, decides=True) as (connection, found):
            deployment = self._after_bake(connection, found, now)
            going = deployment.state is _D.ACTIVATING
            values: dict[str, Any] = {"decision": decision.decision, "reason": decision.reason}
            if decision.decision != "hold" or ends_round:
                values.update(state=_W.DECIDED, decided=now)
            changed = connection.execute(
                t.wave.update()
                .where(t.wave.c.deployment_id == run.deployment, t.wave.c.number == number, t.wave.c.state == _W.OPEN)
                .values(**values)
            ).rowcount
            if changed != 1 or not going:
                raise ConflictError(
                    f"the gate of wave {number} of {deployment.label} was already decided; run deploy again to go on from there"
                )
            self._set_start_deadline(connection, run.deployment, until)
            self._follow(connection, deployment, run, number, decision, now, basis, ends_round)

    def _after_bake(self, connection: sa.Connection, deployment: Deployment, now: datetime) -> Deployment:
        """The deployment, no longer baking if it was."""
        if deployment.state is not _D.BAKING:
            return deployment
        self._move(connection, deployment, _D.ACTIVATING, now)
        return self._load(connection, deployment.id)

    def decide_lost(self, run: Run, decision: GateDecision, now: datetime) -> None:
        """Write the gate's decision on the hosts that had got lost, when every wave is decided."""
        with self._writing(run, now, decides=True) as (connection, deployment):
            self._follow(connection, deployment, run, None, decision, now)

    def _follow(
        self,
        connection: sa.Connection,
        deployment: Deployment,
        run: Run,
        number: int | None,
        decision: GateDecision,
        now: datetime,
        basis: Mapping[str, Any] = MappingProxyType({}),
        ends_round: bool = False,
    ) -> None:
        """What follows from a decision about the wave ``number``, or about the hosts that had got lost in earlier ones."""
        self._append(connection, run.deployment, now, "decided", wave=number, data={**asdict(decision), **basis})
        # A host that was free while this deployment was held may have got something else since; what it runs is not for this one to say.
        mine = self._locked(connection, run.deployment)
        seen = [x for x in self._targets(connection, run.deployment) if number in (None, x.wave) and x.host in mine]
        active = [x for x in seen if x.state is _H.ACTIVE]
        stuck = installed_by_reading(connection, deployment, [x for x in seen if x.state is _H.STUCK])
        # One that was recorded to have the release, at an earlier gate of this wave, may have left it since.
        back = self._recorded(connection, deployment, [x for x in seen if x.state is _H.FAILED])
        now_there = {x.host: (deployment.version, deployment.digest) for x in active}
        self._install(connection, deployment, {**now_there, **back, **stuck}, now)
        licences.mark_used(connection, deployment.id, [x.host for x in active], now)
        if decision.decision == "proceed":
            self._open_next(connection, run, number, now)
        elif ends_round:
            for target in self._targets(connection, run.deployment):
                if number is not None and target.wave > number and target.state is _H.STAGED:
                    why = f"it was not tried, for wave {number} before it failed"
                    self._move_host(connection, run.deployment, target, _H.STAGE_FAILED, now, why)
            self._open_next(connection, run, None, now)
        else:
            self._move(connection, deployment, _D.BACKING_OUT if decision.decision == "back_out" else _D.HELD, now, decision.reason)

    def _recorded(
        self, connection: sa.Connection, deployment: Deployment, targets: Sequence[Target]
    ) -> dict[str, tuple[str | None, str | None]]:
        """Those of the hosts that the CMDB says have the deployment's release, with what they had before it."""
        rows = self._cmdb.installations([target.host for target in targets], connection) if targets else []
        mine = {row["ci"] for row in rows if row["release"] == deployment.release and row["digest"] == deployment.digest}
        return {target.host: (target.previous_version, target.previous_digest) for target in targets if target.host in mine}

    def order_backout(self, run: Run, reason: str, now: datetime, within: sa.Connection | None = None) -> DeploymentState:
        """A person wants the deployment undone: it is now backing out, or cancelled when it had not touched any host.

        A completed deployment can be backed out while it is still the last one on its CIs. ``within``: see :meth:`take_over`.
        """
        with self._writing(run, now, within=within, decides=True) as (connection, deployment):
            if deployment.state is _D.BACKING_OUT:
                return deployment.state
            targets = self._targets(connection, run.deployment)
            if deployment.state in (_D.COMPLETED, _D.SUPPORTING):
                self._refuse_superseded(connection, deployment)
                self._refuse_locked(connection, [target.host for target in targets if target.state in states.TOUCHED], deployment.id)
            touched = any(target.state in states.TOUCHED for target in targets) or deployment.data in (*states.CHANGED, DataState.KEPT)
            late_round = self._round_start(connection, run.deployment) > 1
            if deployment.state is _D.STAGING and touched and not late_round:
                raise StateError(f"{deployment.label} is staging but has touched hosts; this is a defect, please report it")
            if (deployment.state is _D.STAGING and not late_round) or (deployment.state is _D.HELD and not touched):
                self._finish(connection, deployment, _D.CANCELLED, now, reason)
                return _D.CANCELLED
            self._move(connection, deployment, _D.BACKING_OUT, now, reason)
            return _D.BACKING_OUT

    def hold(self, run: Run, reason: str, now: datetime) -> bool:
        """Hold a deployment that goes forward, whatever its gates say; return whether there was something to hold."""
        with self._writing(run, now, decides=True) as (connection, deployment):
            forward = deployment.state in (_D.STAGING, _D.ACTIVATING, _D.BAKING)
            if forward:
                self._move(connection, deployment, _D.HELD, now, reason)
        return forward

    def ask_hold(self, rfc: str, reason: str, who: str, now: datetime) -> str:
        """Ask whoever drives the RFC's deployment to hold at its next gate; return what the deployment is called.

        Nobody's right to drive it is needed: it is a line that gates read. Raises :class:`NotFoundError` when the RFC has no deployment,
        and :class:`ConflictError` when it does not go forward.
        """
        deployment = self.latest(rfc)
        if deployment is None:
            raise NotFoundError(f"{rfc} has no deployment; check its number, and which CMDB this is")
        with self._cmdb.begin() as connection:
            state = self._load(connection, deployment.id).state
            if state not in (_D.PLANNED, _D.STAGING, _D.ACTIVATING, _D.BAKING):
                raise ConflictError(f"{deployment.label} is {state}, so there is no further wave to hold")
            self._append(connection, deployment.id, now, HOLD_ASKED, data={"by": who, "reason": reason})
        return deployment.label

    def asked_to_hold(self, deployment_id: int) -> str:
        """Who asked since the deployment was held last that it holds, and why, as a sentence; empty when nobody did."""
        of = self._t.journal.c
        about = (of.deployment_id == deployment_id, of.host.is_(None), of.event.in_((HOLD_ASKED, str(_D.HELD))))
        with self._cmdb.read() as connection:
            last = connection.execute(sa.select(of.event, of.data).where(*about).order_by(of.seq.desc()).limit(1)).one_or_none()
        return f"{last.data['by']} asked to hold it: {last.data['reason']}" if last is not None and last.event == HOLD_ASKED else ""

    def conclude(self, run: Run, now: datetime) -> Deployment:
        """Close a back-out that owes nothing, no data either, a rollout whose last unknown hosts were written off, or support that is over.

        What the hosts that went back run now is written to the CMDB; the lease is given up, and the locks of hosts that need nothing more.
        """
        with self._writing(run, now) as (connection, deployment):
            targets = self._targets(connection, run.deployment)
            if deployment.state is _D.BACKING_OUT:
                mine = self._locked(connection, run.deployment)  # the others were recorded when they were given up
                back = {
                    target.host: (target.previous_version, target.previous_digest)
                    for target in targets
                    if target.state is _H.BACKED_OUT and target.host in mine
                }
                owed = [target for target in targets if target.state in (_H.STUCK, _H.OWED) and target.host in mine]
                self._install(connection, deployment, {**back, **installed_by_reading(connection, deployment, owed)}, now)
                licences.release(connection, deployment.id, back)
                left = {target.host for target in targets if target.state in states.TOUCHED}
                later = self._superseded(connection, deployment, left - mine)
                if left <= later.keys() and deployment.data not in states.CHANGED:
                    self._finish(connection, deployment, _D.BACKED_OUT, now, deployment.reason)
                else:
                    self._relock(connection, run.deployment, recorded=True)
            elif deployment.state is _D.SUPPORTING or (
                deployment.state is _D.ACTIVATING and self._nothing_due(connection, run.deployment, targets)
            ):
                self._complete(connection, deployment, now)
            if run.epoch is None:  # the others may have work to do
                self._end_lease(connection, run, now)
            return self._load(connection, run.deployment)

    # -- inside a transaction ----------------------------------------------

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

    def _stage(self, connection: sa.Connection, deployment_id: int, target: Target, live: Mapping[str, str] | None, now: datetime) -> None:
        previous: dict[str, Any] = {
            "previous_digest": live["digest"] if live else None,
            "previous_version": live["version"] if live else None,
        }
        self._move_host(connection, deployment_id, target, _H.STAGED, now, "", **previous)

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

    def _open_next(self, connection: sa.Connection, run: Run, after: int | None, now: datetime) -> None:
        """Open the first wave behind ``after`` that has a staged host.

        When there is none, or ``after`` is ``None``, the deployment is complete or supporting; unless it is not known what some hosts run:
        it is held.
        """
        t = self._t
        targets = self._targets(connection, run.deployment)
        staged = {target.wave for target in targets if target.state not in states.LEFT_OUT and after is not None and target.wave > after}
        if staged:
            number = min(staged)
            connection.execute(
                t.wave.update().where(t.wave.c.deployment_id == run.deployment, t.wave.c.number == number).values(state=_W.OPEN, opened=now)
            )
            self._append(connection, run.deployment, now, "opened", wave=number)
            return
        deployment = self._load(connection, run.deployment)
        unknown = [target.host for target in targets if target.state in states.UNKNOWN]
        if unknown:
            alone = ", which go back by themselves unless they are reached in time" if deployment.rollout.guarded else ""
            reason = f"it is not known what {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''} run{alone}, {len(unknown)} in all"
            self._move(connection, deployment, _D.HELD, now, reason)
        else:
            self._complete(connection, deployment, now)

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

    def _end_support(self, connection: sa.Connection, by: Deployment, hosts: Collection[str], now: datetime) -> None:
        """What supports the same release as ``by``, which has just begun, on one of ``hosts`` is complete: these get a later one."""
        d, h = self._t.deployment.c, self._t.deployment_host.c
        supporting = sa.select(d.id).where(d.release == by.release, d.state == _D.SUPPORTING, d.id != by.id).order_by(d.id)
        for number in connection.scalars(supporting).all():
            shared = sorted(set(connection.scalars(sa.select(h.host).where(h.deployment_id == number))).intersection(hosts))
            if shared:
                self._finish(connection, self._load(connection, number), _D.COMPLETED, now, superseded_by(by.label, by.version, shared))

    def _pass_over_late_wave(self, connection: sa.Connection, run: Run, now: datetime) -> None:
        """Decide the open wave of a late round that has no host left: the release has shown on others that it is good, and no step visits
        such a wave."""
        deployment = self._load(connection, run.deployment)
        if deployment.state is not _D.ACTIVATING or self._round_start(connection, run.deployment) == 1:
            return
        targets = self._targets(connection, run.deployment)
        number = next((n for n, state in self._wave_states(connection, run.deployment).items() if state is _W.OPEN), None)
        if number is None or any(target.wave == number and target.state not in states.LEFT_OUT for target in targets):
            return
        w = self._t.wave.c
        decision = GateDecision("proceed", f"no host of wave {number} is left that could get the release")
        values = {"state": _W.DECIDED, "decision": decision.decision, "reason": decision.reason, "decided": now}
        connection.execute(self._t.wave.update().where(w.deployment_id == run.deployment, w.number == number).values(**values))
        self._follow(connection, deployment, run, number, decision, now)

    def _set_start_deadline(self, connection: sa.Connection, deployment_id: int, until: datetime | None) -> None:
        connection.execute(self._t.deployment.update().where(self._t.deployment.c.id == deployment_id).values(open_until=until))

    def _nothing_due(self, connection: sa.Connection, deployment_id: int, targets: Sequence[Target]) -> bool:
        """Whether every wave of a rollout is decided and it is known how each host stands."""
        waiting = self._to_decide(self._wave_states(connection, deployment_id), targets)
        return not waiting and not any(target.state in states.UNKNOWN for target in targets)

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
