# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went around Release Management: since when a difference is there, and which changes cover it, if any. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from ..rfc.coverage import Span, covered_by

Part = tuple[str | None, str]
"""When a part of a difference came about: between two moments, in RFC 3339, which are the same one where that is known exactly.

The first one is ``None`` where it is only known that it was there at the second one.
"""
Parts = Sequence[Part | None]
"""The same of each part; ``None`` of one of which nothing is known."""

_LAST = 253402300800  # seconds since 1970: the end of the year 9999
_FEWEST, _MOST = 2, 1000  # the first and the last moment, and those between them


def are_moments(value: object) -> bool:
    """Whether it is what a host says of moments: by key a first one, others in order, and a last one, in seconds since 1970."""
    return isinstance(value, Mapping) and all(isinstance(key, str) and _are_in_order(moments) for key, moments in value.items())


def _are_in_order(moments: object) -> bool:
    return (
        isinstance(moments, list)
        and _FEWEST <= len(moments) <= _MOST
        and all(map(is_moment, moments))
        and all(one <= other for one, other in pairwise(moments))
    )


def is_moment(value: object) -> bool:
    """Whether it is a moment as a host says it, in seconds since 1970."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LAST


def moments_of(part: Mapping[str, Any], *keys: str) -> Parts:
    """The moments of those ``keys`` of a part of a host's answer of which it says any; none where it says none."""
    return parts_at(moment for key in keys for moment in part.get("since", {}).get(key, ()))


def parts_at(moments: Iterable[float | None]) -> Parts:
    """The parts that came about at these moments, in seconds since 1970."""
    return [None if moment is None else (rfc3339(moment), rfc3339(moment)) for moment in moments]


def rfc3339(seconds: float) -> str:
    """A moment, which was in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(parts: Parts) -> dict[str, Any]:
    """What a difference says of when its ``parts`` came about, and these themselves, until :func:`with_changes` has looked at them."""
    known = [part for part in parts if part is not None]
    vague = [first for first, last in known if first is not None and first != last]
    return {
        "after": min(vague) if vague and len(vague) == len(parts) else None,
        "since": min((last for _first, last in known), default=None),
        "latest": max(last for _first, last in known) if known and len(known) == len(parts) else None,
        "covered_by": None,
        "parts": list(parts),
    }


def earliest(difference: Mapping[str, Any]) -> datetime | None:
    """The first moment at which any part of a difference can have come about, as far as it is known."""
    return min((datetime.fromisoformat(part[0]) for part in difference["parts"] if part and part[0]), default=None)


def with_changes(differences: Iterable[Mapping[str, Any]], spans: Iterable[Span]) -> list[dict[str, Any]]:
    """Differences with the numbers of the changes that cover each in ``covered_by``; ``None`` where it is not known since when it is there.

    A difference of which any part came about outside of every change is covered by none.
    """
    of: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        of[span.host].append(span)
    return [
        {**{key: value for key, value in one.items() if key != "parts"}, "covered_by": _covered(one, of.get(str(one["host"]), ()))}
        for one in differences
    ]


def _covered(difference: Mapping[str, Any], spans: Sequence[Span]) -> list[str] | None:
    known = [(datetime.fromisoformat(part[0]), datetime.fromisoformat(part[1])) for part in difference["parts"] if part and part[0]]
    if not known or not difference["host"]:
        return None
    numbers = covered_by(difference["host"], known, spans)
    # Of the others nobody knows; but one part is enough for none.
    return numbers if len(known) == len(difference["parts"]) or not numbers else None
