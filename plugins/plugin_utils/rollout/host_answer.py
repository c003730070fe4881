# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a managed host answers, read against a schema: anything else is that host's own failure, named, and never believed. Pure.

A host may be broken or in strange hands, so nothing of its answer gets further than this file unless it has the type, the form and the
size that is expected of it. Keys that nobody expects are left out. Text is made printable, because it ends up on somebody's terminal,
after the values of the host's settings were taken out of it: the host's half does that too, but need not be what answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

from ...module_utils.redaction import NOTHING, Redactor
from ...module_utils.release_home import DIGEST, VERSION
from ..errors import TidegateError

# What each operation may end in; ``refused`` (nothing was touched, and why) may come from each.
STATES: Mapping[str, frozenset[str]] = {
    "stage": frozenset({"lacking", "staged"}),
    "activate": frozenset({"lacking", "started", "failed", "stuck"}),
    "arm": frozenset({"lacking", "armed", "started", "failed", "stuck"}),
    "arm_back": frozenset({"lacking", "armed", "backed_out", "owed"}),
    "tell": frozenset({"told", "failed"}),
    "collect": frozenset({"lacking", "started", "failed", "stuck"}),
    "clock": frozenset({"clock"}),
    "confirm": frozenset({"lacking", "active", "failed", "stuck"}),
    "backout": frozenset({"lacking", "backed_out", "owed"}),
    "read": frozenset({"read"}),
    "baseline": frozenset({"baseline"}),
    "wait": frozenset({"quiet", "busy"}),
    "adopt": frozenset({"adopted", "differs"}),
}
REFUSED = "refused"
_SENTENCES = frozenset({"msg", "detail", "reason", "mirror", "unkept", "read"})

_LONGEST = 4000  # characters of a text that a host sends; a hook's output is cut at less
_LONGEST_READING = 200  # characters of what was read outside the trees
_MOST = 1_000_000  # entries of a list; there are not that many pieces in a package
_COUNT = 1 << 53  # no count or size on a host is larger, and JSON's numbers are exact up to here
_LAST_MOMENT = 253402300800  # seconds since 1970: the end of the year 9999
_QUOTED = 80  # characters of what a host sent that a sentence quotes
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEDY = "look at the Python there and at who answers for it, then run this again"
_T = TypeVar("_T")


class MalformedAnswerError(TidegateError):
    """An answer that is not of the form that was agreed on, so what the host did is unknown."""


class Live(TypedDict):
    """What is live on a host."""

    version: str
    digest: str


class Mirrored(TypedDict, total=False):
    """How many ``bytes`` came from the mirror, and the ``problem`` that kept it from bringing all."""

    bytes: int
    problem: str


class OutsideReading(TypedDict):
    """What runs outside the trees: the ``text`` that was read, empty when that failed, and the ``digest`` of the release that it is."""

    text: str
    digest: str


class Answer(TypedDict, total=False):
    """The answer of the host's half of a step; which keys are there depends on ``state``.

    With the state ``refused`` the host was not touched, and ``detail`` says why. ``clock`` is in seconds since 1970; ``skew``, which the
    controller adds, is by how many seconds at least it is behind (negative) or ahead. ``need`` are sha256s, of the package of digest
    ``package``. ``repaired`` are paths that were put right. ``damaged``: the host could not go back for want of good copies, after it had
    to for the ``reason``. ``unconfirmed``: it went back by itself, as nobody reached it anew in time. ``synchronised`` and
    ``error``: whether its kernel says that its clock is, and by how many seconds that may be wrong. ``took``: how many seconds
    it took to get ready. ``unkept``: why the host program
    can't be kept there. ``read`` is ``None`` for a release that is its tree.
    """

    state: str
    changed: bool
    detail: str
    clock: float
    skew: float
    version: str | None
    live: Live | None
    need: list[str]
    package: str
    repaired: list[str]
    damaged: bool
    unconfirmed: bool
    synchronised: bool
    error: float
    took: float
    reason: str
    sent: int
    reused: int
    mirror: Mirrored
    unkept: str
    read: OutsideReading | None


def printable(text: str, at_most: int = _LONGEST) -> str:
    """``text`` without what a terminal could obey or an eye could not see, and not longer than ``at_most`` characters."""
    cut = text if len(text) <= at_most else f"{text[: at_most - 4]} ..."
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in cut)


def parse_answer(operation: str, answer: object, redactor: Redactor = NOTHING) -> Answer:
    """Read what the host's half of ``operation``, a key of :data:`STATES`, sent; what ``redactor`` knows is in no sentence of it.

    Raises :class:`MalformedAnswerError` for anything that is not of its form.
    """
    try:
        return _read_answer(operation, _redacted(answer, redactor, _SENTENCES))
    except MalformedAnswerError:
        # Again, for a message that quotes no setting: before it is cut, as a part of a value is not found any more.
        _read_answer(operation, _redacted(answer, redactor))
    raise MalformedAnswerError(f"it answered with one of its settings where something else belongs; {_REMEDY}")


def _redacted(value: object, redactor: Redactor, only: frozenset[str] = frozenset(), depth: int = 3) -> object:
    """A host's answer without the values of its settings, as deep as it is ever quoted; ``only`` in these fields, if any."""
    if isinstance(value, str) and not only:
        return redactor.text(value)
    if isinstance(value, Mapping) and depth:
        return {key: entry if only and key not in only else _redacted(entry, redactor, depth=depth - 1) for key, entry in value.items()}
    if isinstance(value, list) and depth and not only:
        return [_redacted(entry, redactor, depth=depth - 1) for entry in value]
    return value


