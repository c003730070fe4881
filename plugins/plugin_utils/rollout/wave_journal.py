# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of releases whose own role does a wave: its hosts begin together, and end together when what became of each was read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from ..errors import StateError
from . import states
from .deployments import Deployment, Run, Target
from .journal import Journal
from .states import DeploymentState, HostState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa

_D, _H, _W = DeploymentState, HostState, WaveState

ROLE_DID = "role"
"""What an event of the journal about a host has besides: the steps of a role that were done there."""


@dataclass
class Begun:
    """The ``hosts`` of a wave that are about to change, as they were before; and why others of it are ``refused``, in a sentence."""

    hosts: dict[str, Target] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class WaveJournal(Journal):
    """The deployments of one CMDB, to be written wave by wave."""

    def stage_all(self, run: Run, now: datetime) -> None:
        """No host of this deployment needs to be staged, for its release has no payload; what each runs is what the CMDB says."""
        t = self._t
        with self._writing(run, now) as (connection, deployment):
            installed = {
                row.name: {"previous_version": row.version, "previous_digest": row.digest}
                for row in connection.execute(
                    sa.select(t.ci.c.name, t.installation.c.version, t.installation.c.digest)
                    .join(t.installation, t.installation.c.ci_id == t.ci.c.id)
                    .join(t.deployment_host, (t.deployment_host.c.host == t.ci.c.name))
                    .where(t.deployment_host.c.deployment_id == deployment.id, t.installation.c.release == deployment.release)
                )
            }
            nothing = {"previous_version": None, "previous_digest": None}
            first = self._round_start(connection, deployment.id)
            for target in self._targets(connection, deployment.id):
                if target.wave >= first and target.state in (_H.PLANNED, _H.STAGE_FAILED):
                    self._move_host(connection, deployment.id, target, _H.STAGED, now, "", **installed.get(target.host, nothing))

    def begin_wave(self, run: Run, hosts: Collection[str], drains: bool, now: datetime) -> Begun:
        """Write ahead that ``hosts`` are about to change, and with ``drains`` that they will be out of service; return them as they were.

        Left out are those that need nothing more, and refused, without keeping the others from it, those that are not this deployment's
        to change. Raises :class:`StateError` for a host whose wave is not open, as :meth:`activating` does.
        """
        begun = Begun()
        with self._writing(run, now, start=True) as (connection, deployment):
            if deployment.state is not _D.ACTIVATING:
                raise StateError(f"{deployment.label} is {deployment.state}, not activating; run deploy again")
            self._require_data(deployment)
            waves = self._wave_states(connection, deployment.id)
            for target in self._targets(connection, deployment.id):
                if target.host not in hosts or target.state is _H.ACTIVE or _H.ACTIVATING not in states.HOST[target.state]:
                    continue
                if waves[target.wave] is not _W.OPEN and not (waves[target.wave] is _W.DECIDED and target.state in states.UNKNOWN):
                    raise StateError(
                        f"wave {target.wave} of {deployment.label} is not open, so {target.host} must not change yet; run deploy again"
                    )
                self._begin_host(connection, deployment, target, _H.ACTIVATING, drains, now, begun)
        return begun

    def begin_back_out(self, run: Run, hosts: Collection[str], drains: bool, now: datetime) -> Begun:
        """As :meth:`begin_wave`, for hosts that are about to go back."""
        begun = Begun()
        with self._writing(run, now) as (connection, deployment):
            if deployment.state is not _D.BACKING_OUT:
                raise StateError(f"{deployment.label} is {deployment.state}, not backing out; run backout first")
            for target in self._targets(connection, deployment.id):
                if target.host in hosts and target.state is not _H.BACKED_OUT and _H.BACKING_OUT in states.HOST[target.state]:
                    self._begin_host(connection, deployment, target, _H.BACKING_OUT, drains, now, begun)
        return begun

    def end_wave(
        self,
        run: Run,
        outcomes: Mapping[str, tuple[HostState, str]],
        restored: Collection[str],
        did: Mapping[str, Sequence[str]],
        now: datetime,
    ) -> None:
        """What became of hosts that began together: the state and detail of each; ``restored`` are those that serve again.

        ``did``: by host, the role's steps that were done from beginning to end.
        """
        with self._writing(run, now) as (connection, deployment):
            for target in self._targets(connection, deployment.id):
                if target.host not in outcomes or target.state not in (_H.ACTIVATING, _H.BACKING_OUT):
                    continue  # a person may have written it off meanwhile
                state, detail = outcomes[target.host]
                if target.host in restored:
                    self._append(connection, deployment.id, now, "restored", target.host, target.wave)
                if state is _H.ACTIVE:  # which no host becomes that was not seen to have come up
                    self._move_host(connection, deployment.id, target, _H.STARTED, now, "")
                reached = self._target(connection, deployment.id, target.host)
                more = detail or (target.detail if state is _H.BACKED_OUT else "")
                self._move_host(connection, deployment.id, reached, state, now, more, {ROLE_DID: list(did.get(target.host, ()))})

    def is_held_by(self, run: Run) -> bool:
        """Whether this run still holds the deployment; nothing is written."""
        table = self._t.deployment
        with self._cmdb.read() as connection:
            return bool(connection.scalar(sa.select(table.c.token).where(table.c.id == run.deployment)) == run.token)

    def _begin_host(
        self,
        connection: sa.Connection,
        deployment: Deployment,
        target: Target,
        state: HostState,
        drains: bool,
        now: datetime,
        begun: Begun,
    ) -> None:
        try:
            self._require_lock(connection, deployment, target.host)
        except StateError as error:
            begun.refused[target.host] = str(error)
            return
        self._move_host(connection, deployment.id, target, state, now, target.detail if state is _H.BACKING_OUT else "")
        if drains:
            self._append(connection, deployment.id, now, "drained", target.host, target.wave)
        begun.hosts[target.host] = target
