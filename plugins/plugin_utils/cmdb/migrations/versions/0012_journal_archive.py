# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which deployments have their journal in a file; the journal lets go of these alone."""

from __future__ import annotations

import contextlib
import re

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0012"
down_revision = "0011"

_SQLITE = """
CREATE TRIGGER journal_archive_refuses_update BEFORE UPDATE ON journal_archive
  BEGIN SELECT RAISE(ABORT, 'journal_archive is append-only'); END;
CREATE TRIGGER journal_archive_refuses_delete BEFORE DELETE ON journal_archive
  BEGIN SELECT RAISE(ABORT, 'journal_archive is append-only'); END;
-- INSERT OR REPLACE deletes rows without firing delete triggers.
CREATE TRIGGER journal_archive_refuses_replace BEFORE INSERT ON journal_archive
  WHEN EXISTS (SELECT 1 FROM journal_archive WHERE deployment_id = NEW.deployment_id)
  BEGIN SELECT RAISE(ABORT, 'journal_archive is append-only'); END;
DROP TRIGGER journal_refuses_delete;
CREATE TRIGGER journal_refuses_delete BEFORE DELETE ON journal
  WHEN NOT EXISTS (SELECT 1 FROM journal_archive WHERE deployment_id = OLD.deployment_id)
  BEGIN SELECT RAISE(ABORT, 'journal is append-only'); END;
"""
_POSTGRESQL = """
CREATE FUNCTION journal_archive_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'journal_archive is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER journal_archive_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_archive
  FOR EACH STATEMENT EXECUTE FUNCTION journal_archive_append_only();
DROP TRIGGER journal_append_only ON journal;
CREATE TRIGGER journal_append_only BEFORE UPDATE OR TRUNCATE ON journal
  FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only();
CREATE FUNCTION journal_refuses_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM journal_archive WHERE deployment_id = OLD.deployment_id) THEN
    RAISE EXCEPTION 'journal is append-only' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN OLD; END $$;
CREATE TRIGGER journal_refuses_delete BEFORE DELETE ON journal FOR EACH ROW EXECUTE FUNCTION journal_refuses_delete();
"""
_SQLITE_BACK = """
DROP TRIGGER journal_refuses_delete;
CREATE TRIGGER journal_refuses_delete BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'journal is append-only'); END
"""
_POSTGRESQL_BACK = """
DROP TRIGGER journal_refuses_delete ON journal;
DROP FUNCTION journal_refuses_delete();
DROP TRIGGER journal_append_only ON journal;
CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
  FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only()
"""


def upgrade() -> None:
    """Make the table, append-only as the journal is, and have the journal ask it."""
    op.create_table(
        "journal_archive",
        sa.Column("deployment_id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("file", "sha256")),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("actor", "reason")),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_journal_archive"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_journal_archive_deployment_id"),
    )
    statements = _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL
    for statement in re.split(r";\n(?=[A-Z-]|\Z)", statements.strip() + "\n"):
        if statement:
            op.execute(statement)


def downgrade() -> None:
    """Take it away, with where the archives are, and have the journal refuse to let go of anything."""
    statements = _SQLITE_BACK if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL_BACK
    for statement in statements.strip().split(";\n"):
        op.execute(statement)
    op.drop_table("journal_archive")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION journal_archive_append_only()")
