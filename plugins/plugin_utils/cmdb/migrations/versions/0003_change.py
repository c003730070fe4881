# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of changes: which RFC changes which CIs when, and how far it has come."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    texts = ("number", "type", "release", "version", "digest", "fingerprint", "short_description", "requested_by", "assigned_to")
    moments = (("start_date", False), ("end_date", False), ("work_start", True), ("work_end", True), ("updated", False))
    op.create_table(
        "change",
        *(sa.Column(name, sa.String, nullable=False) for name in texts),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("state", "risk")),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=nullable) for name, nullable in moments),
        *(sa.Column(name, sa.String, nullable=False) for name in ("close_code", "close_notes")),
        sa.PrimaryKeyConstraint("number", name="pk_change"),
    )
    op.create_index("ix_change_end_date", "change", ["end_date"])
    op.create_table(
        "change_ci",
        sa.Column("number", sa.String, nullable=False),
        sa.Column("ci", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("number", "ci", name="pk_change_ci"),
        sa.ForeignKeyConstraint(["number"], ["change.number"], name="fk_change_ci_number", ondelete="CASCADE"),
    )
    op.create_index("ix_change_ci_ci", "change_ci", ["ci"])


def downgrade() -> None:
    """Take them away, with what is in them."""
    op.drop_table("change_ci")
    op.drop_table("change")
