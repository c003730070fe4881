# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment that ends makes of the firmware that spares have to have, by what its journal says that devices were read to run.

In the transaction that ends it; the change then owes that spares get it. Nothing orders versions, so what comes after what is known only
from what devices had before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..cmdb.schema import schema
from ..dhs.assets import list_levels, set_levels, units_behind
from ..dhs.spare_rules import SPARE
from .deployments import Deployment
from .states import SPARES

with suppress(ImportError):
    import sqlalchemy as sa

FIRMWARE_READ = "firmware_read"
"""What the journal says of what a device was read to run; its data has its model, and versions by component."""
FIRMWARE_STEP = "firmware_step"
"""What the journal says of a step with a device; its data has which, of which component, and to which version."""

_Of = tuple[str, str]  # a model and a component of it


@dataclass
class _Readings:
    """By component, what a device was read to run: the first time, last, and before it was given something."""

    model: str = ""
    first: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    before: dict[str, set[str]] = field(default_factory=dict)


def raise_levels(connection: sa.Connection, deployment: Deployment, active: Collection[str], now: datetime) -> None:
    """A deployment of firmware has completed: what its ``active`` hosts run is the level of their models.

    Unless there is a level that none of them came from: it is another branch, or further than that to which stragglers were brought.
    """
    present = {(level.model, level.component): level.version for level in list_levels(connection)}
    readings = _readings(connection, deployment.id, active)
    from_: dict[_Of, set[str]] = {}
    for host in readings.values():
        for component in host.last:
            came = from_.setdefault((host.model, component), set())
            came |= {host.first[component]} | host.before.get(component, set())
    reached = _most(((host.model, component), version) for host in readings.values() for component, version in host.last.items())
    raised = {
        of: version for of, version in reached.items() if present.get(of) != version and (of not in present or present[of] in from_[of])
    }
    set_levels(connection, deployment.id, deployment.release, [(*of, version) for of, version in sorted(raised.items())], now)
    if raised and units_behind(connection, [deployment.id]):
        _owe_spares(connection, deployment, now)


def _owe_spares(connection: sa.Connection, deployment: Deployment, now: datetime) -> None:
    debt = schema().debt
    same = (debt.c.rfc == deployment.rfc, debt.c.duty == SPARES)
    if connection.execute(sa.select(debt.c.rfc).where(*same)).first() is None:
        package = {"release": deployment.release, "version": deployment.version, "digest": deployment.digest}
        due = now + timedelta(days=deployment.rollout.level_days)
        connection.execute(sa.insert(debt).values(rfc=deployment.rfc, duty=SPARES, incurred=now, due=due, **package))


def lower_levels(connection: sa.Connection, deployment: Deployment, back: Collection[str], by_hand: Collection[str], now: datetime) -> None:
    """A deployment of firmware was backed out: where it had set the level, that is what the hosts that are ``back`` run now.

    What those run that somebody brought back ``by_hand`` nobody has read; it is what they ran at first. That spares have to have what is
    no level any more is not owed either.
    """
    debt = schema().debt
    connection.execute(sa.delete(debt).where(debt.c.rfc == deployment.rfc, debt.c.duty == SPARES, debt.c.settled.is_(None)))
    level = schema().firmware_level.c
    own = sa.select(level.model, level.component).where(level.deployment_id == deployment.id)
    mine = {(row.model, row.component) for row in connection.execute(own)}
    readings = _readings(connection, deployment.id, back)
    reached = _most(
        ((found.model, component), version)
        for host, found in readings.items()
        for component, version in (found.first if host in by_hand else found.last).items()
    )
    set_levels(
        connection, deployment.id, deployment.release, [(*of, version) for of, version in sorted(reached.items()) if of in mine], now
    )


def _most(found: Iterable[tuple[_Of, str]]) -> dict[_Of, str]:
    """The version that most have."""
    counted: dict[_Of, Counter[str]] = {}
    for of, version in found:
        counted.setdefault(of, Counter())[version] += 1
    return {of: versions.most_common(1)[0][0] for of, versions in counted.items()}


def _readings(connection: sa.Connection, deployment_id: int, hosts: Collection[str]) -> dict[str, _Readings]:
    """By host, what was read of its device during a deployment; of those that are no spares."""
    t = schema()
    j = t.journal.c
    spares = set(connection.scalars(sa.select(t.ci.c.name).where(t.ci.c.class_ == SPARE)))
    among, found = set(hosts) - spares, dict[str, _Readings]()
    mine = (j.deployment_id == deployment_id, j.event.in_((FIRMWARE_READ, FIRMWARE_STEP)))
    for row in connection.execute(sa.select(j.host, j.event, j.data).where(*mine).order_by(j.seq)):
        if row.host not in among:
            continue
        host = found.setdefault(row.host, _Readings())
        if row.event == FIRMWARE_READ:
            host.model = row.data["model"]
            host.last |= row.data["versions"]
            host.first = {**row.data["versions"], **host.first}
        elif "before" in row.data:
            host.before.setdefault(row.data["component"], set()).add(row.data["before"])
    return found
