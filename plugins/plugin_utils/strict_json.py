# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that decides something: read in one way only, by whoever reads it. Pure.

Two readers take a key that is there twice for two things, a number without end for none, and a nesting of thousands for a crash.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeGuard

from .errors import IntegrityError

DEEPEST = 100
"""Lists and objects in one another."""
_SHORT = 18  # signs of a whole number that 64 bits hold, whatever it is
_LONGEST = 20  # signs of a whole number; more than that 64 bits can't hold
_SPACES = (b" ", b"\t", b"\r", b"\n")  # that may stand before a colon
_CONTAINERS = frozenset({dict, list})  # what JSON has of these is no subclass
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # half a character, or one of two halves


def read_json(content: bytes | str, what: str) -> Any:
    """The value in ``content``, UTF-8 as JSON has to be, which messages call ``what``.

    Raises :class:`IntegrityError` when it is no JSON, or has a key twice, half a character, a number that does not fit into 64 bits, or
    more than :data:`DEEPEST` lists and objects in one another.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise IntegrityError(f"{what} has the key {_twice(pairs)!a:.80} twice")
        return found

    def refuse(constant: str) -> None:
        raise IntegrityError(f"{what} has {constant}, which is no JSON")

    def whole(digits: str) -> int:
        if len(digits) < _SHORT:
            return int(digits)
        if len(digits) > _LONGEST or abs(int(digits)) >= 1 << 63:
            raise IntegrityError(f"{what} has the number {digits:.30}, which is too large")
        return int(digits)

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise IntegrityError(f"{what} has the number {digits:.30}, which is too large")
        return number

    try:
        raw = content if isinstance(content, bytes) else content.encode()
        text = raw.decode()
        document = json.loads(text, parse_constant=refuse, parse_int=whole, parse_float=finite)
        # Each key is followed by a colon: as many as there are, and no key was there twice. That is known without a call for each object,
        # of which lists of evidence have thousands. More of them may also stand in a text.
        if any(space in raw and space + b":" in raw for space in _SPACES) or raw.count(b'":') != _keys(document, what):
            json.loads(text, object_pairs_hook=unique)
        if b"\\u" in raw and _HALF.search(raw):
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _too_deep(what) from error
    except UnicodeEncodeError as error:
        raise IntegrityError(f"{what} has half a character") from error
    except ValueError as error:
        raise IntegrityError(f"{what} is not JSON in UTF-8") from error
    return document


def read_object(content: bytes | str, what: str) -> dict[str, Any]:
    """The object in ``content``, as :func:`read_json` has it; raises :class:`IntegrityError` also when it is something else."""
    document = read_json(content, what)
    if not isinstance(document, dict):
        raise IntegrityError(f"{what} is not a JSON object")
    return document


def _twice(pairs: Iterable[tuple[str, Any]]) -> str:
    return next(key for key, count in Counter(key for key, _value in pairs).items() if count > 1)


def _keys(document: Any, what: str) -> int:
    """How many keys a value has in all its objects; raises :class:`IntegrityError` for more than :data:`DEEPEST` levels."""
    count = 0
    level = [document]
    for _depth in range(DEEPEST + 1):
        objects = [part for part in level if part.__class__ is dict]
        lists = [part for part in level if part.__class__ is list]
        if not objects and not lists:
            return count
        count += sum(map(len, objects))
        inside = chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists))
        level = [part for part in inside if part.__class__ in _CONTAINERS]
    raise _too_deep(what)


def _too_deep(what: str) -> IntegrityError:
    return IntegrityError(f"{what} has more than {DEEPEST} lists and objects in one another")


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that a document, or the name of a file, can have: without a NUL or half of a character."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)
