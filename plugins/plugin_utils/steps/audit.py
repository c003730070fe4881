# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is live, what is recorded and what is archived: every difference, each named once, and every host accounted for. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..cmdb.hosts import REMEDY, described, is_host
from ..cmdb.model import CiModel
from ..dhs.unit_check import (
    OTHER_FIRMWARE,
    DeviceReading,
    RecordedDevice,
    UnitFinding,
    check_device,
    check_parts,
    parts_seen,
    units_by_serial,
)
from ..dsl.firmware import FirmwareImage, images_for
from ..report.progress import counted
from . import audit_sets
from .audit_changes import Parts, are_moments, moments_of, parts_at, when
from .audit_firmware import PastReadings
from .audit_host import REMEDIES, Copies, compare_access, compare_copies, compare_running, compare_scan, read_copies, release_faults

if TYPE_CHECKING:
    from ..dhs.units import Unit
    from ..dsl.seen import Loss
    from ..licence.seats import Unlicensed
    from ..rollout.deployments import Deployment

_LISTED = 3  # file names that a sentence quotes
_LENGTH = 300  # characters that a sentence quotes of what a host said
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# By kind, unless the detail says it.
_REMEDIES: Mapping[str, str] = {
    "changed_packages": "find out who changed them, and deploy or back out there, which installs them anew",
    "changed_files": "deploy or back out there, which puts right what becomes live; what a service writes belongs in its state directory",
    "extra_files": "find out who put them there and remove them; what a service writes belongs in its state directory",
    "invalid_answer": "find out who answers there, and audit again",
    "empty_slot": "find out who took it out, and record with tidegate.release.dhs_asset where it is, or put it back",
    "misplaced_unit": "find out who moved it, and record with tidegate.release.dhs_asset where it is",
    "not_read": "audit or deploy where it is in use; bring a spare to a bench, as a CI of class spare",
    "other_firmware": "find out who changed it, and bring it by an RFC to what is to run there",
    "other_reading": "find out who changed it, and bring it back by hand, or deploy or back out there, which reads it again",
    "other_unit": "find out which unit is there, and record with tidegate.release.dhs_asset that it was exchanged, or correct the CI",
    "unknown_unit": "find out who put it there, and receive and install it with tidegate.release.dhs_asset, or take it out",
    "lost": "bring it back with dsl_verify and tidegate_dsl_replica, or give it up with dsl_release, state accepted",
    "missing": "find out who removed it, and deploy it again by an RFC",
    "not_in_dsl": "heal the library with dsl_verify and tidegate_dsl_replica, or archive the same release again",
    "other_version": "find out who changed it, and deploy by an RFC what is to run there",
    "uncontrolled": "find out who put it there; deploy it by an RFC, or remove it",
    "unlicensed": "enter an entitlement with tidegate.release.licence, or deploy by an RFC what needs none",
    "unreachable": "bring it back and audit again, or write it off",
    "unreadable": "mend that on the host and audit again",
    "untrusted": "have it signed by who has the role, or deploy another version by an RFC",
    **REMEDIES,
    **audit_sets.REMEDIES,
}
_AGAINST_WORD = frozenset({"missing", "other_version", "uncontrolled"})  # what can't be when that was so which a person said
_CONTROLLER = "localhost"  # many inventories have it; it is a host only if the CMDB says so


@dataclass(frozen=True)
class NotSeen:
    """Why nobody knows what a host runs: the kind of the difference, and a sentence. ``contact``: something is there for all that."""

    kind: str
    detail: str
    contact: bool = False


# What release_facts found on a host, or why there is no telling.
Found = list[dict[str, Any]] | NotSeen

LEFT_OUT = NotSeen("left_out", "it was left out, so nobody knows what it runs; run the audit without --limit and tidegate_hosts")


@dataclass(frozen=True)
class Audited:
    """``found``: what each host of the CMDB or the inventory runs. ``differences``: between these two, as :func:`compare` returns them."""

    found: dict[str, Found]
    differences: list[dict[str, Any]]


