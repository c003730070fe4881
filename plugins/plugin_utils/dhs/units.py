# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of the definitive hardware storage: where each can be, and what may be done with it. Pure.

States and substates are those of a hardware asset in ServiceNow (table ``alm_hardware``), with ``quarantine`` and ``rma`` besides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ..errors import FindingsError, TidegateError

_TEXT = re.compile(r"[^\W_][^\x00-\x1f\x7f]{0,99}")  # one line that begins with a letter or digit
_SHOWN = 20  # faults that a sentence has below it for whoever does not ask for more


class UnitState(StrEnum):
    """Where a unit is."""

    ON_ORDER = "on_order"
    IN_STOCK = "in_stock"
    IN_TRANSIT = "in_transit"
    IN_USE = "in_use"
    IN_MAINTENANCE = "in_maintenance"
    RETIRED = "retired"
    MISSING = "missing"


_S = UnitState
INSTALL_STATUS: Mapping[UnitState, int] = {
    _S.IN_USE: 1,
    _S.ON_ORDER: 2,
    _S.IN_MAINTENANCE: 3,
    _S.IN_STOCK: 6,
    _S.RETIRED: 7,
    _S.MISSING: 8,
    _S.IN_TRANSIT: 9,
}
"""The number that ServiceNow keeps a state as."""

AVAILABLE, RESERVED, QUARANTINE, DEFECTIVE = "available", "reserved", "quarantine", "defective"
SUBSTATES: Mapping[UnitState, tuple[str, ...]] = {
    _S.ON_ORDER: ("",),
    _S.IN_STOCK: (
        AVAILABLE,
        RESERVED,
        QUARANTINE,
        DEFECTIVE,
        "pending_repair",
        "pending_install",
        "pending_transfer",
        "pending_disposal",
    ),
    _S.IN_TRANSIT: (AVAILABLE, QUARANTINE, DEFECTIVE),
    _S.IN_USE: ("",),
    _S.IN_MAINTENANCE: ("", "rma"),
    _S.RETIRED: ("disposed", "sold", "donated", "vendor_credit"),
    _S.MISSING: ("lost", "stolen"),
}
"""The substates of each state, the one that it has unless somebody says otherwise first."""

WITH_STOCKROOM = frozenset({_S.ON_ORDER, _S.IN_STOCK, _S.IN_TRANSIT})
"""The states in which a unit has a stockroom: it is there, or on its way there."""


AWAY = frozenset({_S.IN_MAINTENANCE, _S.MISSING})
"""The states in which a unit is out of sight: what it said before counts for nothing, and it comes back into quarantine."""


