# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What state a CI is in, whose it is, how often it was written, and the team's model of CIs."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the columns and the table; every CI that is there stays live, as it was."""
    op.add_column("ci", sa.Column("status", sa.String, nullable=False, server_default="installed"))
    for name in ("owned_by", "support_group", "location", "time_zone"):
        op.add_column("ci", sa.Column(name, sa.String, nullable=True))
    op.add_column("ci", sa.Column("revision", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "ci_model",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ci_model"),
    )


def downgrade() -> None:
    """Take them away, with what is in them; the history keeps who wrote what."""
    op.drop_table("ci_model")
    for name in ("revision", "time_zone", "location", "support_group", "owned_by", "status"):
        op.drop_column("ci", name)
