# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of an RFC before anybody runs it, or as its deployment has it: which host is in which wave, and why. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..calendar.model import timetable
from ..clearance.controls.window import ARMING
from ..clearance.facts import Facts
from ..errors import NotFoundError, TidegateError
from ..report.progress import counted, words
from ..rfc.model import Rfc
from ..rfc.source import load_rfc, rfc_number
from ..rollout.deployments import Deployment, Deployments
from ..rollout.forecast import hopeless_comparisons
from ..rollout.planner import some
from ..rollout.states import DeploymentState, HostState
from .clear import Question, gather
from .outlook import outlook, outlook_lines
from .plan import refuse_another_release
from .sources import Sources

_NAMED = 20  # hosts in a line
_REASONS, _WAVES = 5, 60  # lines of a wave, and waves
_ASKED = frozenset({"plan", "compatibility", "window"})  # controls that look at all that a plan is made of
_UNKNOWN = "not recorded"
_NOTHING: Mapping[str, Any] = {
    "change": None, "sent": {}, "estimate": None, "calendar": [], "gates": [], "decide": [], "no_return": "",
}  # fmt: skip


def preview(sources: Sources, rfc_path: str) -> dict[str, Any]:
    """The plan of an RFC as JSON can hold it: that of its newest deployment, or the one that a deployment would be begun with now.

    Raises :class:`TidegateError` with everything that stands in the way of a plan; no approval does.
    """
    deployments = Deployments(sources.cmdb())
    current = deployments.latest(rfc_number(rfc_path))
    if current is not None and current.state is not DeploymentState.CANCELLED:
        refuse_another_release(load_rfc(rfc_path), current)
        return _of_deployment(sources, deployments, current, rfc_path)
    return _to_be_made(sources, rfc_path)


def _of_deployment(sources: Sources, deployments: Deployments, current: Deployment, rfc_path: str) -> dict[str, Any]:
    targets = deployments.targets(current.id)
    plan = deployments.plan(current.id)
    reasons = deployments.reasons(current.id)
    installed = deployments.cmdb.installations([target.host for target in targets])
    has = {str(row["ci"]): row for row in installed if row["release"] == current.release}
    runs = {name: row["version"] for name, row in has.items()}
    planned = [target.host for target in targets if target.state is HostState.PLANNED]
    about_it = _outlook_of_deployment(sources, rfc_path, {name: str(has[name]["digest"]) if name in has else "" for name in planned})
    # A host that came in late has left its wave, which may have no other.
    waves: dict[int, list[dict[str, Any]]] = {number: [] for number in range(1, max(target.wave for target in targets) + 1)}
    for target in targets:
        before = runs.get(target.host) if target.state is HostState.PLANNED else target.previous_version
        entry = {"host": target.host, "from": before, "why": reasons.get(target.host, _UNKNOWN), "state": str(target.state)}
        waves[target.wave].append({**entry, "bytes": about_it["sent"].get(target.host)})
    about = {"rfc": current.rfc, "release": current.release, "version": current.version, "deployment": current.label}
    return {
        **about,
        "state": str(current.state),
        "at_least": plan.bound.at_least if plan else None,
        "at_least_why": plan.bound.why if plan else "",
        "warnings": list(plan.warnings) if plan else [],
        **{name: value for name, value in about_it.items() if name != "sent"},
        "waves": [{"number": number, "not_before": None, "instant": None, "hosts": waves[number]} for number in sorted(waves)],
    }


def _outlook_of_deployment(sources: Sources, rfc_path: str, installed: Mapping[str, str]) -> dict[str, Any]:
    """What there is to say beside the plan of a deployment, as far as its RFC, policy and package can still be read."""
    rfc = sources.ask("rfc", lambda: load_rfc(rfc_path))
    if rfc is None:
        return dict(_NOTHING)
    facts = gather(sources, rfc, Question(frozenset({"plan"}))).facts
    return outlook(sources, rfc, facts, installed, begun=True)


def _to_be_made(sources: Sources, rfc_path: str) -> dict[str, Any]:
    rfc = load_rfc(rfc_path)
    found = gather(sources, rfc, Question(_ASKED))
    faults = [sources.errors[name] for name in ("policy", "scope", "package", "compatibility", "plan") if name in sources.errors]
    if faults:
        raise TidegateError("\n".join(dict.fromkeys(line for fault in faults for line in fault.splitlines())))
    plan = found.facts.plan
    if plan is None:
        raise NotFoundError(f"the scope of {rfc.number} selects no CI, so there is nothing to plan; correct it, or the CMDB")
    reasons = plan.reason_of()
    runs = {str(ci["name"]): (ci["installations"].get(rfc.release) or {}).get("version") for ci in found.cis or ()}
    starts, remarks = _starts(found.facts, rfc)
    if unreadable := sources.errors.get("calendars"):
        remarks += [f"it is not known when a wave can begin: {line}" for line in unreadable.splitlines()]
    policy, having = found.facts.policy, [host for host, version in runs.items() if version]
    remarks += hopeless_comparisons(policy.rollout, plan.waves, having) if policy else []
    instant = found.facts.instant
    digests = {str(ci["name"]): str((ci["installations"].get(rfc.release) or {}).get("digest", "")) for ci in found.cis or ()}
    about_it = outlook(sources, rfc, found.facts, digests, begun=False)
    sent = about_it.pop("sent")
    return {
        "rfc": rfc.number,
        "release": rfc.release,
        "version": rfc.version,
        "deployment": None,
        "state": None,
        "at_least": plan.bound.at_least,
        "at_least_why": plan.bound.why,
        "warnings": [*plan.warnings, *remarks],
        **about_it,
        "waves": [
            {
                "number": number,
                "not_before": starts.get(number),
                "instant": instant.isoformat() if instant and number == len(plan.waves) else None,
                "hosts": [
                    {"host": host, "from": runs[host], "why": reasons[host], "state": None, "bytes": sent.get(host)} for host in wave
                ],
            }
            for number, wave in enumerate(plan.waves, 1)
        ],
    }


