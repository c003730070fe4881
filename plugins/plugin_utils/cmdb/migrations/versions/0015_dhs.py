# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definitive hardware storage: physical units, how many of a model a stockroom should have, and what the history says of a unit."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0015"
down_revision = "0014"

_CHECKS = {
    "in_stock": "state <> 'in_stock' OR (stockroom <> '' AND ci_id IS NULL)",
    "in_use": "(state = 'in_use') = (ci_id IS NOT NULL) AND (state <> 'in_use' OR stockroom = '')",
    "reserved": "(substate = 'reserved') = (deployment_id IS NOT NULL) AND (substate <> 'reserved' OR state = 'in_stock')",
    "placed": "state NOT IN ('on_order', 'in_transit') OR (stockroom <> '' AND ci_id IS NULL)",
    "state": "state IN ('on_order', 'in_stock', 'in_transit', 'in_use', 'in_maintenance', 'retired', 'missing')",
}


def upgrade() -> None:
    """Make the tables, and the column."""
    texts = ("tag", "identity", "manufacturer", "serial", "model", "state", "substate", "stockroom")
    op.create_table(
        "asset",
        sa.Column("id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in texts),
        sa.Column("ci_id", sa.Integer, nullable=True),
        sa.Column("slot", sa.String, nullable=False),
        sa.Column("deployment_id", sa.Integer, nullable=True),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_asset"),
        sa.UniqueConstraint("tag", name="uq_asset_tag"),
        sa.UniqueConstraint("identity", name="uq_asset_identity"),
        sa.UniqueConstraint("ci_id", "slot", name="uq_asset_ci_id_slot"),
        sa.ForeignKeyConstraint(["ci_id"], ["ci.id"], name="fk_asset_ci_id"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_asset_deployment_id"),
        *(sa.CheckConstraint(condition, name=f"ck_asset_{name}") for name, condition in _CHECKS.items()),
    )
    op.create_index("ix_asset_deployment_id", "asset", ["deployment_id"])
    op.create_index("ix_asset_model_stockroom", "asset", ["model", "stockroom"])
    op.create_table(
        "stock_rule",
        *(sa.Column(name, sa.String, nullable=False) for name in ("model", "stockroom")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("threshold", "target", "order_size")),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("substitutes", sa.JSON, nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in ("low_since", "told")),
        sa.PrimaryKeyConstraint("model", "stockroom", name="pk_stock_rule"),
    )
    op.add_column("history", sa.Column("asset", sa.String, nullable=True))
    where = sa.text("asset IS NOT NULL")
    op.create_index("ix_history_asset", "history", ["asset", "seq"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Take them away, with what is in them; the history keeps who moved what."""
    op.drop_index("ix_history_asset", "history")
    op.drop_column("history", "asset")
    op.drop_table("stock_rule")
    op.drop_table("asset")
