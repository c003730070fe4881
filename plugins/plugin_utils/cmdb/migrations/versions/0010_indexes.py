# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes with which no step of a deployment reads what is long over."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    from alembic import op

revision = "0010"
down_revision = "0009"

_INDEXES = (
    ("deployment", ["release", "state", "id"]),
    ("deployment", ["token"]),
    ("deployment_host", ["host", "deployment_id"]),
    ("journal", ["deployment_id", "seq"]),
    ("change", ["work_end", "end_date"]),
    ("seat", ["ci", "release"]),
)


def upgrade() -> None:
    """Make the indexes, two of them in place of one that they begin with or that was not enough."""
    op.drop_index("ix_journal_deployment_id", "journal")
    op.drop_index("ix_change_end_date", "change")
    for table, columns in _INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def downgrade() -> None:
    """Have the indexes of before."""
    for table, columns in _INDEXES:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)
    op.create_index("ix_change_end_date", "change", ["end_date"])
    op.create_index("ix_journal_deployment_id", "journal", ["deployment_id"])
