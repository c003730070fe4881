# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader of an RFC wants to know beside its waves: how much is sent, how long it takes, what is in the way, and who may decide."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from ..calendar.model import Calendars, Event, Sites, timetable
from ..clearance.facts import Facts
from ..dsl.package import Package, load_package
from ..dsl.repository import Repository
from ..errors import TidegateError
from ..policy.model import Policy
from ..report.progress import counted
from ..rfc.model import Rfc
from ..rollout.deployments import Deployments
from ..rollout.forecast import Transfer, bake_lines, in_bytes, in_time, transfer
from ..rollout.options import Rollout
from .sources import Sources

_OCCURRENCES = 20  # of windows and freezes
_DESCRIBED = ("type", "risk", "requested_by", "assigned_to", "backout_plan", "test_plan", "communication_plan")


def transfers(home: Repository, package: Package, digests: Iterable[str]) -> dict[str, Transfer]:
    """What hosts are sent of a package, by the digest of what they have of its release, empty for nothing.

    What is not in the library any more can't be compared, so whoever has that is sent all.
    """
    sent: dict[str, Transfer] = {}
    for digest in set(digests):
        base = None
        with contextlib.suppress(TidegateError):
            base = load_package(home, digest) if digest else None
        sent[digest] = transfer(package, base)
    return sent


def outlook(sources: Sources, rfc: Rfc, facts: Facts, installed: Mapping[str, str], begun: bool) -> dict[str, Any]:
    """What there is to say of an RFC's plan: ``change`` (who and why), ``sent`` (bytes by host, before packing), ``estimate`` (when each
    wave is likely to begin and end, and by what that is known), ``calendar`` (windows and freezes of its time), ``gates`` (sentences),
    ``decide`` (which roles have to say what, and who has them), ``no_return`` (what can't be brought back, empty for nothing).

    ``installed``: by host the digest that it has of the release, empty for none. ``begun``: whether a deployment is under way, or over.
    """
    policy = facts.policy
    described = {name: getattr(rfc, name) for name in _DESCRIBED}
    return {
        "change": {**described, "title": rfc.short_description, "start": rfc.start_date.isoformat(), "end": rfc.end_date.isoformat()},
        "sent": _sent(sources, rfc, installed),
        "estimate": None if begun or policy is None else _estimate(sources, rfc, facts, policy.rollout),
        "calendar": [*_occurrences(facts, rfc)][:_OCCURRENCES],
        "gates": [*_gates(policy.rollout)] if policy else [],
        "decide": [*_deciders(policy, rfc, facts)] if policy else [],
        "no_return": _no_return(facts),
    }


def _sent(sources: Sources, rfc: Rfc, installed: Mapping[str, str]) -> dict[str, int]:
    """Bytes by host; nothing when the package can't be read."""
    try:
        home = sources.library().repository(rfc.release)
        found = transfers(home, load_package(home, rfc.digest), installed.values())
    except TidegateError:
        return {}
    return {host: 0 if digest == rfc.digest else found[digest].size for host, digest in installed.items()}


def _estimate(sources: Sources, rfc: Rfc, facts: Facts, rollout: Rollout) -> dict[str, Any] | None:
    """When each wave is likely to begin and to end: as long as those of the last deployments, or else as the policy gives them at most."""
    waves: Sequence[Sites] = facts.waves or ()
    begin = max(facts.now, rfc.start_date)
    if not waves or begin >= rfc.end_date or facts.calendars is None:
        return None
    past = Deployments(sources.cmdb()).past(rfc.release)
    if past:
        seconds = median(one.seconds / max(1, one.waves) for one in past)
        lengths = [timedelta(seconds=max(1, seconds))] * len(waves)
        last = "the last deployment" if len(past) == 1 else f"the last {len(past)} deployments"
        by = f"by {last} of {rfc.release} a wave takes about {in_time(seconds)}"
    else:
        lengths = list(rollout.lengths(len(waves)))
        by = f"no earlier deployment of {rfc.release} to estimate from, so each wave is as long as the policy lets it be"
    starts = _starts(begin, rfc, waves, lengths, facts.calendars)
    times = [{"start": start.isoformat(timespec="minutes"), "end": (start + length).isoformat(timespec="minutes")}
             for start, length in zip(starts, lengths, strict=False)]  # fmt: skip
    return {"by": by, "seconds": round(sum(length.total_seconds() for length in lengths)), "waves": times}


def _starts(begin: datetime, rfc: Rfc, waves: Sequence[Sites], lengths: Sequence[timedelta], calendars: Calendars) -> tuple[datetime, ...]:
    times = timetable((begin, rfc.end_date), waves, lengths, calendars, rfc.release)
    if times.opens is not None:
        times = timetable((times.opens, rfc.end_date), waves, lengths, calendars, rfc.release)
    return times.starts


