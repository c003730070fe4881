# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set the instant at which the armed hosts of a wave are switched, or say why nobody of it is.

It is as soon as they are armed and told; or the one that the RFC names, for the last wave of its plan. That one is waited for twice: before
the hosts are armed, so that they need not wait for hours, and before they are told, so that each compares its release shortly before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..errors import ConflictError, StateError, TidegateError
from ..report.progress import counted
from ..rfc.register import cleared_fingerprint
from ..rfc.source import Change
from ..rollout import states
from ..rollout.deployments import Deployment, Said
from ..rollout.instant_journal import UP, InstantJournal
from ..rollout.options import Share
from ..rollout.states import DeploymentState, HostState
from ..rollout.together import Word, decide_instant
from .clear import Wave
from .gate import Opens, OpenWave, check_start, look_at_wave
from .wait import Wait, wait_until

_HEARD = 3.0  # seconds in which the other controllers of a deployment learn of the instant
_FORKS = 5  # hosts that another controller tells at once, unless somebody has set more for it
_SPARE = timedelta(minutes=5)  # besides wave_minutes, for arming before an instant that the RFC names
_TELLING = timedelta(minutes=1)  # besides what telling takes, between telling and such an instant

_NOT_BACK = (HostState.BACKING_OUT, HostState.OWED)
_UNKNOWN = "it could not be found out at which instant its hosts are to switch"


@dataclass(frozen=True)
class InstantTerms:
    """What an instant depends on besides the journal. ``at_once``: how many hosts the controller tells at once; ``change``: the RFC;
    ``opens``: whether the wave may start still."""

    at_once: int
    change: Change
    opens: Opens
    wait: Wait


def await_arming(journal: InstantJournal, deployment: Deployment, terms: InstantTerms) -> str:
    """Wait until the hosts of the open wave have to be armed for the instant that the RFC names; return a sentence for people, which is
    empty when there was nothing to wait for. Where that can't be found out nobody is armed, and the journal has why."""
    wave = look_at_wave(journal, deployment)
    try:
        named = _named(journal, deployment, wave, terms)
    except ConflictError:
        raise
    except TidegateError as error:
        if wave.number is not None and journal.word(deployment.run, wave.number) is None:
            journal.withdrawn(deployment.run, wave.number, f"{_UNKNOWN}: {error}", terms.wait.now())
        return f"{_label(wave)}: {_UNKNOWN}: {error}"
    if named is None:
        return ""
    begin = named - timedelta(minutes=deployment.rollout.wave_minutes) - _SPARE
    if begin <= terms.wait.now():
        return ""
    what = f"{_label(wave)} to be armed at {begin.isoformat(timespec='seconds')}, for the instant {named.isoformat()} of the RFC"
    wait_until(journal, deployment.run, begin, what, terms.wait)
    return f"waited for {what}"


def set_instant(journal: InstantJournal, deployment: Deployment, terms: InstantTerms) -> tuple[datetime | None, str]:
    """Set the instant for the open wave and journal it, or that there is none; return it, and a sentence for people."""
    wave = look_at_wave(journal, deployment)
    if deployment.rollout.together is None or wave.number is None:  # hosts that had got lost are only asked what they run
        return None, "no wave is open whose hosts are switched at one instant"
    said = journal.word(deployment.run, wave.number)
    if said is None:
        said = _decide(journal, deployment, wave, wave.number, terms)
    if said.at is None:
        return None, f"{_label(wave)}: {said.why or 'every host has the release'}"
    return said.at, f"{_label(wave)}: {counted(len(said.hosts), 'host')} to switch at {said.at.isoformat(timespec='milliseconds')}"


def set_instant_back(
    journal: InstantJournal, deployment: Deployment, wave: int, at_once: int, interrupted: str, now: datetime
) -> tuple[datetime | None, str]:
    """Set the instant at which the armed hosts of a wave go back, and journal it; return it, and a sentence for people.

    There is no quorum: who is not armed goes back at once, after the others.
    """
    together, about = deployment.rollout.together, f"wave {wave}"
    if any(target.wave > wave and target.state in _NOT_BACK for target in journal.targets(deployment.id)):
        return None, f"{about}: hosts of a wave behind it are not back, so each goes back when its turn comes"
    armed = journal.armed_hosts(deployment.run, wave, now, back=True) if not interrupted else {}
    if together is None or deployment.state is not DeploymentState.BACKING_OUT or not armed:
        return None, f"{about}: {interrupted or 'no host could be armed, so each goes back when its turn comes'}"
    word = decide_instant(replace(together, quorum=Share(0)), len(armed), armed.values(), 0, at_once)
    at = now + timedelta(seconds=word.seconds or 0)
    journal.fire(deployment.run, wave, at, armed, now, back=True)
    return at, f"{about}: {counted(len(armed), 'host')} to go back at {at.isoformat(timespec='milliseconds')}"


