# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance windows and freezes: whether the waves of a plan fit into them, one after the other. Pure.

Times are aware. A window or freeze is from its start until before its end.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from ...calendar.model import Sites, Timetable, duration, open_spans, timetable
from ...policy.model import Waivable
from ...rfc.model import Rfc
from ...rollout.options import Rollout
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import REASONS, Finding, failed, not_applicable, passed


def window(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the RFC's window is open, and every wave fits into it and into the windows of its sites."""
    when = f"{rfc.start_date.isoformat()} to {rfc.end_date.isoformat()}"
    if facts.now < rfc.start_date:
        return failed(f"the window {when} has not opened", "wait for it, or have the RFC rescheduled")
    if facts.now >= rfc.end_date:
        return failed(f"the window {when} is over", "have the RFC rescheduled; a missed window is never made up for")
    plan = _timetable(facts, rfc)
    if plan.fault:
        return failed(
            "\n".join((plan.fault, *_said(facts))), "wait for a window, have the RFC rescheduled, or correct rollout.wave_minutes"
        )
    if problem := _instant_fault(facts, rfc, plan):
        return failed("\n".join((problem, *_said(facts))), "have the RFC rescheduled, or let the waves before it take less long")
    waits = [f"wave {number} has to wait until {start.isoformat()}" for number, start in _waits(facts, plan)]
    if waits:
        return passed("\n".join(("; ".join((f"the window {when} is open", *waits[:REASONS])), *_said(facts))))
    return passed("\n".join((f"the window {when} is open", *_said(facts))))


def freeze(facts: Facts, rfc: Rfc) -> Finding:
    """Whether no freeze stops the release at any site from now until the last wave may be done.

    One that begins in between does too.
    """
    facts.known(facts.policy, "policy")
    freezes = facts.known(facts.calendars, "calendars").freezes
    if freezes is None:
        return not_applicable("the policy has no calendar of freezes")
    plan = _timetable(facts, rfc)
    waves = _sites(facts)
    last = _rollout(facts).lengths(len(waves))[-1:]
    after = [facts.instant + length for length in last] if facts.instant else []
    end = max(
        plan.end,
        *after,
        facts.now + sum(_rollout(facts).lengths(max(len(waves), 1)), timedelta()),
        rfc.end_date if plan.fault else plan.end,
    )
    sites: Sites = frozenset().union(*waves)
    found = [
        event for event in freezes if event.start < end and facts.now < event.end and any(event.stops(site, rfc.release) for site in sites)
    ]
    if found:
        return failed(
            "\n".join((*(f"frozen by {event.sentence()}" for event in found[:REASONS]), *_said(facts))),
            "have the RFC rescheduled; where the policy has waivers for freeze, who may can waive it",
        )
    return passed("\n".join(("nothing is frozen until all may be done", *_said(facts))))


def closes(facts: Facts, rfc: Rfc, waived: Collection[str]) -> datetime | None:
    """When it is too late to start a host of the first wave: its window closes, or a freeze begins. ``None`` for never.

    ``waived``: those of the controls window and freeze that are.
    """
    calendars = facts.known(facts.calendars, "calendars")
    sites: Sites = next(iter(_sites(facts)), frozenset())
    ends = []
    if "window" not in waived:
        ends = [last for first, last in open_spans(sites, (facts.now, rfc.end_date), calendars, rfc.release) if first <= facts.now]
    if "freeze" not in waived:
        coming = (event for event in calendars.freezes or () if facts.now < event.start)
        ends += [event.start for event in coming if any(event.stops(site, rfc.release) for site in sites)]
    return min(ends, default=None)


def _timetable(facts: Facts, rfc: Rfc) -> Timetable:
    facts.known(facts.policy, "policy")
    calendars = facts.known(facts.calendars, "calendars")
    waves = _sites(facts)
    return timetable((facts.now, rfc.end_date), waves, _rollout(facts).lengths(len(waves)), calendars, rfc.release)


ARMING = timedelta(minutes=1)
"""What arming hosts and telling them an instant takes, at least."""


def _instant_fault(facts: Facts, rfc: Rfc, plan: Timetable) -> str:
    """That the last wave can't switch at the instant that the RFC names, as a sentence; empty when it can."""
    if facts.instant is None or not plan.starts:
        return ""
    named, number = facts.instant.isoformat(), len(plan.starts)
    begin, length = plan.starts[-1], _rollout(facts).lengths(number)[-1]
    if begin + ARMING > facts.instant:
        return f"wave {number} of {number} can't begin before {begin.isoformat()}, and is to switch at the instant {named}"
    days = _rollout(facts).late_days
    if days and facts.instant > facts.now + timedelta(days=days):
        return (
            f"the instant {named} is further away than the {days:g} days of rollout.support.late_days, for which who can't be staged now "
            "is let in"
        )
    calendars, whole = facts.known(facts.calendars, "calendars"), (facts.now, rfc.end_date)
    spans = open_spans(_sites(facts)[-1], whole, calendars, rfc.release)
    if not any(first <= begin and facts.instant + length <= last for first, last in spans):
        return (
            f"wave {number} of {number} begins at {begin.isoformat()}, and no window is open from then until {duration(length)} after the "
            f"instant {named}"
        )
    return ""


def _rollout(facts: Facts) -> Rollout:
    return facts.known(facts.policy, "policy").rollout


def _sites(facts: Facts) -> tuple[Sites, ...]:
    """The sites of each wave that is to be done."""
    if facts.waves is None:
        facts.known(facts.scope, "scope")
    return facts.known(facts.waves, "plan")


def _said(facts: Facts) -> tuple[str, ...]:
    """What a person has to know of the calendars to understand the result."""
    return facts.calendars.notes[:REASONS] if facts.calendars else ()


def _waits(facts: Facts, plan: Timetable) -> list[tuple[int, datetime]]:
    """The waves that can't follow at once, with when they can."""
    lengths = _rollout(facts).lengths(len(plan.starts))
    before = (facts.now, *(start + length for start, length in zip(plan.starts, lengths, strict=True)))
    return [(number, start) for number, (start, done) in enumerate(zip(plan.starts, before, strict=False), 1) if start > done]


CONTROLS = (
    ControlSpec("window", window, 30, asked_at_gates=True, waivable=Waivable.ALWAYS, sources=("calendars",)),
    ControlSpec("freeze", freeze, 40, asked_at_gates=True, waivable=Waivable.ALWAYS, sources=("calendars",)),
)
