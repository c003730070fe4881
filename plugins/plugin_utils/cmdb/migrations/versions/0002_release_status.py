# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases that were retired or purged."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table; a release that is not in it is archived and nothing else."""
    op.create_table(
        "release_status",
        *(sa.Column(name, sa.String, nullable=False) for name in ("release", "version", "digest", "state", "reason", "actor")),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("release", "version", name="pk_release_status"),
    )


def downgrade() -> None:
    """Take it away, with what is in it; the history keeps who retired what."""
    op.drop_table("release_status")
