# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of bakes: each measurement is an event, so a bake goes on where another process has left it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from ..errors import StateError
from ..metrics.judge import BakeRecord, Measurement, judge
from ..metrics.model import BakeVerdict
from .bake_record import BAKE, BAKE_EVENTS, MEASURED, Line, begun_data, unfinished
from .deployments import EXIT, Run
from .journal import Journal
from .states import DeploymentState, WaveState

with suppress(ImportError):
    import sqlalchemy as sa


class BakeJournal(Journal):
    """The deployments of one CMDB, to be written while a wave bakes."""

    def bake_lines(self, deployment_id: int) -> list[Line]:
        """What the journal says of bakes and gates of a deployment, in order."""
        j = self._t.journal.c
        about = (j.deployment_id == deployment_id, j.host.is_(None), j.event.in_(BAKE_EVENTS))
        with self._cmdb.read() as connection:
            rows = connection.execute(sa.select(j.at, j.event, j.wave, j.data).where(*about).order_by(j.seq))
            return [Line(row.at, row.event, row.wave, row.data) for row in rows]

    def begin_bake(self, run: Run, wave: int, wanted: BakeRecord, now: datetime) -> BakeRecord:
        """The deployment is baking now. Returns the bake that goes on: the one that was begun, if it is of the same hosts, or ``wanted``.

        One that was good long ago, and let nothing proceed then, says nothing of now. Raises :class:`StateError` unless the wave is open
        and nothing else is done.
        """
        begun = unfinished(self.bake_lines(run.deployment), wave)
        goes_on = begun is not None and (begun.bake, begun.hosts) == (wanted.bake, wanted.hosts) and not _is_old(begun, now)
        record = begun if begun is not None and goes_on else wanted
        with self._writing(run, now) as (connection, deployment):
            if self._wave_states(connection, run.deployment).get(wave) is not WaveState.OPEN:
                raise StateError(f"wave {wave} of {deployment.label} is not open, so nothing of it is measured; run deploy again")
            if not goes_on:
                self._append(connection, run.deployment, now, BAKE, wave=wave, data=begun_data(wanted))
            if deployment.state is not DeploymentState.BAKING:
                self._move(connection, deployment, DeploymentState.BAKING, now, judge(record, now).reason)
        return record

    def measured(self, run: Run, wave: int, measurement: Measurement, sentence: str, now: datetime) -> None:
        """A metric was measured; ``sentence`` says how the bake stands with it."""
        table = self._t.deployment
        with self._writing(run, now) as (connection, deployment):
            if deployment.state is not DeploymentState.BAKING:
                raise StateError(f"{deployment.label} is {deployment.state} and does not bake, so what was measured counts for nothing")
            self._append(connection, run.deployment, measurement.at, MEASURED, wave=wave, data=measurement.to_dict())
            connection.execute(table.update().where(table.c.id == run.deployment).values(reason=sentence))


class ExitJournal(BakeJournal):
    """The journal of what is measured before support ends; the deployment is supporting all the while."""

    def measured(self, run: Run, wave: int, measurement: Measurement, sentence: str, now: datetime) -> None:
        """See :meth:`BakeJournal.measured`; of no wave, but of all hosts that have the release."""
        self.note(run, f"exit_{MEASURED}", {**measurement.to_dict(), "so_far": sentence}, now)

    def end(self, run: Run, record: BakeRecord, verdict: BakeVerdict, now: datetime) -> None:
        """What the exit criteria came to."""
        self.note(run, EXIT, {"outcome": verdict.outcome, "reason": verdict.reason, **begun_data(record)}, now)


def _is_old(record: BakeRecord, now: datetime) -> bool:
    """Whether a bake has come to its end, and longer ago than it took."""
    last = record.measurements[-1].at if record.measurements else record.begun
    return judge(record, now).outcome == "good" and now - last > timedelta(seconds=record.bake.seconds)