def _decide(journal: InstantJournal, deployment: Deployment, wave: OpenWave, number: int, terms: InstantTerms) -> Said:
    word, named = _word(journal, deployment, wave, terms), None
    try:
        named = _named(journal, deployment, wave, terms)
        if named is not None and word.seconds is not None:
            what = f"{_label(wave)}, which is armed, to be told the instant {named.isoformat()} of the RFC"
            wait_until(journal, deployment.run, named - timedelta(seconds=word.seconds) - _TELLING, what, terms.wait)
            word = _word(journal, deployment, wave, terms)
            hosts = frozenset(target.host for target in wave.hosts if target.state not in states.LEFT_OUT)
            done = frozenset(target.host for target in journal.targets(deployment.id) if target.state is HostState.ACTIVE)
            stop = check_start(journal, terms.change, deployment, terms.opens, Wave(tuple(sorted(hosts)), done)).stop
            word = Word(None, stop) if stop else word
    except ConflictError:
        raise
    except TidegateError as error:
        word = Word(None, f"{_UNKNOWN}: {error}")
    now, why = terms.wait.now(), word.why
    if word.seconds is not None:
        at = now + timedelta(seconds=word.seconds)
        if deployment.epoch is not None:  # by the clock that all controllers have in common
            at += timedelta(seconds=_HEARD - journal.clock_apart()[0])
        if named is not None:
            at, why = named, _too_late(named, at) or terms.wait.interrupted()
        armed = journal.armed_hosts(deployment.run, number, now)
        try:
            if not why:
                journal.fire(deployment.run, number, at, armed, now)
                return Said(at, frozenset(armed))
        except StateError as error:
            why = str(error)
    if why:
        journal.withdrawn(deployment.run, number, why, now)
    return Said(None, why=why)


def _word(journal: InstantJournal, deployment: Deployment, wave: OpenWave, terms: InstantTerms) -> Word:
    """What is to be said to the armed hosts of a wave as they are now."""
    together, number, interrupted = deployment.rollout.together, wave.number, terms.wait.interrupted()
    if interrupted or together is None or number is None:
        return Word(None, interrupted)
    hosts = [target for target in wave.hosts if target.state not in states.LEFT_OUT]
    up = sum(target.state in UP for target in hosts)
    told = terms.at_once if deployment.epoch is None else min(terms.at_once, _FORKS)
    return decide_instant(together, len(hosts), journal.armed_hosts(deployment.run, number, terms.wait.now()).values(), up, told)


def _named(journal: InstantJournal, deployment: Deployment, wave: OpenWave, terms: InstantTerms) -> datetime | None:
    """The instant that the RFC names, for the last wave of its plan; ``None`` for every other one, and once it was kept by some hosts, as
    the rest and the late ones are to follow soon. Raises :class:`TidegateError` when the RFC can't be read, or is not as it was cleared."""
    if wave.number is None or wave.number != wave.of or journal.round_start(deployment.id) > 1:
        return None
    if all(target.state in (*UP, *states.LEFT_OUT) for target in wave.hosts):
        return None
    rfc = terms.change.read()
    if cleared_fingerprint(journal.cmdb, rfc.number) != rfc.fingerprint:
        raise TidegateError("the RFC was edited since it was cleared; run deploy again to have it cleared as it is now")
    over = rfc.instant is not None and rfc.instant <= terms.wait.now() and journal.was_told(deployment.id, wave.number, rfc.instant)
    return None if over else rfc.instant


def _too_late(named: datetime, earliest: datetime) -> str:
    """That hosts can't be told an instant in time any more, as a sentence; empty when they can."""
    if named >= earliest:
        return ""
    return (
        f"the RFC names {named.isoformat()} as the instant, and hosts that are armed now can't switch before "
        f"{earliest.isoformat(timespec='seconds')}, so nobody was told an instant; have the RFC rescheduled"
    )


def _label(wave: OpenWave) -> str:
    return f"wave {wave.number} of {wave.of}"
