# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first CMDB: CIs, relations, installations, history; deployments with waves, hosts, journal and locks."""

from __future__ import annotations

import contextlib
from typing import Any

with contextlib.suppress(ImportError):
    import sqlalchemy as sa
    from alembic import op

revision = "0001"
down_revision = None

APPEND_ONLY = ("history", "journal")


def upgrade() -> None:
    """Make the tables and the triggers that keep history and journal append-only."""
    _cis()
    _deployments()
    _installations()
    for table in APPEND_ONLY:
        _append_only(table)


def _text(name: str, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String, **({"nullable": False} | options))


def _number(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, **({"nullable": False} | options))


def _document(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=False)


def _at(name: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), **({"nullable": False} | options))


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False)


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _foreign(table: str, column: str, target: str, **options: Any) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}", **options)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _cis() -> None:
    op.create_table(
        "ci",
        _number("id"),
        _text("name"),
        _text("class", nullable=True),
        _text("site", nullable=True),
        _text("environment", nullable=True),
        _document("attributes"),
        _at("created"),
        _at("updated"),
        _primary("ci", "id"),
        sa.UniqueConstraint("name", name="uq_ci_name"),
    )
    op.create_table(
        "relation",
        _number("source_id"),
        _number("target_id"),
        _text("kind"),
        _primary("relation", "source_id", "target_id", "kind"),
        _foreign("relation", "source_id", "ci.id", ondelete="CASCADE"),
        _foreign("relation", "target_id", "ci.id", ondelete="CASCADE"),
    )
    _index("relation", "target_id")
    op.create_table(
        "history",
        _seq(),
        _at("at"),
        _text("actor"),
        _text("ci", nullable=True),
        _text("event"),
        _document("data"),
        _primary("history", "seq"),
    )
    _index("history", "ci")


def _deployments() -> None:
    op.create_table(
        "deployment",
        _number("id"),
        _text("rfc"),
        _text("release"),
        _text("version"),
        _text("digest"),
        _text("state"),
        _document("options"),
        _text("holder"),
        sa.Column("token", sa.BigInteger, nullable=False),
        _at("lease_until", nullable=True),
        _text("reason"),
        _at("created"),
        _at("started", nullable=True),
        _at("finished", nullable=True),
        _primary("deployment", "id"),
    )
    _index("deployment", "rfc")
    _index("deployment", "state")
    op.create_table(
        "wave",
        _number("deployment_id"),
        _number("number", autoincrement=False),
        _text("state"),
        _text("decision", nullable=True),
        _text("reason"),
        _at("opened", nullable=True),
        _at("decided", nullable=True),
        _primary("wave", "deployment_id", "number"),
        _foreign("wave", "deployment_id", "deployment.id"),
    )
    op.create_table(
        "deployment_host",
        _number("deployment_id"),
        _text("host"),
        _number("wave"),
        _number("position"),
        _text("state"),
        _text("previous_digest", nullable=True),
        _text("previous_version", nullable=True),
        _text("detail"),
        _at("updated"),
        _primary("deployment_host", "deployment_id", "host"),
        _foreign("deployment_host", "deployment_id", "deployment.id"),
    )
    _index("deployment_host", "deployment_id", "wave", "position")
    op.create_table(
        "journal",
        _seq(),
        _number("deployment_id"),
        _at("at"),
        _text("event"),
        _text("host", nullable=True),
        _number("wave", nullable=True),
        _document("data"),
        _primary("journal", "seq"),
        _foreign("journal", "deployment_id", "deployment.id"),
    )
    _index("journal", "deployment_id")
    op.create_table(
        "lock",
        _text("ci"),
        _number("deployment_id"),
        _primary("lock", "ci"),
        _foreign("lock", "ci", "ci.name"),
        _foreign("lock", "deployment_id", "deployment.id"),
    )
    _index("lock", "deployment_id")


def _installations() -> None:
    op.create_table(
        "installation",
        _number("id"),
        _number("ci_id"),
        _text("release"),
        _text("version"),
        _text("digest"),
        _text("state"),
        _number("deployment_id", nullable=True),
        _at("since"),
        _primary("installation", "id"),
        _foreign("installation", "ci_id", "ci.id"),
        _foreign("installation", "deployment_id", "deployment.id"),
        sa.UniqueConstraint("ci_id", "release", name="uq_installation_ci_id_release"),
    )
    _index("installation", "release")


def _append_only(table: str) -> None:
    refusal = f"{table} is append-only"
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            )
        # INSERT OR REPLACE deletes rows without firing delete triggers.
        known = f"EXISTS (SELECT 1 FROM {table} WHERE seq = NEW.seq)"  # noqa: S608 - the names are ours
        op.execute(
            f"CREATE TRIGGER {table}_refuses_replace BEFORE INSERT ON {table} WHEN {known} BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
        )
    else:
        op.execute(
            f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{refusal}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
        )
