# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about a deployment, by its gates and by people, and what follows: the next wave, a hold, the way back, the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ..errors import ConflictError, NotFoundError, StateError
from ..licence import entitlements as licences
from . import states
from .deployments import (
    HOLD_ASKED,
    Deployment,
    Run,
    Target,
)
from .gate import GateDecision
from .moves import Moves
from .readings import installed_by_reading
from .states import DataState, DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

_D, _H, _W = DeploymentState, HostState, WaveState


class Decisions(Moves):
    """The deployments of one CMDB, to be decided about."""

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

    def _nothing_due(self, connection: sa.Connection, deployment_id: int, targets: Sequence[Target]) -> bool:
        """Whether every wave of a rollout is decided and it is known how each host stands."""
        waiting = self._to_decide(self._wave_states(connection, deployment_id), targets)
        return not waiting and not any(target.state in states.UNKNOWN for target in targets)
