# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work orders: what a person does with their hands for a deployment, and how it becomes known that it was done. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..errors import StateError


class WorkOrderState(StrEnum):
    """How a work order stands.

    ``planned``: its wave is not open. ``claimed``: a person says that it was done, nothing can be read there, and nobody else has confirmed
    it yet. ``done``: it was read, or confirmed by a second person.
    """

    PLANNED = "planned"
    OPEN = "open"
    CLAIMED = "claimed"
    DONE = "done"
    CANCELLED = "cancelled"


_S = WorkOrderState
WORK_ORDER: Mapping[WorkOrderState, frozenset[WorkOrderState]] = {
    _S.PLANNED: frozenset({_S.OPEN, _S.CANCELLED}),
    _S.OPEN: frozenset({_S.CLAIMED, _S.DONE, _S.CANCELLED}),
    _S.CLAIMED: frozenset({_S.DONE}),
    _S.DONE: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""What may become of a work order. One that somebody says to have done is not cancelled: nobody knows what is in the slot."""

WAITING = frozenset({_S.OPEN, _S.CLAIMED})
"""With these a person has to do something."""
UNDONE = WAITING | {_S.PLANNED}
"""With these it is still to be done."""


@dataclass(frozen=True)
class WorkOrder:
    """One unit in place of another.

    ``old`` and ``new`` are tags; one of them is empty where a slot was, or becomes, empty. ``back``: it undoes one of the same deployment.
    ``instructions``: the file of the release's documentation, empty for an exchange that no release describes. ``claimed_by``: who said
    first that it was done; ``closed_by``: who confirmed that. ``read``: how it is known: ``redfish``, or ``person``. ``number`` is 0 for
    one that is not written yet.
    """

    deployment: int
    ci: str
    slot: str
    old: str
    new: str
    instructions: str = ""
    back: bool = False
    state: WorkOrderState = WorkOrderState.PLANNED
    number: int = 0
    claimed_by: str = ""
    closed_by: str = ""
    read: str = ""
    opened: datetime | None = None
    closed: datetime | None = None

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return f"the slot {self.slot} of {self.ci}" if self.slot else f"{self.ci}"

    def sentence(self) -> str:
        """What is to be done, for the person who does it."""
        what = " and ".join([*([f"take out {self.old}"] if self.old else []), *([f"put in {self.new}"] if self.new else [])])
        how = f", as {self.instructions} says" if self.instructions else ""
        waits = f"; {self.claimed_by} says that it was done, and a second person has to confirm that" if self.state is _S.CLAIMED else ""
        return f"work order {self.number}, {self.place}: {what}{how}{waits}"


def check_move(order: WorkOrder, new: WorkOrderState) -> None:
    """Raise :class:`StateError` unless a work order may become ``new``."""
    if new not in WORK_ORDER[order.state]:
        raise StateError(f"work order {order.number} ({order.place}) is {order.state} and can't become {new}")


def undoing(order: WorkOrder) -> WorkOrder:
    """The work order that undoes one that was done."""
    return WorkOrder(order.deployment, order.ci, order.slot, order.new, order.old, order.instructions, back=True)
