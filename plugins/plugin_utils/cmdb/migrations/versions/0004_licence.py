# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entitlements to use licensed products, and who uses or has reserved their seats."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "entitlement",
        *(sa.Column(name, sa.String, nullable=False) for name in ("name", "product")),
        sa.Column("seats", sa.Integer, nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in ("valid_from", "valid_until")),
        sa.Column("reference", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_entitlement"),
    )
    op.create_index("ix_entitlement_product", "entitlement", ["product"])
    op.create_table(
        "seat",
        *(sa.Column(name, sa.String, nullable=False) for name in ("entitlement", "ci", "release")),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.Column("leaves_with", sa.Integer, nullable=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("entitlement", "ci", "release", name="pk_seat"),
        sa.ForeignKeyConstraint(["entitlement"], ["entitlement.name"], name="fk_seat_entitlement"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_seat_deployment_id"),
        sa.ForeignKeyConstraint(["leaves_with"], ["deployment.id"], name="fk_seat_leaves_with"),
    )
    op.create_index("ix_seat_deployment_id", "seat", ["deployment_id"])
    op.create_index("ix_seat_leaves_with", "seat", ["leaves_with"])


def downgrade() -> None:
    """Take them away, with what is in them; the history keeps who entered what."""
    op.drop_table("seat")
    op.drop_table("entitlement")
