# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts are on record to have besides releases: packages, units, cron files and listeners."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "host_set",
        sa.Column("ci_id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("name", "sha256")),
        sa.Column("entries", sa.JSON, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("actor", "reason")),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ci_id", "name", name="pk_host_set"),
        sa.ForeignKeyConstraint(["ci_id"], ["ci.id"], name="fk_host_set_ci_id", ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Take it away, with what is in it; the history keeps who recorded what."""
    op.drop_table("host_set")
