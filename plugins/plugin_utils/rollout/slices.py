# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers of one deployment, each with a slice of its hosts: who decides at a gate, and who waits for whom. Pure.

A controller says at which gate it has come before it waits there, so whoever waits knows that the others' hosts have been visited, however
that went; and nobody waits for somebody who is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from . import states
from .options import Rollout
from .states import DeploymentState, HostState, WaveState

_D, _H, _W = DeploymentState, HostState, WaveState
SEVERAL = "several controllers"
"""The holder of a deployment that more than one controller drives."""
STAGING = 0
"""The number of the place after staging; others have that of their wave."""
FORWARD = frozenset({_D.STAGING, _D.ACTIVATING, _D.BAKING})
_LIVE = frozenset({_D.SUPPORTING, _D.COMPLETED})
_NAMED = 3  # hosts that a sentence names


@dataclass(frozen=True)
class Slice:
    """A controller and the hosts of a deployment that are its own."""

    token: int
    """Its fencing token, higher than that of whoever had one of its hosts before."""
    holder: str
    """Its process."""
    alive: bool
    """Whether it has not ended, as far as is known, and its lease neither."""
    place: int | None = None
    """The rank of the last place that it came to, ``None`` before the first; see :class:`Meeting`."""
    back: int | None = None
    """The wave whose hosts it is taking back, ``None`` before the first."""
    done: bool = False
    """Whether no step of it visits a host any more."""
    stop: str = ""
    """Why somebody has interrupted it, so that no further wave opens; empty when nobody has."""
    waves: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Its hosts by wave, but for those that are left out."""

    @property
    def hosts(self) -> list[str]:
        """Its hosts in the order of the waves."""
        return [host for number in sorted(self.waves) for host in sorted(self.waves[number])]

    def named(self) -> str:
        """Who that is, for a person who has to start it again."""
        return f"{self.holder}, which has {_some(self.hosts)},"


@dataclass(frozen=True)
class View:
    """What a controller sees of a deployment that it drives with others."""

    mine: int
    """Its own token."""
    state: DeploymentState
    waves: Mapping[int, WaveState]
    slices: Mapping[int, Slice]
    unclaimed: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """The hosts by wave that no controller has, but for those that are left out."""
    touched: frozenset[str] = frozenset()
    """The hosts on which the release may be live, which a back-out visits."""


class SliceMove(StrEnum):
    """What a controller does at a barrier."""

    WAIT = "wait"
    DECIDE = "decide"
    GO = "go"
    HOLD = "hold"


@dataclass(frozen=True)
class Barrier:
    """What a controller does now, and ``why``: for whom it waits, or a sentence.

    ``unclaimed``: it waits for somebody who has these hosts. ``under_way``: for hosts that others are at, so that nobody holds meanwhile:
    what they have begun could not be brought to its end.
    """

    move: SliceMove
    why: str = ""
    unclaimed: tuple[str, ...] = ()
    under_way: bool = False


_GO, _DECIDE = Barrier(SliceMove.GO), Barrier(SliceMove.DECIDE)
_AGAIN = "run deploy again for each slice"


@dataclass(frozen=True)
class Meeting:
    """Where controllers meet: at the gate after the wave ``number``, :data:`STAGING` for that after staging, or before that, where the
    ``instant`` of its hosts is set."""

    number: int
    instant: bool = False

    @property
    def rank(self) -> int:
        """The later the higher, as the CMDB has it."""
        return 2 * self.number - self.instant

    def __str__(self) -> str:
        if self.number == STAGING:
            return "the gate after staging"
        return f"the {'instant' if self.instant else 'gate'} of wave {self.number}"


def at_place(view: View, place: Meeting, said: bool = False) -> Barrier:
    """What a controller does that has come to a place: it decides, waits, or goes on as somebody has decided.

    ``said``: whether the instant that is to be set there is. Of those that have hosts there, the one that came first to the deployment
    decides when all of them have come; another does when that one is gone. Whoever is gone before it came has left hosts of which nobody
    knows: the deployment is held.
    """
    number = place.number
    decided = view.state is not _D.STAGING if number == STAGING else view.waves.get(number) is not _W.OPEN
    if view.state not in FORWARD or decided or said:
        return _GO
    meeting = _meeting(view, number)
    if missing := _missing(view, place):
        return missing
    first = min((one.token for one in meeting if one.alive and not one.done), default=view.mine)
    return _DECIDE if first == view.mine else Barrier(SliceMove.WAIT, f"{view.slices[first].holder} to decide at {place}", under_way=True)


def before_wave(view: View, after: int) -> Barrier:
    """What a controller does that has done the wave ``after``: it goes on when the next one in which it has hosts is open, or when
    nothing goes forward any more. Of a wave that is measured no host changes."""
    own = view.slices[view.mine].waves if view.mine in view.slices else ()
    following = min((number for number in own if number > after and view.waves.get(number) is not _W.DECIDED), default=None)
    number = next((number for number, state in sorted(view.waves.items()) if state is _W.OPEN), None)
    if view.state not in FORWARD or number is None or (number == following and view.state is not _D.BAKING):
        return _GO
    place = Meeting(number)
    if missing := _missing(view, place):
        return missing
    meeting = [one for one in _meeting(view, number) if one.token != view.mine]
    if meeting and not any(one.alive for one in meeting):
        return Barrier(SliceMove.HOLD, f"{meeting[0].named()} has ended before {place} was decided; {_AGAIN}")
    return Barrier(SliceMove.WAIT, f"wave {number}, which others have", under_way=True)


def before_back_out(view: View, wave: int) -> Barrier:
    """What a controller does that is about to take back its hosts of a wave: whoever has hosts in later ones has taken those back."""
    later = {number: hosts & view.touched for number, hosts in view.unclaimed.items() if number > wave}
    if unclaimed := _listed(later):
        return Barrier(SliceMove.WAIT, f"whoever has {_some(unclaimed)}", unclaimed)
    behind = [one for one in _others(view) if _is_behind(view, one, wave)]
    return Barrier(SliceMove.WAIT, f"{behind[0].named()} to take back later waves") if behind else _GO


def before_end(view: View, staging: bool = False) -> Barrier:
    """What a controller does that has nothing more to do: the verdict on hosts that go back, or that were staged and no more
    (``staging``), is about those of the others, too; and what is done once at the end is done when all have come to it."""
    back = view.state is _D.BACKING_OUT
    if not back and view.state not in _LIVE and not (staging and view.state is _D.STAGING):
        return _GO
    if others := _others(view):
        return Barrier(SliceMove.WAIT, f"{others[0].named()} to end")
    open_ = {number: hosts & view.touched if back else hosts for number, hosts in view.unclaimed.items()} if back or staging else {}
    unclaimed = _listed(open_)
    return Barrier(SliceMove.WAIT, f"whoever has {_some(unclaimed)}", unclaimed) if unclaimed else _GO


def asked_to_stop(view: View) -> str:
    """Why somebody has interrupted one of the controllers, as a sentence goes on; empty when nobody has."""
    return next((one.stop for one in view.slices.values() if one.stop), "")


def slice_fault(rollout: Rollout) -> str:
    """Why a deployment can't be driven by several controllers, as a sentence; empty when it can."""
    brings = {"a role of its own": rollout.role, "firmware": rollout.firmware, "hardware": rollout.hardware}
    found = next((words for words, is_so in brings.items() if is_so), "")
    return (
        f"the release brings {found}, which one controller does for all hosts of a wave; run this without tidegate_slice" if found else ""
    )


