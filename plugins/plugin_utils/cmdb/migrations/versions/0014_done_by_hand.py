# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases a person says to have brought back on a host by hand, and why."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "done_by_hand",
        sa.Column("ci_id", sa.Integer, nullable=False),
        sa.Column("release", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=True),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("actor", "reason")),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ci_id", "release", name="pk_done_by_hand"),
        sa.ForeignKeyConstraint(["ci_id"], ["ci.id"], name="fk_done_by_hand_ci_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_done_by_hand_deployment_id"),
    )


def downgrade() -> None:
    """Take it away, with what is in it; the history keeps who did what."""
    op.drop_table("done_by_hand")