def read_answer(result: object) -> Found:
    """What the task that ran ``release_facts`` on a host came to; ``result`` is ``None`` when it did not run there.

    A result may have any shape: the host made it, or whatever was in its place.
    """
    if result is None:
        return LEFT_OUT
    if not isinstance(result, Mapping):
        return _invalid(f"it is {_shown(result)}")
    if without := _without_answer(result):
        return without
    releases = result.get("releases")
    if not isinstance(releases, list):
        return _invalid(f"releases is {_shown(releases)}" if "releases" in result else "it lacks releases")
    for index, entry in enumerate(releases):
        for fault in _faults(entry):
            return _invalid(f"releases[{index}]{fault}")
    names = [entry["name"] for entry in releases]
    return [dict(entry) for entry in releases] if len({*names}) == len(names) else _invalid("one release is there twice")


def read_device_answer(result: object) -> DeviceReading | None:
    """What the device of a host said to the same task; ``None`` when it was not asked."""
    data = result.get("device") if isinstance(result, Mapping) else None
    return None if data is None else DeviceReading.of(data) or DeviceReading(problem=f"its answer is {_shown(data)}")


def recorded_devices(
    cis: Iterable[Mapping[str, Any]],
    units: Iterable[Unit],
    recorded: Iterable[Mapping[str, Any]],
    images: Mapping[str, Iterable[FirmwareImage]],
) -> list[RecordedDevice]:
    """The devices of ``cis`` that are to be asked: those whose address is known, or that have a release of firmware.

    ``units``: all of the hardware storage; ``recorded``: installations; ``images``: those of the packages that are firmware, by digest.
    What a release brought there is what the device has to run; else it is what was read before, the CI's attribute ``firmware``.
    """
    by_ci = {unit.ci: unit for unit in units if unit.ci and not unit.slot}
    of: dict[str, list[FirmwareImage]] = defaultdict(list)
    for row in recorded:
        of[str(row["ci"])] += images.get(str(row["digest"]), ())
    found = []
    for ci in cis:
        name, attributes = str(ci["name"]), ci["attributes"]
        if attributes.get("redfish") or of[name]:
            device = RecordedDevice(name, by_ci.get(name), attributes)
            said = attributes.get("firmware")
            read = {str(component): str(version) for component, version in said.items()} if isinstance(said, Mapping) else {}
            brought = {image.component: image.version for image in images_for(device.model, of[name])}
            found.append(replace(device, versions={**read, **brought}, brought=frozenset(brought)))
    return found


def compare_devices(
    devices: Iterable[RecordedDevice],
    answers: Mapping[str, DeviceReading],
    units: Iterable[Unit],
    past: PastReadings,
) -> list[dict[str, Any]]:
    """A difference, as :func:`compare` has them, for each unit and kind of what is not as it is recorded.

    ``devices``: those that are to be asked; ``answers``: by CI, what they said, as far as they were asked; ``units``: all of the
    hardware storage; ``past``: what was read before.
    """
    units = list(units)
    by_serial, seen = units_by_serial(units), parts_seen(answers)
    in_slots: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.ci and unit.slot:
            in_slots[unit.ci].append(unit)
    differences = []
    for device in devices:
        answer = answers.get(device.ci)
        tag = device.unit.tag if device.unit else None
        if answer is None:
            why = "its CI has no attribute redfish" if not device.attributes.get("redfish") else "nobody asked its BMC"
            detail = f"{why}, so nobody knows what firmware it runs; use this CMDB's inventory, which has that attribute"
            differences.append(_difference(device.ci, None, "left_out", detail, tag))
        elif answer.problem:
            kind, what = ("unreachable", "can't be reached") if answer.silent else ("unreadable", "can't be read")
            detail = f"its BMC {what}, so nobody knows which unit it is: {_shown(answer.problem)}"
            differences.append(_difference(device.ci, None, kind, detail, tag))
        else:
            differences += [
                {**one, "found": _to_record(device, answer), **when(past.parts(device, answer, one["detail"]))}
                if one["kind"] == OTHER_FIRMWARE
                else one
                for one in unit_differences(check_device(device, answer, by_serial))
            ]
            differences += unit_differences(check_parts(device.ci, in_slots[device.ci], answer.parts, seen))
    return differences


