# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of waves whose hosts are switched at one instant: who is armed, and what was said of the instant."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from ..errors import StateError
from .deployments import ARMED, FIRE, WITHDRAWN, Run, Target
from .journal import Journal
from .states import HostState
from .together import Armed

with suppress(ImportError):
    import sqlalchemy as sa


SPARE = 900
"""For how many seconds longer than a wave is planned for an armed host waits to be told its instant."""
_MARGIN = 300  # seconds that it has to wait still, for the wave to be told
UP = (HostState.STARTED, HostState.ACTIVE)
"""States of hosts that have come up with the release, which may go back at one instant."""
_ARMED = (HostState.STAGED, HostState.FAILED, HostState.STUCK)  # states of hosts that are not changing


class InstantJournal(Journal):
    """The deployments of one CMDB, and the instants of their waves. All is by the token of the run that armed the hosts: another run
    arms them anew."""

    def arming(self, run: Run, host: str, now: datetime, *, back: bool = False) -> Target:
        """A host that is about to be armed; raises as :meth:`activating`, or :meth:`backing_out`, does. Nothing changes there by that."""
        with self._writing(run, now, start=not back) as (connection, deployment):
            return (self._due_back if back else self._due)(connection, run, deployment, host)

    def clock_apart(self) -> tuple[float, float]:
        """How many seconds this machine's clock is ahead of that of the CMDB's server, and by how much that may be wrong.

        Several controllers have that one in common. A file has no other clock than its machine's.
        """
        with self._cmdb.read() as connection:
            if connection.dialect.name != "postgresql":
                return 0.0, 0.0
            asked = time.time()
            theirs = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one().timestamp()
            received = time.time()
        return (asked + received) / 2 - theirs, (received - asked) / 2

    def armed(self, run: Run, host: str, how: Armed, now: datetime) -> None:
        """``host`` is armed."""
        with self._writing(run, now) as (connection, deployment):
            target = self._own_target(connection, run, host)
            about = {"token": run.shared, **{name: round(value, 6) for name, value in asdict(how).items()}}
            self._append(connection, deployment.id, now, ARMED, host, target.wave, about)

    def armed_hosts(self, run: Run, wave: int, now: datetime, *, back: bool = False) -> dict[str, Armed]:
        """The hosts of a wave that this run has armed, to go forward or ``back``, that have not changed since, and that wait long enough
        still."""
        j = self._t.journal.c
        about = (j.deployment_id == run.deployment, j.wave == wave, j.event == ARMED)
        with self._cmdb.read() as connection:
            patience = self._load(connection, run.deployment).rollout.wave_minutes * 60 + SPARE - _MARGIN
            rows = connection.execute(sa.select(j.host, j.at, j.data).where(*about).order_by(j.seq)).all()
            still = {t.host for t in self._targets(connection, run.deployment) if t.state in (UP if back else _ARMED)}
        mine = [row for row in rows if row.data["token"] == run.shared and row.host in still and row.at > now - timedelta(seconds=patience)]
        return {row.host: Armed(**{name: value for name, value in row.data.items() if name != "token"}) for row in mine}

    def was_told(self, deployment_id: int, wave: int, instant: datetime) -> bool:
        """Whether hosts of a wave may have been told this very instant, by whatever run."""
        j = self._t.journal.c
        about = (j.deployment_id == deployment_id, j.wave == wave)
        with self._cmdb.read() as connection:
            asked = sa.select(j.seq, j.data).where(*about, j.event == FIRE).order_by(j.seq)
            fired = [row.seq for row in connection.execute(asked) if datetime.fromisoformat(row.data["at"]) == instant]
            told = sa.select(j.seq).where(*about, j.event == HostState.ACTIVATING, j.seq > min(fired)).limit(1) if fired else None
            return told is not None and connection.execute(told).first() is not None

    def fire(self, run: Run, wave: int, at: datetime, hosts: Collection[str], now: datetime, *, back: bool = False) -> None:
        """The armed ``hosts`` of a wave are told the instant ``at`` from now on. Raises :class:`StateError` when that can't be any more;
        the way ``back`` no window and no freeze closes."""
        with self._writing(run, now, start=not back) as (connection, _deployment):
            until = None if back else self._row(connection, run.deployment).open_until
            if until is not None and at >= until:
                raise StateError(f"the instant would be behind {until.isoformat()}, when what is open now closes")
            about = {"token": run.shared, "at": at.isoformat(), "hosts": sorted(hosts)}
            self._say(connection, run, wave, FIRE, about, now)

    def withdrawn(self, run: Run, wave: int, why: str, now: datetime) -> None:
        """Nobody of a wave is told an instant, and ``why``: armed hosts disarm themselves."""
        with self._writing(run, now) as (connection, _deployment):
            self._say(connection, run, wave, WITHDRAWN, {"token": run.shared, "why": why}, now)

    def _say(self, connection: sa.Connection, run: Run, wave: int, event: str, about: dict[str, Any], now: datetime) -> None:
        if self._said(connection, run, wave) is not None:
            raise StateError(f"the instant of wave {wave} is said already")
        self._append(connection, run.deployment, now, event, wave=wave, data=about)
