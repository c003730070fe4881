# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of releases of firmware: each step with a device is written before it is done, for whoever goes on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from ..firmware.device import DeviceIdentity
from .deployments import Run
from .firmware_levels import FIRMWARE_READ, FIRMWARE_STEP
from .journal import Journal
from .readings import RUNS

with suppress(ImportError):
    import sqlalchemy as sa


class FirmwareJournal(Journal):
    """The deployments of one CMDB, and what they do to devices."""

    def note_step(self, run: Run, host: str, step: str, about: Mapping[str, Any], now: datetime) -> None:
        """Write ahead that the device of ``host`` is about to go through a step."""
        with self._writing(run, now) as (connection, deployment):
            target = self._target(connection, deployment.id, host)
            self._append(connection, deployment.id, now, FIRMWARE_STEP, host, target.wave, {"step": step, **about})

    def note_read(self, run: Run, host: str, unit: DeviceIdentity, versions: Mapping[str, str], now: datetime, runs: str = "") -> None:
        """Write what the device of ``host`` said to run, by component: to the journal, its CI and its unit in the hardware storage.

        ``runs``: which release that is, see :data:`.readings.RUNS`.
        """
        from ..dhs.assets import record_versions  # noqa: PLC0415 - as for the library in ``actions/host``

        with self._writing(run, now) as (connection, deployment):
            target = self._target(connection, deployment.id, host)
            said = {"model": unit.model, "versions": dict(versions), RUNS: runs}
            self._append(connection, deployment.id, now, FIRMWARE_READ, host, target.wave, said)
            (ci,) = self._cmdb.cis([host], connection)
            recorded = ci["attributes"].get("firmware")
            known = recorded if isinstance(recorded, dict) else {}
            if known != {**known, **versions}:
                row = {"name": host, "attributes": {**ci["attributes"], "firmware": {**known, **versions}}}
                self._cmdb.put_cis([row], deployment.holder, connection=connection)
            record_versions(connection, host, unit.serial, versions, now)

    def steps(self, run: Run, host: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The steps that this deployment has noted of a host's device, in order, each with what was known then."""
        j = self._t.journal.c
        mine = (j.deployment_id == run.deployment, j.host == host, j.event == FIRMWARE_STEP)
        with self._cmdb.read() as connection:
            rows = connection.execute(sa.select(j.data).where(*mine).order_by(j.seq))
            return [(str(row.data["step"]), row.data) for row in rows]
