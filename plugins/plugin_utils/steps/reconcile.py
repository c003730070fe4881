# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settle what an audit found, under an RFC: what is there becomes the record, or what is on record is brought back by a deployment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..clearance.evaluate import evaluate_controls
from ..cmdb.audits import last_audit
from ..cmdb.chain import append_history
from ..cmdb.recorded_sets import record_sets, recorded_sets
from ..cmdb.store import Cmdb
from ..errors import NotFoundError, TidegateError
from ..evidence.statement import RECONCILED
from ..report.audited import KNOWN
from ..report.progress import counted
from ..rfc.model import Rfc
from ..rfc.register import entered, registered
from ..rfc.source import load_rfc
from .audit import recorded_as
from .audit_sets import SETS, with_changes
from .clear import Question, gather
from .person import responsible_person, signed_about_host
from .sources import Sources

if TYPE_CHECKING:
    import sqlalchemy as sa
    from securesystemslib.signer import Signer

_CONTROLS = frozenset({"rfc_state", "window", "scope", "approvals"})
_INSTALLED = frozenset({"other_version", "uncontrolled"})
_RESTORABLE = frozenset({"missing", "other_version", "changed_files", "changed_packages", "other_reading", "not_running"})
_AGAINST = frozenset({"untrusted", "not_in_dsl"})
_NAMED = 5  # hosts that a sentence names
_HISTORY = "reconciled"

Difference = Mapping[str, Any]
Installed = Mapping[tuple[str, str], Mapping[str, Any]]
"""What is on record, by CI and release."""


@dataclass(frozen=True)
class Wish:
    """What somebody wants to be settled: the differences of these kinds, on these hosts; all that there are when nothing is said."""

    restore: bool
    reason: str
    kinds: Collection[str] = ()
    hosts: Collection[str] = ()


@dataclass
class Reconciled:
    """``done``: differences that are on record now, or that a deployment of the RFC restores. ``left``: sentences about the others.

    ``changed``: whether the CMDB was, or would be, changed.
    """

    rfc: str
    person: str
    done: list[Difference] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    changed: bool = False


def reconcile(sources: Sources, address: str, wish: Wish, signer: Signer | None, write: bool) -> Reconciled:
    """Settle the differences of the last audit that ``wish`` is about, those on CIs of the RFC at ``address``, in one transaction.

    Raises :class:`TidegateError` without a reason; unless the RFC is in the register as it reads, approved and open; for hosts that it
    is not about; when there is nothing to settle; while a deployment has locked one of the hosts; and unless somebody signs whom the
    policy names, when it names people.
    """
    reason = " ".join(wish.reason.split())
    if not reason:
        raise TidegateError("no reason is given for reconciling; say in reason why it is so, for those who ask later")
    rfc = load_rfc(address)
    cmdb = sources.cmdb()
    cis = _permitted(sources, cmdb, rfc)
    outside = sorted({*wish.hosts} - {*cis})
    if outside:
        raise TidegateError(f"{rfc.number} is not about {_some(outside)}; take an RFC that has these CIs in its scope")
    with cmdb.begin() if write else cmdb.read() as connection:
        audit = last_audit(connection)
        if audit is None:
            raise NotFoundError(f"the CMDB {cmdb.label} has no audit, so there is nothing to reconcile; run tidegate.release.audit first")
        chosen = _chosen(audit, wish, cis)
        if not chosen:
            raise TidegateError(
                f"the audit of {audit['at']:%Y-%m-%d %H:%M} UTC has named no such difference on the CIs of {rfc.number}; "
                "look at its differences, or audit these hosts again, by --limit when there are many"
            )
        hosts = sorted({one["host"] for one in chosen})
        if locked := sorted(cmdb.locks(hosts, connection)):
            raise TidegateError(f"a deployment is under way on {_some(locked)}; let it end, audit again, and reconcile then")
        person = responsible_person(sources.policy(), signer, sources.now, f"what {rfc.number} reconciles is said")
        result = Reconciled(rfc.number, person)
        _note_cut(audit, result)
        installed = {(row["ci"], row["release"]): row for row in cmdb.installations(hosts, connection)}
        if wish.restore:
            _restore(rfc, chosen, installed, result)
            return result
        sets = _to_record_of_sets(connection, [one for one in chosen if _set_of(one)], result)
        rows, firmware = _to_record(rfc, audit, [one for one in chosen if not _set_of(one)], installed, result)
        result.changed = _write(cmdb, connection, rows, firmware, result.person, sources.now, rfc.number, write) or bool(sets)
        for host, entries in sets.items() if write else ():
            record_sets(connection, host, entries, person, reason, sources.now, rfc.number)
        if write and result.changed:
            append_history(
                connection,
                [
                    {
                        "at": sources.now,
                        "actor": person,
                        "ci": host,
                        "event": _HISTORY,
                        "data": {**about, **signed_about_host(host, RECONCILED, about, signer, sources.now)},
                    }
                    for host, about in _about(rfc, reason, audit, result.done).items()
                ],
            )
    return result


