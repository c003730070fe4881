# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Until when hosts of a deployment may be started on, by what its gate found open."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("deployment", sa.Column("open_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take the column away."""
    op.drop_column("deployment", "open_until")
