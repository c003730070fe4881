# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told at a later time or once, and which messages of a chat belong together."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "message",
        sa.Column("id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("channel", "about", "event", "title", "body", "thread")),
        sa.Column("urgent", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=False) for name in ("created", "due")),
        sa.Column("taken", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
        sa.UniqueConstraint("channel", "about", name="uq_message_channel_about"),
    )
    waiting = sa.text("taken IS NULL")
    op.create_index("ix_message_waiting", "message", ["due"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_table(
        "message_thread",
        *(sa.Column(name, sa.String, nullable=False) for name in ("thread", "channel")),
        sa.Column("roots", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("thread", "channel", name="pk_message_thread"),
    )


def downgrade() -> None:
    """Take them away: what waits to be told is not told."""
    op.drop_table("message_thread")
    op.drop_table("message")
