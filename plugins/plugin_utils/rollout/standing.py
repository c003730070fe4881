# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one host stands with one release: what the CMDB says it has, and what some deployment may still need there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..cmdb.schema import schema
from .states import OPEN, DeploymentState, HostState

with suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from ..cmdb.store import Cmdb


@dataclass(frozen=True)
class Standing:
    """``installed``: the package that the CMDB says is live. ``needed``: packages that must not be removed, in order.

    ``fresh``: nobody ever tried to bring this release there, in whatever version, but for the deployment that asks.
    """

    installed: str | None
    needed: tuple[str, ...]
    fresh: bool


def standing(cmdb: Cmdb, host: str, release: str) -> Standing:
    """Ask the CMDB and the journal about ``release`` on ``host``.

    It is asked before the host is staged. Needed are both ends of every deployment that is open, or that is completed and can still be
    backed out: the one that the installation on record is from.
    """
    t = schema()
    with cmdb.read() as connection:
        installation = connection.execute(
            sa.select(t.installation.c.digest, t.installation.c.deployment_id)
            .join(t.ci, t.ci.c.id == t.installation.c.ci_id)
            .where(t.ci.c.name == host, t.installation.c.release == release)
        ).one_or_none()
        last = installation.deployment_id if installation else None
        rows = connection.execute(
            sa.select(t.deployment.c.digest, t.deployment_host.c.previous_digest)
            .join(t.deployment, t.deployment.c.id == t.deployment_host.c.deployment_id)
            .where(
                t.deployment_host.c.host == host,
                t.deployment.c.release == release,
                sa.or_(
                    t.deployment.c.state.in_(OPEN),
                    sa.and_(t.deployment.c.id == last, t.deployment.c.state == DeploymentState.COMPLETED),
                ),
            )
        ).all()
        tried = connection.execute(
            sa.select(t.deployment_host.c.state)
            .join(t.deployment, t.deployment.c.id == t.deployment_host.c.deployment_id)
            .where(t.deployment_host.c.host == host, t.deployment.c.release == release)
        ).all()
    installed = installation.digest if installation else None
    needed = tuple(sorted({digest for row in (*rows, (installed,)) for digest in row if digest}))
    return Standing(installed, needed, installed is None and [row.state for row in tried] in ([], [HostState.PLANNED]))