def _occurrences(facts: Facts, rfc: Rfc) -> Iterator[dict[str, str]]:
    """The freezes and windows of the plan's sites in the time of the RFC, in order, freezes first."""
    if facts.calendars is None:
        return
    sites: Sites = frozenset(site for wave in facts.waves or () for site in wave)
    freezes = (event for event in facts.calendars.freezes or () if any(event.stops(site, rfc.release) for site in sites))
    windows = (event for event in facts.calendars.windows or () if any(event.opens(site, rfc.release) for site in sites))
    for kind, events in (("freeze", freezes), ("window", windows)):
        for event in sorted((one for one in events if one.start < rfc.end_date and rfc.start_date < one.end), key=_by_start):
            yield {"kind": kind, "summary": event.summary, "start": event.start.isoformat(), "end": event.end.isoformat()}


def _by_start(event: Event) -> tuple[datetime, datetime]:
    return event.start, event.end


def _gates(rollout: Rollout) -> Iterator[str]:
    """What is asked after each wave, and what becomes of it."""
    then = "all hosts go back" if rollout.on_failure == "back_out" else "it holds, and a person decides"
    yield (
        f"after each wave: when more than {rollout.wave_budget} of its hosts, or more than {rollout.total_budget} of all so far, are "
        f"failed or lost, {then}"
    )
    yield "what is not known, a window that is closed or an RFC on hold holds it until a person decides"
    yield f"each host has to stay healthy for {in_time(rollout.stable)}"
    yield from (line.strip() for line in bake_lines(rollout))
    if rollout.support_hours:
        yield f"early-life support of {in_time(rollout.support_hours * 3600)} after the last wave"


def _deciders(policy: Policy, rfc: Rfc, facts: Facts) -> Iterator[dict[str, Any]]:
    """Which roles have to say what, how many people each, and who has the role; then who has which part by the policy."""

    def one(what: str, role: str, count: int | None) -> dict[str, Any]:
        return {"what": what, "role": role, "count": count, "people": _having(policy, [role])}

    for role, count in policy.signed_by(rfc.type).items():
        yield one("approve", role, count)
    plain = policy.approvals.get(rfc.type)
    if isinstance(plain, int) and plain:
        yield {"what": "approve it in the RFC, not who requests it", "role": "", "count": plain, "people": []}
    if _no_return(facts):
        for role, count in policy.no_return.items():
            yield one("approve the point of no return", role, count)
    for role, wanted in policy.opinions.items():
        yield one("give an opinion", role, wanted.quorum)
    for control, trust in sorted(policy.waivers.items()):
        yield one(f"waive {control}", trust.role, trust.threshold)
    for step, part in sorted(policy.responsibilities.items()):
        yield one(f"answer for {step}", part.accountable, None)


def _having(policy: Policy, roles: Collection[str]) -> list[str]:
    return sorted(name for name, person in policy.people.items() if not person.roles.isdisjoint(roles))


def _no_return(facts: Facts) -> str:
    own = facts.package.manifest.get("ansible", {}) if facts.package else {}
    if own.get("reverse") != "none":
        return ""
    where = f" on {facts.data_host.name}" if facts.data_host and facts.data_host.name else ""
    gone = f"before the first wave data are migrated{where}, and nothing brings them back"
    return f"{gone}; from then on no gate backs out, and a person decides"


def outlook_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person, a line each."""
    sizes = [entry["bytes"] for wave in document["waves"] for entry in wave["hosts"] if entry["bytes"] is not None]
    if sizes:
        yield f"  sends {in_bytes(sum(sizes))} at most to {counted(len(sizes), 'host')}, before packing"
    estimate = document["estimate"]
    if estimate:
        ends = f", from {estimate['waves'][0]['start']} to {estimate['waves'][-1]['end']}" if estimate["waves"] else ""
        yield f"  takes about {in_time(estimate['seconds'])}{ends}; {estimate['by']}"
    for one in document["calendar"]:
        yield f"  {one['kind']} {one['summary']!a:.80}: {one['start']} to {one['end']}"
    if document["no_return"]:
        yield f"  point of no return: {document['no_return']}"
    for sentence in document["gates"]:
        yield f"  gate: {sentence}"
    for one in document["decide"]:
        yield f"  {decider_sentence(one)}"


def decider_sentence(one: Mapping[str, Any]) -> str:
    """Who has to say what, or may."""
    count = "" if one["count"] is None else "1 person" if one["count"] == 1 else f"{one['count']} people"
    role = f" as {one['role']}" if one["role"] else ""
    has = f" ({', '.join(one['people'])})" if one["people"] else (" (nobody has that role)" if one["role"] else "")
    return f"to {one['what']}: {f'{count}{role}{has}'.strip()}"
