# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What figures are counted from, out of the journal, the history and the CMDB, each read once and in bulk."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..dhs.assets import list_rules, stock
from ..dsl.seen import Snapshot
from ..errors import IntegrityError
from ..rfc.debts import debts
from ..rollout.states import DeploymentState
from .figures import AuditCount, FigureFacts, Figures, Happening, StartedDeployment, count_figures, months_until, start_of

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_D = DeploymentState
_LIVE = (_D.SUPPORTING, _D.COMPLETED)
_DECIDED = "decided"
_AGAINST = ("hold", "back_out")
_PASSED = "test-result (PASSED)"
_Teams = Mapping[str, str]


def read_figures(cmdb: Cmdb, now: datetime, months: int, read_days: int) -> Figures:
    """The figures of the last ``months``. ``read_days``: for how long a unit counts as read, as the policy has it."""
    since = start_of(months_until(now, months)[0])
    with cmdb.read() as connection:
        return count_figures(_read_facts(cmdb, connection, since, read_days, now), now, months)


def _read_facts(cmdb: Cmdb, connection: sa.Connection, since: datetime, read_days: int, now: datetime) -> FigureFacts:
    ci = schema().ci.c
    teams = {row.name: team for row in connection.execute(sa.select(ci.name, _team().label("team"))) if (team := (row.team or "").strip())}
    deployments = list(_deployments(connection, since))
    by_rfc: dict[str, frozenset[str]] = defaultdict(frozenset)
    for one in deployments:
        by_rfc[one.rfc] |= one.teams
    rules = stock(connection, list_rules(connection), read_days, now)
    overdue = [one for one in debts(cmdb, connection, settled=False) if one.overdue(now)]
    return FigureFacts(
        deployments,
        list(_unruled(connection, since, teams)),
        [Happening(one.due, one.release, by_rfc[one.rfc]) for one in overdue],
        list(_audits(connection, since, teams)),
        sum(one.is_short for one in rules),
        len(rules),
    )


def _team() -> sa.ColumnElement[str]:
    """Who looks after a CI: its support group, or else its owner."""
    ci = schema().ci.c
    return sa.func.coalesce(sa.func.nullif(ci.support_group, ""), ci.owned_by)


def _deployments(connection: sa.Connection, since: datetime) -> Iterable[StartedDeployment]:
    t = schema()
    d, c = t.deployment.c, t.change.c
    columns = (d.id, d.rfc, d.release, d.version, d.digest, d.state, d.started, d.finished)
    of_change = (c.type, c.start_date, c.end_date, c.close_code, c.requested_by)
    rows = connection.execute(
        sa.select(*columns, *of_change).select_from(sa.outerjoin(t.deployment, t.change, c.number == d.rfc)).where(d.started.is_not(None))
    ).all()
    # The rest of what is older than the months that are asked for is not looked at.
    recent = sa.or_(d.started >= since, d.rfc.in_(sa.select(t.debt.c.rfc).where(t.debt.c.settled.is_(None))))
    archived = set(connection.scalars(sa.select(t.journal_archive.c.deployment_id)))
    course, teams, worked = _course(connection), _teams_of(connection, recent), _worked(connection, recent)
    seen = _seen(connection)
    for row in rows:
        first, tested = seen.get((row.release, row.version, row.digest), (None, None))
        requester = (row.requested_by or "").strip()
        yield StartedDeployment(
            row.id,
            row.rfc,
            row.release,
            row.digest,
            _D(row.state),
            row.started,
            row.finished,
            row.type,
            None if row.type is None else (row.start_date, row.end_date),
            row.close_code or "",
            frozenset(teams.get(row.id) or ({requester} if requester else ())),
            row.id in archived,
            tuple(at for event, at in course[row.id] if event not in (*_LIVE, _D.BACKED_OUT)),
            tuple(at for event, at in course[row.id] if event in _LIVE),
            next((at for event, at in course[row.id] if event == _D.BACKED_OUT), None),
            worked.get(row.id),
            first,
            tested,
        )


