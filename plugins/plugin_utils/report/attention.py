# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits for a person, in sentences: of all deployments that there ever were, however many are over.

The database finds it by indexes that have nothing but what may wait, so that it does not take longer from year to year.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..cmdb.schema import may_need_a_person, schema
from ..dhs.work_order import WAITING
from ..dhs.work_orders import list_work_orders
from ..rollout.deployments import NOT_RECORDED, RECORDED, remark_in
from ..rollout.states import DATA_FAILED, DataState, DeploymentState, HostState
from .audited import KNOWN
from .progress import counted

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
# By the last that happened to data, why a back-out is not over.
_DATA_LEFT: Mapping[str, str] = {
    DataState.MIGRATED: "its data are still to be reversed",
    DataState.REVERSING: "its data began to be reversed, and it is not known how they are",
    DATA_FAILED[DataState.REVERSING]: "its data could not be reversed, and it is not known how they are",
}
_SENTENCES: Mapping[str, str] = {**_TROUBLE, **_REMARKED}
_UNDER_WAY = frozenset({HostState.ACTIVATING, HostState.STARTED, HostState.BACKING_OUT})
_UNTOUCHED = (HostState.PLANNED, HostState.STAGED)

NAMED = 20
"""As many hosts are named in one sentence; the rest is counted."""
_REASONS = 5  # of one state in one deployment that have a sentence of their own; hosts with others share one
_LONGEST = 1000  # letters of a reason


def waiting_deployments(connection: sa.Connection) -> set[int]:
    """The numbers of deployments that something waits for a person about: hosts, or a change that is not up to date."""
    return {row.id for row in _troubled(connection)} | unrecorded(connection).keys()


def troubled_hosts(connection: sa.Connection) -> list[str]:
    """The sentences about hosts that came out of a deployment other than well, and that no later one of the same release reached."""
    alike: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in _troubled(connection):
        remark = remark_in(row.state, row.detail)
        # The logs that follow the reason differ from host to host.
        alike[row.state, label(row)][(remark or row.detail).partition("\n")[0]].append(row.host)
    order = list(_SENTENCES)
    sorted_ = sorted(alike.items(), key=lambda item: order.index(item[0][0]))
    return [sentence for (state, whose), reasons in sorted_ for sentence in _of_one_state(_SENTENCES[state], whose, reasons)]


def _troubled(connection: sa.Connection) -> list[Any]:
    """The hosts that somebody has to look at, with the deployment that each came out of like that, by release and host."""
    t = schema()
    h, d = t.deployment_host, t.deployment
    later, its = h.alias("later"), d.alias("later_deployment")
    settled = (
        sa.select(sa.literal(1))
        .join_from(later, its, its.c.id == later.c.deployment_id)
        .where(
            later.c.host == h.c.host,
            later.c.deployment_id > h.c.deployment_id,
            later.c.state.not_in(_UNTOUCHED),
            its.c.release == d.c.release,
            its.c.state != DeploymentState.CANCELLED,
        )
        .exists()
    )
    detail = sa.func.substr(h.c.detail, 1, _LONGEST).label("detail")
    rows = connection.execute(
        sa.select(h.c.host, h.c.state, detail, d.c.id, d.c.rfc, d.c.release, d.c.version, d.c.finished)
        .join_from(h, d, d.c.id == h.c.deployment_id)
        .where(sa.text(may_need_a_person("deployment_host.")), d.c.state != DeploymentState.CANCELLED, ~settled)
    )
    return [
        row
        for row in sorted(rows, key=lambda row: (row.release, row.host, row.id))
        if (row.finished is not None or row.state not in _UNDER_WAY) and (row.state in _TROUBLE or remark_in(row.state, row.detail))
    ]


def _of_one_state(words: str, whose: str, reasons: Mapping[str, Sequence[str]]) -> list[str]:
    ordered = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    sentences = [f"{words}: {_named(hosts)} ({whose}{': ' + reason if reason else ''})." for reason, hosts in ordered[:_REASONS]]
    others = [host for _reason, hosts in ordered[_REASONS:] for host in hosts]
    return [*sentences, f"{words}: {_named(others)} ({whose}: {len(ordered) - _REASONS} other reasons)."] if others else sentences


