# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host program does: one order in, one answer out.

An order is a JSON object. ``operation`` is ``stage``, ``activate``, ``arm``, ``arm_back``, ``tell``, ``collect``, ``confirm``, ``backout``,
``read``, ``baseline``, ``wait``, ``clock``,
``release_facts``, ``host_facts``, ``survey``, ``contents`` or ``adopt``, and ``root`` the directory that has every release's home. The
others are for the first eight; ``wait`` waits at most ``patience`` seconds for what an earlier run than ``mark`` has left running, and the
last three are about a tree at ``path``, see ``adoption.py``.
``name`` and ``digest`` say which package,
``deployment`` and ``token`` who gives the order, and:

- ``settings``: this host's values for the settings that the release declares; with ``release_facts``, that any does.
- ``running``: with ``release_facts``, each live release is asked whether it runs. ``scan``: what nobody released is sent. ``copies``:
  directories that are searched for copies of releases. ``sets``: the recorded sha256 of each set of packages, units, cron files and
  listeners; ``whole_sets``: all of them are told.
- ``previous``: digest of the release to go back to; none when there was none.
- ``stable``: for how many seconds a release that came up has to stay healthy. Unless it is 0, a process stays after ``activate`` that looks
  at the health checks twice a second until ``confirm``, or for a minute longer than this.
- ``confirm_within``: the host goes back by itself after so many seconds, unless a ``confirm`` comes before; 0 for never. ``unknown``: it
  isn't known how an earlier ``activate`` of this deployment has ended here, so if the host went back by itself, it says that.
- ``unchecked``: no health check is made, for the release's own role has more to do; the same order without it follows.
- ``told``: with ``backout``, what the host was told to do at an instant is waited for.
- ``documents``: manifest, config and file index of the package, or of the one that the host named when it answered ``lacking``, each
  compressed with zlib and in base64. ``file``: where on the host a pack with pieces of it is; ``packed``: it follows the order.
- ``mirror``: where to fetch what the host lacks when it is given no pack. ``share``: contents that the host has are linked, not copied.
- ``supply``: whoever gives the order brings what the host lacks to put a damaged release right.
- ``keep``, ``protect``: how many releases stay on the host, and the digests of those that stay all the same.

Whatever it could not do, the answer says so in ``msg``: ``state`` is ``refused`` and nothing was touched.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sys
import time
import zlib
from base64 import b64decode
from typing import TYPE_CHECKING, Any, BinaryIO, Optional

from .release_files import remove
from .release_home import HostError, ReleaseHome, Texts

# A step imports what it needs: each costs time on each host.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from .build import Pack

_PATIENCE = 120.0  # seconds to wait for an operation that is still under way on the host
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(order: bytes, rest: BinaryIO, mark: bytes, problem: str = "") -> None:
    """Carry out an order and print the answer, in JSON, on a line of its own that begins with ``mark``.

    ``rest``: what follows the order. ``problem``: why the program can't be kept on this host, for the answer.
    """
    gc.disable()  # it ends before there is much to collect, and looking takes a tenth of its time
    # Finish even when the connection breaks; a handler, unlike ignoring, is not passed on to hooks and the services they start.
    signal.signal(signal.SIGHUP, lambda _signum, _frame: None)
    try:
        answer = carry_out(json.loads(order), rest)
    except HostError as error:
        answer = {"failed": True, "state": "refused", "msg": str(error)}
    except OSError as error:
        remedy = "make room there" if error.errno in _FULL else "check the permissions and the file system"
        said = f"{error.filename or json.loads(order)['root']}: {error.strerror or error}; {remedy}"
        answer = {"failed": True, "state": "refused", "msg": said}
    if problem:
        answer["unkept"] = problem
    while rest.read(_BLOCK):  # ssh takes it for a lost connection when nobody reads what it was given
        pass
    sys.stdout.buffer.write(b"\n" + mark + json.dumps(answer).encode("ascii") + b"\n")
    sys.stdout.buffer.flush()


