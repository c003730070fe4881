# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``report.json`` says: deployments, wave by wave, and what every host runs, out of the CMDB's database."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..cmdb.audits import last_audit
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..rfc.debts import debts
from ..rollout.deployments import CHECKED, NOT_RECORDED, RECORDED, remark_in
from ..rollout.states import DeploymentState, HostState

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# Hosts that a person has to look at, and what to say of them; the most pressing first.
_TROUBLE: Mapping[str, str] = {
    HostState.OWED: "Still to be backed out",
    HostState.STUCK: "Stuck, could neither activate the release nor go back",
    HostState.LOST: "Lost while activating, what they run is not known",
    HostState.ACTIVATING: "Began to activate and did not finish",
    HostState.STARTED: "Came up and were not looked at again, so it is not known whether that lasts",
    HostState.BACKING_OUT: "Began to go back and did not finish",
    HostState.FAILED: "Failed, and went back to what they ran before",
    HostState.STAGE_FAILED: "Could not be given the release",
}
# Hosts that did come into a good state, to be named when they said something all the same.
_REMARKED: Mapping[str, str] = {
    HostState.ACTIVE: "Active, but to be looked at",
    HostState.BACKED_OUT: "Backed out, but to be looked at",
}
# As many hosts are named in one sentence; the rest is counted.
_NAMED = 20
_UNDER_WAY = frozenset({HostState.ACTIVATING, HostState.STARTED, HostState.BACKING_OUT})


def build_report(cmdb: Cmdb, now: datetime) -> dict[str, Any]:
    """The report as plain JSON types, of one moment of the database.

    Keys: ``generated``, ``attention`` (sentences about what waits for a person), ``deployments`` (oldest first), ``debts`` (what emergency
    changes still owe), ``hosts`` (one entry for each host and release on it, by name) and ``audit`` (what the newest one came to, ``null``
    when there was none, see :func:`..cmdb.audits.last_audit`). Times are RFC 3339 in UTC, ``null`` for what
    has not happened. ``written_off`` of a host is ``since``, ``by`` and ``reason``, or ``null``.
    """
    with cmdb.read() as connection:
        deployments = _deployments(connection)
        installed = defaultdict(list)
        for row in cmdb.installations(connection=connection):
            installed[row["ci"]].append(row)
        gone = cmdb.write_offs(connection=connection)
        hosts = [entry for ci in cmdb.cis(connection=connection) for entry in _host(ci, installed[ci["name"]], gone.get(ci["name"]))]
        owed = [debt for debt in debts(cmdb, connection) if debt.settled is None]
        audit = last_audit(connection)
    return {
        "generated": _time(now),
        "attention": [f"{debt.sentence(now)}." for debt in owed] + _attention(deployments) + _audited(audit) + _written_off(gone),
        "deployments": deployments,
        "debts": [{"rfc": debt.rfc, "release": debt.release, "duty": debt.duty, "due": _time(debt.due)} for debt in owed],
        "hosts": hosts,
        "audit": audit and {**audit, "at": _time(audit["at"])},
    }


def _deployments(connection: sa.Connection) -> list[dict[str, Any]]:
    tables = schema()
    of = tables.deployment.c
    columns = (of.id, of.rfc, of.release, of.version, of.digest, of.state, of.reason, of.started, of.finished)
    found = {row["id"]: dict(row) | {"waves": []} for row in connection.execute(sa.select(*columns).order_by(of.id)).mappings()}
    waves: dict[tuple[int, int], dict[str, Any]] = {}
    for row in connection.execute(sa.select(tables.wave).order_by(tables.wave.c.deployment_id, tables.wave.c.number)).mappings():
        wave = {
            "number": row["number"],
            "state": row["state"],
            "hosts": [],
            "results": {},
            "gate": row["decision"],
            "reason": row["reason"],
            "opened": _time(row["opened"]),
            "decided": _time(row["decided"]),
        }
        waves[row["deployment_id"], row["number"]] = wave
        found[row["deployment_id"]]["waves"].append(wave)
    of_host = tables.deployment_host.c
    rows = connection.execute(sa.select(tables.deployment_host).order_by(of_host.deployment_id, of_host.wave, of_host.position))
    for row in rows.mappings():
        wave = waves[row["deployment_id"], row["wave"]]
        wave["hosts"].append(row["host"])
        wave["results"][row["host"]] = {"state": row["state"], "detail": row["detail"], "previous_version": row["previous_version"]}
    _close(connection, found)
    for deployment in found.values():
        deployment.update(started=_time(deployment["started"]), finished=_time(deployment["finished"]))
    return list(found.values())


