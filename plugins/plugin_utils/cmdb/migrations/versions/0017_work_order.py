# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do with their hands for a deployment."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "work_order",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("ci", "slot", "old", "new", "instructions")),
        sa.Column("back", sa.Boolean, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("claimed_by", "closed_by", "read")),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in ("opened", "closed")),
        sa.PrimaryKeyConstraint("id", name="pk_work_order"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_work_order_deployment_id"),
    )
    op.create_index("ix_work_order_deployment_id", "work_order", ["deployment_id"])
    where = sa.text("state IN ('open', 'claimed')")
    op.create_index("ix_work_order_waiting", "work_order", ["id"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Take it away, with what is in it; the history keeps what was exchanged."""
    op.drop_table("work_order")