def waits_for(state: HostState) -> bool:
    """Whether a wave waits for a host in that state."""
    return state not in (*states.LEFT_OUT, _H.SUPERSEDED, _H.ACCEPTED)


def _meeting(view: View, number: int) -> list[Slice]:
    """The controllers that have hosts in a wave; at staging those that have any, or may have: hosts that could not be staged are tried
    again."""
    if number == STAGING:
        return [one for one in view.slices.values() if one.waves or one.alive]
    return [one for one in view.slices.values() if one.waves.get(number)]


def _others(view: View) -> list[Slice]:
    """The other controllers that have something to do still."""
    return [one for one in view.slices.values() if one.token != view.mine and one.alive and not one.done]


def _missing(view: View, place: Meeting) -> Barrier | None:
    """What follows from somebody who has not come to a place or to the deployment yet, or is gone; nothing when there is nobody."""
    unclaimed = _listed(view.unclaimed) if place.number == STAGING else tuple(sorted(view.unclaimed.get(place.number, ())))
    absent = [one for one in _meeting(view, place.number) if not _has_come(one, place)]
    alive = [one for one in absent if one.alive and one.token != view.mine]
    if alive:
        return Barrier(SliceMove.WAIT, f"{alive[0].named()} at {place}", under_way=True)
    gone = [one for one in absent if not one.alive and one.token != view.mine]
    if gone:
        return Barrier(SliceMove.HOLD, f"{gone[0].named()} has ended before it came to {place}; {_AGAIN}")
    return Barrier(SliceMove.WAIT, f"whoever has {_some(unclaimed)}", unclaimed) if unclaimed else None


def _has_come(one: Slice, place: Meeting) -> bool:
    return one.done or (one.place is not None and one.place >= place.rank)


def _is_behind(view: View, one: Slice, wave: int) -> bool:
    """Whether a controller may have hosts of waves behind ``wave`` to take back still."""
    here = any(number > wave and not hosts.isdisjoint(view.touched) for number, hosts in one.waves.items())
    return here and (one.back is None or one.back > wave)


def _listed(by_wave: Mapping[int, frozenset[str]]) -> tuple[str, ...]:
    return tuple(host for number in sorted(by_wave) for host in sorted(by_wave[number]))


def _some(hosts: Iterable[str]) -> str:
    names = list(hosts)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}" if names else "no host that changes"