def folded(text: str) -> str:
    """A text as it is compared: the same for a person who reads it, in whatever case and width of letters."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def identity(manufacturer: str, serial: str) -> str:
    """A maker and a serial number as they are compared; neither has a line break in it."""
    return f"{folded(manufacturer)}\n{folded(serial)}"


@dataclass(frozen=True)
class Unit:
    """One physical thing, which outlives the CI that it serves. ``tag`` is the name that its owner gave it; ``stockroom`` is empty unless
    it is in one, or on the way there; ``ci`` and ``slot`` say where it is in use; ``deployment`` is the number of the deployment that has
    reserved it."""

    tag: str
    manufacturer: str
    serial: str
    model: str
    state: UnitState
    substate: str = ""
    stockroom: str = ""
    ci: str = ""
    slot: str = ""
    deployment: int | None = None

    @property
    def identity(self) -> str:
        """Who made it and which number that gave it, as it is compared: no maker gives a serial number twice that differs in case alone."""
        return identity(self.manufacturer, self.serial)

    def __str__(self) -> str:
        place = f" by {self.ci}{f' ({self.slot})' if self.slot else ''}" if self.ci else f" {self.stockroom}" if self.stockroom else ""
        kind = f", {self.substate}" if self.substate else ""
        return f"{str(self.state).replace('_', ' ')}{place}{kind}"


@dataclass(frozen=True)
class Move:
    """What may be done with a unit: from which substates of which states, and into which ones of ``target``, the first unless one is said.

    ``new``: it may be one that the storage does not have yet. ``needs``: what has to be said besides.
    """

    target: UnitState
    substates: tuple[str, ...]
    sources: Mapping[UnitState, frozenset[str]]
    new: bool = False
    needs: tuple[str, ...] = ()


def _any(*states: UnitState) -> dict[UnitState, frozenset[str]]:
    """Each substate of these, but for what is reserved: only the deployment that has it does anything with that."""
    return {state: frozenset(SUBSTATES[state]) - {RESERVED} for state in states}


_FREE = tuple(one for one in SUBSTATES[_S.IN_STOCK] if one != RESERVED)
MOVES: Mapping[str, Move] = {
    "order": Move(_S.ON_ORDER, ("",), {}, new=True, needs=("stockroom",)),
    "receive": Move(_S.IN_STOCK, _FREE, _any(_S.ON_ORDER, _S.IN_MAINTENANCE, _S.MISSING), new=True, needs=("stockroom",)),
    "inspect": Move(_S.IN_STOCK, _FREE, _any(_S.IN_STOCK), needs=("substate",)),
    "transfer": Move(_S.IN_TRANSIT, SUBSTATES[_S.IN_TRANSIT], _any(_S.IN_STOCK), needs=("stockroom",)),
    "arrive": Move(_S.IN_STOCK, _FREE, _any(_S.IN_TRANSIT)),
    "install": Move(_S.IN_USE, ("",), {_S.IN_STOCK: frozenset({AVAILABLE, "pending_install"})}, needs=("ci",)),
    "remove": Move(_S.IN_STOCK, (QUARANTINE, *(one for one in _FREE if one != QUARANTINE)), _any(_S.IN_USE), needs=("stockroom",)),
    "repair": Move(_S.IN_MAINTENANCE, SUBSTATES[_S.IN_MAINTENANCE], _any(_S.IN_STOCK)),
    "retire": Move(_S.RETIRED, SUBSTATES[_S.RETIRED], _any(_S.ON_ORDER, _S.IN_STOCK, _S.IN_MAINTENANCE, _S.MISSING)),
    "report_missing": Move(_S.MISSING, SUBSTATES[_S.MISSING], _any(_S.ON_ORDER, _S.IN_STOCK, _S.IN_TRANSIT, _S.IN_USE, _S.IN_MAINTENANCE)),
}
"""What people do with units, by name. What is reserved or in use is never retired: it is given back, or removed, before."""


@dataclass(frozen=True)
class MoveOrder:
    """What is to be done with one unit, which is named by its tag or by maker and serial number; what is empty is not said."""

    move: str
    tag: str = ""
    manufacturer: str = ""
    serial: str = ""
    model: str = ""
    substate: str = ""
    stockroom: str = ""
    ci: str = ""
    slot: str = ""

    @property
    def identity(self) -> str:
        """As that of a unit; empty when it is not said."""
        return identity(self.manufacturer, self.serial) if self.serial else ""

    @property
    def label(self) -> str:
        """How a message names the unit."""
        return self.tag or f"{self.manufacturer} {self.serial}"


@dataclass(frozen=True)
class Moved:
    """What a move did to a unit: ``before`` is ``None`` for one that was not in the storage."""

    move: str
    before: Unit | None
    after: Unit


@dataclass
class _Storage:
    """The units that moves could be about, each by what has to be unique."""

    by_tag: dict[str, Unit] = field(default_factory=dict)
    by_identity: dict[str, Unit] = field(default_factory=dict)
    by_slot: dict[tuple[str, str], Unit] = field(default_factory=dict)

    def put(self, unit: Unit) -> None:
        before = self.by_tag.get(unit.tag)
        if before is not None and before.ci:
            self.by_slot.pop((before.ci, folded(before.slot)), None)
        self.by_tag[unit.tag] = self.by_identity[unit.identity] = unit
        if unit.ci:
            self.by_slot[(unit.ci, folded(unit.slot))] = unit


_TEXTS = ("tag", "manufacturer", "serial", "model", "stockroom", "slot")


def check_texts(what: object, names: Iterable[str]) -> None:
    """Raise :class:`TidegateError` for a text that is no name of anything; empty ones are not said."""
    for name in names:
        text = getattr(what, name)
        if text and not (_TEXT.fullmatch(text) and text.isprintable() and text == text.strip()):
            raise TidegateError(f"{name} is {text!a:.60}; use at most 100 signs that can be seen, the first a letter or digit")


def check_orders(orders: Iterable[MoveOrder]) -> None:
    """Raise :class:`FindingsError` for orders with texts that no unit can have: a database may not even take them."""
    faults = []
    for order in orders:
        try:
            check_texts(order, _TEXTS)
        except TidegateError as error:
            faults.append(str(error))
    if faults:
        raise _refusal(faults)


def _refusal(faults: Sequence[str]) -> FindingsError:
    more = [f"and {len(faults) - _SHOWN} more, which -v lists"] if len(faults) > _SHOWN else []
    return FindingsError("no unit was changed in the definitive hardware storage", [*faults[:_SHOWN], *more], faults)


def plan_moves(known: Iterable[Unit], orders: Sequence[MoveOrder], cis: Collection[str]) -> list[Moved]:
    """What ``orders`` change, one after the other; a unit that is as its order wants it is not changed.

    ``known``: the units that have a tag, an identity or a slot of theirs; ``cis``: those of the orders' CIs that there are.
    Raises :class:`FindingsError` with every fault.
    """
    storage, changes, faults = _Storage(), [], []
    for unit in known:
        storage.put(unit)
    for order in orders:
        try:
            before = _find(storage, order)
            _check_order(order)
            after = _moved(before, order) if before else _entered(order)
            _check_place(storage, before, after, cis)
        except TidegateError as error:
            faults.append(f"{order.label or 'a unit'}: {error}")
            continue
        if after != before:
            storage.put(after)
            changes.append(Moved(order.move, before, after))
    if faults:
        raise _refusal(faults)
    return changes


def _find(storage: _Storage, order: MoveOrder) -> Unit | None:
    """The unit that an order is about; ``None`` for one that is not in the storage yet."""
    if bool(order.manufacturer) != bool(order.serial):
        raise TidegateError("a serial number counts with its manufacturer alone; give both, or the tag")
    if not order.tag and not order.serial:
        raise TidegateError("nothing says which unit it is; give its tag, or manufacturer and serial")
    check_texts(order, _TEXTS)
    tagged = storage.by_tag.get(order.tag) if order.tag else None
    same = storage.by_identity.get(order.identity) if order.serial else None
    if tagged is not None and order.serial and tagged.identity != order.identity:
        raise TidegateError(f"the tag {order.tag} is on {tagged.manufacturer} {tagged.serial}; each unit has a tag of its own")
    if same is not None and order.tag and same.tag != order.tag:
        raise TidegateError(f"{same.manufacturer} {same.serial} has the tag {same.tag}; one unit is there once")
    return tagged or same


def _check_order(order: MoveOrder) -> None:
    """Raise :class:`TidegateError` for an order that says too little, or what its move has no use for."""
    move = MOVES[order.move]
    for name in move.needs:
        if not getattr(order, name):
            raise TidegateError(f"{order.move} needs {name}")
    takes = (
        {"ci", "slot"}
        if move.target is _S.IN_USE
        else {"stockroom"}
        if move.target in WITH_STOCKROOM and order.move != "inspect"
        else set()
    )
    for name in sorted({"ci", "slot", "stockroom"} - takes):
        if getattr(order, name):
            raise TidegateError(f"{order.move} takes no {name}; leave it out")
    if order.substate and order.substate not in move.substates:
        able = ", ".join(one for one in move.substates if one) or "nothing but what it is by itself"
        raise TidegateError(f"{order.move} makes no unit {order.substate!a:.60}; it can be {able}")


def _entered(order: MoveOrder) -> Unit:
    """A unit that the storage does not have yet."""
    move = MOVES[order.move]
    if not move.new:
        raise TidegateError(f"it is not in the storage, so there is nothing to {order.move.replace('_', ' ')}; receive it first")
    lacking = [name for name in ("tag", "manufacturer", "serial", "model") if not getattr(order, name)]
    if lacking:
        raise TidegateError(f"it is new, so it needs {' and '.join(lacking)}")
    new = Unit(order.tag, order.manufacturer, order.serial, order.model, move.target, order.substate or move.substates[0])
    return replace(new, stockroom=order.stockroom)


def _moved(unit: Unit, order: MoveOrder) -> Unit:
    """The unit after the order; the same when it is so already."""
    move = MOVES[order.move]
    if order.model and order.model != unit.model:
        raise TidegateError(f"it is a {unit.model}, not a {order.model}; a unit keeps its model")
    if _is_done(unit, order, move):
        return unit
    if unit.substate not in move.sources.get(unit.state, frozenset()):
        reserved = f" for deployment {unit.deployment}, which gives it back when it ends" if unit.substate == RESERVED else ""
        raise TidegateError(f"it is {unit}{reserved}, and {order.move} is not possible from there")
    if order.move == "arrive" and order.stockroom not in ("", unit.stockroom):
        raise TidegateError(f"it is on its way to {unit.stockroom}, not to {order.stockroom}; have it arrive there and transfer it on")
    if order.move == "transfer" and order.stockroom == unit.stockroom:
        raise TidegateError(f"it is in {unit.stockroom} already")
    keeps = unit.substate in move.substates and order.move in ("transfer", "arrive")
    if order.move == "transfer" and not (order.substate or keeps or unit.substate == "pending_transfer"):
        raise TidegateError(f"it is {unit}; say in substate what it is good for where it goes")
    # Nobody knows what was done with it meanwhile.
    first = QUARANTINE if unit.state in AWAY and move.target is _S.IN_STOCK else move.substates[0]
    stockroom = order.stockroom or unit.stockroom if move.target in WITH_STOCKROOM else ""
    return replace(
        unit,
        state=move.target,
        substate=order.substate or (unit.substate if keeps else first),
        stockroom=stockroom,
        ci=order.ci,
        slot=order.slot,
        deployment=None,
    )


def _is_done(unit: Unit, order: MoveOrder, move: Move) -> bool:
    """Whether a unit is as the order wants it."""
    return (
        unit.state is move.target
        and (unit.substate == order.substate if order.substate else unit.substate in move.substates)
        and (unit.ci, unit.slot) == (order.ci, order.slot)
        and order.stockroom in ("", unit.stockroom)
    )


def _check_place(storage: _Storage, before: Unit | None, after: Unit, cis: Collection[str]) -> None:
    if after.ci and after != before:
        if after.ci not in cis:
            raise TidegateError(f"the CMDB has no CI {after.ci!a:.80}; enter it with tidegate.release.cmdb_ci")
        there = storage.by_slot.get((after.ci, folded(after.slot)))
        if there is not None and there.tag != after.tag:
            slot = f"the slot {after.slot} of {after.ci}" if after.slot else after.ci
            raise TidegateError(f"{slot} has {there.tag}; remove that first, or name another slot")
