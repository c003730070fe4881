# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machines of a deployment, its waves and its hosts.

Pure tables: what the journal may write. Everything that changes a state asks :func:`check` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from ..errors import StateError

SPARES = "spares"
"""The duty of a change that has raised the firmware which a model has to have: to bring its spares there."""


class DeploymentState(StrEnum):
    """Where a deployment stands. ``held`` waits for a person; the last three are final.

    ``baking``: metrics of a wave are measured. ``supporting``: each wave is decided and nothing is under way, but hosts that have not got
    the release may still get it, or its early-life support is not over.
    """

    PLANNED = "planned"
    STAGING = "staging"
    ACTIVATING = "activating"
    BAKING = "baking"
    HELD = "held"
    BACKING_OUT = "backing_out"
    SUPPORTING = "supporting"
    COMPLETED = "completed"
    BACKED_OUT = "backed_out"
    CANCELLED = "cancelled"


class WaveState(StrEnum):
    """A wave is ``closed`` until the gate before it opens it, and ``decided`` by its own gate."""

    CLOSED = "closed"
    OPEN = "open"
    DECIDED = "decided"


class HostState(StrEnum):
    """What a deployment has done to one host.

    ``started``: the release came up, and it is not known yet whether it lasts; ``active``: it did.
    ``failed``: activation did not succeed and the host itself went back to what it ran before.
    ``stuck``: activation did not succeed and neither did going back. ``lost``: the connection broke
    while activating or looking again, its true state is unknown. ``owed``: it still has to be backed out.
    ``written_off``: a person said that the host will not come back. ``superseded``: a later deployment
    changed the host, so that the back-out of this one left it as it is. ``accepted``: nothing brings it back, and a
    person accepts that it stays as it is.
    """

    PLANNED = "planned"
    STAGED = "staged"
    STAGE_FAILED = "stage_failed"
    ACTIVATING = "activating"
    STARTED = "started"
    ACTIVE = "active"
    FAILED = "failed"
    STUCK = "stuck"
    LOST = "lost"
    BACKING_OUT = "backing_out"
    BACKED_OUT = "backed_out"
    OWED = "owed"
    WRITTEN_OFF = "written_off"
    SUPERSEDED = "superseded"
    ACCEPTED = "accepted"


class DataState(StrEnum):
    """What a deployment has done to data, by the steps ``migrate`` and ``reverse`` of its release's role.

    ``none``: the release has no such steps. ``migrating`` and ``reversing`` are written ahead; who finds one of them, and is not the run
    that wrote it, knows nothing of the data. ``reversed``: they are as they were before. ``kept``: the hosts go back and the data do not,
    as a person wants it.
    """

    NONE = "none"
    NOT_MIGRATED = "not_migrated"
    MIGRATING = "migrating"
    MIGRATED = "migrated"
    REVERSING = "reversing"
    REVERSED = "reversed"
    KEPT = "kept"


_D = DeploymentState
DEPLOYMENT: Mapping[DeploymentState, frozenset[DeploymentState]] = {
    _D.PLANNED: frozenset({_D.STAGING, _D.CANCELLED}),
    # A late round, which stages for a deployment that is live on others, can come to nothing or be backed out, also when it was held.
    _D.STAGING: frozenset({_D.ACTIVATING, _D.HELD, _D.CANCELLED, _D.SUPPORTING, _D.COMPLETED, _D.BACKING_OUT}),
    _D.ACTIVATING: frozenset({_D.BAKING, _D.SUPPORTING, _D.COMPLETED, _D.HELD, _D.BACKING_OUT}),
    _D.BAKING: frozenset({_D.ACTIVATING, _D.HELD, _D.BACKING_OUT}),
    # To activating, when a host that had got lost and was written off is there again.
    _D.SUPPORTING: frozenset({_D.STAGING, _D.ACTIVATING, _D.COMPLETED, _D.BACKING_OUT}),
    _D.HELD: frozenset({_D.STAGING, _D.ACTIVATING, _D.SUPPORTING, _D.COMPLETED, _D.BACKING_OUT, _D.CANCELLED}),
    _D.BACKING_OUT: frozenset({_D.BACKED_OUT}),
    _D.COMPLETED: frozenset({_D.BACKING_OUT}),
    _D.BACKED_OUT: frozenset(),
    _D.CANCELLED: frozenset(),
}

