# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment's hosts are staged, changed and brought back: what is written ahead of each step, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from ..errors import StateError
from . import states
from .deployments import (
    WENT_BACK,
    Deployment,
    Run,
    Target,
)
from .moves import Moves
from .states import DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

_D, _H, _W = DeploymentState, HostState, WaveState


class HostMoves(Moves):
    """The deployments of one CMDB, with what their steps write about hosts."""

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

    def _stage(self, connection: sa.Connection, deployment_id: int, target: Target, live: Mapping[str, str] | None, now: datetime) -> None:
        previous: dict[str, Any] = {
            "previous_digest": live["digest"] if live else None,
            "previous_version": live["version"] if live else None,
        }
        self._move_host(connection, deployment_id, target, _H.STAGED, now, "", **previous)
