# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes covered a host at a moment: what happened there then may have been theirs, and anything else went around them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from .model import CLOSED, IMPLEMENT, REVIEW, SCHEDULED

APPROVED = frozenset({SCHEDULED, IMPLEMENT, REVIEW, CLOSED})
"""The states of a change that was approved and not cancelled."""


@dataclass(frozen=True)
class Span:
    """A time in which a change may touch a host: ``end`` is ``None`` while it lasts."""

    number: str
    host: str
    start: datetime
    end: datetime | None

    def meets(self, first: datetime, last: datetime) -> bool:
        """Whether a moment from ``first`` to ``last`` is in it; both ends of either are."""
        return self.start <= last and (self.end is None or first <= self.end)


def window(number: str, host: str, state: int, start: datetime, end: datetime, work_end: datetime | None) -> list[Span]:
    """The time that a change had for a host of its scope: its window, until its work was over. None unless it was approved."""
    until = end if work_end is None else min(end, work_end)
    return [Span(number, host, start, until)] if state in APPROVED and start <= until else []


def covered_by(host: str, parts: Iterable[tuple[datetime, datetime]], spans: Iterable[Span]) -> list[str]:
    """The numbers of the changes that covered the host, in order, when each of ``parts`` came about, at a moment between its two.

    None at all when nothing covered one of them.
    """
    spans = [span for span in spans if span.host == host]
    of_each = [{span.number for span in spans if span.meets(*part)} for part in parts]
    return sorted(set().union(*of_each)) if of_each and all(of_each) else []
