# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work orders in the CMDB's database, and the exchange of units that follows from one."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..errors import ConflictError
from .assets import exchange, list_units, would_reserve_spares
from .spare_rules import SpareRules
from .spares import Exposed
from .work_order import WAITING, WorkOrder, WorkOrderState, check_move

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_IDENTITY = ("serial", "model", "asset_tag")  # attributes of a CI that say which unit it is


def list_work_orders(
    connection: sa.Connection,
    *,
    deployments: Collection[int] | None = None,
    cis: Collection[str] | None = None,
    states: Collection[WorkOrderState] | None = None,
) -> list[WorkOrder]:
    """The work orders that are among all of what is given, by number."""
    table = schema().work_order
    asked = ((table.c.deployment_id, deployments), (table.c.ci, cis), (table.c.state, states))
    conditions = [column.in_([*wanted]) for column, wanted in asked if wanted is not None]
    rows = connection.execute(sa.select(table).where(*conditions).order_by(table.c.id))
    return [
        WorkOrder(
            row.deployment_id,
            row.ci,
            row.slot,
            row.old,
            row.new,
            row.instructions,
            bool(row.back),
            WorkOrderState(row.state),
            row.id,
            row.claimed_by,
            row.closed_by,
            row.read,
            row.opened,
            row.closed,
        )
        for row in rows
    ]


def plan_work_orders(
    connection: sa.Connection, deployment_id: int, exposed: Sequence[Exposed], rules: SpareRules, change: str, now: datetime
) -> None:
    """Have a work order for each part that a deployment exchanges and that has none yet, with the unit that was reserved for it.

    In the transaction that reserved them. ``change``: the type of the RFC.
    """
    taken = would_reserve_spares(connection, deployment_id, exposed, rules, change, now).taken
    planned = list_work_orders(connection, deployments=[deployment_id])
    having, used = {(one.ci, one.slot) for one in planned}, {one.new for one in planned}
    models = {unit.tag: unit.model for unit in list_units(connection, tags=taken)}
    for one, nearest in zip(exposed, taken, strict=True):
        if (one.ci, one.slot) in having:
            continue
        tag = next(tag for tag in (nearest, *taken) if tag not in used and models[tag] == one.model)
        used.add(tag)
        plan_work_order(connection, WorkOrder(deployment_id, one.ci, one.slot, one.old, tag, one.instructions))


def plan_work_order(connection: sa.Connection, order: WorkOrder) -> WorkOrder:
    """Write a work order that nobody may do yet."""
    return _insert(connection, order)


def open_next(connection: sa.Connection, orders: Sequence[WorkOrder], now: datetime) -> WorkOrder | None:
    """Open the first that is planned of a CI's work orders, unless people are at one: parts of a machine may stand in for one another."""
    if any(one.state in WAITING for one in orders):
        return None
    following = next((one for one in orders if one.state is WorkOrderState.PLANNED), None)
    return None if following is None else open_work_order(connection, following, now)


def open_work_order(connection: sa.Connection, order: WorkOrder, now: datetime) -> WorkOrder:
    """A person may do it now; one that has no number yet is written."""
    if not order.number:
        return _insert(connection, replace(order, state=WorkOrderState.OPEN, opened=now))
    return move_work_order(connection, order, WorkOrderState.OPEN, opened=now)


def move_work_order(connection: sa.Connection, order: WorkOrder, new: WorkOrderState, **values: Any) -> WorkOrder:
    """It stands otherwise; ``values`` are what else is known of it now. Raises :class:`ConflictError` when somebody was faster."""
    check_move(order, new)
    table = schema().work_order
    same = (table.c.id == order.number, table.c.state == order.state)
    if connection.execute(sa.update(table).where(*same).values(state=new, **values)).rowcount != 1:
        raise ConflictError(f"work order {order.number} has changed meanwhile; run this again")
    return replace(order, state=new, **values)


def fulfil(
    cmdb: Cmdb,
    connection: sa.Connection,
    order: WorkOrder,
    person: str,
    read: str,
    reason: str,
    now: datetime,
    more: Mapping[str, str],
) -> WorkOrder:
    """It was done: the new unit is in use in place of the old one, which is in quarantine; and the CI's own attributes say so too.

    ``more``: other attributes of the CI that have changed with the machine. Raises :class:`ConflictError` when the units are not any more
    where the work order has them.
    """
    done = move_work_order(connection, order, WorkOrderState.DONE, closed_by=person, read=read, closed=now)
    units = {unit.tag: unit for unit in list_units(connection, tags=[tag for tag in (order.old, order.new) if tag])}
    exchange(connection, units.get(order.old), units.get(order.new), order, person, now, reason)
    if not order.slot and (new := units.get(order.new)):
        (ci,) = cmdb.cis([order.ci], connection)
        attributes = dict(ci["attributes"])
        attributes.pop("firmware", None)  # what the old one ran says nothing of the new one, which is read next
        own = zip(_IDENTITY, (new.serial, new.model, new.tag), strict=True)
        attributes |= {key: value for key, value in own if key in attributes} | dict(more)
        cmdb.put_cis([{"name": order.ci, "attributes": attributes}], person, connection=connection)
    return done


def cancel_work_orders(connection: sa.Connection, orders: Iterable[WorkOrder], now: datetime) -> None:
    """Nobody has to do them any more."""
    for order in orders:
        move_work_order(connection, order, WorkOrderState.CANCELLED, closed=now)


def _insert(connection: sa.Connection, order: WorkOrder) -> WorkOrder:
    table = schema().work_order
    names = ("ci", "slot", "old", "new", "instructions", "back", "state", "opened")
    values = {name: getattr(order, name) for name in names} | {"deployment_id": order.deployment}
    number = connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one()
    return replace(order, number=int(number))
