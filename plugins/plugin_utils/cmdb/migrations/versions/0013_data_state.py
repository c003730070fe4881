# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment has done to data, by the steps migrate and reverse of its release's role."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column; the releases of earlier deployments had no such steps."""
    op.add_column("deployment", sa.Column("data_state", sa.String, nullable=False, server_default="none"))


def downgrade() -> None:
    """Take the column away."""
    op.drop_column("deployment", "data_state")
