# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the lines of the history and of the journal hang together: each has the sha256 of what it says and of the one before. Pure.

What is hashed is a JSON object of the line's columns that are not null, ``at`` in UTC with microseconds, and of ``previous``, the
``sha256`` of the line before, which is empty for the first one; in ASCII, with sorted keys and no spaces. ``docs/history.md`` says so.
A column that a later version adds is null in the lines of before, so these stay what they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

NO_SHA256 = "none"
"""What is in place of the sha256 of a line that something else than Tidegate wrote."""
NAMED = 100
"""Faults of one table that are named; the others are counted."""

_encode = json.JSONEncoder(check_circular=False, sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True)
class Head:
    """The last line of a table: its number, 0 when there was none yet, and its sha256 in hexadecimal."""

    seq: int = 0
    sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """As documents have it."""
        return {"seq": self.seq, "sha256": self.sha256}


@dataclass(frozen=True)
class ChainFault:
    """What is wrong with a chain, first at the line ``seq``: ``kind`` is edited, removed, inserted or truncated."""

    seq: int
    kind: str
    sentence: str


def plain(data: Any) -> Any:
    """``data`` as a database gives it back: texts as keys, lists for tuples."""
    return json.loads(json.dumps(data))


def link(line: Mapping[str, Any], previous: str) -> str:
    """The sha256 of a line, by column, that comes after one with the sha256 ``previous``. Its moments are aware."""
    said: dict[str, Any] = {"previous": previous}
    for column, value in line.items():
        if value is not None and column != "sha256":
            said[column] = value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value
    return hashlib.sha256(_encode(said).encode("ascii")).hexdigest()


class Chain:
    """Goes over the lines of a table, in order, and finds where they are not what was written.

    ``seen``: last lines that documents have, each with what the document is. ``away``: from which line to which one there may be lines that
    can't be read. ``faults`` are the first :data:`NAMED` of ``count``.
    """

    def __init__(self, table: str, seen: Iterable[tuple[Head, str]] = (), away: Iterable[tuple[int, int]] = ()) -> None:
        self._table, self._away = table, tuple(away)
        self._seen: dict[str, tuple[int, str]] = {head.sha256: (head.seq, what) for head, what in seen if head.sha256}
        self._agreed: list[int] = [0]
        self._last, self._good = Head(), ""
        self._at: Any = None
        self._pending: ChainFault | None = None
        self.lines = 0
        self.count = 0
        self.faults: list[ChainFault] = []

    def over(self, lines: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield each line, once it was looked at."""
        for line in lines:
            self._look(line)
            yield line

    def _look(self, line: Mapping[str, Any]) -> None:
        seq, stored = int(line["seq"]), str(line["sha256"])
        fits = link(line, self._last.sha256) == stored or self._may_be_away(self._last.seq + 1, seq - 1)
        if not fits and self._pending is not None and link(line, self._good) == stored:
            fits = True  # it goes on from the line before the last, so that one is too many
            self._pending = self._inserted(self._last.seq)
        self._settle()
        if fits:
            self._good = stored
            if stored in self._seen:
                self._agreed.append(self._seen.pop(stored)[0])
        else:
            self._pending = self._judge(line, seq, stored)
        self.lines, self._last, self._at = self.lines + 1, Head(seq, stored), line["at"]

    def _may_be_away(self, first: int, last: int) -> bool:
        return first <= last and any(start <= first and last <= end for start, end in self._away)

    def _inserted(self, seq: int) -> ChainFault:
        return ChainFault(seq, "inserted", f"line {seq} of the {self._table} was inserted by something else")

    def _judge(self, line: Mapping[str, Any], seq: int, stored: str) -> ChainFault:
        said = f"({str(line['event'])!a:.40}, {_moment(line['at'])})"
        if stored == NO_SHA256:
            return self._inserted(seq)
        if seq > self._last.seq + 1:
            gone = f"{_lines(self._last.seq + 1, seq - 1)} of the {self._table} removed"
            return ChainFault(
                self._last.seq + 1, "removed", f"{gone}, or line {seq} {said} changed, which does not follow line {self._last.seq}"
            )
        return ChainFault(seq, "edited", f"line {seq} of the {self._table} {said} is not what was written after line {self._last.seq}")

    def _settle(self) -> None:
        if self._pending is not None:
            self._find(self._pending)
            self._pending = None

    def _find(self, fault: ChainFault) -> None:
        self.count += 1
        if len(self.faults) < NAMED:
            self.faults.append(fault)

    def end(self, head: Head) -> None:
        """All lines were passed; ``head`` is the last one that the CMDB says to have written."""
        last = self._last
        if self._pending is not None and last.seq > head.seq:
            self._pending = self._inserted(last.seq)
        self._settle()
        if last.sha256 != head.sha256:
            if self._may_be_away(last.seq + 1, head.seq):
                pass
            elif last.seq < head.seq:
                self._find(
                    ChainFault(last.seq + 1, "truncated", f"{self._missing(head.seq)}; the CMDB says to have written line {head.seq}")
                )
            elif self.count == 0:
                seq = max(last.seq, 1) if last.seq == head.seq else head.seq + 1
                what = f"the last line of the {self._table} is {last.seq}, and not the line {head.seq} that the CMDB says to have written"
                self._find(ChainFault(seq, "edited" if last.seq == head.seq else "inserted", what))
        for seq, what in sorted(self._seen.values()):
            if self._may_be_away(seq, seq):
                continue
            if seq > last.seq:
                self._find(ChainFault(last.seq + 1, "truncated", f"{self._missing(seq)}; {what} saw line {seq}"))
            else:
                first = max(one for one in self._agreed if one < seq) + 1
                anew = (
                    "was written anew, or a backup brought back, since"
                    if first == seq
                    else "were written anew, or a backup brought back, since"
                )
                self._find(ChainFault(first, "edited", f"{_lines(first, seq)} of the {self._table} {anew}; {what} saw another line {seq}"))

    def _missing(self, seq: int) -> str:
        first = self._last.seq + 1
        after = f"after line {self._last.seq} of {_moment(self._at)}" if self._at else "from the first line on"
        return f"the end of the {self._table} is missing {after}: {_lines(first, seq)}"


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _moment(at: Any) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds") if isinstance(at, datetime) else ascii(at)[:40]