def carry_out(order: dict[str, Any], rest: BinaryIO) -> dict[str, Any]:
    """Do what an order says; return the answer. Raises :class:`HostError` and :class:`OSError` when nothing was touched."""
    if order["operation"] == "host_facts":
        from .host_facts import host_facts

        return host_facts()
    if order["operation"] == "clock":
        from .instant import clock

        return {"state": "clock", **clock(), "clock": time.time()}
    if order["operation"] == "release_facts":
        from .release_facts import release_facts

        answer: dict[str, Any] = {
            "releases": release_facts(order["root"], order.get("settings"), running=order.get("running", False)),
        }
        if order.get("scan"):
            from .suspects import suspects

            answer["suspects"] = suspects(order["root"], answer["releases"])
        if order.get("copies"):
            from .copies import find_copies

            answer["copies"] = find_copies(order["root"], order["copies"])
        if "sets" in order:
            from .host_sets import host_sets

            answer["sets"] = host_sets(order["root"], order["sets"], order.get("whole_sets", False))
        return answer
    if order["operation"] == "wait":
        from .unfinished import wait_for_unfinished

        left = wait_for_unfinished(order["mark"], order["patience"])
        detail = f"the processes {', '.join(map(str, left))} of an interrupted run still run; look at them with ps" if left else ""
        return {"state": "busy" if left else "quiet", "detail": detail, "clock": time.time()}
    if order["operation"] in ("survey", "contents", "adopt"):
        return {**_adopt(order), "clock": time.time()}
    home = ReleaseHome(order["root"], order["name"])
    if order["operation"] == "collect" or order.get("told"):
        from .instant import await_switch

        await_switch(home, _PATIENCE)
    said = _said_at_instant(home) if order.get("told") else {}
    if order["operation"] in ("activate", "arm", "arm_back", "backout") and not home.is_superseded(order["token"]):
        remove(home.armed)  # who waits there for an instant has the home, and gives up both
    with home.locked(_PATIENCE):
        do = {"stage": _stage, "read": _read_outside, "baseline": _read_outside}.get(order["operation"], _switch)
        answer = do(home, order, rest)
    own = said.get("answer")
    if answer["state"] == "backed_out" and isinstance(own, dict) and said.get("deployment") == order["deployment"]:
        answer = {**own, **{key: value for key, value in answer.items() if value}} if own.get("state") == "backed_out" else answer
    return {**answer, "clock": time.time()}


def _said_at_instant(home: ReleaseHome) -> dict[str, Any]:
    """What the process says that waited here for an instant; a host that it has brought back has nothing more to say by itself."""
    from . import beside

    return beside.peek(home.armed)


def _adopt(order: dict[str, Any]) -> dict[str, Any]:
    from . import adoption

    if order["operation"] == "survey":
        return adoption.survey(order["path"], order["leave"])
    if order["operation"] == "contents":
        return adoption.contents(order["path"], order["wanted"])
    from .release_hooks import Order

    documents = _documents(order)
    if documents is None:
        raise HostError("an order to adopt needs the package's documents")
    given = Order("adopted", 0, order.get("settings") or {})
    about = order["root"], order["name"], order["digest"], documents, order["path"], order["leave"]
    return adoption.adopt(*about, given, order["write"])


def _stage(home: ReleaseHome, order: dict[str, Any], rest: BinaryIO) -> dict[str, Any]:
    from .staging import stage

    mirror = None
    if order.get("mirror"):
        from .mirror import Mirror

        mirror = Mirror(order["mirror"])
    documents, pack = _documents(order), _pack(home, order, rest)
    if documents is None:
        raise HostError("an order to stage needs the package's documents")
    who = order["token"], order["deployment"]
    return stage(home, order["digest"], documents, pack, order["keep"], order["protect"], *who, mirror, order.get("share", False))


def _read_outside(home: ReleaseHome, order: dict[str, Any], _rest: BinaryIO) -> dict[str, Any]:
    from .baseline import read_now, take_baseline
    from .release_hooks import Order

    do = read_now if order["operation"] == "read" else take_baseline
    return do(home, order["digest"], Order(order["deployment"], order["token"], order.get("settings") or {}))


def _switch(home: ReleaseHome, order: dict[str, Any], rest: BinaryIO) -> dict[str, Any]:
    from .activation import Order, activate, back_out, confirm
    from .release_hooks import Terms
    from .repair import Lacking, Supplies

    supplies = Supplies(_documents(order), _pack(home, order, rest), order.get("supply", False))
    checked = not order.get("unchecked", False)
    own = {name: order[name] for name in ("stable", "confirm_within", "unknown") if name in order}
    terms = Terms(*order["terms"]) if "terms" in order else None
    given = Order(order["deployment"], order["token"], order.get("settings") or {}, supplies, checked=checked, terms=terms, **own)
    steps = {"activate": activate, "confirm": confirm, "backout": back_out}
    if order["operation"] not in steps:
        from .instant import arm, arm_back, collect, tell

        if order["operation"] == "tell":
            return tell(home, order["at"], given)
        steps = {"arm": arm, "arm_back": arm_back, "collect": collect}
    try:
        return steps[order["operation"]](home, order["digest"], order.get("previous"), given)
    except Lacking as lacking:
        return lacking.answer


def _documents(order: dict[str, Any]) -> Optional[Texts]:
    if not order.get("documents"):
        return None
    try:
        return Texts(*(zlib.decompress(b64decode(text)) for text in order["documents"]))
    except (TypeError, ValueError, zlib.error):
        raise HostError("documents must be manifest, config and file index, each compressed with zlib and in base64") from None


def _pack(home: ReleaseHome, order: dict[str, Any], rest: BinaryIO) -> Pack:
    path = order.get("file")
    if path:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        if os.path.dirname(os.path.normpath(path)) == str(home.staging):
            os.unlink(path)  # of no use to anybody else, and in the way there
        return open(descriptor, "rb")
    return rest if order.get("packed") else None
