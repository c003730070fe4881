# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a deployment no firmware brings back, by what the journal says that their devices were given.

A deployment is never owed what can't be paid: it does not begin to go back before a person has exchanged such a device, or accepts that
it stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..cmdb.schema import schema
from ..dhs.assets import machines
from ..dhs.units import folded
from ..firmware.device import UpdateStep
from .firmware_levels import FIRMWARE_STEP
from .states import TOUCHED, HostState

with suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from .deployments import Target

ACCEPT = "tidegate_accept"
"""The extra variable by which a person accepts that hosts stay as they are."""
_LISTED = 5  # hosts that a sentence names


@dataclass(frozen=True)
class Stranded:
    """A host whose device was given something from which there is no way down to the ``version`` of a ``component`` that it had before."""

    host: str
    serial: str
    component: str
    version: str

    def __str__(self) -> str:
        return f"{self.host} (serial number {self.serial}, no way down to {self.component} {self.version})"


def stranded(connection: sa.Connection, deployment_id: int, targets: Iterable[Target]) -> list[Stranded]:
    """The hosts that can't go back by firmware; a device that has been exchanged since was given nothing.

    A host that ``failed`` was read to run what it ran before.
    """
    t = schema()
    j = t.journal.c
    touched = [target.host for target in targets if target.state in TOUCHED and target.state is not HostState.FAILED]
    given = (j.deployment_id == deployment_id, j.event == FIRMWARE_STEP)
    steps = [row for row in connection.execute(sa.select(j.host, j.data).where(*given).order_by(j.seq)) if row.host in touched]
    without = [row for row in steps if row.data.get("step") == UpdateStep.STAGE and row.data.get("way_back") is False]
    present = _serials(connection, {row.host for row in without})
    found: dict[tuple[str, str], Stranded] = {}
    for row in without:
        serial, component = str(row.data["serial"]), str(row.data["component"])
        if present.get(row.host, folded(serial)) == folded(serial):  # what the first step says is what it had before all
            found.setdefault((row.host, component), Stranded(row.host, serial, component, str(row.data["before"])))
    return sorted(found.values(), key=lambda one: touched.index(one.host))


def _serials(connection: sa.Connection, hosts: Collection[str]) -> dict[str, str]:
    """The serial numbers of the devices that hosts have now, as they are compared, as far as they are recorded."""
    t = schema()
    select = sa.select(t.ci.c.name, t.ci.c.attributes).where(t.ci.c.name.in_(hosts))
    by_ci = {row.name: row.attributes.get("serial") for row in connection.execute(select) if isinstance(row.attributes, Mapping)}
    by_unit = {ci: unit.serial for ci, unit in machines(connection, hosts).items()}
    return {host: folded(str(serial)) for host, serial in {**by_ci, **by_unit}.items() if serial}


def ways_out(found: Collection[Stranded], rfc: str) -> str:
    """That hosts can't go back, and what a person can do about it; empty for none."""
    if not found:
        return ""
    hosts = list(dict.fromkeys(one.host for one in found))
    return (
        f"no firmware brings {', '.join(_named(found))} back: exchange each for a spare and say so with the playbook swap, or "
        f"accept that they stay as they are with the playbook backout of {rfc}, the reason as tidegate_reason and "
        f"-e {ACCEPT}={','.join(hosts)}"
    )


def _named(found: Collection[Stranded]) -> list[str]:
    names = [str(one) for one in found]
    return names[:_LISTED] + ([f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else [])
