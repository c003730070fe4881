# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch at one instant, on many hosts: each is armed, is told the instant, and switches by its own clock.

An armed host has done all that can be done before, and a process of its own holds the order, in memory alone. It changes nothing unless it
is told the instant, in time and by whoever armed it: so a controller that dies leaves the release before. See docs/instant.md.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Callable, Optional, Union

from . import beside, watch
from .activation import (
    activate,
    answered,
    disarm,
    fall_back,
    find_previous,
    gone_back,
    make_ready,
    make_ready_back,
    poise_forward,
    redacted,
    set_guard,
    switch_back,
    switch_forward,
)
from .guard import leave_session
from .release_files import read_file, remove, sync_folder
from .release_home import HostError, ReleaseHome
from .release_hooks import Order, Terms
from .repair import Lacking, find_release

_INTERVAL = 0.1  # seconds between two looks at whether the instant is said
_AHEAD = 2.0  # seconds before the instant by which a host has to be told, to compare the release once more
_POISED = 0.3  # seconds before it by which all is done that need not be done at it
_FINE = 0.02  # seconds before it from which on nothing is looked at until it is there
_LARGEST = 4096  # bytes of what says the instant

# Each gives the next one, or the answer of a host that is not to be switched any more.
Switch = Callable[[], dict[str, Any]]
Poise = Callable[[], Union[dict[str, Any], Switch]]
Compare = Callable[[float], Union[dict[str, Any], Poise]]