def _permitted(sources: Sources, cmdb: Cmdb, rfc: Rfc) -> tuple[str, ...]:
    """The CIs that an RFC allows to be reconciled; raises :class:`TidegateError` unless it is in the register, approved and open."""
    cis = entered(cmdb, rfc)
    if cis is None:
        remedy = "have it approved, and enter it with tidegate.release.schedule"
        raise TidegateError(f"{rfc.number}, as it reads, is not in the register; {remedy}")
    known = registered(cmdb, [rfc.number]).get(rfc.number)
    if known is None or known.cancelled:
        raise TidegateError(f"{rfc.number} is over, so it allows nothing more; take an RFC that is open")
    facts = gather(sources, rfc, Question(_CONTROLS)).facts
    blocking = [control for control in evaluate_controls(facts, _CONTROLS) if control.blocks]
    if blocking:
        first = blocking[0]
        reason = "; ".join(first.why.splitlines())
        raise TidegateError(f"{rfc.number} allows nothing to be reconciled: {reason}{'; ' if first.remedy else ''}{first.remedy}")
    return cis


def _chosen(audit: Mapping[str, Any], wish: Wish, cis: Collection[str]) -> list[Difference]:
    """The differences of an audit that a wish is about and that an RFC about these ``cis`` can settle."""
    return [
        one
        for one in audit["differences"]
        if one["host"] in cis
        and one["kind"] not in KNOWN
        and (not wish.kinds or one["kind"] in wish.kinds)
        and (not wish.hosts or one["host"] in wish.hosts)
    ]


def _note_cut(audit: Mapping[str, Any], result: Reconciled) -> None:
    more = audit["count"] - len(audit["differences"])
    if more > 0:
        found = counted(more, "further difference")
        remedy = "audit again after this, by --limit when there are many"
        result.left.append(f"the audit found {found} that the history does not name; {remedy}")


def _restore(rfc: Rfc, chosen: Iterable[Difference], installed: Installed, result: Reconciled) -> None:
    """Sort out what a deployment of the RFC brings back: where what is on record is the very package that it names."""
    for one in chosen:
        on_record = installed.get((one["host"], one["release"]))
        if one["kind"] not in _RESTORABLE:
            result.left.append(f"{one['host']}: {one['kind']} is nothing that a deployment brings back: {one['detail']}")
        elif one["release"] == rfc.release and on_record is not None and on_record["digest"] == rfc.digest:
            result.done.append(one)
        else:
            what = f"{rfc.number} is about {rfc.release} {rfc.version}, {rfc.digest}"
            result.left.append(f"{one['host']}: {what}, and on record is {recorded_as(one['release'], on_record)}")


def _set_of(one: Difference) -> str:
    """The set of a host that a difference is of; empty when it is of something else, or too large for the history."""
    name = str(one["kind"]).removeprefix("other_")
    return name if name in SETS and one.get("found") else ""