def _close(connection: sa.Connection, found: Mapping[int, dict[str, Any]]) -> None:
    """Add to each deployment how its change was closed, what became of the objectives, and what its change system still lacks."""
    journal, change = schema().journal.c, schema().change.c
    closed = {row.number: row.close_code for row in connection.execute(sa.select(change.number, change.close_code))}
    last = {deployment["rfc"]: number for number, deployment in found.items()}
    for number, deployment in found.items():
        code = closed.get(deployment["rfc"], "") if last[deployment["rfc"]] == number else ""
        deployment.update(close_code=code, objectives=[], unrecorded="")
    wanted = (journal.deployment_id, journal.event, journal.data)
    rows = connection.execute(sa.select(*wanted).where(journal.event.in_((CHECKED, RECORDED, NOT_RECORDED))).order_by(journal.seq))
    for row in rows:
        if row.event == CHECKED:
            found[row.deployment_id]["objectives"] = row.data["results"]
        else:
            found[row.deployment_id]["unrecorded"] = row.data.get("problem", "")


def _host(ci: Mapping[str, Any], installations: Iterable[Mapping[str, Any]], written_off: Mapping[str, str] | None) -> list[dict[str, Any]]:
    about = {key: ci[key] for key in ("name", "site", "environment", "class")} | {"written_off": written_off}
    entries = [
        about | {key: row[key] for key in ("release", "version", "digest")} | {"since": _time(row["since"])} for row in installations
    ]
    return entries or [about | dict.fromkeys(("release", "version", "digest", "since"))]


def _audited(audit: Mapping[str, Any] | None) -> list[str]:
    real = [one for one in audit["differences"] if one["kind"] != "written_off"] if audit else []
    if audit is None or not real:
        return []
    count = audit["count"] - (len(audit["differences"]) - len(real))
    return [f"The audit of {_time(audit['at'])} found {count} difference{'' if count == 1 else 's'} between hosts, CMDB and DSL."]


def _written_off(gone: Mapping[str, Mapping[str, str]]) -> list[str]:
    named = [f"{host} is written off since {one['since'][:10]}, by {one['by']}: {one['reason']}." for host, one in sorted(gone.items())]
    more = [f"{len(named) - _NAMED} more hosts are written off."] if len(named) > _NAMED else []
    return named[:_NAMED] + more


def _attention(deployments: list[dict[str, Any]]) -> list[str]:
    sentences = []
    latest: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
    for deployment in deployments:
        label = _label(deployment)
        if deployment["state"] == DeploymentState.HELD:
            sentences.append(f"{label} is held: {deployment['reason'] or 'no reason was recorded'}.")
        elif deployment["state"] == DeploymentState.BACKING_OUT:
            sentences.append(f"{label} is not backed out yet: {deployment['reason'] or 'no reason was recorded'}.")
        if deployment["unrecorded"]:
            sentences.append(f"The change of {label} is not up to date in its change system: {deployment['unrecorded']}.")
        if deployment["state"] == DeploymentState.CANCELLED:
            continue
        for wave in deployment["waves"]:
            # What an earlier deployment left on a host is settled by a later one of the same release that reached it.
            for host, result in wave["results"].items():
                if result["state"] not in (HostState.PLANNED, HostState.STAGED):
                    latest[deployment["release"], host] = (deployment, result)
    alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (_release, host), (deployment, result) in sorted(latest.items(), key=lambda item: item[0]):
        under_way = deployment["finished"] is None and result["state"] in _UNDER_WAY
        remark = remark_in(result["state"], result["detail"])
        if remark or (result["state"] in _TROUBLE and not under_way):
            # The logs that follow the reason differ from host to host.
            alike[result["state"], _label(deployment), (remark or result["detail"]).partition("\n")[0]].append(host)
    words = {**_TROUBLE, **_REMARKED}
    order = list(words)
    for (state, label, detail), hosts in sorted(alike.items(), key=lambda item: order.index(item[0][0])):
        more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
        sentences.append(f"{words[state]}: {', '.join(hosts[:_NAMED])}{more} ({label}{': ' + detail if detail else ''}).")
    return sentences


def _label(deployment: Mapping[str, Any]) -> str:
    return f"{deployment['rfc']}, {deployment['release']} {deployment['version']}"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
