# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move what the journal says of deployments that are long over into files.

A deployment's own row stays, and so does its change's: what is archived is still known to be over, and is never begun again. Its waves,
hosts and lines in the journal, and the CIs of its change, are what grows. They leave the CMDB only when a file has them, on disk and read
back, in the one transaction that compares both.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cmdb.chain import append_history
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..errors import ConflictError, IntegrityError, TidegateError
from ..evidence.envelope import sign
from ..evidence.statement import JOURNAL, Statement
from ..files import make_folder
from ..policy.model import Policy
from ..report.attention import waiting_deployments
from ..rollout.archive_file import body_of, deployment_document, digest_of, read_archive, write_archive
from ..rollout.states import CHANGED, OPEN, DataState, HostState
from .person import responsible_person

with suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

# In one file, and in one transaction, which others wait for.
_DEPLOYMENTS, _HOSTS = 100, 20_000


@dataclass(frozen=True)
class JournalArchived:
    """What was moved, or would be: ``deployments`` of ``total`` that the journal had; ``files`` have them now. ``kept``: of those that
    ended before the policy's term, how many stay, by the reason."""

    deployments: list[str]
    total: int
    kept: dict[str, int]
    files: list[str]
    person: str


def archive_journal(
    cmdb: Cmdb, policy: Policy, directory: Path, reason: str, signer: Signer | None, now: datetime, write: bool
) -> JournalArchived:
    """Archive what the policy's term is over for, into files in ``directory``; nothing stays to be done when it is run again.

    Raises :class:`TidegateError` without a reason, unless somebody signs it whom the policy names, when it names people, and when a file
    can't be written or is not what was written: then the CMDB has all that it had, but for what other files have.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise TidegateError("no reason is given for archiving; say in reason what it is for, for those who ask later")
    person = responsible_person(policy, signer, now, "the journal is archived")
    before = now - timedelta(days=policy.journal_days)
    with cmdb.read() as connection:
        total = _total(connection)
        found = _sort(connection, before)
    order = _Order(directory.absolute(), reason, person, signer, now)
    files = [str(_archive(cmdb, batch, order)) for batch in _batches(found.over)] if write else []
    labels = [f"{rfc}#{number}" for rfc, numbers in found.over.items() for number in numbers]
    return JournalArchived(labels, total, found.kept, files, person)


@dataclass(frozen=True)
class _Order:
    directory: Path
    reason: str
    person: str
    signer: Signer | None
    now: datetime

    def head(self, name: str, batch: list[int], body: bytes) -> dict[str, Any]:
        said = {"reason": self.reason, "by": self.person, "deployments": batch}
        statement = Statement(name, digest_of(body), JOURNAL, said)
        envelope = json.loads(sign(statement, self.signer, self.now)) if self.signer is not None else None
        return {"statement": statement.to_json(self.now), "envelope": envelope}


def _archive(cmdb: Cmdb, batch: list[int], order: _Order) -> Path:
    """Archive one batch: the file first, then, when it is what the CMDB has, the rows."""
    with cmdb.read() as connection:
        body = body_of(deployment_document(connection, number) for number in batch)
    name = f"journal-{batch[0]}-{batch[-1]}"
    try:
        make_folder(order.directory)
        path, digest = write_archive(order.directory, name, order.head(name, batch, body), body)
    except OSError as error:
        raise TidegateError(
            f"{name} can't be written in {order.directory} ({error.strerror}); nothing of it left the CMDB, make room and run this again"
        ) from error
    with cmdb.begin() as connection:
        _head, read = read_archive(path, digest)
        if read != body_of(deployment_document(connection, number) for number in batch):
            raise IntegrityError(f"{path} is not what the CMDB has; nothing of it left the CMDB, run this again")
        _refuse_needed(connection, batch)
        _delete(connection, batch, path, digest, order)
    return path


def _delete(connection: sa.Connection, batch: list[int], path: Path, digest: str, order: _Order) -> None:
    t = schema()
    j = t.journal.c
    lines = connection.execute(sa.select(sa.func.min(j.seq), sa.func.max(j.seq)).where(j.deployment_id.in_(batch))).one()
    note = {"file": str(path), "sha256": digest, "at": order.now, "actor": order.person, "reason": order.reason}
    # The journal lets go of nothing but what this table names.
    connection.execute(sa.insert(t.journal_archive), [{"deployment_id": number, **note} for number in batch])
    of_batch = sa.select(t.deployment.c.rfc).where(t.deployment.c.id.in_(batch))
    # A change that never ended, as one that was cancelled, is in calendars still, with its CIs and their sites.
    in_calendars = sa.select(t.change.c.number).where(t.change.c.work_end.is_(None))
    of_change = t.change_ci.c.number
    connection.execute(sa.delete(t.change_ci).where(of_change.in_(of_batch), of_change.not_in(in_calendars)))
    for table in (t.journal, t.deployment_host, t.wave, t.controller):
        connection.execute(sa.delete(table).where(table.c.deployment_id.in_(batch)))
    said = {"file": path.name, "sha256": digest, "reason": order.reason, "deployments": batch, "lines": list(lines)}
    append_history(connection, [{"at": order.now, "actor": order.person, "event": "journal archived", "data": said}])


def _total(connection: sa.Connection) -> int:
    t = schema()
    gone = sa.select(sa.func.count()).select_from(t.journal_archive).scalar_subquery()
    return int(connection.execute(sa.select(sa.func.count() - gone).select_from(t.deployment)).scalar_one())


def _refuse_needed(connection: sa.Connection, batch: list[int]) -> None:
    """Raise :class:`ConflictError` when one of a batch is needed or archived by now.

    It is needed when it is open, installed or locked, or when its RFC is owed something, under way, or has a deployment that is not of
    the batch: the CIs of a change are there once, for all of them.
    """
    t = schema()
    d, other = t.deployment.c, t.deployment.alias().c
    needed = sa.or_(
        d.state.in_(OPEN),
        *(d.id.in_(sa.select(column)) for column in (t.lock.c.deployment_id, t.journal_archive.c.deployment_id)),
        sa.select(t.installation.c.id).where(t.installation.c.deployment_id == d.id).exists(),
        sa.select(other.id).where(other.rfc == d.rfc, other.id.not_in(batch)).exists(),
        d.rfc.in_(_owing()),
        d.rfc.in_(_under_way()),
    )
    found = connection.execute(sa.select(d.rfc, d.id).where(d.id.in_(batch), needed).limit(1)).first()
    if found is not None:
        raise ConflictError(f"{found.rfc}#{found.id} is in use again; nothing of what goes with it left the CMDB, run this again")


def _owing() -> sa.Select[tuple[str]]:
    debt = schema().debt.c
    return sa.select(debt.rfc).where(debt.settled.is_(None))


def _under_way() -> sa.Select[tuple[str]]:
    change = schema().change.c
    return sa.select(change.number).where(change.work_start.is_not(None), change.work_end.is_(None))


@dataclass(frozen=True)
class _Sorted:
    """``over``: for each RFC all of whose deployments may be archived, whose last one ended earlier first, the number of each and of its
    hosts. ``kept``: of those that ended before the term, how many stay for which reason."""

    over: dict[str, dict[int, int]]
    kept: dict[str, int]


def _sort(connection: sa.Connection, before: datetime) -> _Sorted:
    """Find out what may be archived.

    What is open, younger than ``before``, installed or locked somewhere, owed or waiting for a person stays. So does what changed a host
    last since a deployment of the same release was planned that stays: whether that one was superseded there has to be found out. And so
    does the last that changed data which one that stays may have to bring back.
    """
    t = schema()
    d = t.deployment.c
    rows = connection.execute(
        sa.select(d.id, d.rfc, d.release, d.state, d.data_state, sa.func.coalesce(d.finished, d.created).label("over"))
        .where(d.id.not_in(sa.select(t.journal_archive.c.deployment_id)))
        .order_by(d.id)
    ).all()
    of_rfc: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        of_rfc[row.rfc].append(row)
    why: dict[str, str] = {}
    reasons: dict[str, set[int]] = {
        "a host of theirs runs what they installed": set(connection.scalars(_numbers(t.installation.c.deployment_id))),
        "they have locks": set(connection.scalars(_numbers(t.lock.c.deployment_id))),
        "they wait for a person": waiting_deployments(connection),
        "their RFC has a deployment that is not over for long": {row.id for row in rows if row.state in OPEN or row.over >= before},
    }
    for reason, numbers in reasons.items():
        why |= {row.rfc: reason for row in rows if row.id in numbers and row.rfc not in why}
    owing = {str(rfc) for select in (_owing(), _under_way()) for rfc in connection.scalars(select)}
    why |= dict.fromkeys(owing - why.keys(), "their RFC is owed something, or is under way")
    hosts: dict[int, list[str]] = defaultdict(list)
    h = t.deployment_host.c
    for number, host in connection.execute(sa.select(h.deployment_id, h.host)):
        hosts[number].append(host)
    planned, last = _planned(connection), _last_changes(connection)
    of_data = [row for row in reversed(rows) if row.data_state in (*CHANGED, DataState.KEPT)]
    asking = [row for row in rows if row.rfc in why]
    while asking:
        row = asking.pop()
        for host in hosts[row.id]:
            seq, rfc = last.get((row.release, host), (0, row.rfc))
            if seq > planned.get(row.id, 0) and rfc not in why:
                why[rfc] = "they changed a host last after another of the same release that stays"
                asking += of_rfc[rfc]
        if row.data_state == DataState.MIGRATED:
            mine = set(hosts[row.id])
            later = (one for one in of_data if one.id > row.id and one.release == row.release)
            newest = next((one for one in later if not mine.isdisjoint(hosts[one.id])), row)
            if newest.rfc not in why:
                why[newest.rfc] = "they changed data after another of the same release that stays"
                asking += of_rfc[newest.rfc]
    over = sorted((item for item in of_rfc.items() if item[0] not in why), key=lambda item: item[1][-1].id)
    kept = Counter(why[row.rfc] for row in rows if row.rfc in why and row.state not in OPEN and row.over < before)
    return _Sorted({rfc: {row.id: len(hosts[row.id]) for row in found} for rfc, found in over}, dict(kept))


def _numbers(column: sa.ColumnElement[Any]) -> sa.Select[tuple[int]]:
    return sa.select(column).where(column.is_not(None)).distinct()


def _planned(connection: sa.Connection) -> dict[int, int]:
    """The first line of each deployment."""
    j = schema().journal.c
    rows = connection.execute(sa.select(j.deployment_id, sa.func.min(j.seq)).group_by(j.deployment_id))
    return {row[0]: row[1] for row in rows}


def _last_changes(connection: sa.Connection) -> dict[tuple[str, str], tuple[int, str]]:
    """For each release and host the last line that says that it was about to be changed, and the RFC of that."""
    t = schema()
    j, d = t.journal.c, t.deployment.c
    changes = j.event.in_((HostState.ACTIVATING, HostState.BACKING_OUT))
    found: dict[tuple[str, str], tuple[int, str]] = {}
    lines = sa.select(d.release, j.host, sa.func.max(j.seq), d.rfc).join(t.deployment, d.id == j.deployment_id)
    for release, host, seq, rfc in connection.execute(lines.where(changes, j.host.is_not(None)).group_by(d.release, d.rfc, j.host)):
        found[release, host] = max(found.get((release, host), (0, "")), (seq, rfc))
    return found


def _batches(eligible: Mapping[str, Mapping[int, int]]) -> Iterator[list[int]]:
    """The numbers for one file each; all of an RFC are in the same one."""
    batch: list[int] = []
    size = 0
    for numbers in eligible.values():
        hosts = sum(numbers.values())
        if batch and (len(batch) + len(numbers) > _DEPLOYMENTS or size + hosts > _HOSTS):
            yield batch
            batch, size = [], 0
        batch += numbers
        size += hosts
    if batch:
        yield batch
