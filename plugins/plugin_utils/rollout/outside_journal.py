# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of releases whose effect is outside their tree: what was read there is on record, and what was there before them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from .deployments import Run
from .journal import Journal
from .readings import OUTSIDE_READ, RUNS

READS = "reads"
"""The attribute of a CI that has what was read there last, by release."""


class OutsideJournal(Journal):
    """The deployments of one CMDB, and what hosts were read to run outside their trees."""

    def note_read(self, run: Run, host: str, text: str, runs: str, now: datetime) -> None:
        """Write what was read on ``host``: to the journal and its CI. ``text`` is empty when that failed; ``runs``: see :data:`RUNS`."""
        with self._writing(run, now) as (connection, deployment):
            target = self._own_target(connection, run, host)
            self._append(connection, deployment.id, now, OUTSIDE_READ, host, target.wave, {"text": text, RUNS: runs})
            (ci,) = self._cmdb.cis([host], connection)
            recorded = ci["attributes"].get(READS)
            known = recorded if isinstance(recorded, dict) else {}
            if known.get(deployment.release) != text:
                row = {"name": host, "attributes": {**ci["attributes"], READS: {**known, deployment.release: text}}}
                self._cmdb.put_cis([row], deployment.holder, connection=connection)

    def staged_outside(self, run: Run, host: str, live: Mapping[str, str], now: datetime) -> None:
        """The release is complete on ``host``, and ``live`` is what was read to be there: on record as installed from now on, if it was
        not, without that anybody activated it."""
        with self._writing(run, now) as (connection, deployment):
            self._refuse_staged(connection, deployment)
            rows = self._cmdb.installations([host], connection)
            known = {(row["version"], row["digest"]) for row in rows if row["release"] == deployment.release}
            if known != {(live["version"], live["digest"])}:
                row = {"ci": host, "release": deployment.release, **live}
                self._cmdb.record_installations(connection, [row], actor=deployment.label, at=now)
            self._stage(connection, deployment.id, self._own_target(connection, run, host), live, now)
