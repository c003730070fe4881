# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says, out of the CMDB's database: an overview, deployments wave by wave, and what every host runs.

Its size is that of the fleet, however old the CMDB is: of what is over it has the newest, counts, and what somebody asks for.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from ..cmdb.audits import last_audit
from ..cmdb.chain import heads_document
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..dhs.spare_rules import SpareRules
from ..dhs.work_orders import list_work_orders
from ..errors import NotFoundError
from ..rfc.debts import debts
from ..rollout.archive_file import archived_deployment, archived_in
from ..rollout.deployments import CHECKED
from ..rollout.states import DATA_EVENTS, OPEN
from . import attention
from .stock import report_stock

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

NEWEST = 30
"""As many deployments that are over have a page without being asked for."""
_ENTRIES = 500  # of hosts and releases on them, on one page
_PAST = 6  # deployments of a host that its place on a page names, the newest
_ROOM = 250_000  # letters of a page of hosts, about
_ENTRY, _LINE = 380, 220  # of an entry, and of one of its deployments, with what is around its texts
_CHUNK = 500  # names in one IN list


@dataclass(frozen=True)
class Report:
    """A report, in plain JSON types. Times are RFC 3339 in UTC, ``null`` for what has not happened.

    Both mappings are from the name of a page, ``deployments/12`` or ``hosts/1``, to what is on it.
    """

    overview: Mapping[str, Any]
    """``generated``, ``attention`` (sentences about what waits for a person), ``counts``, ``deployments`` (those that have a page, oldest
    first, without their waves), ``heads`` (the last line of the history and
    of the journal), ``debts`` (what emergency changes still owe), ``hosts`` and ``stock`` (the pages with them) and ``audit``
    (what the newest one came to, ``null`` when there was none, see :func:`..cmdb.audits.last_audit`)."""
    deployments: Mapping[str, Mapping[str, Any]]
    """Deployments with their waves and what became of each host, as ``deployments/<number>.json`` has them."""
    hosts: Mapping[str, Mapping[str, Any]]
    """``site``, and ``hosts``: one entry for each host and release on it, by name. ``written_off`` of one is ``since``, ``by`` and
    ``reason``, or ``null``."""
    stock: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Stock rules with their figures and firmware levels, see :func:`.stock.report_stock`; no page without any."""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes by their numbers, ``changes/CHG0030001``, see :mod:`.changes`; these and all below only where :mod:`.site` made them."""
    releases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Releases by their names, ``releases/shop``, see :mod:`.releases`."""
    lists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The pages beside the first one: ``changes`` and ``releases``, each of them in short, and ``calendar``."""
    search: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What can be searched, ``search/1`` and so on, see :mod:`.search`."""


def build_report(
    cmdb: Cmdb, now: datetime, asked: Iterable[str] = (), read_days: int = SpareRules.read_days, *, past: bool = False
) -> Report:
    """The report of one moment of the database, with the deployments of the RFCs ``asked`` for.

    ``read_days``: for how long it is believed what a unit said of its firmware, as the policy has it. ``past``: whether it says of each
    host, too, which deployments came to it.

    Raises :class:`NotFoundError` for an RFC that has no deployment, or whose journal is archived in a file that is not there, and
    :class:`IntegrityError` for a file that is not what was written.
    """
    with cmdb.read() as connection:
        unrecorded = attention.unrecorded(connection)
        deployments = {f"deployments/{one['id']}": one for one in _deployments(connection, asked, unrecorded)}
        counts = _counts(connection)
        troubled = attention.troubled_hosts(connection)
        lacking = _lacking(connection, unrecorded)
        gone = cmdb.write_offs(connection=connection)
        hosts = dict(_host_pages(_entries(connection, gone), _past_of_hosts(connection) if past else {}))
        owed = debts(cmdb, connection, settled=False)
        by_hand = attention.work_orders(connection, now)
        audit = last_audit(connection)
        stocked = report_stock(connection, read_days, now)
        ends = heads_document(connection)
    at = _time(audit["at"]) if audit else None
    waiting = [sentence for one in deployments.values() for sentence in attention.open_deployment(one)]
    return Report(
        {
            "generated": _time(now),
            "heads": ends,
            "attention": [f"{debt.sentence(now)}." for debt in owed]
            + waiting
            + by_hand
            + lacking
            + troubled
            + attention.audited(audit, at or "")
            + list(stocked.attention)
            + attention.written_off(gone),
            "counts": {**counts, "hosts": sum(len({entry["name"] for entry in page["hosts"]}) for page in hosts.values())},
            "deployments": [_summary(name, one) for name, one in deployments.items()],
            "debts": [{"rfc": debt.rfc, "release": debt.release, "duty": debt.duty, "due": _time(debt.due)} for debt in owed],
            "hosts": [_page(name, page) for name, page in hosts.items()],
            "stock": stocked.overview,
            "audit": audit and {**audit, "at": at},
        },
        deployments,
        hosts,
        stocked.pages,
    )


def _counts(connection: sa.Connection) -> dict[str, Any]:
    d = schema().deployment.c
    rows = connection.execute(sa.select(d.state, sa.func.count().label("number")).group_by(d.state).order_by(d.state))
    return {"deployments": {row.state: row.number for row in rows}}


def _deployments(connection: sa.Connection, asked: Iterable[str], unrecorded: Mapping[int, str]) -> list[dict[str, Any]]:
    """Every open deployment, the newest ones that are over, and those of the RFCs ``asked`` for, oldest first."""
    of = schema().deployment.c
    columns = sa.select(of.id, of.rfc, of.release, of.version, of.digest, of.state, of.reason, of.started, of.finished)
    rows = [*connection.execute(columns.where(of.state.in_(OPEN))).mappings()]
    archived = sa.select(schema().journal_archive.c.deployment_id)
    over = columns.where(of.state.not_in(OPEN), of.id.not_in(archived)).order_by(of.id.desc()).limit(NEWEST)
    rows += connection.execute(over).mappings()
    for rfc in dict.fromkeys(asked):
        found = connection.execute(columns.where(of.rfc == rfc)).mappings().all()
        if not found:
            raise NotFoundError(f"{rfc} has no deployment that the report could show; check its number, and which CMDB this is")
        rows += found
    unique = {row["id"]: row for row in rows}
    closed = _closed(connection, unique.values())
    files = archived_in(connection, sorted(unique)) if asked else {}
    orders = _work_orders(connection, unique)
    return [
        {
            **unique[number],
            "started": _time(unique[number]["started"]),
            "finished": _time(unique[number]["finished"]),
            "close_code": closed.get(number, ""),
            "unrecorded": unrecorded.get(number, ""),
            **(_from_archive(*files[number], number) if number in files else _from_journal(connection, number)),
            "work_orders": orders.get(number, []),
        }
        for number in sorted(unique)
    ]


def _work_orders(connection: sa.Connection, deployments: Collection[int]) -> dict[int, list[dict[str, Any]]]:
    """What people have to do with their hands for deployments, or did, by the number of each."""
    found: dict[int, list[dict[str, Any]]] = {}
    for one in list_work_orders(connection, deployments=deployments):
        said = {key: value for key, value in asdict(one).items() if key != "deployment"}
        times = {"opened": _time(one.opened), "closed": _time(one.closed)}
        found.setdefault(one.deployment, []).append({**said, "state": str(one.state), **times})
    return found


def _from_journal(connection: sa.Connection, deployment: int) -> dict[str, Any]:
    """The objectives and waves of a deployment, and what it has done to data."""
    t = schema()
    waves = connection.execute(sa.select(t.wave).where(t.wave.c.deployment_id == deployment).order_by(t.wave.c.number)).mappings()
    of = t.deployment_host.c
    columns = (of.wave, of.host, of.state, of.detail, of.previous_version)
    hosts = connection.execute(sa.select(*columns).where(of.deployment_id == deployment).order_by(of.wave, of.position)).mappings()
    data = _data_events(connection, deployment)
    return {"objectives": _objectives(connection, deployment), "data_changes": data, "waves": _waves(waves, hosts)}


def _data_events(connection: sa.Connection, deployment: int) -> list[dict[str, Any]]:
    """What a deployment has done to data, and what people said of them, in order."""
    of = schema().journal.c
    about = (of.deployment_id == deployment, of.host.is_(None), of.event.in_(sorted(DATA_EVENTS)))
    rows = connection.execute(sa.select(of.event, of.at, of.data).where(*about).order_by(of.seq))
    return [_data_event(row.event, row.at, row.data) for row in rows]


def _data_event(event: str, at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    said = {"detail": data.get("detail", ""), "by": data.get("by", ""), "reason": data.get("reason", "")}
    return {"event": event, "at": _time(at), "host": data.get("host", ""), **said}


def _from_archive(file: Path, digest: str, deployment: int) -> dict[str, Any]:
    """The same of one whose journal is archived; raises :class:`TidegateError` when the file is not there as it was written."""
    document = archived_deployment(file, digest, deployment)
    checked = [line["data"]["results"] for line in document["journal"] if line["event"] == CHECKED]
    waves = [
        {**wave, **{key: datetime.fromisoformat(wave[key]) if wave[key] else None for key in ("opened", "decided")}}
        for wave in document["waves"]
    ]
    of_data = (line for line in document["journal"] if line["host"] is None and line["event"] in DATA_EVENTS)
    data = [_data_event(line["event"], datetime.fromisoformat(line["at"]), line["data"]) for line in of_data]
    return {"objectives": checked[-1] if checked else [], "data_changes": data, "waves": _waves(waves, document["hosts"])}


def _waves(rows: Iterable[Mapping[Any, Any]], hosts: Iterable[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    waves: dict[int, dict[str, Any]] = {}
    for row in rows:
        waves[row["number"]] = {
            "number": row["number"],
            "state": row["state"],
            "hosts": [],
            "results": {},
            "gate": row["decision"],
            "reason": row["reason"],
            "opened": _time(row["opened"]),
            "decided": _time(row["decided"]),
        }
    for row in hosts:
        wave = waves[row["wave"]]
        wave["hosts"].append(row["host"])
        wave["results"][row["host"]] = {key: row[key] for key in ("state", "detail", "previous_version")}
    return list(waves.values())


def _closed(connection: sa.Connection, deployments: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """How the change of each was closed, by the number of the last deployment of that change."""
    change, d = schema().change.c, schema().deployment.c
    found: dict[int, str] = {}
    numbers = sorted({row["rfc"] for row in deployments})
    for start in range(0, len(numbers), _CHUNK):
        last = sa.select(sa.func.max(d.id).label("id"), d.rfc).where(d.rfc.in_(numbers[start : start + _CHUNK])).group_by(d.rfc).subquery()
        rows = connection.execute(sa.select(last.c.id, change.close_code).where(change.number == last.c.rfc))
        found |= {row.id: row.close_code for row in rows}
    return found


def _objectives(connection: sa.Connection, deployment: int) -> list[Mapping[str, Any]]:
    """What became of the objectives of a deployment's change."""
    journal = schema().journal.c
    about = (journal.deployment_id == deployment, journal.event == CHECKED, journal.host.is_(None))
    data = connection.scalar(sa.select(journal.data).where(*about).order_by(journal.seq.desc()).limit(1))
    return data["results"] if data else []


