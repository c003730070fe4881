# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts run of a release whose effect is not their tree, by what was read there last: what the CMDB is told of one that is stuck or
owed. Small, for each fork loads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from ..cmdb.schema import schema
from .deployments import Deployment, Target
from .states import HostState

with suppress(ImportError):
    import sqlalchemy as sa

OUTSIDE_READ = "outside_read"
"""What the journal says of what a hook ``read`` printed; its data has the text."""
RUNS, NEW, BEFORE = "runs", "new", "before"
"""Under which key an event about a reading says which release that is: the deployment's, the one before, or, if empty, neither."""

_OWED = HostState.OWED
_BEGUN = (str(HostState.ACTIVATING), str(HostState.BACKING_OUT))
_Installed = tuple[str | None, str | None]  # version and digest


def installed_by_reading(connection: sa.Connection, deployment: Deployment, targets: Iterable[Target]) -> dict[str, _Installed]:
    """By host that is stuck or owed, the version and digest that the CMDB has to have of it; ``(None, None)`` for what is neither release,
    and for one that is stuck and was not read. Left out are those that are owed and said nothing since, as if they had not been asked, and
    all hosts of a release that is its tree."""
    if not (deployment.rollout.firmware or deployment.rollout.outside):
        return {}
    from .firmware_levels import FIRMWARE_READ  # noqa: PLC0415 - for the releases that are read alone

    j = schema().journal.c
    events = (*_BEGUN, OUTSIDE_READ, FIRMWARE_READ)
    mine = sa.select(j.host, j.event, j.data).where(j.deployment_id == deployment.id, j.event.in_(events)).order_by(j.seq)
    runs = {row.host: None if row.event in _BEGUN else str(row.data.get(RUNS, "")) for row in connection.execute(mine)}
    said = ((target, runs.get(target.host)) for target in targets)
    return {target.host: _installed(deployment, target, now or "") for target, now in said if not (now is None and target.state is _OWED)}


def _installed(deployment: Deployment, target: Target, runs: str) -> _Installed:
    known: Mapping[str, _Installed] = {
        NEW: (deployment.version, deployment.digest),
        BEFORE: (target.previous_version, target.previous_digest),
    }
    return known.get(runs, (None, None))
