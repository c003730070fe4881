# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put on record what hosts have besides releases, as they said it to an audit, so that the next one names what is another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from ..cmdb.recorded_sets import record_sets, recorded_digests
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from .audit_sets import SETS, HostSets

if TYPE_CHECKING:
    import sqlalchemy as sa


def record_hosts(
    cmdb: Cmdb, found: Mapping[str, HostSets | None], actor: str, reason: str, now: datetime, *, write: bool
) -> dict[str, list[str]]:
    """Put the sets of each host on record; return which of each were not so before, by host. Only hosts that the CMDB has have records.

    Raises :class:`TidegateError` without a reason, and for a host that did not say all of its sets: nothing is written then.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise TidegateError("audit_baseline needs a reason; say in tidegate_reason why this is what the hosts are to have")
    whole = {
        host: sets for host, sets in sorted(found.items()) if sets is not None and sets.sha256.keys() == sets.entries.keys() == SETS.keys()
    }
    mute = sorted(found.keys() - whole.keys())
    if mute:
        said = (sets.problems for host in mute if (sets := found[host]) is not None)
        why = "; ".join(f"{name}: {problem}" for problems in said for name, problem in problems.items())
        raise TidegateError(
            f"{', '.join(mute)} did not say all that goes on record{f' ({why})' if why else ''}; mend that, or leave it out"
        )

    def record(connection: sa.Connection) -> dict[str, list[str]]:
        known, there = recorded_digests(connection), {str(ci["name"]) for ci in cmdb.cis(found, connection)}
        new: dict[str, list[str]] = {}
        for host, sets in whole.items():
            changed = sorted(name for name, sha256 in sets.sha256.items() if known.get(host, {}).get(name) != sha256)
            if changed and host in there:
                new[host] = changed
                if write:
                    record_sets(connection, host, {name: (sets.sha256[name], sets.entries[name]) for name in changed}, actor, reason, now)
        return new

    return cmdb.change(record) if write else cmdb.ask(record)
