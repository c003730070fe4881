# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What audits came to, in the CMDB's history."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .chain import append_history
from .schema import schema
from .store import Cmdb

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_EVENT = "audited"
_SAVED = 200  # differences; the rest is counted
_LOOKED_AT = 20  # audits before the one that asks


def save_audit(
    cmdb: Cmdb, compared: int, hosts: int, differences: Sequence[Mapping[str, Any]], actor: str, now: datetime, severity: str = ""
) -> None:
    """Append the result of an audit, which compared so many of all ``hosts``; ``differences`` as :mod:`..steps.audit` has them.

    ``severity``: how grave all of them are.
    """
    told = {"severity": severity} if severity else {}
    said = [dict(one) for one in differences[:_SAVED]]
    data = {"compared": compared, "hosts": hosts, "count": len(differences), "differences": said, **told}
    with cmdb.begin() as connection:
        append_history(connection, [{"at": now, "actor": actor, "event": _EVENT, "data": data}])


def last_audit(connection: sa.Connection) -> dict[str, Any] | None:
    """The newest one: ``at``, ``by`` (who ran it), ``compared``, ``hosts``, ``count``, the first ``differences`` and, unless it
    is an older one, ``severity``."""
    return next(iter(_last_audits(connection, 1)), None)


def named_before(connection: sa.Connection, kind: str) -> dict[tuple[str, str], tuple[str | None, str]]:
    """By host and detail of differences of that kind, which the last audits have named, ``after`` and ``since`` as they had them.

    What an audit that compared every host has not named was not there then, whatever those before it say.
    """
    found: dict[tuple[str, str], tuple[str | None, str]] = {}
    for audit in _last_audits(connection, _LOOKED_AT):
        named = [one for one in audit["differences"] if one["kind"] == kind and one.get("since")]
        for one in named:
            found.setdefault((str(one["host"]), str(one["detail"])), (one.get("after"), str(one["since"])))
        if audit["compared"] == audit["hosts"] and audit["count"] == len(audit["differences"]):
            break
    return found


def _last_audits(connection: sa.Connection, count: int) -> Iterator[dict[str, Any]]:
    """So many of them, the newest first."""
    history = schema().history.c
    query = sa.select(history.at, history.actor, history.data).where(history.event == _EVENT, history.ci.is_(None))
    for row in connection.execute(query.order_by(history.seq.desc()).limit(count)):
        yield {"at": row.at, "by": row.actor, **row.data}
