# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set the instant at which the armed hosts of a wave are switched, or say why nobody of it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from ..errors import StateError
from ..report.progress import counted
from ..rollout import states
from ..rollout.deployments import Deployment, Said
from ..rollout.instant_journal import InstantJournal
from ..rollout.states import HostState
from ..rollout.together import Word, decide_instant
from .gate import OpenWave, look_at_wave

_HEARD = 3.0  # seconds in which the other controllers of a deployment learn of the instant
_FORKS = 5  # hosts that another controller tells at once, unless somebody has set more for it
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
    about = f"wave {wave.number} of {wave.of}"
    said = journal.word(deployment.run, wave.number)
    if said is None:
        said = _decide(journal, deployment, wave, (at_once, interrupted), now)
    if said.at is None:
        return None, f"{about}: {said.why or 'every host has the release'}"
    return said.at, f"{about}: {counted(len(said.hosts), 'host')} to switch at {said.at.isoformat(timespec='milliseconds')}"


def _decide(journal: InstantJournal, deployment: Deployment, wave: OpenWave, circumstances: tuple[int, str], now: datetime) -> Said:
    at_once, interrupted = circumstances
    together, number = deployment.rollout.together, wave.number
    if together is None or number is None:
        return Said(None)
    hosts = [target for target in wave.hosts if target.state not in states.LEFT_OUT]
    armed = journal.armed_hosts(deployment.run, number, now)
    up = sum(target.state in _UP for target in hosts)
    told = at_once if deployment.epoch is None else min(at_once, _FORKS)
    word = Word(None, interrupted) if interrupted else decide_instant(together, len(hosts), armed.values(), up, told)
    why = word.why
    if word.seconds is not None:
        at = now + timedelta(seconds=word.seconds)
        if deployment.epoch is not None:  # by the clock that all controllers have in common
            at += timedelta(seconds=_HEARD - journal.clock_apart()[0])
        try:
            journal.fire(deployment.run, number, at, armed, now)
            return Said(at, frozenset(armed))
        except StateError as error:
            why = str(error)
    if why:
        journal.withdrawn(deployment.run, number, why, now)
    return Said(None, why=why)
