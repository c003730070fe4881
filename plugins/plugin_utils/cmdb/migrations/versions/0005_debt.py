# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What emergency changes owe afterwards."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    moments = (("incurred", False), ("due", False), ("settled", True))
    op.create_table(
        "debt",
        *(sa.Column(name, sa.String, nullable=False) for name in ("rfc", "duty", "release", "version", "digest", "actor", "note")),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=nullable) for name, nullable in moments),
        sa.PrimaryKeyConstraint("rfc", "duty", name="pk_debt"),
    )
    op.create_index("ix_debt_release", "debt", ["release"])


def downgrade() -> None:
    """Take it away, with what is in it."""
    op.drop_table("debt")
