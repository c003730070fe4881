# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify a CMDB: its history and journal are what was written, to the end that signed documents saw, and its rows what the history says."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ..cmdb.chain import TABLES, heads
from ..cmdb.links import Chain, Head
from ..cmdb.past import lines_of, present, undecoded
from ..cmdb.replay import differences, replay
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..cmdb.triggers import trigger_faults
from ..dsl.repository import Library
from ..errors import IntegrityError, TidegateError
from ..evidence.envelope import open_envelope
from ..evidence.statement import CLEARANCE, CLEARED, GATES, Statement
from ..evidence.store import collect
from ..evidence.trust import Owners
from ..policy.model import Policy
from ..rollout.archive_file import documents_in, read_archive
from ..strict_json import read_object

with suppress(ImportError):
    import sqlalchemy as sa

CHAINED = "chained"
"""The event of the line in which an upgrade says which lines it found and chained."""
_NAMED = 100  # rows that are named; the others are counted


@dataclass(frozen=True)
class SeenHeads:
    """The last lines of the history and of the journal that a document saw, by the table; ``what`` is the document."""

    what: str
    heads: Mapping[str, Head]


@dataclass(frozen=True)
class VerifyFinding:
    """Something that is not as it was written: ``kind`` is edited, removed, inserted or truncated of a line of ``table``, or trigger,
    archive or row; ``line`` is 0 and ``ci`` empty where there is none."""

    kind: str
    sentence: str
    table: str = ""
    line: int = 0
    ci: str = ""


@dataclass
class Verified:
    """What came of it. ``lines`` by table, ``cis`` that were compared, ``documents`` whose heads were; ``count`` of all that was found, of
    which ``findings`` are the first; ``chained``: what the lines of upgrades say that these chained."""

    heads: dict[str, Head]
    lines: dict[str, int] = field(default_factory=dict)
    cis: int = 0
    documents: int = 0
    count: int = 0
    findings: list[VerifyFinding] = field(default_factory=list)
    chained: list[dict[str, Any]] = field(default_factory=list)


def verify_cmdb(cmdb: Cmdb, seen: Sequence[SeenHeads]) -> Verified:
    """Look at every line and every row, all of one moment; nothing is written.

    ``seen``: what documents say that they saw. Archives of the journal are read where :mod:`.journal_archive` put them.
    """
    try:
        return _verify(cmdb, seen, broken=False)
    except TidegateError as error:
        if "Could not decode" not in str(error):
            raise
    return _verify(cmdb, seen, broken=True)  # slower: a text is none, as a flipped bit makes it


def _verify(cmdb: Cmdb, seen: Sequence[SeenHeads], *, broken: bool) -> Verified:
    t = schema()
    reading: Any = undecoded if broken else nullcontext
    with cmdb.read() as connection, reading(connection):
        result = Verified(heads(connection), documents=len(seen))
        result.findings += [VerifyFinding("trigger", sentence) for sentence in trigger_faults(connection)]
        if lacking := sorted(set(TABLES) - result.heads.keys()):
            result.findings += [VerifyFinding("removed", f"the table chain has lost where the {table} ends", table) for table in lacking]
        result.count = len(result.findings)
        parts, away = _archives(connection, result)

        def chain(table: str, lines: Iterable[Mapping[str, Any]], gone: Sequence[tuple[int, int]] = ()) -> Iterator[Mapping[str, Any]]:
            of = [(one.heads[table], one.what) for one in seen if table in one.heads]
            walk = Chain(table, of, gone)
            yield from walk.over(lines)
            walk.end(result.heads.get(table, Head()))
            result.lines[table] = walk.lines
            result.count += walk.count
            result.findings += [VerifyFinding(fault.kind, fault.sentence, table, fault.seq) for fault in walk.faults]

        past = replay(_marked(chain("history", lines_of(connection, t.history)), result.chained))
        for _line in chain("journal", _in_order(lines_of(connection, t.journal), parts), away):
            pass
        unlike = differences(past, present(cmdb, connection))
    result.cis = len(past.cis)
    result.count += len(unlike)
    result.findings += [VerifyFinding("row", sentence, ci=ci) for ci, sentence in unlike[:_NAMED]]
    return result


