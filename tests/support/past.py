# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments of long ago, as the journal has them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history, append_journal
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import rollout_to_dict
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout

START = datetime(2024, 3, 1, 10, tzinfo=UTC)
HOSTS = [f"web{number}" for number in range(6)]


def history(
    connection: sa.Connection,
    number: int,
    state: str = "completed",
    host: str = "active",
    detail: str = "",
    names: Sequence[str] = HOSTS,
    changes: Sequence[str] = ("staged", "activating", "active"),
    **of: Any,
) -> None:
    """A deployment of six hosts in two waves, with all lines that the journal has of one."""
    t, at = schema(), START + timedelta(hours=number)
    row = {"id": number, "rfc": f"CHG{number:07}", "release": "shop", "version": f"{number}.0", "digest": f"sha256:{number:064}"}
    row |= {
        "state": state,
        "options": rollout_to_dict(Rollout()),
        "holder": "ctl",
        "token": number,
        "reason": "",
        "created": at,
        "started": at,
    }
    connection.execute(sa.insert(t.deployment), {**row, "finished": None if state in ("held", "activating") else at, **of})
    waves = [{"deployment_id": number, "number": wave, "state": "decided", "decision": "proceed", "reason": ""} for wave in (1, 2)]
    connection.execute(sa.insert(t.wave), waves)
    hosts = [
        {
            "deployment_id": number,
            "host": name,
            "wave": 1 + position // 3,
            "position": position,
            "state": host,
            "detail": detail,
            "updated": at,
        }
        for position, name in enumerate(names)
    ]
    connection.execute(sa.insert(t.deployment_host), hosts)
    lines = [{"event": event, "host": name, "wave": 1} for name in names for event in changes]
    lines += [{"event": event, "host": None, "wave": None} for event in ("planned", "staging", "completed", "change_recorded")]
    append_journal(connection, [{"deployment_id": number, "at": at, "data": {}, **line} for line in lines])
    change = {"type": "normal", "fingerprint": "f", "short_description": "Upgrade", "requested_by": "rita", "assigned_to": "oscar"}
    change |= {"state": 0, "risk": 4, "start_date": at, "end_date": at, "work_start": at, "work_end": at, "updated": at}
    same = {key: row[key] for key in ("release", "version", "digest")}
    rfc = of.get("rfc", row["rfc"])
    if connection.scalar(sa.select(t.change.c.number).where(t.change.c.number == rfc)) is None:
        connection.execute(sa.insert(t.change), {"number": rfc, **same, **change})
        connection.execute(sa.insert(t.change_ci), [{"number": rfc, "ci": name} for name in names])
    lines = [{"at": at, "actor": row["rfc"], "ci": name, "event": "installed", "data": {}} for name in names]
    append_history(connection, lines)
