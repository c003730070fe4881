# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report asks of all that ever was is found without reading all of it."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0011"
down_revision = "0010"

_TROUBLE = (
    "(state IN ('stage_failed', 'activating', 'started', 'failed', 'stuck', 'lost', 'backing_out', 'owed') "
    "OR (state = 'active' AND detail <> '') OR (state = 'backed_out' AND substr(detail, 1, 17) = 'to be looked at: '))"
)
_INDEXES = (
    ("ix_deployment_host_trouble", "deployment_host", ["deployment_id"], _TROUBLE),
    ("ix_journal_deployment", "journal", ["event", "deployment_id", "seq"], "host IS NULL"),
    ("ix_history_fleet", "history", ["event", "seq"], "ci IS NULL"),
)


def upgrade() -> None:
    """Index the lines about deployments as a whole, those about no CI, and the hosts that somebody may have to look at."""
    for name, table, columns, condition in _INDEXES:
        op.create_index(name, table, columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))


def downgrade() -> None:
    """Take them away."""
    for name, table, _columns, _condition in _INDEXES:
        op.drop_index(name, table)