def _to_record_of_sets(
    connection: sa.Connection, chosen: Sequence[Difference], result: Reconciled
) -> dict[str, dict[str, tuple[str, dict[str, str]]]]:
    """By host and name the sets, sha256 and entries, that are to be put on record; those whose record has changed since are ``left``."""
    known = recorded_sets(connection, {one["host"] for one in chosen})
    found: dict[str, dict[str, tuple[str, dict[str, str]]]] = defaultdict(dict)
    for one in chosen:
        host, name, there = one["host"], _set_of(one), one["found"]
        record = known.get(host, {}).get(name)
        entries = with_changes(record.entries, there) if record else None
        if record is not None and record.sha256 == there["sha256"]:
            result.done.append(one)
        elif entries is None:
            result.left.append(f"{host}: what is on record of its {SETS[name]} has changed since the audit; audit again")
        else:
            found[host][name] = there["sha256"], entries
            result.done.append(one)
    return found


def _to_record(
    rfc: Rfc, audit: Mapping[str, Any], chosen: Iterable[Difference], installed: Installed, result: Reconciled
) -> tuple[list[dict[str, Any]], dict[str, Mapping[str, str]]]:
    """The installations, and by host the versions of firmware, that are to be put on record; what can't be is ``left``."""
    against = {(one["host"], one["release"]): one["detail"] for one in audit["differences"] if one["kind"] in _AGAINST}
    rows: list[dict[str, Any]] = []
    firmware: dict[str, Mapping[str, str]] = {}
    for one in chosen:
        host, name, found = one["host"], one["release"], one.get("found")
        if one["kind"] == "other_firmware" and found:
            firmware[host] = found
            result.done.append(one)
        elif fault := _fault(rfc, one, installed.get((host, name)), against.get((host, name), "")):
            result.left.append(f"{host}: {fault}")
        else:
            rows.append({"ci": host, "release": name, **one["found"]})
            result.done.append(one)
    return [row for row in rows if not _is_same(row, installed.get((row["ci"], row["release"])))], firmware


def _fault(rfc: Rfc, one: Difference, on_record: Mapping[str, Any] | None, against: str) -> str:
    """Why the release that a host runs can't be put on record there under an RFC; empty when it can."""
    name, found = one["release"], one.get("found")
    if one["kind"] not in _INSTALLED or not found:
        remedy = f"; {one['remedy']}" if one["remedy"] else ""
        return f"{one['kind']} is nothing that can be put on record: {one['detail']}{remedy}"
    if (name, found["digest"]) != (rfc.release, rfc.digest):
        return f"{name} {found['version']} is live there, and {rfc.number} is about {rfc.release} {rfc.version}, {rfc.digest}"
    if not against and recorded_as(name, on_record) not in (one["recorded"], recorded_as(name, found)):
        return f"what is on record of {name} has changed since the audit; audit again"
    return against


def _is_same(row: Mapping[str, Any], on_record: Mapping[str, Any] | None) -> bool:
    return on_record is not None and all(row[key] == on_record[key] for key in ("version", "digest"))


def _write(
    cmdb: Cmdb,
    connection: sa.Connection,
    rows: Sequence[Mapping[str, Any]],
    firmware: Mapping[str, Mapping[str, str]],
    person: str,
    now: datetime,
    number: str,
    write: bool,
) -> bool:
    """Put it on record, in the caller's transaction; whether that changes anything."""
    known = {str(ci["name"]): {**_firmware(ci), **firmware[ci["name"]]} for ci in cmdb.cis(firmware, connection)}
    changes = [{"name": host, "attributes": {"firmware": versions}} for host, versions in known.items()]
    note = {"rfc": number, "reason": "reconciled with what an audit found"}
    put = cmdb.put_cis(changes, person, dry_run=not write, connection=connection, merge=True, note=note) if changes else None
    if rows and write:
        cmdb.record_installations(connection, rows, person, now)
    return bool(rows) or (put is not None and bool(put.updated))


def _firmware(ci: Mapping[str, Any]) -> dict[str, Any]:
    said = ci["attributes"].get("firmware")
    return dict(said) if isinstance(said, Mapping) else {}


def _about(rfc: Rfc, reason: str, audit: Mapping[str, Any], done: Iterable[Difference]) -> dict[str, dict[str, Any]]:
    """What the history says of each host."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in done:
        found[one["host"]].append({key: one.get(key) for key in ("kind", "release", "recorded", "found", "since", "covered_by")})
    about = {"rfc": rfc.number, "reason": reason, "audit": audit["at"].isoformat()}
    return {host: {**about, "differences": settled} for host, settled in sorted(found.items())}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
