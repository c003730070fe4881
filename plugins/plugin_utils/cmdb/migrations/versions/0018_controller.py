# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers that drive one deployment, and which of its hosts each has."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Make the table; of the deployments of before, each was driven by one controller at a time."""
    op.create_table(
        "controller",
        sa.Column("token", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.Integer, nullable=True) for name in ("place", "back")),
        sa.Column("stop", sa.String, nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in ("done", "ended")),
        sa.PrimaryKeyConstraint("token", name="pk_controller"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_controller_deployment_id"),
    )
    op.create_index("ix_controller_deployment_id_epoch", "controller", ["deployment_id", "epoch"])
    op.add_column("deployment_host", sa.Column("controller", sa.BigInteger, nullable=True))


def downgrade() -> None:
    """Take them away, with what is in them; no deployment is driven meanwhile."""
    op.drop_column("deployment_host", "controller")
    op.drop_table("controller")
