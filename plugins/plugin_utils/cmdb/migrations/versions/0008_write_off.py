# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a person has written off, and why."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "write_off",
        sa.Column("ci_id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("actor", "reason")),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ci_id", name="pk_write_off"),
        sa.ForeignKeyConstraint(["ci_id"], ["ci.id"], name="fk_write_off_ci_id", ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Take it away, with what is in it; the history keeps who wrote what off."""
    op.drop_table("write_off")
