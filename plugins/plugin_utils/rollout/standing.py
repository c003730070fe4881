# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one host stands with one release: what the CMDB says it has, and what some deployment may still need there."""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..cmdb.schema import schema
from .states import OPEN, DeploymentState, HostState

with suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from ..cmdb.store import Cmdb


@dataclass(frozen=True)
class Standing:
    """``installed``: the package that the CMDB says is live. ``needed``: packages that must not be removed, in order.

    ``fresh``: nobody ever tried to bring this release there, in whatever version, but for the deployment that asks. That is as far
    as the journal goes back: where the release is not installed any more and what was tried is archived, it is fresh again.
    """

    installed: str | None
    needed: tuple[str, ...]
    fresh: bool


def standing(cmdb: Cmdb, host: str, release: str) -> Standing:
    """Ask the CMDB and the journal about ``release`` on ``host``.

    It is asked before the host is staged. Needed are both ends of every deployment that is open, or that is completed and can still be
    backed out: the one that the installation on record is from.
    """
    installation_on, ends_of_needing, states_of_tried = _questions()
    with cmdb.read() as connection:
        installation = connection.execute(installation_on, {"on_host": host, "of_release": release}).one_or_none()
        last = installation.deployment_id if installation and installation.state == DeploymentState.COMPLETED else None
        ends = connection.execute(ends_of_needing, {"on_host": host, "of_release": release, "last": last}).all()
        tried = [tuple(row) for row in connection.execute(states_of_tried, {"on_host": host, "of_release": release})]
    installed = installation.digest if installation else None
    needed = {installed, *(digest for row in ends for digest in row)}
    # One that is planned with a detail is late: it says what became of the first attempt.
    fresh = installed is None and tried in ([], [(HostState.PLANNED, "")])
    return Standing(installed, tuple(sorted(digest for digest in needed if digest)), fresh)


@functools.cache
def _questions() -> tuple[sa.Select[Any], ...]:
    """What is installed, what the deployments need that are open or ``last``, and whether there was any; made once, for many hosts ask."""
    t = schema()
    d, h, i = t.deployment.c, t.deployment_host.c, t.installation.c
    host, release = sa.bindparam("on_host", type_=sa.String), sa.bindparam("of_release", type_=sa.String)
    installation = (
        sa.select(i.digest, i.deployment_id, d.state)
        .join(t.ci, t.ci.c.id == i.ci_id)
        .outerjoin(t.deployment, d.id == i.deployment_id)
        .where(t.ci.c.name == host, i.release == release)
    )
    # First which deployments, of which few are open, then whether the host is in them: it was in many that are over.
    other = t.deployment.alias().c
    open_ = sa.select(other.id).where(other.release == release, other.state.in_(OPEN))
    that_need = open_.union_all(sa.select(sa.bindparam("last", type_=sa.Integer)))
    ends = sa.select(d.digest, h.previous_digest).join(t.deployment_host, h.deployment_id == d.id)
    # A release may have gone to many more hosts, each by a deployment of its own, than this host has had deployments.
    of_release = sa.select(d.id).where(d.id == h.deployment_id, d.release == release).exists()
    tried = sa.select(h.state, h.detail).where(h.host == host, of_release).limit(2)
    return installation, ends.where(h.host == host, h.deployment_id.in_(that_need)), tried
