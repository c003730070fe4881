# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write off a host that will not come back, and take that back when it is there again.

That a host is written off is a fact about the host, in the CMDB; the journal has what it means for the deployments that are open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..cmdb.store import Cmdb
from ..errors import NotFoundError, TidegateError
from ..evidence.statement import WRITE_OFF
from ..licence.entitlements import release_all
from ..policy.model import Policy
from ..rollout.holder import Holder
from ..rollout.journal import Journal
from .person import responsible_person, signed_about_host

if TYPE_CHECKING:
    from securesystemslib.signer import Signer


@dataclass(frozen=True)
class WrittenOff:
    """Who wrote a host off. ``deployments``: labels of the open ones that go on without it. ``seats``: how many it gave back."""

    person: str
    changed: bool
    deployments: tuple[str, ...] = ()
    seats: int = 0


def write_off_host(cmdb: Cmdb, policy: Policy, host: str, reason: str, signer: Signer | None, now: datetime, write: bool) -> WrittenOff:
    """Note that ``host`` will not come back, in one transaction with all that follows from it; nothing new when that was noted before.

    Raises :class:`TidegateError` without a reason, for a host that the CMDB does not have, while somebody else drives a deployment that
    may be about to change it, and unless somebody signs it whom the policy names, when it names people.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise TidegateError(f"no reason is given for writing off {host}; say in reason why it will not come back, for those who ask later")
    person = responsible_person(policy, signer, now, f"{host} is written off")
    journal = Journal(cmdb)
    with cmdb.begin() if write else cmdb.read() as connection:
        if not cmdb.cis([host], connection):
            raise NotFoundError(f"the CMDB {cmdb.label} has no CI {host}, so there is nothing to write off; check the name")
        before = cmdb.write_offs([host], connection).get(host)
        detail = f"written off ({before['reason'] if before else reason})"
        seats = release_all(connection, host) if before is None and write else 0
        deployments = journal.write_off(connection, host, detail, Holder.this_run(), now, write)
        if before is None and write:
            more = {"deployments": deployments, "seats": seats, **signed_about_host(host, WRITE_OFF, {"reason": reason}, signer, now)}
            cmdb.write_off(connection, host, reason, person, now, more)
    return WrittenOff(before["by"] if before else person, before is None or bool(deployments), tuple(deployments), seats)


def end_write_offs(cmdb: Cmdb, hosts: Iterable[str], why: str, actor: str, now: datetime, write: bool) -> list[str]:
    """``hosts`` are there again, for the reason ``why``; return those that were written off."""
    found = sorted(cmdb.write_offs(hosts))
    if not found or not write:
        return found
    with cmdb.begin() as connection:
        ended = cmdb.end_write_offs(connection, found, why, actor, now)
        Journal(cmdb).returned(connection, ended, why, now)
    return ended