def _lacking(connection: sa.Connection, unrecorded: Mapping[int, str]) -> list[str]:
    """The sentences about what change systems lack, also of deployments that have no page."""
    d, numbers = schema().deployment.c, sorted(unrecorded)
    chunks = (numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK))
    rows = [
        row
        for chunk in chunks
        for row in connection.execute(sa.select(d.id, d.rfc, d.release, d.version).where(d.id.in_(chunk)).order_by(d.id))
    ]
    return [f"The change of {attention.label(row)} is not up to date in its change system: {unrecorded[row.id]}." for row in rows]


def _summary(name: str, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """A deployment as the overview has it: its waves and hosts are counted."""
    waves: Sequence[Mapping[str, Any]] = deployment["waves"]
    hosts = Counter(result["state"] for wave in waves for result in wave["results"].values())
    decided = sum(wave["gate"] is not None for wave in waves)
    counted = {"waves": len(waves), "decided": decided, "hosts": dict(sorted(hosts.items()))}
    about = {key: value for key, value in deployment.items() if key not in ("data_changes", "work_orders")}
    return {**about, **counted, "page": f"{name}.html", "data": f"{name}.json"}


def _entries(connection: sa.Connection, gone: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Each host and each release on it, by site and name; a host without a release has one entry."""
    t = schema()
    ci, of = t.ci.c, t.installation.c
    joined = sa.outerjoin(t.ci, t.installation, of.ci_id == ci.id)
    columns = (ci.name, ci.site, ci.environment, ci.class_, of.release, of.version, of.digest, of.since)
    rows = connection.execute(sa.select(*columns).select_from(joined)).all()
    # There is a row for each release on each host, so none is looked at by the names of its columns.
    rows = sorted(rows, key=lambda row: (row[1] is None, row[1] or "", row[0], row[4] or ""))
    since = {at: _time(at) for at in {row[7] for row in rows}}  # a wave goes live on its hosts at one moment
    return [
        {
            "name": name,
            "site": site,
            "environment": environment,
            "class": kind,
            "release": release,
            "version": version,
            "digest": digest,
            "since": since[at],
            "written_off": gone.get(name),
        }
        for name, site, environment, kind, release, version, digest, at in rows
    ]


def _past_of_hosts(connection: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """The newest deployments that came to each host, or were to, the last first."""
    t = schema()
    ci, of, d = t.ci.c, t.deployment_host.c, t.deployment.c
    other = t.deployment_host.alias("other").c
    # The oldest one that is shown, so that the rows from there on are a piece of the index.
    of_host = sa.select(other.deployment_id).where(other.host == ci.name).order_by(other.deployment_id.desc())
    oldest = sa.func.coalesce(of_host.limit(1).offset(_PAST - 1).correlate(t.ci).scalar_subquery(), 0)
    joined = t.ci.join(t.deployment_host, sa.and_(of.host == ci.name, of.deployment_id >= oldest))
    columns = (of.host, d.id, d.rfc, d.release, d.version, of.state, of.updated, of.previous_version)
    select = sa.select(*columns).select_from(joined.join(t.deployment, d.id == of.deployment_id)).order_by(ci.name)
    found: dict[str, list[dict[str, Any]]] = {}
    for host, number, rfc, release, version, state, updated, before in connection.execute(select):
        about = {"deployment": number, "rfc": rfc, "release": release, "version": version, "state": state}
        found.setdefault(host, []).append({**about, "at": _time(updated), "before": before})
    for past in found.values():
        past.sort(key=lambda one: int(one["deployment"]), reverse=True)
    return found


def _host_pages(
    entries: Sequence[Mapping[str, Any]], past: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pages of one site each; a host is on one page, with all that is on it and all its ``past``."""
    number = 0
    for site, of_site in groupby(entries, key=lambda entry: entry["site"]):
        page: list[Mapping[str, Any]] = []
        room = _ROOM
        for name, of_host in groupby(of_site, key=lambda entry: entry["name"]):
            host = list(of_host)
            size = len(host) * (_ENTRY + len(name)) + len(past.get(name, ())) * _LINE
            if page and (len(page) + len(host) > _ENTRIES or size > room):
                number += 1
                yield f"hosts/{number}", _with_past(site, page, past)
                page, room = [], _ROOM
            page += host
            room -= size
        number += 1
        yield f"hosts/{number}", _with_past(site, page, past)


def _with_past(site: str | None, hosts: Sequence[Mapping[str, Any]], past: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    names = dict.fromkeys(entry["name"] for entry in hosts)
    return {"site": site, "hosts": hosts, "past": {name: past[name] for name in names if name in past}}


def _page(name: str, page: Mapping[str, Any]) -> dict[str, Any]:
    hosts = page["hosts"]
    return {
        "site": page["site"],
        "first": hosts[0]["name"],
        "last": hosts[-1]["name"],
        "hosts": len({entry["name"] for entry in hosts}),
        "page": f"{name}.html",
        "data": f"{name}.json",
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