@redacted
def arm(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the host ready to switch to the release ``digest`` at an instant that it is told later; see :func:`.activation.activate`.

    Returns ``state`` ``armed``, or that of a host that is not to be switched any more. Raises as that does, and :class:`HostError` when
    there can be no process that waits.
    """
    home.fence(order.token)
    watched = watch.end(home.watch)
    disarm(home)
    target = find_release(home, digest, order.supplies, "is not staged here; run the deployment again to stage it", **order.entry())
    before = find_previous(home, previous, order)
    order.switch(before, target)
    asked = _since_boot()
    ready = make_ready(home, target, before, order, watched)
    if isinstance(ready, dict):
        return ready

    def compare(at: float) -> Union[dict[str, Any], Poise]:
        again = make_ready(home, target, before, order, None, prepare=False)  # it may have been armed long ago
        if isinstance(again, dict):
            return again
        found = again._replace(repaired=[*ready.repaired, *again.repaired], first=ready.first)
        set_guard(home, target, before, order, at - time.time())  # at the instant there is no time for it

        def poise() -> Union[dict[str, Any], Switch]:
            no = poise_forward(home, target, before, order, found)
            return no if no is not None else lambda: switch_forward(home, target, before, order, found, poised=True)

        return poise

    return {**_leave(home, order, compare, asked), "version": target.version}


@redacted
def arm_back(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Make the host ready to go back at an instant that it is told later; see :func:`.activation.back_out`.

    Returns ``state`` ``armed``, or ``backed_out`` for a host that is back. Raises as :func:`arm` does.
    """
    home.fence(order.token)
    asked = _since_boot()
    watch.end(home.watch)
    disarm(home)
    ready = make_ready_back(home, digest, previous, order)
    if ready.well:
        return switch_back(home, ready, order)

    def compare(_at: float) -> Poise:
        again = make_ready_back(home, digest, previous, order)
        found = again._replace(repaired=[*ready.repaired, *again.repaired])

        def poise() -> Switch:
            if found.before is not None:
                home.poise(found.before)
            return lambda: switch_back(home, found, order)

        return poise

    return {**_leave(home, order, compare, asked), "version": ready.before.version if ready.before else None}


def _leave(home: ReleaseHome, order: Order, compare: Compare, asked: float) -> dict[str, Any]:
    """Leave a process that waits for the instant; the answer of a host that was ``asked`` to get ready at that time since its boot.

    ``compare`` gets the instant and compares the release once more; what it gives is called shortly before the instant, and what that
    gives at it.
    """
    terms, began = order.terms, _since_boot()
    offset = time.time() - began  # before anything else: what the clock is stepped by from here on disarms
    try:
        beside.start(home.armed, lambda record: _wait(home, order, compare, terms, began, offset, record), leave_session)
    except OSError as error:
        raise HostError(f"nothing can wait here for the instant ({error}); mend the host") from None
    return {"state": "armed", "changed": False, "took": round(began - asked, 1)}


def tell(home: ReleaseHome, at: float, order: Order) -> dict[str, Any]:
    """Tell an armed host the instant ``at``, in seconds since 1970; ``state`` is ``told``, or ``failed`` when it is not armed any more."""
    home.fence(order.token)
    if not beside.alive(home.armed):
        return _not_switched("it is not armed any more")
    if at - time.time() > order.terms.patience:
        disarm(home)
        return _not_switched(f"the instant is {at - time.time():.0f} seconds away, more than it waits")
    if at - time.time() <= _AHEAD:
        disarm(home)
        return _not_switched(f"it was told the instant {time.time() - at:+.1f} seconds after it, and has to know {_AHEAD:g} seconds before")
    temporary = home.path / ".instant.new"
    remove(temporary)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
        json.dump({"at": at, "token": order.token, "deployment": order.deployment}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(home.instant)
    sync_folder(home.path)
    return {"state": "told", "changed": True, "version": None}


def await_switch(home: ReleaseHome, patience: float) -> None:
    """Wait until a host that was told an instant has done what it does then, for ``patience`` seconds after it at most.

    It needs the home for that, so nobody may hold it."""
    word = _word(home)
    latest = float(word["at"]) + patience if isinstance(word.get("at"), (int, float)) else 0
    while beside.alive(home.armed) and (time.time() < latest or "begins" in beside.peek(home.armed)):  # its hooks have limits of their own
        time.sleep(_INTERVAL)


@redacted
def collect(home: ReleaseHome, digest: str, previous: Optional[str], order: Order) -> dict[str, Any]:
    """Find out what an armed host has done: its answer as from :func:`.activation.activate`, ``failed`` for one that did not switch.

    One that was interrupted in its switch goes back. One that has gone back by itself since, which is not known, says that.
    """
    home.fence(order.token)
    gone, target = None, home.find(digest)
    if target is not None and order.unknown and order.confirm_within > 0 and home.unconfirmed(order.deployment):
        gone = gone_back(home, target, find_previous(home, previous, order), order)
    seen, alive = beside.end(home.armed)
    remove(home.instant)
    if gone is not None:
        return gone
    answer = seen.get("answer")
    if isinstance(answer, dict) and seen.get("deployment") == order.deployment:
        return answer
    live = home.live()
    before = find_previous(home, previous, order)
    if home.at_rest(before) and (live.id if live else None) == (before.id if before else None):
        beside.end(home.guard)
        waiting = "it was still waiting for the instant" if alive else "what waited there for the instant is gone"
        return _not_switched(str(seen.get("why") or waiting))
    if target is None or (live is not None and live.id == target.id and home.at_rest(target)):
        return activate(home, digest, previous, order)
    order.switch(before, target)
    return fall_back(home, target, before, order, "its switch at the instant was interrupted")


def _not_switched(why: str) -> dict[str, Any]:
    return {"state": "failed", "changed": False, "version": None, "detail": f"it did not switch at the instant: {why}"}


def _wait(home: ReleaseHome, order: Order, compare: Compare, terms: Terms, began: float, offset: float, record: int) -> None:
    """What the process of an armed host does; its file gets the answer of the switch, or why there was none.

    ``offset``: how far the clock was from that since boot when the host was armed.
    """

    def look() -> None:
        """Raise :class:`HostError` when it is not to be waited for any more."""
        if not beside.wanted(record):
            raise HostError("it was disarmed")
        by = time.time() - _since_boot() - offset
        if abs(by) > terms.skew:
            raise HostError(f"its clock was stepped by {by:+.3f} seconds while it waited")

    try:
        at = _await_word(home, order, look, began + terms.patience)
        with home.locked(max(0.0, at - time.time())):
            order.supplies = type(order.supplies)()  # the controller's are gone
            poise = compare(at)
            if callable(poise):
                _sleep_until(at - _POISED, look)
                switch = poise()
            else:
                switch = poise
            if callable(switch):
                _say(record, order, begins=at)  # ahead, for what counts is that the collector waits for it
                _sleep_until(at, look)
                look()
                late = time.time() - at
                if late > terms.skew:
                    raise HostError(f"it would have begun {late:.3f} seconds after the instant")
                answer = switch()
            else:
                answer = switch
            _say(record, order, answer=answered(answer, order))
    except OSError as error:
        about = f"{error.filename or home.path}: {error.strerror or error}; mend the host"
        _say(record, order, why=order.redactor.text(about))
    except (HostError, Lacking) as error:
        _say(record, order, why=order.redactor.text(str(error)))


def _await_word(home: ReleaseHome, order: Order, look: Callable[[], None], latest: float) -> float:
    """The instant, once it was said by whoever armed the host; raises what ``look`` does, and :class:`HostError` when it is too late.

    ``latest``: in seconds since boot.
    """
    while True:
        look()
        if _since_boot() > latest:
            raise HostError(f"nobody said the instant within {order.terms.patience:g} seconds")
        word = _word(home)
        if word.get("token") == order.token and word.get("deployment") == order.deployment:
            return float(word["at"])
        time.sleep(_INTERVAL)


def _word(home: ReleaseHome) -> dict[str, Any]:
    """What was said of the instant; nothing when that can't be read."""
    try:
        word = json.loads(read_file(home.instant, _LARGEST) or b"{}")
    except (OSError, ValueError):
        return {}
    return word if isinstance(word, dict) else {}


def _sleep_until(at: float, look: Callable[[], None]) -> None:
    """Wait for a moment of the wall clock, in steps, so that a clock that is stepped is noticed; raises what ``look`` does."""
    while True:
        left = at - time.time()
        if left <= 0:
            return
        if left > _FINE:
            look()
        time.sleep(min(_INTERVAL, left) if left <= _FINE else min(_INTERVAL, left - _FINE / 2))


def _say(record: int, order: Order, **said: Any) -> None:
    beside.say(record, {"deployment": order.deployment, **said})


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def clock() -> dict[str, Any]:
    """What the kernel says of its clock: whether it is synchronised, and by how much it may be wrong, in seconds."""
    import ctypes  # noqa: PLC0415 - only who is armed needs it

    class Timex(ctypes.Structure):
        """The beginning of struct timex, adjtimex(2), and room for the rest of it."""

        _fields_ = [
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_long * 40),
        ]

    state = Timex()  # modes 0: it is only read
    done = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    synchronised = done not in (-1, 5) and not state.status & 0x40  # TIME_ERROR, STA_UNSYNC
    return {"synchronised": synchronised, "error": state.maxerror / 1e6}
