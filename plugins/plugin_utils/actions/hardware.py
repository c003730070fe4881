# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What activate, confirm and backout do when the release is hardware: people exchange the parts, by work orders, and no host is touched.

A work order is done when it is confirmed (``steps/swap.py``), and nothing here waits for that: who runs the command again goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..clock import utc_now
from ..cmdb.store import Cmdb
from ..dhs.assets import list_units
from ..dhs.units import folded
from ..dhs.work_order import WAITING, WorkOrder, WorkOrderState, undoing
from ..dhs.work_orders import cancel_work_orders, list_work_orders, open_work_order
from ..rollout.deployments import Deployment
from ..rollout.states import HostState

if TYPE_CHECKING:
    import sqlalchemy as sa

_H, _S = HostState, WorkOrderState


class HardwareHost:
    """The parts of one host of a deployment. Each step returns the state of the host and why; ``None`` while people have to act."""

    def __init__(self, cmdb: Cmdb, deployment: Deployment, host: str) -> None:
        self._cmdb, self._deployment, self._host = cmdb, deployment, host

    def activate(self) -> tuple[HostState | None, str]:
        """Open the work orders of the host; it comes up when all of them are done."""
        with self._cmdb.begin() as connection:
            forward = self._orders(connection, back=False)
            opened = [open_work_order(connection, one, utc_now()) if one.state is _S.PLANNED else one for one in forward]
        waiting = [one for one in opened if one.state in WAITING]
        return (None, _sentence(waiting)) if waiting else (_H.STARTED, "")

    def confirm(self) -> tuple[HostState | None, str]:
        """Look again whether the new units are where the work orders brought them."""
        with self._cmdb.read() as connection:
            done = [one for one in self._orders(connection, back=False) if one.state is _S.DONE]
            there = {folded(unit.slot): unit.tag for unit in list_units(connection, cis=[self._host])}
        gone = [one for one in done if one.new and there.get(folded(one.slot)) != one.new]
        if gone:
            what = ", ".join(f"{one.new} is not in {one.place} any more" for one in gone)
            return _H.STUCK, f"by the hardware storage {what}; find out which unit is there"
        return _H.ACTIVE, ""

    def back_out(self) -> tuple[HostState | None, str]:
        """Cancel what nobody has done, and have work orders for undoing what was; the host is back when these are done."""
        with self._cmdb.begin() as connection:
            now, forward = utc_now(), self._orders(connection, back=False)
            cancel_work_orders(connection, [one for one in forward if one.state in (_S.PLANNED, _S.OPEN)], now)
            undone = {one.slot: one for one in self._orders(connection, back=True)}
            for one in forward:
                if one.state is _S.DONE and one.slot not in undone:
                    undone[one.slot] = open_work_order(connection, undoing(one), now)
        waiting = [one for one in (*forward, *undone.values()) if one.state is _S.CLAIMED or (one.back and one.state in WAITING)]
        return (_H.OWED, _sentence(waiting)) if waiting else (_H.BACKED_OUT, "")

    def _orders(self, connection: sa.Connection, back: bool) -> list[WorkOrder]:
        found = list_work_orders(connection, deployments=[self._deployment.id], cis=[self._host])
        return [one for one in found if one.back is back]


def _sentence(waiting: list[WorkOrder]) -> str:
    return f"{'; '.join(one.sentence() for one in waiting)}; when it is done, say so with the playbook swap"