def _read_answer(operation: str, answer: object) -> Answer:
    fields = _object(answer, "an answer")
    if fields.get("failed", False) is not False and fields.get("state") != REFUSED:
        raise MalformedAnswerError(f"its half of the step broke off ({_shown(fields.get('msg', 'it does not say why'))}); {_REMEDY}")
    state = _text(fields.get("state"), "a state")
    if state == REFUSED:
        return {"state": REFUSED, "changed": False, "detail": _text(fields.get("msg"), "a reason")}
    if state not in STATES[operation]:
        raise MalformedAnswerError(f"it answered with {_shown(state)}, which is no state after {operation}; {_REMEDY}")
    parsed: Answer = {"state": state, "changed": _flag(fields.get("changed", False)), "clock": _moment(fields.get("clock"))}
    parsed["detail"] = _text(fields.get("detail", ""), "a detail")
    if state in ("failed", "stuck", "owed") and not parsed["detail"].strip():
        parsed["detail"] = "it does not say why"
    parsed["need"] = _list(fields.get("need", []), "a list of what it lacks", lambda one: _matching(_SHA256, one, "a sha256"))
    if operation == "stage":
        parsed["live"] = _optional(_live, fields.get("live"))
        parsed["sent"], parsed["reused"] = _count(fields.get("sent", 0)), _count(fields.get("reused", 0))
        parsed["mirror"] = _mirrored(fields.get("mirror", {}))
        parsed["unkept"] = _text(fields.get("unkept", ""), "a reason")
        if (state == "lacking") != bool(parsed["need"]):
            raise MalformedAnswerError(f"it answered {state} with {len(parsed['need'])} pieces that it lacks, which can't be; {_REMEDY}")
    elif state == "lacking":
        parsed["package"] = _matching(DIGEST, fields.get("package"), "the digest of a package")
    else:
        parsed["version"] = _optional(lambda one: _matching(VERSION, one, "a version"), fields.get("version"))
        parsed["repaired"] = _texts(fields.get("repaired", []), "a list of files")
        parsed["damaged"] = _flag(fields.get("damaged", False))
        parsed["unconfirmed"] = _flag(fields.get("unconfirmed", False))
        parsed["synchronised"] = _flag(fields.get("synchronised", False))
        parsed["error"], parsed["took"] = _seconds(fields.get("error", 0)), _seconds(fields.get("took", 0))
        parsed["reason"] = _text(fields.get("reason", ""), "a reason")
        parsed["read"] = _optional(_reading, fields.get("read"))
    return parsed


def parse_host_facts(found: object) -> dict[str, Any]:
    """Read what ``host_facts`` sent from a host; raises :class:`MalformedAnswerError` for anything that is not of its form."""
    facts = _object(found, "facts")
    return {
        "os": _optional(_operating_system, facts.get("os")),
        "python": _text(facts.get("python"), "a version of Python"),
        "packages": _optional(_packages, facts.get("packages")),
    }


def _operating_system(value: object) -> dict[str, str]:
    fields = _object(value, "an operating system")
    return {key: _text(fields.get(key), f"the {key} of an operating system") for key in ("id", "version", "architecture")}


def _packages(value: object) -> dict[str, str]:
    return {_text(name, "a package's name"): _text(version, "a version") for name, version in _object(value, "packages").items()}


def _wrong(value: object, what: str) -> MalformedAnswerError:
    return MalformedAnswerError(f"it answered with {_shown(value)}, which is not {what}; {_REMEDY}")


def _shown(value: object) -> str:
    """A value as a sentence can quote it; ``repr`` of something deep or huge must not be made only to be cut."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return repr(printable(str(value[: 2 * _QUOTED]), _QUOTED).replace("\n", " "))
    if isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        return str(int(value)) if abs(value) <= _COUNT else "a huge number"
    return {"list": "a list", "dict": "an object"}.get(type(value).__name__, "something else")


def _object(value: object, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(value, what)
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, what)
    return printable(value)


def _matching(pattern: re.Pattern[str], value: object, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong(value, what)
    return printable(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, "a yes or no")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _COUNT:
        raise _wrong(value, "a count")
    return int(value)


def _moment(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(value, "a clock's time, a number")
    if (isinstance(value, float) and not math.isfinite(value)) or not 0 <= value < _LAST_MOMENT:
        raise _wrong(value, "a clock's time")
    return float(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LAST_MOMENT:
        raise _wrong(value, "a number of seconds")
    return float(value)


def _list(value: object, what: str, read: Callable[[object], _T]) -> list[_T]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise _wrong(value, what)
    return [read(one) for one in value]


def _texts(value: object, what: str) -> list[str]:
    return _list(value, what, lambda one: _text(one, "a text"))


def _optional(read: Callable[[object], _T], value: object) -> _T | None:
    return None if value is None else read(value)


def _live(value: object) -> Live:
    fields = _object(value, "a release")
    return {
        "version": _matching(VERSION, fields.get("version"), "a version"),
        "digest": _matching(DIGEST, fields.get("digest"), "a digest"),
    }


def _reading(value: object) -> OutsideReading:
    fields = _object(value, "what was read")
    digest = fields.get("digest", "")
    return {
        "text": printable(_text(fields.get("text"), "what was read"), _LONGEST_READING),
        "digest": _matching(DIGEST, digest, "a digest") if digest else "",
    }


def _mirrored(value: object) -> Mirrored:
    fields = _object(value, "what came from a mirror")
    mirrored: Mirrored = {"bytes": _count(fields.get("bytes", 0))}
    if fields.get("problem"):
        mirrored["problem"] = _text(fields["problem"], "a problem")
    return mirrored