_W = WaveState
WAVE: Mapping[WaveState, frozenset[WaveState]] = {
    _W.CLOSED: frozenset({_W.OPEN}),
    _W.OPEN: frozenset({_W.DECIDED}),
    _W.DECIDED: frozenset(),
}

_H = HostState
_STEPS: Mapping[HostState, frozenset[HostState]] = {
    _H.PLANNED: frozenset({_H.STAGED, _H.STAGE_FAILED}),
    _H.STAGE_FAILED: frozenset({_H.STAGED, _H.STAGE_FAILED, _H.PLANNED}),  # planned anew in a late round, as below
    _H.STAGED: frozenset({_H.STAGED, _H.STAGE_FAILED, _H.ACTIVATING}),
    _H.ACTIVATING: frozenset({_H.ACTIVATING, _H.STARTED, _H.FAILED, _H.STUCK, _H.LOST, _H.BACKING_OUT}),
    _H.STARTED: frozenset({_H.ACTIVATING, _H.ACTIVE, _H.FAILED, _H.STUCK, _H.LOST, _H.BACKING_OUT}),
    _H.ACTIVE: frozenset({_H.ACTIVATING, _H.BACKING_OUT}),
    _H.FAILED: frozenset({_H.ACTIVATING, _H.BACKING_OUT, _H.PLANNED}),
    _H.STUCK: frozenset({_H.ACTIVATING, _H.BACKING_OUT, _H.BACKED_OUT}),
    _H.LOST: frozenset({_H.ACTIVATING, _H.BACKING_OUT, _H.BACKED_OUT}),
    _H.BACKING_OUT: frozenset({_H.BACKING_OUT, _H.BACKED_OUT, _H.OWED}),
    _H.OWED: frozenset({_H.BACKING_OUT, _H.BACKED_OUT}),
    _H.BACKED_OUT: frozenset({_H.BACKING_OUT}),
    # When the host is there again: as one that was never staged, had failed, was lost, or still has to be backed out.
    _H.WRITTEN_OFF: frozenset({_H.STAGE_FAILED, _H.FAILED, _H.LOST, _H.OWED}),
    _H.SUPERSEDED: frozenset(),
    _H.ACCEPTED: frozenset(),
}

_A = DataState
DATA: Mapping[DataState, frozenset[DataState]] = {
    _A.NONE: frozenset(),
    _A.NOT_MIGRATED: frozenset({_A.MIGRATING}),
    _A.MIGRATING: frozenset({_A.MIGRATED, _A.NOT_MIGRATED, _A.KEPT}),
    _A.MIGRATED: frozenset({_A.REVERSING, _A.REVERSED, _A.KEPT}),
    _A.REVERSING: frozenset({_A.REVERSED, _A.MIGRATED, _A.KEPT}),
    _A.REVERSED: frozenset(),
    _A.KEPT: frozenset(),
}

# Nobody knows how the data are, unless it is the run that does it: a person has to look.
IN_DOUBT = frozenset({_A.MIGRATING, _A.REVERSING})

# They are, or may be, other than before the deployment: a back-out is not over with that.
CHANGED = frozenset({_A.MIGRATING, _A.MIGRATED, _A.REVERSING})

# With these the first wave may start, and the others.
READY = frozenset({_A.NONE, _A.MIGRATED})

# What the journal says when a step that changes data did not end well, by the state that they are in since; and all that it says of data.
DATA_FAILED: Mapping[DataState, str] = {_A.MIGRATING: "migrate_failed", _A.REVERSING: "reverse_failed"}
DATA_EVENTS = frozenset({*DataState, *DATA_FAILED.values()} - {_A.NONE})

