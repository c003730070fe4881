# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went around Release Management: since when a difference is there, and which changes cover it, if any. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..rfc.coverage import Span, covered_by

_LAST = 253402300800  # seconds since 1970: the end of the year 9999
_TWO = 2  # the first and the last moment


def are_moments(value: object) -> bool:
    """Whether it is what a host says of moments: by key a first and a last one, in seconds since 1970."""
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(pair, list) and len(pair) == _TWO and all(map(_is_moment, pair)) and pair[0] <= pair[1]
        for key, pair in value.items()
    )


def moments_of(part: Mapping[str, Any], *keys: str) -> tuple[str, str] | None:
    """The first and the last moment, in RFC 3339, of those ``keys`` of a part of a host's answer of which it says any."""
    said = [pair for key in keys if (pair := part.get("since", {}).get(key))]
    return (_text(min(pair[0] for pair in said)), _text(max(pair[1] for pair in said))) if said else None


def with_changes(differences: Iterable[Mapping[str, Any]], spans: Iterable[Span]) -> list[dict[str, Any]]:
    """Differences with the numbers of the changes that cover each in ``covered_by``; ``None`` where it is not known since when it is there.

    A difference of which any part came about outside of every change is covered by none.
    """
    of: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        of[span.host].append(span)
    return [{**one, "covered_by": _covered(one, of.get(str(one["host"]), ()))} for one in differences]


def _covered(difference: Mapping[str, Any], spans: Sequence[Span]) -> list[str] | None:
    if not difference.get("since") or not difference["host"]:
        return None
    return covered_by(difference["host"], (datetime.fromisoformat(difference[key]) for key in ("since", "latest")), spans)


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LAST


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
