# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person says that a unit was exchanged for another. That is read back where it can be; elsewhere a second person confirms it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..cmdb.chain import append_history
from ..cmdb.store import Cmdb
from ..dhs.assets import list_units
from ..dhs.units import AVAILABLE, Unit, UnitState, folded
from ..dhs.work_order import WAITING, WorkOrder, WorkOrderState
from ..dhs.work_orders import fulfil, list_work_orders, move_work_order, open_next, open_work_order
from ..errors import NotFoundError, StateError, TidegateError
from ..evidence.statement import SWAP
from ..firmware.device import DeviceIdentity, differences
from ..policy.model import Policy
from ..rollout import states
from ..rollout.deployments import Deployment
from ..rollout.holder import Holder
from ..rollout.journal import Journal
from .person import responsible_person, signed_about_host

with contextlib.suppress(ImportError):
    pass

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

Read = Callable[[Mapping[str, Any], str, Unit | None], DeviceIdentity | None]
"""Reads what is in a slot, the machine itself for an empty one, by the attributes of its CI and the unit that should be there; ``None``
where nothing can be read. Raises :class:`TidegateError` where something could be read, and is not now."""

REDFISH, PERSON = "redfish", "person"
"""How it is known that a unit is where it should be."""


@dataclass(frozen=True)
class Swap:
    """What a person says to have done: the serial numbers of the units that came out and in, empty for none.

    ``attributes``: those of the CI that have changed with its machine, such as the fingerprint of a certificate.
    """

    host: str
    slot: str
    old: str
    new: str
    reason: str
    attributes: Mapping[str, str] = field(default_factory=dict)


def confirm_swap(
    cmdb: Cmdb, policy: Policy, number: str, said: Swap, read: Read, signer: Signer | None, now: datetime, write: bool
) -> dict[str, Any]:
    """Note that a unit was exchanged for the deployment of the RFC ``number``, once that is read or said by two people.

    Returns the task's result. Raises :class:`TidegateError` when the deployment wants no such exchange, another controller drives it, a
    serial number is not that of the unit, something else is read there, and unless somebody signs it whom the policy names, when it names
    people.
    """
    journal = Journal(cmdb)
    current = journal.latest(number)
    if current is None or not (current.rollout.firmware or current.rollout.hardware):
        what = "was never deployed" if current is None else f"is about {current.release}, which is software"
        raise NotFoundError(f"{number} {what}, so no unit is exchanged for it; check the RFC")
    order, units = _work_order(journal, current, said)
    old, new = units.get(order.old), units.get(order.new)
    _check_serials(order, old, new, said)
    label = f"{new.tag if new else 'nothing'} is in {order.place}"
    if order.state is WorkOrderState.DONE:
        return _result(order, False, f"that {label} was confirmed before, by {order.closed_by}")
    journal.refuse_driven(current.id, Holder.this_run(), now)
    person = responsible_person(policy, signer, now, f"that {label} is said")
    (ci,) = cmdb.cis([said.host])
    found = read({**ci["attributes"], **said.attributes}, order.slot, new)
    if found is not None and new is not None:
        model, tag = ("", "") if order.slot else (new.model, new.tag)
        if wrong := differences(found, DeviceIdentity(new.serial, model, tag)):
            raise StateError(f"{order.place} is not exchanged as it is said: {'; '.join(wrong)}; nothing was recorded")
    by_second = order.state is WorkOrderState.CLAIMED
    if found is None and by_second and order.claimed_by == person:
        raise StateError(f"{person} has said that {label}, and nothing can be read there; a second person has to confirm it")
    known = found is not None or by_second
    how = REDFISH if found is not None else PERSON if by_second else ""
    then = f"run {'backout' if order.back or current.state is states.DeploymentState.BACKING_OUT else 'deploy'} of {number} again"
    msg = (
        f"{label}, as {'it says itself' if found is not None else f'{order.claimed_by} and {person} say'}; {then}"
        if known
        else f"{person} says that {label}, and nothing can be read there; a second person has to confirm it with the same command"
    )
    if not write:
        return _result(order, True, f"it would be recorded: {msg}")
    about = {"deployment": current.label, "slot": order.slot, "old": said.old, "new": said.new, "reason": said.reason, "read": how}
    signed = signed_about_host(said.host, SWAP, about, signer, now)
    with cmdb.begin() as connection:
        if not order.number:
            order = open_work_order(connection, order, now)
        if known:
            order = fulfil(cmdb, connection, order, person, how, said.reason, now, said.attributes)
            mine = list_work_orders(connection, deployments=[current.id], cis=[said.host])
            following = open_next(connection, [one for one in mine if one.back is order.back], now)
            msg += f"; before that, {following.sentence()}" if following else ""
        else:
            order = move_work_order(connection, order, WorkOrderState.CLAIMED, claimed_by=person)
        data = {**about, "work_order": order.number, "by": person, "state": str(order.state), **signed}
        journal.swapped(connection, current.id, said.host, data, now)
        line = {"at": now, "actor": person, "ci": said.host, "event": f"work order {order.state}", "data": data}
        append_history(connection, [line])
    return _result(order, True, msg)


