# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of packages out of the library: their notes, licences and parts, and what people and machines signed about them.

A report is there for whoever has to look into trouble, so a library that can't be read is a sentence on a page, never an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..dsl.descriptors import TITLE
from ..dsl.package import load_package
from ..dsl.repository import Repository, open_library
from ..errors import TidegateError
from ..evidence.approval import Matter
from ..evidence.envelope import Sealed, open_envelope
from ..evidence.statement import CLEARED, UNDATED, kind_of, purl, rfc_of
from ..evidence.store import Evidence, collect
from ..evidence.trust import Owners, revoked, statement_fault
from ..evidence.waiver import waiver_fault
from ..policy.model import Policy
from .changes import time_text

PACKAGES = 60
"""As many packages are looked at for one report, the first that are asked for: each may be behind a network."""
_NOTES = re.compile(r"(?i)(?:.*/)?(?:release[-_ ]?)?(?:notes|changes|changelog|news|readme)(?:\.[a-z]{1,8})?")
_NOTES_BYTES = 20_000  # of the documents of one package that are shown
_PIECES = 200  # of evidence on a page, the newest
_TOP = 30  # licences that are counted one by one
_SAID = 300  # letters of what a piece of evidence says


@dataclass(frozen=True)
class LookedUp:
    """What the library says of packages. ``packages``: by digest, ``evidence``: the envelopes about each; ``fault``: why nothing is known,
    empty when something is."""

    packages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    fault: str = ""


def look_up(dsl: str | None, wanted: Iterable[tuple[str, str]]) -> LookedUp:
    """What the library at the address ``dsl`` says of packages, each a name and a digest, as far as it can be read."""
    if dsl is None:
        return LookedUp(fault="the report was given no library; set tidegate_dsl, so that it says what people signed")
    packages: dict[str, dict[str, Any]] = {}
    evidence: dict[str, Evidence] = {}
    try:
        library = open_library(dsl).at_one_moment()
        for name, digest in list(dict.fromkeys(wanted))[:PACKAGES]:
            home = library.repository(name)
            try:
                evidence[digest] = collect(home, digest)
                packages[digest] = _package(home, digest, evidence[digest])
            except TidegateError as error:
                packages[digest] = {**_NOTHING, "fault": str(error)}
    except TidegateError as error:
        return LookedUp(packages, evidence, f"the library could not be read: {error}")
    return LookedUp(packages, evidence)


_NOTHING: Mapping[str, Any] = {
    "summary": "", "type": "", "licence": None, "files": 0, "bytes": 0, "documents": [], "notes": [], "sbom": None, "fault": "",
}  # fmt: skip


def _package(home: Repository, digest: str, evidence: Evidence) -> dict[str, Any]:
    package = load_package(home, digest)
    manifest = package.manifest
    titles = [(part.annotations.get(TITLE, ""), part) for part in package.documentation]
    room, notes = _NOTES_BYTES, []
    for title, part in titles:
        if _NOTES.fullmatch(title) and part.size <= room:
            notes.append({"title": title, "text": home.read_blob(part.digest, _NOTES_BYTES).decode("utf-8", "replace")})
            room -= part.size
    sizes = [entry.size or 0 for entry in package.files]
    return {
        **_NOTHING,
        **{name: getattr(manifest, name) for name in ("summary", "type", "licence")},
        "files": len(sizes),
        "bytes": sum(sizes),
        "documents": [title for title, _part in titles][:_PIECES],
        "notes": notes,
        "sbom": _sbom(evidence),
    }


def _sbom(evidence: Evidence) -> dict[str, Any] | None:
    """How many parts the newest SBOM of a package has, and under which licences they are."""
    newest: Sealed | None = None
    for content in evidence:
        sealed = _opened(content)
        if sealed is not None and kind_of(sealed.statement.type) == "sbom" and (newest is None or sealed.signed_at >= newest.signed_at):
            newest = sealed
    if newest is None:
        return None
    parts = newest.statement.predicate.get("components")
    parts = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
    licences = Counter(_licence(part) for part in parts)
    return {
        "at": None if newest.signed_at == UNDATED else time_text(newest.signed_at),
        "components": len(parts),
        "licences": [{"licence": licence[:_SAID], "parts": count} for licence, count in licences.most_common(_TOP)],
        "more_licences": max(0, len(licences) - _TOP),
    }


