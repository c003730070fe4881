# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign what the gates of a deployment were decided by, and keep that beside its package: the journal is its owner's to write."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ..cmdb.chain import heads_document
from ..dsl.repository import Repository
from ..dsl.seen import Sight
from ..evidence.envelope import sign
from ..evidence.library import remember_sight
from ..evidence.statement import GATES, Statement, kind_of, purl
from ..evidence.store import attach
from ..rollout.bake_journal import BakeJournal
from ..rollout.bake_record import gates_record
from ..rollout.deployments import Run

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

SIGNED = "gates_signed"


def sign_gates(journal: BakeJournal, run: Run, home: Repository, signer: Signer, now: datetime) -> bool:
    """Sign the gates of a deployment, unless none was decided since they were signed last; return whether anything was signed.

    ``home`` is the library of the release. Raises :class:`TidegateError` when that can't be written.
    """
    deployment = journal.deployment(run.deployment)
    gates = gates_record(journal.bake_lines(deployment.id))
    signed = max((entry.data["gates"] for entry in journal.events(deployment.id) if entry.event == SIGNED), default=0)
    if len(gates) <= signed:
        return False
    with journal.cmdb.read() as connection:
        heads = heads_document(connection)
    predicate = {"rfc": deployment.rfc, "deployment": deployment.label, "gates": gates, "heads": heads}
    statement = Statement(purl(deployment.release, deployment.version), deployment.digest, GATES, predicate)
    attached = attach(home, deployment.digest, sign(statement, signer, now))
    sight = Sight(deployment.release, deployment.version, deployment.digest, {attached: kind_of(GATES) or ""})
    remember_sight(lambda: journal.cmdb, sight, now, signer)
    journal.note(run, SIGNED, {"gates": len(gates), "manifest": attached}, now)
    return True
