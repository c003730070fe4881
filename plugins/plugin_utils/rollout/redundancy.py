# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CIs stand in for one another, and whose turn it is to get firmware. Pure.

A CI says of itself with which it is redundant: the attribute ``redundant_with`` names others, and means both directions, whoever says it;
and those in one ``chassis`` that have the same ``role`` are redundant. It is said of the place, so it stays when a unit is exchanged.

Of those that are redundant one at a time has the turn: from before its device is looked at until it is known what that runs. Nothing
keeps the turn but what the journal says of hosts anyway, so no controller that is killed takes it along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..firmware.device import UpdateStep
from .states import HostState

_H = HostState
UNDER_WAY = frozenset({_H.ACTIVATING, _H.BACKING_OUT})
"""The states in which a host has the turn."""
TROUBLED = frozenset({_H.STUCK, _H.LOST, _H.OWED})
"""The states in which a host may not be well."""
UNTOUCHED = frozenset({_H.STAGED, _H.FAILED})
"""The states in which a host runs what it ran before."""
_WELL = frozenset({_H.STARTED, _H.ACTIVE, _H.FAILED, _H.BACKED_OUT})
_CHANGING = (UpdateStep.STAGE, UpdateStep.ACTIVATE, UpdateStep.RESTART, UpdateStep.RETURN)


class TurnDecision(StrEnum):
    """Whether a host may get its firmware now."""

    GRANTED = "granted"
    WAIT = "wait"
    REFUSED = "refused"


@dataclass(frozen=True)
class Turn:
    """The decision, and why in a sentence; ``partner`` is the visit that it comes of, to tell one wait from the next."""

    decision: TurnDecision
    why: str = ""
    partner: Visit | None = None


@dataclass(frozen=True)
class Visit:
    """What the last deployment that has touched a host has done to it.

    ``deployment``: its number; ``label``: how messages call it. ``well``: for all that is known its device works. ``driven``: a controller
    is at work with that deployment, and may be with this host.
    """

    host: str
    deployment: int
    label: str
    state: HostState
    well: bool = True
    driven: bool = False


def named_in(attributes: Mapping[str, Any]) -> list[str] | None:
    """The CIs that one says to be redundant with; ``None`` when what it says is no list of names."""
    said = attributes.get("redundant_with")
    names = [said] if isinstance(said, str) and said else said or []
    return list(names) if isinstance(names, list) and all(isinstance(name, str) and name for name in names) else None


def are_redundant(name: str, attributes: Mapping[str, Any], other: str, others: Mapping[str, Any]) -> bool:
    """Whether two CIs, each with its attributes, stand in for one another."""
    if name == other:
        return False
    if other in (named_in(attributes) or ()) or name in (named_in(others) or ()):
        return True
    place = place_of(attributes)
    return place is not None and place == place_of(others)


def place_of(attributes: Mapping[str, Any]) -> tuple[str, str] | None:
    """Chassis and role of a CI, ``None`` when it does not say both; a number is the same as its text."""
    chassis, role = attributes.get("chassis"), attributes.get("role")
    return None if chassis in (None, "") or role in (None, "") else (str(chassis), str(role))


def is_well(events: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether a host's device works, for all that a deployment's journal says of the host: each event with its data, in order."""
    well, given, ever, unfinished = True, False, False, set[Any]()
    for event, about in events:
        step, component = about.get("step"), about.get("component")
        if step == UpdateStep.OVER:
            unfinished.discard(component)
        elif step in _CHANGING:
            given = ever = True
            if step == UpdateStep.STAGE:
                unfinished.add(component)
        elif event in UNDER_WAY:
            given = bool(unfinished)
        elif event in _WELL:
            well, given, unfinished = True, False, set()
        elif event == _H.OWED:  # which it is as well when nothing could be done to it, so that it runs as before
            well = well and not given
        elif event in TROUBLED:
            well = not ever
    return well


def decide_turn(own: Visit, others: Iterable[Visit], *, back: bool = False) -> Turn:
    """Whether a host may get firmware, or go ``back``, as far as ``others`` are concerned, which are redundant with it.

    While one of them has the turn it waits. When one of them is not well, nobody touches what may be the last one that is; what is not
    well itself, or has its firmware and is only looked at again, is brought to an end all the same.
    """
    if own.state in UNDER_WAY:  # the run before it was killed when it had the turn
        return Turn(TurnDecision.GRANTED)
    bad, begun = None, not own.well or (not back and own.state not in UNTOUCHED)
    for one in sorted(others, key=lambda one: (one.host, one.deployment)):
        busy = one.state in UNDER_WAY
        if busy and one.driven:
            return Turn(TurnDecision.WAIT, f"{_named(one)} by {one.label}", one)
        if busy or (one.state in TROUBLED and not one.well and not begun):
            bad = bad or one
    if bad is None:
        return Turn(TurnDecision.GRANTED)
    unknown = "which nobody drives" if bad.state in UNDER_WAY else "and may not work"
    return Turn(
        TurnDecision.REFUSED, f"{_named(bad)} in {bad.label}, {unknown}; mend that first, for this may be the last one that works", bad
    )


def _named(one: Visit) -> str:
    return f"{one.host}, which is redundant with it, is {str(one.state).replace('_', ' ')}"
