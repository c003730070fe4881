# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened to CIs and under RFCs: the lines of the CMDB's history and of the journal, those in archive files among them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..cmdb.schema import schema
from .archive_file import documents_in, read_archive
from .bake_record import BAKE_EVENTS, Line, judge_again
from .states import DATA_EVENTS

with suppress(ImportError):
    import sqlalchemy as sa

_OF_WRITERS = {"number": "rfc", "reason": "reason", "revision": "revision"}  # names in an answer, by those in the data of a line


@dataclass(frozen=True)
class PastOf:
    """Whose past is asked for: of the CIs ``names``, of the RFC ``rfc``, or of these CIs under this RFC."""

    names: Collection[str] = ()
    rfc: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def has(self, at: datetime) -> bool:
        """Whether a moment is in the time that is asked for, its ends included."""
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)

    def is_about(self, row: Mapping[str, Any]) -> bool:
        """Whether a line of the journal is about one of the CIs, as far as these are asked for; data change on a host, too."""
        host = row["host"] if row["event"] not in DATA_EVENTS else row["data"].get("host")
        return not self.names or host in self.names


def history_lines(connection: sa.Connection, asked: PastOf) -> list[dict[str, Any]]:
    """What the CMDB's history says of CIs ``names``, in order, or without them of what was written under the RFC. It is never archived.

    Each with ``at``, ``actor``, ``ci``, ``event``, ``data``, and what its writer said: ``number`` of the RFC, ``reason`` and ``revision``.
    """
    of = schema().history.c
    select = sa.select(of.at, of.actor, of.ci, of.event, of.data).where(of.ci == sa.bindparam("name")).order_by(of.seq)
    rows = [dict(row) for name in dict.fromkeys(asked.names) for row in connection.execute(select, {"name": name}).mappings()]
    if asked.rfc and not asked.names:
        text = sa.cast(of.data, sa.Text)
        under = sa.select(of.at, of.actor, of.ci, of.event, of.data).where(text.contains('"rfc"', autoescape=True)).order_by(of.seq)
        rows = [dict(row) for row in connection.execute(under).mappings() if row["data"].get("rfc") == asked.rfc]
    rows = [row | {name: row["data"].get(key) for name, key in _OF_WRITERS.items()} for row in rows]
    return [{**row, "at": _text(row["at"])} for row in sorted(rows, key=lambda row: row["at"]) if asked.has(row["at"])]


def journal_lines(connection: sa.Connection, asked: PastOf, archived: bool) -> list[dict[str, Any]]:
    """What the journal says, in order: ``at``, ``deployment``, ``release``, ``version``, ``host``, ``wave``, ``event``, ``data``, and as
    ``file`` the archive that a line is in, ``None`` for the CMDB.

    Without ``archived`` no archive is read. Raises :class:`NotFoundError` or :class:`IntegrityError` when one is not there as it was
    written.
    """
    lines = [*_in_cmdb(connection, asked), *(_in_files(connection, asked) if archived else ())]
    return [{**line, "at": _text(line["at"])} for line in sorted(lines, key=lambda line: line["at"])]


def gates_again(connection: sa.Connection, rfc: str, archived: bool) -> list[dict[str, Any]]:
    """Every gate after a wave of an RFC's deployments, judged again by the journal's lines and nothing else.

    Each with ``deployment``, ``wave``, ``at``, ``decision`` and ``reason``, what both are ``again``, and whether they are the ``same``.
    ``archived`` and what is raised: as for :func:`journal_lines`.
    """
    asked = PastOf(rfc=rfc)
    lines = [*_in_cmdb(connection, asked), *(_in_files(connection, asked) if archived else ())]  # in the order in which they were written
    found = []
    for label in dict.fromkeys(line["deployment"] for line in lines):
        about = [line for line in lines if line["deployment"] == label and line["host"] is None and line["event"] in BAKE_EVENTS]
        for gate in judge_again(Line(line["at"], line["event"], line["wave"], line["data"]) for line in about):
            again = {"decision": gate.again.decision, "reason": gate.again.reason}
            decided = {"decision": gate.decided.decision, "reason": gate.decided.reason}
            found.append({"deployment": label, "wave": gate.wave, "at": _text(gate.at), **decided, "again": again, "same": gate.same})
    return found


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _in_cmdb(connection: sa.Connection, asked: PastOf) -> Iterator[dict[str, Any]]:
    t = schema()
    j, d = t.journal.c, t.deployment.c
    columns = (j.at, d.id, d.rfc, d.release, d.version, j.host, j.wave, j.event, j.data)
    select = sa.select(*columns).join(t.deployment, d.id == j.deployment_id).order_by(j.seq)
    if asked.rfc:
        select = select.where(d.rfc == asked.rfc)
    if asked.names:
        select = select.where(j.host.in_(asked.names) | j.event.in_(sorted(DATA_EVENTS)))
    for row in map(dict, connection.execute(select).mappings()):
        if asked.has(row["at"]) and asked.is_about(row):
            yield _line(row, row, None)


def _in_files(connection: sa.Connection, asked: PastOf) -> Iterator[dict[str, Any]]:
    t = schema()
    a, d = t.journal_archive.c, t.deployment.c
    select = sa.select(a.deployment_id, a.file, a.sha256).join(t.deployment, d.id == a.deployment_id)
    files: dict[tuple[str, str], set[int]] = {}
    for row in connection.execute(select.where(d.rfc == asked.rfc) if asked.rfc else select):
        files.setdefault((row.file, row.sha256), set()).add(row.deployment_id)
    for (file, digest), numbers in files.items():
        _head, body = read_archive(Path(file), digest)
        for document in documents_in(body):
            if document["deployment"]["id"] not in numbers:
                continue
            for row in document["journal"]:
                line = {**row, "at": datetime.fromisoformat(row["at"])}
                if asked.has(line["at"]) and asked.is_about(row):
                    yield _line(line, document["deployment"], file)


def _line(row: Mapping[str, Any], deployment: Mapping[str, Any], file: str | None) -> dict[str, Any]:
    named = {"deployment": f"{deployment['rfc']}#{deployment['id']}", "release": deployment["release"], "version": deployment["version"]}
    return {"at": row["at"], **named, **{key: row[key] for key in ("host", "wave", "event", "data")}, "file": file}
