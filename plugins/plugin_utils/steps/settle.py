# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settle what a change owes: by somebody the policy knows and with a signature, when the policy knows people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..cmdb.store import Cmdb
from ..dsl.repository import Repository
from ..errors import ConflictError, NotFoundError, TidegateError
from ..evidence.statement import SETTLEMENT, Statement, purl
from ..evidence.store import ensure
from ..evidence.trust import signer_name
from ..policy.model import Policy
from ..rfc.debts import Debt, debts, refuse_behind, settle
from ..rollout.deployments import Deployments
from .person import this_user

if TYPE_CHECKING:
    from securesystemslib.signer import Signer


@dataclass(frozen=True)
class Settlement:
    """The change that owed ``duty``, and what was done about it."""

    rfc: str
    duty: str
    note: str


def find(cmdb: Cmdb, rfc: str, duty: str) -> Debt:
    """What is owed; raises :class:`NotFoundError` when it never was."""
    of_rfc = debts(cmdb, rfc=rfc)
    found = next((debt for debt in of_rfc if debt.duty == duty), None)
    if found is None:
        owed = f"it owes {', '.join(debt.duty for debt in of_rfc)}" if of_rfc else "it owes nothing"
        raise NotFoundError(f"{rfc} does not owe {duty!a:.60}; {owed}")
    return found


def settle_debt(
    cmdb: Cmdb, home: Repository, policy: Policy, settlement: Settlement, signer: Signer | None, now: datetime, write: bool
) -> tuple[Debt, str, bool]:
    """Settle a debt, unless that was done already; return it, who settled it, and whether that is new.

    Raises :class:`TidegateError` when nothing is said, nobody whom the policy knows signs it, the change has yet to begin on its hosts, or
    spares that it owes were read to be behind.
    """
    if not settlement.note.strip():
        raise TidegateError("nothing is said about what was done; say it in note, for those who ask later")
    debt = find(cmdb, settlement.rfc, settlement.duty)
    if debt.settled is not None:
        return debt, debt.actor, False
    deployment = Deployments(cmdb).latest(debt.rfc)
    if deployment is None or deployment.started is None:
        raise ConflictError(f"{debt.rfc} has not changed a host yet, and {debt.duty} is owed afterwards; settle it then")
    if policy.people and signer is None:
        raise TidegateError(f"the policy names people, so {debt.duty} is settled with a signature; give the key of one of them")
    actor = signer_name(policy, signer, now) if signer is not None and policy.people else this_user()
    with cmdb.read() as connection:
        refuse_behind(connection, debt)
    if signer is not None:
        said = {"rfc": debt.rfc, "duty": debt.duty, "note": settlement.note}
        ensure(home, Statement(purl(debt.release, debt.version), debt.digest, SETTLEMENT, said), signer, now, write)
    if write:
        settle(cmdb, debt, settlement.note, actor, now)
    return debt, actor, True