def _marked(lines: Iterable[Mapping[str, Any]], chained: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        if line["event"] == CHAINED and line["ci"] is None:
            said = line["data"] if isinstance(line["data"], Mapping) else {}
            chained.append({"at": str(line["at"]), **said})
        yield line


# -- archives of the journal -----------------------------------------------


@dataclass(frozen=True, order=True)
class _ArchivePart:
    """The lines of the journal that a file has: ``first`` is the number of the first one."""

    first: int
    read: Callable[[], list[dict[str, Any]]] = field(compare=False)


def _archives(connection: sa.Connection, result: Verified) -> tuple[list[_ArchivePart], list[tuple[int, int]]]:
    """The files that have lines of the journal, and from which to which line those may be that no file has as it was written."""
    a, h = schema().journal_archive.c, schema().history.c
    files: dict[tuple[str, str], set[int]] = {}
    for row in connection.execute(sa.select(a.deployment_id, a.file, a.sha256)):
        files.setdefault((row.file, row.sha256), set()).add(row.deployment_id)
    told = lines_of(connection, schema().history, h.event == "journal archived", h.ci.is_(None))
    said = {data.get("sha256"): data.get("lines") for data in (line["data"] for line in told) if isinstance(data, Mapping)}
    parts, away = [], []
    for (file, digest), numbers in files.items():
        lines = said.get(digest)
        if not (isinstance(lines, list) and len(lines) == 2 and all(isinstance(one, int) for one in lines)):
            continue  # of before the lines were chained
        first, last = lines
        try:
            read_archive(Path(file), digest)
        except TidegateError as error:
            away.append((first, last))
            result.count += 1
            result.findings.append(
                VerifyFinding("archive", f"lines {first} to {last} of the journal can't be verified: {error}", "journal", first)
            )
        else:
            parts.append(_ArchivePart(first, partial(_lines_in, Path(file), digest, numbers)))
    return parts, away


def _lines_in(file: Path, digest: str, numbers: set[int]) -> list[dict[str, Any]]:
    _head, body = read_archive(file, digest)
    documents = (document for document in documents_in(body) if document["deployment"]["id"] in numbers)
    lines = [{**line, "at": datetime.fromisoformat(line["at"])} for document in documents for line in document["journal"]]
    return sorted(lines, key=lambda line: int(line["seq"]))


def _in_order(lines: Iterable[Mapping[str, Any]], parts: Iterable[_ArchivePart]) -> Iterator[Mapping[str, Any]]:
    """The lines of the database and of files, by number; a file is in memory from its first line to its last."""
    waiting = sorted(parts, reverse=True)
    opened: list[tuple[int, int, list[dict[str, Any]]]] = []  # the next line's number, one of the file's own, and what is left of it

    def until(seq: float) -> Iterator[Mapping[str, Any]]:
        while (waiting and waiting[-1].first < seq) or (opened and opened[0][0] < seq):
            if waiting and (not opened or waiting[-1].first < opened[0][0]):
                left = waiting.pop().read()[::-1]
            else:
                _seq, _number, left = heapq.heappop(opened)
                yield left.pop()
            if left:
                heapq.heappush(opened, (left[-1]["seq"], id(left), left))

    for line in lines:
        yield from until(line["seq"])
        yield line
    yield from until(float("inf"))


# -- what documents saw ----------------------------------------------------


def seen_in_library(library: Library, policy: Policy, now: datetime) -> tuple[list[SeenHeads], list[str]]:
    """What the signed clearances and gates saw that are beside the packages of a library; and a sentence for each release whose evidence
    can't be read, or has a piece that can't. Only what somebody signed counts whom the policy knows."""
    owners, found, problems = Owners(policy), [], []
    for (name, version), package in sorted(library.releases().items()):
        try:
            evidence = collect(library.repository(name), package.digest)
        except IntegrityError as error:
            problems.append(f"what was signed about {name} {version} can't be read: {error}")
            continue
        problems += [f"what was signed about {name} {version} can't be read: {sentence}" for sentence in evidence.broken]
        for content in evidence:
            with suppress(IntegrityError):
                sealed = open_envelope(content, package.digest)
                said = heads_in(sealed.statement)
                if said and (people := owners.holding(sealed, now)):
                    found.append(SeenHeads(_described(sealed.statement, sealed.signed_at, people), said))
    return found, problems


def seen_in_file(path: Path, policy: Policy, now: datetime) -> SeenHeads:
    """What a signed clearance or a ``report.json`` saw; raises :class:`TidegateError` when it says nothing of that."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TidegateError(f"{path} can't be read ({error.strerror}); name a signed clearance or a report.json") from error
    document = read_object(content, str(path))
    if "payload" in document:
        sealed = open_envelope(content)
        people = Owners(policy).holding(sealed, now)
        if not people:
            raise TidegateError(f"{path} was signed by nobody whom the policy names, so it proves nothing; give the policy that names them")
        said, what = heads_in(sealed.statement), _described(sealed.statement, sealed.signed_at, people)
    else:
        said, what = _heads(document.get("heads")), f"the report {path} of {document.get('generated')!s:.40}"
    if not said:
        raise TidegateError(f"{path} does not say where the history and the journal ended; name a signed clearance or a report.json")
    return SeenHeads(what, said)


def heads_in(statement: Statement) -> dict[str, Head]:
    """The heads that a clearance or the gates of a deployment saw; empty when it says none."""
    predicate: Any = statement.predicate
    if statement.type == CLEARANCE:
        predicate = predicate.get(CLEARED)
    elif statement.type != GATES:
        return {}
    return _heads(predicate.get("heads")) if isinstance(predicate, Mapping) else {}


def _heads(said: object) -> dict[str, Head]:
    found = {}
    for table in TABLES:
        one = said.get(table) if isinstance(said, Mapping) else None
        if isinstance(one, Mapping) and isinstance(one.get("seq"), int) and isinstance(one.get("sha256"), str):
            found[table] = Head(one["seq"], one["sha256"])
    return found


def _described(statement: Statement, signed_at: datetime, people: Sequence[str]) -> str:
    predicate: Any = statement.predicate.get(CLEARED) if statement.type == CLEARANCE else statement.predicate
    rfc = json.dumps(str(predicate.get("rfc")))[1:-1]
    what = "clearance" if statement.type == CLEARANCE else "record of the gates"
    return f"the {what} of {rfc:.60} that {', '.join(people)} signed at {signed_at.astimezone(UTC).isoformat(timespec='seconds')}"