def _starts(facts: Facts, rfc: Rfc) -> tuple[dict[int, str], list[str]]:
    """When each wave can begin at the earliest, by the windows of its sites, and what else stands in the way of the plan."""
    found = facts.compatibility
    remarks = [f"it would not be cleared: {line}" for line in (*found.faults, *found.unknown)] if found else []
    if facts.calendars is None or facts.waves is None or facts.policy is None:
        return {}, remarks
    begin = max(facts.now, rfc.start_date)
    if begin >= rfc.end_date:
        return {}, [*remarks, f"its window was over at {rfc.end_date.isoformat()}"]
    lengths = facts.policy.rollout.lengths(len(facts.waves))
    times = timetable((begin, rfc.end_date), facts.waves, lengths, facts.calendars, rfc.release)
    if times.opens is not None:
        remarks.append(times.fault)
        times = timetable((times.opens, rfc.end_date), facts.waves, lengths, facts.calendars, rfc.release)
    starts = {number: start.isoformat(timespec="minutes") for number, start in enumerate(times.starts, 1)}
    if facts.instant is not None and times.starts and times.starts[-1] + ARMING > facts.instant:
        remarks.append(f"the instant {facts.instant.isoformat()} of its RFC is before wave {len(starts)} can begin")
    return starts if facts.calendars.windows is not None else {}, [*remarks, *([times.fault] if times.fault else [])]


def preview_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """A sentence, and lines for each wave: its hosts, from which version to which, and why they are in it."""
    waves = document["waves"]
    hosts = sum(len(wave["hosts"]) for wave in waves)
    sizes = ", ".join(str(len(wave["hosts"])) for wave in waves[:_NAMED]) + (", ..." if len(waves) > _NAMED else "")
    what = f"{document['release']} {document['version']} to {counted(hosts, 'host')} in {counted(len(waves), 'wave')} ({sizes})"
    state = f"{document['deployment']} is {words(document['state'])}: " if document["deployment"] else f"{document['rfc']}: "
    yield f"{state}{what}"
    if document["at_least"]:
        yield f"  not fewer than {counted(document['at_least'], 'wave')}: {document['at_least_why']}"
    for wave in waves[:_WAVES]:
        yield from _wave_lines(wave, len(waves), document["version"])
    if len(waves) > _WAVES:
        yield f"  and {len(waves) - _WAVES} more waves; tidegate_plan_file writes all of them"
    yield from outlook_lines(document)


def _wave_lines(wave: Mapping[str, Any], total: int, version: str) -> Iterator[str]:
    groups = grouped(wave)
    begin = f", not before {wave['not_before']}" if wave["not_before"] else ""
    begin = f", at the instant {wave['instant']}" if wave["instant"] else begin
    for (before, why), names in groups[:_REASONS]:
        shown = f"{', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}"
        yield f"  wave {wave['number']}/{total}{begin}: {shown}: {before or 'nothing'} -> {version}; {why}"
    others = groups[_REASONS:]
    if others:
        more = sum(len(names) for _what, names in others)
        yield f"  wave {wave['number']}/{total}: {counted(more, 'host')} more, for {counted(len(others), 'other reason')}"


def grouped(wave: Mapping[str, Any]) -> list[tuple[tuple[str | None, str], list[str]]]:
    """The hosts of a wave by what they run and why they are in it, most of them first."""
    alike: dict[tuple[str | None, str], list[str]] = {}
    for entry in wave["hosts"]:
        alike.setdefault((entry["from"], entry["why"]), []).append(entry["host"])
    return sorted(alike.items(), key=lambda one: -len(one[1]))


def host_sentence(document: Mapping[str, Any], host: str) -> str:
    """In which wave a host is, and why; raises :class:`NotFoundError` when it is in none."""
    for wave in document["waves"]:
        for entry in wave["hosts"]:
            if entry["host"] == host:
                others = len(wave["hosts"]) - 1
                beside = f"with {counted(others, 'other host')}" if others else "alone"
                state = f"; it is {words(entry['state'])}" if entry["state"] else ""
                change = f"{entry['from'] or 'nothing'} -> {document['version']}"
                return f"{host} is in wave {wave['number']} of {len(document['waves'])}, {beside}: {entry['why']}; {change}{state}"
    names = [entry["host"] for wave in document["waves"] for entry in wave["hosts"]]
    raise NotFoundError(f"{host} is not in the plan of {document['rfc']}, which has {some(names)}; correct tidegate_host, or the scope")
