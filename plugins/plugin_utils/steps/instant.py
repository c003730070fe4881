# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set the instant at which the armed hosts of a wave are switched, or say why nobody of it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from ..report.progress import counted
from ..rollout import states
from ..rollout.deployments import Deployment
from ..rollout.instant_journal import InstantJournal
from ..rollout.states import HostState
from ..rollout.together import Word, decide_instant
from .gate import look_at_wave

_UP = (HostState.STARTED, HostState.ACTIVE)


def set_instant(
    journal: InstantJournal, deployment: Deployment, at_once: int, interrupted: str, now: datetime
) -> tuple[datetime | None, str]:
    """Set the instant for the open wave and journal it, or that there is none; return it, and a sentence for people.

    ``at_once``: how many hosts the controller tells at once. ``interrupted``: why somebody's interruption holds the run, empty when there
    was none.
    """
    together, wave = deployment.rollout.together, look_at_wave(journal, deployment)
    if together is None or wave.number is None:  # hosts that had got lost are only asked what they run
        return None, "no wave is open whose hosts are switched at one instant"
    hosts = [target for target in wave.hosts if target.state not in states.LEFT_OUT]
    armed = journal.armed_hosts(deployment.run, wave.number)
    up = sum(target.state in _UP for target in hosts)
    word = Word(None, interrupted) if interrupted else decide_instant(together, len(hosts), len(armed), up, at_once)
    if word.seconds is None:
        if word.why:
            journal.withdrawn(deployment.run, wave.number, word.why, now)
        return None, f"wave {wave.number} of {wave.of}: {word.why or 'every host has the release'}"
    at = now + timedelta(seconds=word.seconds)
    journal.fire(deployment.run, wave.number, at, armed, now)
    return at, f"wave {wave.number} of {wave.of}: {counted(len(armed), 'host')} switched at {at.isoformat(timespec='milliseconds')}"