def _course(connection: sa.Connection) -> Mapping[int, list[tuple[str, datetime]]]:
    """By deployment, when gates were against it, when it began to go back, and when it was live or wholly back, in order."""
    j = schema().journal.c
    events = (_DECIDED, _D.BACKING_OUT, *_LIVE, _D.BACKED_OUT)
    against = j.data["decision"].as_string().in_(_AGAINST)
    about = (j.host.is_(None), j.event.in_(events), sa.or_(j.event != _DECIDED, against))
    found: dict[int, list[tuple[str, datetime]]] = defaultdict(list)
    for row in connection.execute(sa.select(j.deployment_id, j.at, j.event).where(*about).order_by(j.seq)):
        found[row.deployment_id].append((row.event, row.at))
    return found


def _teams_of(connection: sa.Connection, recent: sa.ColumnElement[bool]) -> Mapping[int, set[str]]:
    """By deployment, the teams of its hosts."""
    t = schema()
    h, d = t.deployment_host.c, t.deployment.c
    select = sa.select(h.deployment_id, _team().label("team")).distinct()
    joined = sa.join(t.deployment_host, t.deployment, d.id == h.deployment_id).join(t.ci, t.ci.c.name == h.host)
    found: dict[int, set[str]] = defaultdict(set)
    for row in connection.execute(select.select_from(joined).where(recent, d.started.is_not(None), _team().is_not(None))):
        if row.team.strip():
            found[row.deployment_id].add(row.team.strip())
    return found


def _worked(connection: sa.Connection, recent: sa.ColumnElement[bool]) -> Mapping[int, tuple[datetime, datetime]]:
    """By deployment, when it first opened a wave, and last opened or decided one."""
    t = schema()
    w, d = t.wave.c, t.deployment.c
    moments = (sa.func.min(w.opened).label("first"), sa.func.max(w.opened).label("opened"), sa.func.max(w.decided).label("decided"))
    joined = sa.select(w.deployment_id, *moments).select_from(sa.join(t.wave, t.deployment, d.id == w.deployment_id))
    rows = connection.execute(joined.where(recent, w.opened.is_not(None)).group_by(w.deployment_id))
    return {row.deployment_id: (row.first, max(row.opened, row.decided or row.opened)) for row in rows}


def _seen(connection: sa.Connection) -> Mapping[tuple[str, str, str], tuple[datetime, datetime | None]]:
    """By release, version and digest, when the library was first seen to have the package, and to have a test result that was passed."""
    found = {}
    for row in connection.execute(sa.select(schema().library_seen)):
        with contextlib.suppress(IntegrityError):  # who looks at the library says so
            one = Snapshot.from_json(row.release, row.version, row.digest, row.document)
            pieces = one.evidence.values()
            tested = min((piece.at for piece in pieces if piece.what == _PASSED and not piece.retired), default=None)
            found[row.release, row.version, row.digest] = (min([one.at, *(piece.at for piece in pieces)]), tested)
    return found


def _unruled(connection: sa.Connection, since: datetime, teams: _Teams) -> Iterable[Happening]:
    """Releases that were recorded on CIs, and that no deployment had brought."""
    h = schema().history.c
    by_none = h.data["deployment_id"].as_integer().is_(None)
    release = h.data["release"].as_string()
    select = sa.select(h.at, h.ci, release.label("release")).where(h.event == "installed", h.ci.is_not(None), h.at >= since, by_none)
    for row in connection.execute(select.order_by(h.seq)):
        team = teams.get(row.ci)
        yield Happening(row.at, row.release or "", frozenset({team} if team else ()))


def _audits(connection: sa.Connection, since: datetime, teams: _Teams) -> Iterable[AuditCount]:
    h = schema().history.c
    select = sa.select(h.at, h.data).where(h.event == "audited", h.ci.is_(None), h.at >= since).order_by(h.seq)
    for row in connection.execute(select):
        kept: list[Mapping[str, Any]] = row.data["differences"]
        found = tuple((str(one["kind"]), str(one["release"] or ""), teams.get(str(one["host"]), "")) for one in kept)
        yield AuditCount(row.at, found, row.data["count"] == len(kept))
