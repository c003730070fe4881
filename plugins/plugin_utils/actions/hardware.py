# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What activate, confirm and backout do when the release is hardware: people exchange the parts, by work orders, and no host is touched.

A work order is done when it is confirmed (``steps/swap.py``), and nothing here waits for that: who runs the command again goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..clock import utc_now
from ..cmdb.store import Cmdb
from ..dhs.assets import list_units
from ..dhs.units import Unit, folded
from ..dhs.work_order import UNDONE, WAITING, WorkOrder, WorkOrderState, undoing
from ..dhs.work_orders import cancel_work_orders, list_work_orders, open_next, plan_work_order
from ..dsl.hardware import PartChange
from ..firmware.device import DeviceError, DeviceIdentity, differences
from ..rollout.deployments import Deployment
from ..rollout.redundancy import are_redundant
from ..rollout.states import HostState

if TYPE_CHECKING:
    import sqlalchemy as sa

_H, _S = HostState, WorkOrderState


class HardwareHost:
    """The parts of one host of a deployment. Each step returns the state of the host and why; ``None`` while people have to act.

    ``changes``: reads which parts the release exchanges. ``read``: reads what is in a slot, by the attributes of the CI, the slot and the
    serial number that is recorded there; ``None`` where nobody can say that. It raises :class:`DeviceError` where somebody could, and does
    not now.
    """

    def __init__(
        self,
        cmdb: Cmdb,
        deployment: Deployment,
        host: str,
        changes: Callable[[], Iterable[PartChange]],
        read: Callable[[Mapping[str, Any], str, str], DeviceIdentity | None],
    ) -> None:
        self._cmdb, self._deployment, self._host, self._ask_changes, self._read = cmdb, deployment, host, changes, read

    @functools.cached_property
    def _changes(self) -> tuple[PartChange, ...]:
        return tuple(self._ask_changes())

    def activate(self) -> tuple[HostState | None, str]:
        """Open a work order of the host, the next one when that is done; it comes up when all are."""
        with self._cmdb.begin() as connection:
            orders = self._orders(connection, back=False)
            open_next(connection, orders, utc_now())
            forward = self._orders(connection, back=False)
            left, lacking = [one for one in forward if one.state in UNDONE], self._lacking(connection)
        if left:
            return None, _sentence(left)
        if lacking:  # also where there is no work order, for the host had the part when it was planned
            return (_H.STUCK if any(one.state is _S.DONE for one in forward) else _H.FAILED), lacking
        return _H.STARTED, ""

    def confirm(self) -> tuple[HostState | None, str]:
        """Look again whether the new parts are there: in the storage, and by the BMC where there is one.

        One that does not answer says nothing against them; that it did not is in the detail.
        """
        with self._cmdb.read() as connection:
            lacking, units = self._lacking(connection), self._there(connection)
            (ci,) = self._cmdb.cis([self._host], connection)
        if lacking:
            return _H.STUCK, lacking
        wrong, unread = [], []
        for part in self._changes:
            unit = units[folded(part.slot)]
            place = f"the slot {part.slot}" if part.slot else "its place"
            try:
                found = self._read(ci["attributes"], part.slot, unit.serial)
            except DeviceError as error:
                unread.append(f"what is in {place} was not read again: {error}")
                continue
            if found is None and ci["attributes"].get("redfish"):
                unread.append(f"what is in {place} was not read again: its BMC does not say it")
            elif found is not None:
                said = differences(found, DeviceIdentity(unit.serial, "" if part.slot else unit.model, "" if part.slot else unit.tag))
                wrong += [f"{unit.tag} is not in {place} any more: {'; '.join(said)}"] if said else []
        return (_H.STUCK, "; ".join(wrong)) if wrong else (_H.ACTIVE, "; ".join(unread))

    def back_out(self) -> tuple[HostState, str]:
        """Cancel what nobody has done, and have work orders for undoing what was, one after the other; the host is back after the last.

        While people are at something that is redundant with it, none is opened.
        """
        with self._cmdb.begin() as connection:
            now, forward = utc_now(), self._orders(connection, back=False)
            cancel_work_orders(connection, [one for one in forward if one.state in (_S.PLANNED, _S.OPEN)], now)
            undone = {one.slot for one in self._orders(connection, back=True)}
            for one in reversed([one for one in forward if one.state is _S.DONE and one.slot not in undone]):
                plan_work_order(connection, undoing(one))
            claimed = [one for one in forward if one.state is _S.CLAIMED]
            others = self._at_redundant(connection)
            if not others:
                open_next(connection, self._orders(connection, back=True), now)
            left = claimed + [one for one in self._orders(connection, back=True) if one.state in UNDONE]
        if not left:
            return _H.BACKED_OUT, ""
        return _H.OWED, f"it waits for {others[0].sentence()}" if others else _sentence(left)

    def _lacking(self, connection: sa.Connection) -> str:
        """Where the hardware storage has another model than the release brings, in a sentence; empty for nowhere."""
        there = self._there(connection)
        wrong = []
        for part in self._changes:
            unit = there.get(folded(part.slot))
            if unit is None or unit.model != part.model:
                has = f"{unit.tag}, a {unit.model}," if unit else "nothing"
                wrong.append(f"{has} in {f'the slot {part.slot}' if part.slot else 'place'} of {self._host}, and not a {part.model}")
        return f"the hardware storage has {'; '.join(wrong)}; find out which unit is there" if wrong else ""

    def _there(self, connection: sa.Connection) -> dict[str, Unit]:
        """The units of the host by slot, as it is compared."""
        return {folded(unit.slot): unit for unit in list_units(connection, cis=[self._host])}

    def _at_redundant(self, connection: sa.Connection) -> list[WorkOrder]:
        """The work orders that people are at where something is redundant with this host."""
        waiting = [one for one in list_work_orders(connection, states=WAITING) if one.ci != self._host]
        cis = {str(ci["name"]): ci["attributes"] for ci in self._cmdb.cis([self._host, *{one.ci for one in waiting}], connection)}
        mine = cis.get(self._host, {})
        return [one for one in waiting if are_redundant(self._host, mine, one.ci, cis.get(one.ci, {}))]

    def _orders(self, connection: sa.Connection, back: bool) -> list[WorkOrder]:
        found = list_work_orders(connection, deployments=[self._deployment.id], cis=[self._host])
        return [one for one in found if one.back is back]


def _sentence(left: list[WorkOrder]) -> str:
    more = f", and {len(left) - 1} more after that" if len(left) > 1 else ""
    first = next((one for one in left if one.state in WAITING), left[0])
    return f"{first.sentence()}; when it is done, say so with the playbook swap{more}"