def _work_order(journal: Journal, current: Deployment, said: Swap) -> tuple[WorkOrder, dict[str, Unit]]:
    """The work order that a person is speaking of, one that is not written yet for a device that no firmware brings back; and its units."""
    target = next((one for one in journal.targets(current.id) if one.host == said.host), None)
    if target is None:
        raise NotFoundError(f"{said.host} is not part of {current.label}; check the name")
    with journal.cmdb.read() as connection:
        mine = list_work_orders(connection, deployments=[current.id], cis=[said.host])
        orders = [one for one in mine if folded(one.slot) == folded(said.slot)]
        tags = {tag for one in orders for tag in (one.old, one.new) if tag}
        there = [one for one in list_units(connection, cis=[said.host]) if folded(one.slot) == folded(said.slot)]
        stock = list_units(connection, models=[one.model for one in there], states=[UnitState.IN_STOCK]) if there else []
        units = {unit.tag: unit for unit in (*list_units(connection, tags=tags), *there, *stock)}
    waiting = next((one for one in orders if one.state in WAITING), None)
    if waiting is not None:
        return waiting, units
    done = [one for one in orders if one.state is WorkOrderState.DONE and _is_about(one, units, said)]
    if done:
        return done[-1], units
    place = f"the slot {said.slot} of {said.host}" if said.slot else said.host
    open_ = current.state in (*states.OPEN, states.DeploymentState.COMPLETED)
    if said.slot or not current.rollout.firmware or target.state not in states.TOUCHED or not open_:
        raise StateError(f"{current.label} is {current.state} and wants nothing exchanged in {place}; use tidegate.release.dhs_asset")
    if not there:
        raise StateError(f"the hardware storage has no unit in {place}; enter it with tidegate.release.dhs_asset")
    fitting = [unit for unit in stock if folded(unit.serial) == folded(said.new)]
    free = [unit for unit in fitting if unit.deployment == current.id or unit.substate == AVAILABLE]
    if not free:
        has = f"{fitting[0].tag} is {fitting[0]}" if fitting else f"no {there[0].model} in stock has the serial number {said.new!a:.80}"
        raise StateError(f"{has}; exchange it for a unit that {current.label} has reserved, or one that is available")
    return WorkOrder(current.id, said.host, "", there[0].tag, free[0].tag), units


def _is_about(order: WorkOrder, units: Mapping[str, Unit], said: Swap) -> bool:
    new = units.get(order.new)
    return folded(new.serial if new else "") == folded(said.new)


def _check_serials(order: WorkOrder, old: Unit | None, new: Unit | None, said: Swap) -> None:
    """Raise :class:`TidegateError` unless what a person says are the units of the work order."""
    for which, unit, serial in (("comes out", old, said.old), ("comes in", new, said.new)):
        if folded(unit.serial if unit else "") != folded(serial):
            is_ = f"{unit.tag} with the serial number {unit.serial}" if unit else "none"
            raise TidegateError(f"of {order.place}, the unit that {which} is {is_}, and not {serial!a:.80}; find out which unit is there")


def _result(order: WorkOrder, changed: bool, msg: str) -> dict[str, Any]:
    return {"changed": changed, "msg": msg, "state": str(order.state), "work_order": order.number or None}