def _to_record(device: RecordedDevice, answer: DeviceReading) -> dict[str, str] | None:
    """What a device runs otherwise than it is recorded, by component; ``None`` where that can't be its record.

    A component says several versions, or a release on record brought another one.
    """
    differing = {component for component, version in device.versions.items() if answer.versions.get(component, ()) != (version,)}
    plain = answer.plain_versions
    return {component: plain[component] for component in sorted(differing)} if differing <= plain.keys() - device.brought else None


def unit_differences(findings: Iterable[UnitFinding]) -> list[dict[str, Any]]:
    """What is wrong with units, as :func:`compare` has differences."""
    return [_difference(one.ci or None, None, one.kind, _shown(one.detail), one.unit or None) for one in findings]


def account(
    results: Mapping[str, object],
    inventory: Collection[str],
    cis: Iterable[Mapping[str, Any]],
    installed: Collection[str],
    host_classes: Collection[str],
    model: CiModel,
) -> Audited:
    """Account for every host of the CMDB and of the inventory.

    ``results``: by host, the result of the task that ran ``release_facts`` there, ``None`` where none did. ``inventory``: all hosts that
    Ansible has. ``installed``: the CIs on which a release is installed. ``host_classes``: as the policy has them; ``model``: the CMDB's.
    """
    by_name = {str(ci["name"]): ci for ci in cis}
    audited = Audited({}, [])
    for host in sorted({*inventory} - ({_CONTROLLER} - by_name.keys())):
        audited.found[host] = read_answer(results.get(host))
        if host not in by_name:
            detail = "the inventory has it, but the CMDB does not; enter it with tidegate.release.cmdb_ci, or take it out of the inventory"
            audited.differences.append(_difference(host, None, "not_in_cmdb", detail))
        elif not is_host(by_name[host], host_classes, model):
            detail = (
                f"the inventory has it, but in the CMDB {described(by_name[host])} is no host that is in use; correct the CI, or take it "
            )
            audited.differences.append(_difference(host, None, "not_in_cmdb", f"{detail}out of the inventory"))
    for name, ci in sorted(by_name.items()):
        if name in audited.found:
            continue
        if is_host(ci, host_classes, model):
            detail = "the CMDB has it, but the inventory does not, so nobody knows what it runs; use this CMDB's inventory with this policy"
            audited.found[name] = NotSeen("not_in_inventory", detail)
        elif name in installed:
            detail = f"a release is installed on {described(ci)}, but no such CI is a host, so nobody knows what it runs; {REMEDY}"
            audited.found[name] = NotSeen("not_in_inventory", detail)
    return audited


