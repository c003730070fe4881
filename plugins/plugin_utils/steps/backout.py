# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person wants a deployment undone: take it over and say so in the journal; the hosts follow in steps of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..clearance.policy import load_policy
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from ..report.progress import words
from ..rfc.source import rfc_number
from ..rollout.holder import Holder
from ..rollout.journal import Journal
from ..rollout.states import DeploymentState
from .plan import RunRequest, backing_out, result
from .tell import make_notifier, warned


def order_backout(request: RunRequest, *, cmdb_url: str, policy_path: str | None, reason: str, now: datetime) -> dict[str, Any]:
    """A person wants the deployment of this RFC undone; take it over and say so in the journal. Return the task's result.

    Raises :class:`TidegateError` when there is no deployment, another controller drives it, a later one has replaced it, or a host that has
    to go back is not in the inventory or left out.
    """
    with Cmdb.open(cmdb_url) as cmdb:
        journal = Journal(cmdb)
        number = rfc_number(request.rfc_path)
        current = journal.latest(number)
        if current is None:
            raise TidegateError(f"{number} was never deployed, so there is nothing to back out; check the RFC")
        if current.state in (DeploymentState.BACKED_OUT, DeploymentState.CANCELLED):
            return result(f"{current.label} is already {words(current.state)}", changed=False)
        journal.refuse_backout(current)
        hosts = journal.to_visit(current, backout=True)
        request.reach.check(hosts, "host", f"that {current.label} has to be backed out of")
        if not request.take_over:
            journal.refuse_driven(current.id, Holder.this_run(), now)
        if not request.write:
            return result(backing_out(current, hosts, "would be"), changed=True)
        request.refuse_interrupted()
        run = journal.take_over(current.id, Holder.this_run(), now, ordered=request.take_over)
        state = journal.order_backout(run, reason, now)
        begins = state is DeploymentState.BACKING_OUT and current.state is not state
        problems = make_notifier(lambda: load_policy(policy_path))(journal, run, "back_out", reason, now) if begins else []
        return {**result(backing_out(current, hosts, "is"), changed=True), **warned(problems)}