# A host can be written off at any time before the deployment is done with it.
_OVER = frozenset({_H.BACKED_OUT, _H.WRITTEN_OFF, _H.SUPERSEDED, _H.ACCEPTED})
HOST: Mapping[HostState, frozenset[HostState]] = {
    old: new if old in _OVER else new | {_H.WRITTEN_OFF} | ({_H.SUPERSEDED, _H.ACCEPTED} if _H.BACKING_OUT in new else set())
    for old, new in _STEPS.items()
}

# Hosts on which the deployment's release may be, or may have been, live: what a back-out has to visit.
TOUCHED = frozenset({_H.ACTIVATING, _H.STARTED, _H.ACTIVE, _H.FAILED, _H.STUCK, _H.LOST, _H.BACKING_OUT, _H.OWED})

# Hosts of which it is not known what they run, or whether it lasts.
UNKNOWN = frozenset({_H.ACTIVATING, _H.STARTED, _H.LOST})

# Hosts that a person may have brought back by hand: no step of ours has come to its end there.
BY_HAND = frozenset({_H.STUCK, _H.LOST, _H.OWED})

# Hosts that will not get the release: their wave does not wait for them.
LEFT_OUT = frozenset({_H.STAGE_FAILED, _H.WRITTEN_OFF})

# Hosts that have not got the release, and run whole what they ran before: a late round can bring it to them.
LATE = frozenset({_H.STAGE_FAILED, _H.FAILED})

# Hosts that did not go the way of their deployment, so that somebody should look at them.
AMISS = frozenset({_H.STAGE_FAILED, _H.FAILED, _H.STUCK, _H.LOST, _H.OWED, _H.WRITTEN_OFF, _H.SUPERSEDED, _H.ACCEPTED})

# Deployments that are not over. Which of their hosts they lock against others is for :func:`locks` to say.
OPEN = frozenset({_D.PLANNED, _D.STAGING, _D.ACTIVATING, _D.BAKING, _D.HELD, _D.BACKING_OUT, _D.SUPPORTING})


def locks(deployment: DeploymentState, wave: WaveState, host: HostState, begun: bool, data: bool = False, live: bool = False) -> bool:
    """Whether a deployment locks one of its hosts: while it may still change the host without a person ordering that anew.

    ``begun``: its first wave has opened, so what could not be staged by then is left out. ``data``: it has changed data by this host, or
    has to bring back data that the host uses. ``live``: it was supporting, so it is about single hosts, and others have the finished
    ones to themselves.
    """
    if deployment not in OPEN or deployment is _D.SUPPORTING or host in (_H.WRITTEN_OFF, _H.SUPERSEDED, _H.ACCEPTED):
        return False
    if data:
        return True
    if deployment is _D.BACKING_OUT:
        return host in TOUCHED
    if deployment is _D.HELD:
        return host in UNKNOWN or (wave is not _W.DECIDED and host in TOUCHED)
    if wave is not _W.DECIDED:
        return host is not _H.STAGE_FAILED or not begun
    return host in (UNKNOWN if live else TOUCHED)


def may_write_off(deployment: DeploymentState, wave: WaveState, host: HostState) -> bool:
    """Whether it matters to an open deployment that one of its hosts is written off: it is not done with the host."""
    if host in _OVER:
        return False
    if deployment is _D.SUPPORTING:
        return host is not _H.ACTIVE
    return deployment is _D.BACKING_OUT or wave is not _W.DECIDED or host not in (_H.ACTIVE, _H.FAILED, _H.STAGE_FAILED)


_S = TypeVar("_S", bound=StrEnum)


def check(table: Mapping[_S, frozenset[_S]], old: _S, new: _S, what: str) -> None:
    """Raise :class:`StateError` unless ``table`` lets ``what`` go from ``old`` to ``new``."""
    if new not in table[old]:
        allowed = ", ".join(sorted(table[old])) or "nothing, it is final"
        raise StateError(f"{what} is {old} and can't become {new}; from here it may become: {allowed}")