def _named(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:NAMED]) + (f" and {len(hosts) - NAMED} more" if len(hosts) > NAMED else "")


def unrecorded(connection: sa.Connection) -> dict[int, str]:
    """What the change systems lack of deployments, and why, by the deployment's number: what could not be written and was not since."""
    journal = schema().journal
    later = journal.alias("later")
    made_up_for = (
        sa.select(sa.literal(1))
        .where(
            later.c.deployment_id == journal.c.deployment_id,
            later.c.event.in_((RECORDED, NOT_RECORDED)),
            later.c.host.is_(None),
            later.c.seq > journal.c.seq,
        )
        .exists()
    )
    rows = connection.execute(
        sa.select(journal.c.deployment_id, journal.c.data)
        .where(journal.c.event == NOT_RECORDED, journal.c.host.is_(None), ~made_up_for)
        .order_by(journal.c.deployment_id)
    )
    return {row.deployment_id: problem for row in rows if (problem := row.data.get("problem"))}


def open_deployment(deployment: Mapping[str, Any]) -> list[str]:
    """The sentence about a deployment that waits for a person, if it does."""
    reason = deployment["reason"] or "no reason was recorded"
    if deployment["state"] == DeploymentState.HELD:
        return [f"{_label(deployment)} is held: {reason}."]
    if deployment["state"] == DeploymentState.SUPPORTING:
        return [f"{_label(deployment)} is live and supported: {reason}."]
    if deployment["state"] == DeploymentState.BACKING_OUT:
        changes = deployment["data_changes"]
        last = changes[-1] if changes else {"event": ""}
        why = _DATA_LEFT.get(last["event"])
        left = [f"{_label(deployment)}: {why} (on {last['host']}{last['detail'] and ': ' + last['detail']})."] if why else []
        return [f"{_label(deployment)} is not backed out yet: {reason}.", *left]
    return []


def work_orders(connection: sa.Connection, now: datetime) -> list[str]:
    """The sentences about what people have to do with their hands; what the window of its change is over for is owed since."""
    t = schema()
    waiting = list_work_orders(connection, states=WAITING)
    numbers = {one.deployment for one in waiting}
    d, change = t.deployment.c, t.change.c
    rows = sa.select(d.id, d.rfc, d.release, d.version, change.end_date).select_from(
        t.deployment.outerjoin(t.change, change.number == d.rfc)
    )
    ends = {row.id: row for row in connection.execute(rows.where(d.id.in_(numbers)))}
    sentences = []
    for one in waiting:
        row = ends[one.deployment]
        since = f", owed since {row.end_date:%Y-%m-%d %H:%M} UTC" if row.end_date is not None and row.end_date <= now else ""
        sentences.append(f"{one.sentence()} ({label(row)}{since}).")
    more = [f"{len(sentences) - NAMED} more work orders wait."] if len(sentences) > NAMED else []
    return [sentence[0].upper() + sentence[1:] for sentence in sentences[:NAMED]] + more


def label(row: Any) -> str:
    """How a row of the table of deployments is called in a sentence."""
    return f"{row.rfc}, {row.release} {row.version}"


def _label(deployment: Mapping[str, Any]) -> str:
    return f"{deployment['rfc']}, {deployment['release']} {deployment['version']}"


def audited(audit: Mapping[str, Any] | None, at: str) -> list[str]:
    """The sentence about the newest audit, when it found what is wrong."""
    count, _real = differences_of(audit) if audit else (0, [])
    return [f"The audit of {at} found {counted(count, 'difference')} between hosts, CMDB and DSL."] if count else []


def differences_of(audit: Mapping[str, Any]) -> tuple[int, list[Mapping[str, Any]]]:
    """How many differences an audit found, and those of them that it names; what is known of, such as a host that is late, is none."""
    named = audit["differences"]
    real = [one for one in named if one.get("kind") not in KNOWN]
    return (audit["count"] - (len(named) - len(real)) if real else 0), real


def written_off(gone: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The sentences about hosts that are written off."""
    named = [f"{host} is written off since {one['since'][:10]}, by {one['by']}: {one['reason']}." for host, one in sorted(gone.items())]
    more = [f"{len(named) - NAMED} more hosts are written off."] if len(named) > NAMED else []
    return named[:NAMED] + more
