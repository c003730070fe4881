# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a controller of several waits for the others: at gates, before its next wave, before it takes hosts back, and at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..activity import waiting
from ..errors import ConflictError
from ..rollout.deployments import Run
from ..rollout.slice_journal import SliceJournal
from ..rollout.slices import STAGING, Barrier, Meeting, SliceMove, View, asked_to_stop, at_place, before_back_out, before_end, before_wave
from .wait import RENEWAL, Wait

PATIENCE = 600.0
"""For how many seconds somebody who has not come to the deployment yet is waited for, unless a person says otherwise."""
_LOOK, _SLOWEST = 0.5, 2.0  # seconds between two looks, the more the longer one takes
_SHARE = 4  # of its time a controller that waits does not look
_NAMED = 5  # hosts that a sentence names


@dataclass(frozen=True)
class Waiting(Wait):
    """How a controller waits for others; ``patience``: see :data:`PATIENCE`."""

    patience: float = PATIENCE


def meet(journal: SliceJournal, run: Run, place: Meeting, wait: Waiting) -> Barrier:
    """Come to a place, and wait until somebody has to decide there or has decided; see :func:`.slices.at_place`.

    Whoever is not there after :attr:`Waiting.patience` is late, before the first wave, and holds the deployment afterwards. Who was
    interrupted decides, when nobody is under way.
    """
    journal.came_to(run, place, wait.now())
    while True:
        barrier = _stand(journal, run, lambda view: at_place(view, place), wait)
        if place.number != STAGING or barrier.move is not SliceMove.WAIT or not barrier.unclaimed or wait.interrupted():
            break
        why = f"no controller had it in its slice within {wait.patience:g} s"
        journal.count_as_late(run, barrier.unclaimed, why, wait.now())
    if barrier.move is SliceMove.WAIT and wait.interrupted():
        return Barrier(SliceMove.DECIDE)
    return _held(journal, run, barrier, wait)


def meet_for_instant(journal: SliceJournal, run: Run, wave: int, wait: Waiting, said: Callable[[], bool]) -> bool:
    """Come to where the instant of a wave is set; return whether to go on, as it is to be set, or is ``said``.

    Who does not, and whoever waits in vain, leaves it to the gate to say why.
    """
    place = Meeting(wave, instant=True)
    journal.came_to(run, place, wait.now())
    barrier = _stand(journal, run, lambda view: at_place(view, place, said()), wait)
    return barrier.move is SliceMove.DECIDE or said()


def await_wave(journal: SliceJournal, run: Run, after: int, wait: Waiting) -> Barrier:
    """Wait until the next wave in which this controller has hosts is open, or nothing goes forward; see :func:`.slices.before_wave`."""
    return _held(journal, run, _stand(journal, run, lambda view: before_wave(view, after), wait), wait)


def await_back_out(journal: SliceJournal, run: Run, wave: int, wait: Waiting) -> None:
    """Wait until this controller may take back its hosts of a wave; see :func:`.slices.before_back_out`."""
    back = journal.view(run, wait.now()).slices[run.token].back
    if back is None or back > wave:
        journal.takes_back(run, wave, wait.now())
    _stand(journal, run, lambda view: before_back_out(view, wave), wait)


def end_slice(journal: SliceJournal, run: Run, staging: bool, wait: Waiting) -> bool:
    """Say that this controller visits no host any more, and wait for the others where the verdict is about their hosts, too.

    Returns whether what is done once at the end is its to do.
    """
    journal.is_done(run, wait.now())
    _stand(journal, run, lambda view: before_end(view, staging), wait)
    return journal.closes(run, wait.now())


def is_decided(journal: SliceJournal, run: Run, place: Meeting, wait: Waiting) -> bool:
    """Whether somebody has decided at a place, or nothing goes forward there."""
    return at_place(journal.view(run, wait.now()), place).move is SliceMove.GO


def stop_of(journal: SliceJournal, run: Run, wait: Waiting) -> str:
    """Why somebody has interrupted one of the controllers, this one or another; empty when nobody has."""
    return wait.interrupted() or asked_to_stop(journal.view(run, wait.now()))


def _stand(journal: SliceJournal, run: Run, ask: Callable[[View], Barrier], wait: Waiting) -> Barrier:
    """Wait as long as ``ask`` says so; what it said last is a wait when that took too long, or was interrupted.

    Who is interrupted while hosts are under way lets them end, and whoever decides next holds. Raises :class:`ConflictError` when the
    controller's own lease is over.
    """
    began = renewed = wait.monotonic()
    asked = False
    while True:
        looked = wait.monotonic()
        view = journal.view(run, wait.now())
        if not view.slices[run.token].alive:
            raise ConflictError("the lease of this controller ended, so the others go on without it; run deploy again for each slice")
        barrier, took = ask(view), wait.monotonic() - looked
        impatient = bool(barrier.unclaimed) and wait.monotonic() - began >= wait.patience
        if barrier.move is not SliceMove.WAIT or impatient or (wait.interrupted() and not barrier.under_way):
            return barrier
        if wait.interrupted() and not asked:
            asked = True
            journal.asks_to_stop(run, wait.interrupted(), wait.now())
        with waiting(barrier.why):
            wait.sleep(min(max(_LOOK, _SHARE * took), _SLOWEST))
        if wait.monotonic() - renewed >= RENEWAL:
            renewed = wait.monotonic()
            journal.renew(run, wait.now())


def _held(journal: SliceJournal, run: Run, barrier: Barrier, wait: Waiting) -> Barrier:
    """What became of a wait: one of which nothing can come any more holds the deployment, unless somebody has done so already."""
    if barrier.move is SliceMove.WAIT:
        named = ", ".join(barrier.unclaimed[:_NAMED])
        why = wait.interrupted() or f"nobody came in {wait.patience:g} s who has {named}; run deploy again for each slice"
        barrier = Barrier(SliceMove.HOLD, why)
    if barrier.move is SliceMove.HOLD and not journal.hold(run, barrier.why, wait.now()):
        return Barrier(SliceMove.GO)
    return barrier
