# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases are switched at one instant, and whether a wave is. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from .options import Rollout, Together

_BRINGS = {"ansible": "a role of its own", "firmware": "firmware", "hardware": "hardware"}
_LEAST = 3.0  # seconds, of which a host has to know the instant two before
_TOLD = 1.0  # seconds in which as many hosts are told the instant as are told at once, on a busy controller
_TRIPS = 6  # of half a round trip, that telling takes at most


def for_change(rollout: Rollout, release: str, kind: str) -> Rollout:
    """The rollout of one change: hosts are switched each on its own unless the policy's ``together`` names its ``release`` and its
    ``kind``, the type of the RFC."""
    together = rollout.together
    if together is None:
        return rollout
    named = any(fnmatchcase(release, pattern) for pattern in together.releases) and (not together.types or kind in together.types)
    return rollout if named else replace(rollout, together=None)


def instant_fault(config: Mapping[str, Any], rollout: Rollout, instant: datetime | None) -> str:
    """That the hosts of a release can't be switched at the ``instant`` of its RFC, as a sentence; empty when they can. ``config`` and
    ``rollout`` as for :func:`together_fault`."""
    if instant is None or rollout.together is not None:
        return ""
    return (
        f"the RFC names {instant.isoformat()} as the instant at which hosts switch, and {config.get('name')} is switched host by host; add "
        "it to rollout.together.releases in the policy, and its type to types where there are any, or leave instant out of the RFC"
    )


def together_fault(config: Mapping[str, Any], rollout: Rollout) -> str:
    """That a release can't be switched at one instant, as a sentence; empty when it can, or need not. ``config``: that of its package;
    ``rollout``: that of the change, see :func:`for_change`."""
    found = [words for key, words in _BRINGS.items() if key in config]
    if rollout.together is None or not found:
        return ""
    return (
        f"{config['name']} {config['version']} brings {found[0]}, which takes as long as it takes, so its hosts can't be switched at one "
        "instant; leave it out of rollout.together.releases"
    )


def quorum_fault(rollout: Rollout, sizes: Sequence[int]) -> str:
    """That a wave may switch with so many hosts missing that its gate can't let them pass, as a sentence; empty when none may.

    ``sizes``: the hosts of each wave.
    """
    for number, size in enumerate(sizes if rollout.together else (), 1):
        together = rollout.together or Together()
        missing = size - min(together.quorum.at_least(size), size)
        borne = min(rollout.wave_budget.at_most(size), rollout.total_budget.at_most(sum(sizes)))
        if missing > borne:
            return (
                f"rollout.together.quorum {together.quorum} lets wave {number} switch without {missing} of its {size} hosts, and "
                f"rollout.budget lets {borne} of them fail, so its gate would stop all; correct one of the two"
            )
    return ""


@dataclass(frozen=True)
class Armed:
    """How a host was armed: its clock is ``offset`` seconds from ours, give or take ``bound``, which is half of a round trip, and it
    ``took`` so many seconds to get ready."""

    offset: float
    bound: float
    took: float


@dataclass(frozen=True)
class Word:
    """Whether the armed hosts of a wave are told an instant: in ``seconds`` from now, ``None`` for not at all, and then ``why``."""

    seconds: float | None
    why: str = ""


def decide_instant(together: Together, size: int, armed: Collection[Armed], up: int, at_once: int) -> Word:
    """Decide for a wave of ``size`` hosts, of which some are ``armed`` and so many are ``up`` with the release already.

    ``at_once``: how many hosts the controller tells at once.
    """
    if not armed:
        return Word(None, "" if up == size else f"no host of {size} could be armed")
    ready, wanted = len(armed) + up, min(together.quorum.at_least(size), size)
    if ready < wanted:
        said = f"{ready} of {size} hosts could be armed"
        return Word(None, f"{said}, and the quorum is {together.quorum}, so nobody was told an instant")
    told = max(_TOLD, _TRIPS * max(one.bound for one in armed)) * -(-len(armed) // max(at_once, 1))
    compared = 1.5 * max(one.took for one in armed)  # each compares the release once more
    return Word(max(together.lead_seconds, _LEAST + told + compared))


def clock_fault(together: Together, offset: float, bound: float) -> str:
    """That a host's clock is not known well enough: it is ``offset`` seconds from the controller's, give or take ``bound``."""
    if abs(offset) + bound <= together.skew_milliseconds / 1000:
        return ""
    apart, unsure, allowed = f"{offset * 1000:+.0f} ms", f"{bound * 1000:.0f} ms", f"{together.skew_milliseconds} ms"
    return (
        f"its clock is {apart} from the controller's, give or take {unsure}, and {allowed} are allowed; synchronise it, or correct "
        "rollout.together.skew_milliseconds"
    )
