# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What audits came to, in the CMDB's history."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .chain import append_history
from .schema import schema
from .store import Cmdb

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_EVENT = "audited"
_SAVED = 200  # differences; the rest is counted


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
    history = schema().history.c
    found = (
        sa.select(history.at, history.actor, history.data)
        .where(history.event == _EVENT, history.ci.is_(None))
        .order_by(history.seq.desc())
        .limit(1)
    )
    row = connection.execute(found).one_or_none()
    return None if row is None else {"at": row.at, "by": row.actor, **row.data}