def compare(
    found: Mapping[str, Found],
    recorded: Iterable[Mapping[str, Any]],
    archived: Collection[str],
    untrusted: Mapping[str, tuple[str, str]],
    unlicensed: Iterable[Unlicensed] = (),
    treeless: Collection[str] = (),
    by_hand: Iterable[Mapping[str, Any]] = (),
    outside: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Compare what hosts run with what the CMDB records and the DSL holds.

    ``found``: host name to the list of ``release_facts``, or why there is none. ``recorded``: installations with
    ``ci``, ``release``, ``version`` and ``digest``. ``archived``: package digests in the DSL. ``untrusted``: of these, the release and
    why its signatures don't count. ``unlicensed``: installations without the seat that they need. ``treeless``: digests of packages
    without a payload, of which a host has nothing that could be compared. ``by_hand``: what persons say to have brought back by hand, as
    the CMDB has it, which is named where it is not so. ``outside``: digests of packages whose effect is outside their tree, so hosts
    have to say what runs there. Returns ``host``, ``release``, ``kind`` and ``detail`` of each difference, the DSL's own first with no
    host, then ordered by host.
    """
    wanted: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in recorded:
        wanted[str(row["ci"])][str(row["release"])] = row
    seatless = {(one.ci, one.release): one.detail for one in unlicensed}
    said_by = {(one["ci"], one["release"]): one["by"] for one in by_hand}
    differences: list[dict[str, Any]] = []

    def differ(host: str | None, release: str | None, kind: str, detail: str, **more: Any) -> None:
        if kind in _AGAINST_WORD and (host, release) in said_by:
            detail = f"{detail}, by the word of {said_by[str(host), str(release)]}, who brought it back by hand"
        differences.append(_difference(host, release, kind, detail, **more))

    for _digest, (release, why) in sorted(untrusted.items(), key=lambda item: item[1]):
        differ(None, release, "untrusted", why)
    for host in sorted(found):
        releases = found[host]
        if isinstance(releases, NotSeen):
            differ(host, None, releases.kind, releases.detail)
            continue
        live = {entry["name"]: entry for entry in releases}
        here = wanted.get(host, {})
        for name, entry in sorted(live.items()):
            _compare_release(host, entry, here.get(name), archived, untrusted, differ)
            if entry["digest"] is not None and (entry.get("outside") or entry["digest"] in outside):
                _compare_outside(host, entry, differ)
        for name, row in sorted(here.items()):
            if row["digest"] not in treeless and (name not in live or (live[name]["digest"] is None and not live[name].get("error"))):
                detail = f"the CMDB says {name} {row['version']}, but it is not live"
                differ(host, name, "missing", detail, recorded=recorded_as(name, row), moments=moments_of(live.get(name, {}), "live"))
            if (host, name) in seatless:
                differ(host, name, "unlicensed", seatless[host, name])
    return differences


def _difference(
    host: str | None,
    release: str | None,
    kind: str,
    detail: str,
    unit: str | None = None,
    *,
    recorded: str = "",
    moments: Parts = (),
    found: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A difference. ``recorded``: the state that is on record; ``moments``: those at which its parts came about.

    ``found``: what is there instead, where that can be put on record in its place.
    """
    about = {"host": host, "unit": unit, "release": release, "kind": kind, "detail": detail, "remedy": _REMEDIES.get(kind, "")}
    there = dict(found) if found else None
    return {**about, "recorded": recorded, "found": there, **when(moments)}


def recorded_as(name: str, row: Mapping[str, Any] | None) -> str:
    """A release as it is on record, for a sentence."""
    return f"{name} {row['version']}, {row['digest']}" if row else f"no {name}"


def _compare_release(
    host: str,
    entry: Mapping[str, Any],
    row: Mapping[str, Any] | None,
    archived: Collection[str],
    untrusted: Mapping[str, tuple[str, str]],
    differ: Any,
) -> None:
    name = entry["name"]
    if entry.get("error"):
        differ(host, name, "unreadable", f"{name}: {_shown(entry['error'])}")
    elif entry["digest"] is not None:
        _compare_live(host, entry, row, archived, differ)
        compare_running(host, entry, differ, _shown)
        if entry["digest"] in untrusted:
            why = f"{name} {entry['version']} is live, but {untrusted[entry['digest']][1]}"
            differ(host, name, "untrusted", why, recorded=recorded_as(name, row), moments=moments_of(entry, "live"))
    for other in entry.get("others", ()):
        _compare_files(host, name, other, differ)
    if said := entry.get("packages"):
        detail = "; ".join(_shown(one) for one in said[:_LISTED]) + (" ..." if len(said) > _LISTED else "")
        differ(host, name, "changed_packages", detail, moments=moments_of(entry, "packages"))
    if files := entry.get("strangers"):
        detail = f"{_quoted(files)} beside the releases of {name} came from nobody"
        differ(host, name, "extra_files", detail, recorded="nothing else", moments=moments_of(entry, "strangers"))


def compare_beside(
    results: Mapping[str, object], found: Mapping[str, Found], recorded: Mapping[str, Mapping[str, audit_sets.OnRecord]]
) -> list[dict[str, Any]]:
    """A difference, as :func:`compare` has them, for what hosts have besides their releases and is not on record, or a copy of one.

    ``results`` as :func:`account` takes them; ``found``: what came of that; ``recorded``: sets by host and name.
    """
    seen = [host for host, releases in found.items() if not isinstance(releases, NotSeen)]
    copies = {host: read_copies(results.get(host), _shown) or Copies() for host in seen}
    sets = {host: audit_sets.read_sets(results.get(host)) for host in seen}
    beside = [*compare_copies(copies, _shown), *compare_scan({host: results.get(host) for host in seen}, _shown)]
    return [
        *(_difference(host, release, kind, detail, moments=moments) for host, release, kind, detail, moments in beside),
        *(_of_set(one, sets, recorded) for one in audit_sets.compare_sets(sets, recorded)),
    ]


def _of_set(
    one: tuple[str, str, str],
    sets: Mapping[str, audit_sets.HostSets | None],
    recorded: Mapping[str, Mapping[str, audit_sets.OnRecord]],
) -> dict[str, Any]:
    """The difference of a set of a host, with since when it is there, and what would have to go on record in its place."""
    host, kind, detail = one
    name = kind.removeprefix("other_")
    record = recorded[host].get(name)
    if record is None:
        return _difference(host, None, kind, _printable(detail))
    said: dict[str, Any] = {
        "recorded": f"what {record.actor} put on record",
        "moments": parts_at(audit_sets.moments_of_set(record.entries, sets[host], name)),
        "found": audit_sets.to_record(record.entries, sets[host], name),
    }
    return _difference(host, None, kind, _printable(detail), **said)


def not_recorded(hosts: Sequence[str]) -> list[str]:
    """The line that says of which hosts an audit did not compare what they have besides releases, if there are any."""
    if not hosts:
        return []
    more = f" and {len(hosts) - _LISTED} more" if hosts[_LISTED:] else ""
    return [
        f"packages, units, cron files and listeners of {', '.join(hosts[:_LISTED])}{more} are on no record, so they were not compared; "
        "audit_baseline puts them there"
    ]


def not_compared(written_off: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """A difference, as :func:`compare` has them, for each host that does not answer and was written off (``since``, ``by``, ``reason``)."""
    return [
        _difference(host, None, "written_off", f"it is written off since {one['since'][:10]}, by {one['by']}: {one['reason']}")
        for host, one in sorted(written_off.items())
    ]


def late_difference(host: str, release: str, why: str, remedy: str) -> dict[str, Any]:
    """A difference, as :func:`compare` has them, of a host that should have a release by now."""
    return {**_difference(host, release, "late", f"it is late: {why}"), "remedy": remedy}


def by_word_alone(by_hand: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A difference, as :func:`compare` has them, for each release that was brought back by hand, and not by a deployment since."""
    return [
        _difference(
            one["ci"],
            one["release"],
            "by_hand",
            f"{one['release']} was brought back by hand to {one['version'] or 'having none'} on {one['since'][:10]}, "
            f"says {one['by']}: {one['reason']}",
        )
        for one in by_hand
    ]


def unknown_data(found: Iterable[tuple[Deployment, str]]) -> list[dict[str, Any]]:
    """A difference, as :func:`compare` has them, for each deployment of which it is not known what it has done to data, with why."""
    said = ((one, f"{one.label}, {one.release} {one.version}: {why}") for one, why in found)
    return [_difference(one.rollout.data_host, one.release, "unknown_data", detail) for one, detail in said]


def lost_from_library(losses: Iterable[Loss]) -> list[dict[str, Any]]:
    """A difference, as :func:`compare` has them, for each release and piece of evidence that the DSL had and does not have any more."""
    return [_difference(None, loss.name, "lost", f"it lacks what was seen in it before, {loss}") for loss in losses]


def _compare_live(host: str, entry: Mapping[str, Any], row: Mapping[str, Any] | None, archived: Collection[str], differ: Any) -> None:
    name, version = entry["name"], entry["version"]
    known: dict[str, Any] = {"recorded": recorded_as(name, row), "moments": moments_of(entry, "live")}
    live = {"version": version, "digest": entry["digest"]} if entry["digest"] in archived else None
    if row is None:
        differ(host, name, "uncontrolled", f"{name} {version} is live, but the CMDB does not know of it", **known, found=live)
    elif (row["version"], row["digest"]) != (version, entry["digest"]):
        same = f"{name} {version} is live as {entry['digest']}, but the CMDB says {row['digest']}"
        other = f"{name} {version} is live, but the CMDB says {row['version']}"
        differ(host, name, "other_version", same if row["version"] == version else other, **known, found=live)
    if entry["digest"] not in archived:
        differ(host, name, "not_in_dsl", f"{name} {version} is live, but the DSL does not hold {entry['digest']}", **known)
    _compare_files(host, name, entry, differ)


def _compare_outside(host: str, entry: Mapping[str, Any], differ: Any) -> None:
    """What runs outside the tree of a live release, as far as its hook ``read`` said it."""
    name, version = entry["name"], entry["version"]
    said = entry.get("outside") or {"problem": "its host says nothing of it"}
    if said["problem"]:
        detail = f"{name} {version} is live, and what runs outside its tree can't be read: {_shown(said['problem'])}"
        differ(host, name, "unreadable", detail)
    elif said["version"] != version:
        known = f" as with {name} {_shown(said['version'])}" if said["version"] else ""
        detail = f"{name} {version} is live, but it says {_shown(said['text'])}{known}, and has to say {_shown(said['wanted'])}"
        differ(host, name, "other_reading", detail, recorded=_shown(said["wanted"]))


def _compare_files(host: str, name: str, entry: Mapping[str, Any], differ: Any) -> None:
    compare_access(host, name, entry, differ, _shown)
    for kind, one, more in (
        ("changed", "was changed or is missing", "were changed or are missing"),
        ("extra", "was released by nobody", "were released by nobody"),
    ):
        if many := len(entry[kind]):
            what = f"{counted(many, 'file')} of {name} {entry['version']} {one if many == 1 else more}"
            of = recorded_as(name, {"digest": "its files", **entry})
            differ(host, name, f"{kind}_files", f"{what}: {_quoted(entry[kind])}", recorded=of, moments=moments_of(entry, kind))


def _quoted(files: list[str]) -> str:
    return ", ".join(_shown(name) for name in files[:_LISTED]) + (" ..." if len(files) > _LISTED else "")


def _invalid(fault: str) -> NotSeen:
    return NotSeen("invalid_answer", f"its answer is not one of release_facts, so nobody knows what it runs: {fault}", contact=True)


def _without_answer(result: Mapping[str, Any]) -> NotSeen | None:
    """Why a task has no answer of a host; ``None`` when it ended well."""
    said = _shown(result.get("module_stderr") or result.get("module_stdout") or result.get("msg") or "it did not say why")
    if result.get("unreachable"):
        return NotSeen("unreachable", f"it can't be reached, so nobody knows what it runs: {said}")
    if result.get("failed"):
        return NotSeen("unreadable", f"it can't be read, so nobody knows what it runs: {said}", contact=not result.get("timedout"))
    return LEFT_OUT if result.get("skipped") else None


def _faults(entry: object) -> Iterator[str]:
    """What is wrong with what a host says of one release, after the name of its place."""
    if not isinstance(entry, Mapping):
        yield f" is {_shown(entry)}"
        return
    for key in ("name", "version", "digest"):
        value = entry.get(key)
        if not _is_word(value) and (key == "name" or value is not None):
            yield f".{key} is {_shown(value)}"
    if (entry.get("version") is None) != (entry.get("digest") is None):
        yield " has a version without a digest, or a digest without a version"
    elif entry.get("digest") is not None and not _DIGEST.fullmatch(entry["digest"]):
        yield f".digest is {_shown(entry['digest'])}"
    forms: Mapping[str, Callable[[object], bool]] = {
        "error": lambda value: isinstance(value, str),
        "strangers": _are_texts,
        "packages": _are_texts,
        "outside": _is_reading,
        "since": are_moments,
    }
    yield from (f".{key} is {_shown(entry[key])}" for key, is_sound in forms.items() if key in entry and not is_sound(entry[key]))
    yield from _file_faults("", entry)
    others = entry.get("others", [])
    if not isinstance(others, list):
        yield f".others is {_shown(others)}"
        return
    for index, other in enumerate(others):
        if not isinstance(other, Mapping) or not _is_word(other.get("version")):
            yield f".others[{index}] is {_shown(other)}"
        else:
            yield from _file_faults(f".others[{index}]", other)


def _file_faults(place: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{place}{fault}" for fault in release_faults(part, _shown))
    if place and not are_moments(part.get("since", {})):
        yield f"{place}.since is {_shown(part['since'])}"
    for key in ("changed", "extra"):
        if not _are_texts(part.get(key)):
            yield f"{place}.{key} is {_shown(part.get(key))}"


def _is_reading(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("text", "version", "wanted", "problem"))


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LENGTH


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _shown(value: object) -> str:
    """What came from a host, on one line, without signs that would do something to a terminal, and not all of it when it is long."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    text = _printable(text)
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]} ..."
