# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen of each release in the library."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "library_seen",
        *(sa.Column(name, sa.String, nullable=False) for name in ("release", "version", "digest")),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("envelope", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("release", "version", name="pk_library_seen"),
    )


def downgrade() -> None:
    """Take it away, with what is in it."""
    op.drop_table("library_seen")
