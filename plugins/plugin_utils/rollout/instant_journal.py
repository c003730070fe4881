# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of waves whose hosts are switched at one instant: who is armed, and what was said of the instant."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime

from .deployments import ARMED, FIRE, WITHDRAWN, Run, Target
from .journal import Journal
from .states import HostState

with suppress(ImportError):
    import sqlalchemy as sa


class InstantJournal(Journal):
    """The deployments of one CMDB, and the instants of their waves. All is by the token of the run that armed the hosts: another run
    arms them anew."""

    def arming(self, run: Run, host: str, now: datetime) -> Target:
        """A host that is about to be armed; raises as :meth:`activating` does. Nothing changes there by that."""
        with self._writing(run, now, start=True) as (connection, deployment):
            return self._due(connection, deployment, host)

    def armed(self, run: Run, host: str, offset: float, bound: float, now: datetime) -> None:
        """``host`` is armed; its clock is ``offset`` seconds from ours, give or take ``bound``."""
        with self._writing(run, now) as (connection, deployment):
            target = self._target(connection, deployment.id, host)
            about = {"token": run.token, "offset": round(offset, 6), "bound": round(bound, 6)}
            self._append(connection, deployment.id, now, ARMED, host, target.wave, about)

    def armed_hosts(self, run: Run, wave: int) -> set[str]:
        """The hosts of a wave that this run has armed and that have not changed since."""
        j = self._t.journal.c
        about = (j.deployment_id == run.deployment, j.wave == wave, j.event == ARMED)
        with self._cmdb.read() as connection:
            rows = connection.execute(sa.select(j.host, j.data).where(*about)).all()
            still = {t.host for t in self._targets(connection, run.deployment) if t.state in (HostState.STAGED, HostState.FAILED)}
        return {row.host for row in rows if row.data["token"] == run.token} & still

    def fire(self, run: Run, wave: int, at: datetime, hosts: Collection[str], now: datetime) -> None:
        """The armed ``hosts`` of a wave are told the instant ``at`` from now on."""
        with self._writing(run, now, start=True) as (connection, deployment):
            about = {"token": run.token, "at": at.isoformat(), "hosts": sorted(hosts)}
            self._append(connection, deployment.id, now, FIRE, wave=wave, data=about)

    def withdrawn(self, run: Run, wave: int, why: str, now: datetime) -> None:
        """Nobody of a wave is told an instant, and ``why``: armed hosts disarm themselves."""
        with self._writing(run, now) as (connection, deployment):
            self._append(connection, deployment.id, now, WITHDRAWN, wave=wave, data={"token": run.token, "why": why})