def _licence(part: Mapping[str, Any]) -> str:
    listed = part.get("licenses")
    found = []
    for one in listed if isinstance(listed, list) else []:
        own = one.get("license") if isinstance(one, Mapping) else None
        said = one.get("expression") if isinstance(one, Mapping) else None
        said = said or (own.get("id") or own.get("name") if isinstance(own, Mapping) else None)
        found += [said] if isinstance(said, str) else []
    return " AND ".join(found) or "not declared"


def _opened(content: bytes) -> Sealed | None:
    try:
        return open_envelope(content)
    except TidegateError:
        return None


def evidence_page(evidence: Evidence, policy: Policy, matter: Matter, now: datetime) -> dict[str, Any]:
    """What was signed about a change or its package, newest first, who did with which key, and why a piece does not count if it doesn't."""
    owners = Owners(policy)
    pieces = []
    for content in evidence:
        sealed = _opened(content)
        if sealed is None:
            continue
        statement = sealed.statement
        only_for = rfc_of(statement.type, statement.predicate)
        if only_for not in ("", matter.rfc):
            continue
        kind = kind_of(statement.type) or statement.type
        makers = [found for number in range(len(sealed.signatures)) if (found := owners.of(sealed, number))]
        pieces.append(
            {
                "kind": kind[:_SAID],
                "at": None if sealed.signed_at == UNDATED else time_text(sealed.signed_at),
                "by": sorted({name for name, _key in makers}),
                "keys": sorted({key.id for _name, key in makers} or sealed.keys),
                **_said(kind, statement.predicate),
                "fault": _fault(sealed, makers, policy, matter, now),
            }
        )
    pieces.sort(key=lambda piece: str(piece["at"] or ""), reverse=True)
    newest = next((piece for piece in pieces if piece["kind"] == "clearance"), None)
    for piece in pieces:
        if piece is not newest:
            piece["controls"] = {}
    unread = [*evidence.broken, *evidence.foreign]
    more = len(pieces[_PIECES:])
    return {"pieces": pieces[:_PIECES], "more": more, "unread": [line[:_SAID] for line in unread[:_PIECES]], "fault": ""}


def _said(kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """What a piece says, in a word and a reason, and for how long; of a clearance, what each control came to."""
    said = {"role": predicate.get("role"), "says": "", "reason": predicate.get("comment") or predicate.get("reason"), "until": None}
    controls: Mapping[str, Any] = {}
    if kind == "approval":
        said["says"] = predicate.get("decision")
    elif kind == "waiver":
        said |= {"says": f"waives {predicate.get('control')}", "until": predicate.get("expires")}
    elif kind == "opinion":
        said["says"] = "objects" if predicate.get("blocking") is True else "has no objection"
    elif kind == "clearance":
        said["says"] = "cleared" if predicate.get("verificationResult") == "PASSED" else "not cleared"
        own = predicate.get(CLEARED)
        listed = own.get("controls") if isinstance(own, Mapping) else None
        controls = listed if isinstance(listed, Mapping) else {}
    elif kind in ("scan", "test-result", "settlement"):
        said["says"] = predicate.get("result") or predicate.get("duty")
    texts = {name: value[:_SAID] if isinstance(value, str) else "" for name, value in said.items() if name != "until"}
    until = said["until"] if isinstance(said["until"], str) else None
    return {**texts, "until": until, "controls": {str(name)[:_SAID]: str(result)[:_SAID] for name, result in sorted(controls.items())}}


def _fault(sealed: Sealed, makers: Collection[tuple[str, Any]], policy: Policy, matter: Matter, now: datetime) -> str:
    """Why a piece does not count, as far as it can be said without the controls; empty when nothing speaks against it."""
    statement = sealed.statement
    if not policy.people:
        return "the policy names nobody, so nobody's signature counts"
    if not makers:
        return "signed by nobody whom the policy names"
    if all(revoked(sealed, key) for _name, key in makers):
        return "its key was revoked"
    role = statement.predicate.get("role")
    if isinstance(role, str) and not any(role in policy.people[name].roles for name, _key in makers):
        return f"nobody of those has the role {role}"[:_SAID]
    found = statement_fault(sealed, matter.digest, purl(matter.release, matter.version), now)
    kind = kind_of(statement.type)
    if not found and kind == "approval":
        found = matter.fault(statement)
    if not found and kind == "waiver":
        found = waiver_fault(statement, matter, now)
    return found[:_SAID]
