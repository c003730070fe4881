# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of hosts write to the journal, tried once by the process that forks a worker for each host.

Workers inherit the statements that it has compiled, so none has to compile them again, least of all while the others wait for it to write.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from ..cmdb.store import Cmdb
from ..errors import TidegateError
from .deployments import Deployment
from .journal import Journal
from .standing import standing
from .states import HostState


def rehearse(cmdb: Cmdb, deployment: Deployment, step: str, host: str, now: datetime) -> None:
    """Write what ``step`` (``stage``, ``activate``, ``backout``) would for ``host``, and undo it.

    What the journal refuses it will refuse then, with a sentence; here it only means that the rest is not tried.
    """
    run = deployment.run
    with suppress(TidegateError), cmdb.rehearsal() as undone:
        journal = Journal(undone)
        if step == "stage":
            standing(undone, host, deployment.release)
            journal.staged(run, host, None, now)
        elif step == "activate":
            journal.activating(run, host, now)
            journal.activated(run, host, HostState.STARTED, "", now)
            journal.confirming(run, host, now + timedelta(seconds=deployment.rollout.stable))
        else:
            journal.backing_out(run, host, now)
            journal.backed_out(run, host, HostState.BACKED_OUT, "", now)
