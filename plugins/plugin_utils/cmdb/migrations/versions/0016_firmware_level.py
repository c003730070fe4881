# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which firmware units were read to have, and which they are to have."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "asset_firmware",
        sa.Column("asset_id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("component", "version")),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("asset_id", "component", name="pk_asset_firmware"),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name="fk_asset_firmware_asset_id"),
    )
    op.create_table(
        "firmware_level",
        *(sa.Column(name, sa.String, nullable=False) for name in ("model", "component", "version", "release")),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "component", name="pk_firmware_level"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_firmware_level_deployment_id"),
    )


def downgrade() -> None:
    """Take them away, with what is in them."""
    op.drop_table("firmware_level")
    op.drop_table("asset_firmware")
