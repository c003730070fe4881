# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the CMDB, as SQLAlchemy Core sees them.

The migrations make these tables; a test holds the two together. ``history``, ``journal`` and ``journal_archive`` are append-only:
triggers, which only the migrations know, refuse everything but inserts. The journal of a deployment that ``journal_archive`` names may
be deleted. Lines of the first two are appended by :mod:`.chain` alone.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .links import NO_SHA256

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

# What is so of each physical thing: where it is, and for whom.
ASSET_CHECKS = {
    "in_stock": "state <> 'in_stock' OR (stockroom <> '' AND ci_id IS NULL)",
    "in_use": "(state = 'in_use') = (ci_id IS NOT NULL) AND (state <> 'in_use' OR stockroom = '')",
    "reserved": "(substate = 'reserved') = (deployment_id IS NOT NULL) AND (substate <> 'reserved' OR state = 'in_stock')",
    "placed": "state NOT IN ('on_order', 'in_transit') OR (stockroom <> '' AND ci_id IS NULL)",
    "state": "state IN ('on_order', 'in_stock', 'in_transit', 'in_use', 'in_maintenance', 'retired', 'missing')",
}

# What the constraints and indexes are called, so that a later migration can name them.
NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


@dataclass(frozen=True)
class Schema:
    """Every table, by the word the design uses for it. A CI's class is the column ``ci.c.class_``."""

    metadata: sa.MetaData
    ci: sa.Table
    ci_model: sa.Table
    relation: sa.Table
    installation: sa.Table
    history: sa.Table
    deployment: sa.Table
    wave: sa.Table
    deployment_host: sa.Table
    controller: sa.Table
    journal: sa.Table
    lock: sa.Table
    release_status: sa.Table
    library_seen: sa.Table
    change: sa.Table
    change_ci: sa.Table
    debt: sa.Table
    entitlement: sa.Table
    seat: sa.Table
    write_off: sa.Table
    done_by_hand: sa.Table
    host_set: sa.Table
    message: sa.Table
    message_thread: sa.Table
    journal_archive: sa.Table
    chain: sa.Table
    asset: sa.Table
    stock_rule: sa.Table
    asset_firmware: sa.Table
    firmware_level: sa.Table
    work_order: sa.Table


def may_need_a_person(prefix: str = "") -> str:
    """The condition that picks the hosts of deployments which somebody may have to look at; ``prefix`` goes before each column.

    It is that of an index, so it has no parameters: a database uses the index for a query with the same condition.
    """
    state, detail = f"{prefix}state", f"{prefix}detail"
    bad = "'stage_failed', 'activating', 'started', 'failed', 'stuck', 'lost', 'backing_out', 'owed'"
    remark = f"{state} = 'backed_out' AND substr({detail}, 1, 17) = 'to be looked at: '"
    return f"({state} IN ({bad}) OR ({state} = 'active' AND {detail} <> '') OR ({remark}))"


@functools.cache
def moment() -> TypeEngine[datetime]:
    """The type of a column that holds a moment: aware datetimes go in, UTC comes out; naive ones are refused."""

    class Moment(sa.types.TypeDecorator[datetime]):
        impl = sa.DateTime(timezone=True)
        cache_ok = True

        def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
            if value is None:
                return None
            if value.tzinfo is None:
                raise ValueError(f"{value.isoformat()} has no time zone; the CMDB keeps moments, not wall clocks")
            utc = value.astimezone(UTC)
            return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

        def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
            if value is None:
                return None
            return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)

    return Moment()


@functools.cache
def schema() -> Schema:
    """The tables; made once per process, when first asked for."""
    metadata = sa.MetaData(naming_convention=NAMING)
    when = moment()

    def text(name: str, **options: Any) -> sa.Column[str]:
        return sa.Column(name, sa.String, **({"nullable": False} | options))

    def number(name: str, **options: Any) -> sa.Column[int]:
        return sa.Column(name, sa.Integer, **({"nullable": False} | options))

    def document(name: str) -> sa.Column[Any]:
        return sa.Column(name, sa.JSON, nullable=False)

    def at(name: str, **options: Any) -> sa.Column[datetime]:
        return sa.Column(name, when, **({"nullable": False} | options))

    def seq() -> sa.Column[int]:
        return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)

    def reference(name: str, target: str, **options: Any) -> sa.Column[int]:
        cascade = options.pop("ondelete", None)
        return sa.Column(name, sa.ForeignKey(target, ondelete=cascade), **({"nullable": False} | options))

    def some(name: str, condition: str, *columns: str) -> sa.Index:
        """An index of those rows only that ``condition`` picks, which its migration has; said to SQLAlchemy it would load both dialects."""
        return sa.Index(name, *columns, info={"condition": condition})

    return Schema(
        metadata=metadata,
        ci=sa.Table(
            "ci",
            metadata,
            number("id", primary_key=True),
            text("name", unique=True),
            text("class", key="class_", nullable=True),
            text("site", nullable=True),
            text("environment", nullable=True),
            document("attributes"),
            at("created"),
            at("updated"),
            text("status", server_default="installed"),
            *(text(name, nullable=True) for name in ("owned_by", "support_group", "location", "time_zone")),
            number("revision", server_default="1"),
        ),
        ci_model=sa.Table(
            "ci_model",
            metadata,
            number("id", primary_key=True, autoincrement=False),
            document("document"),
            text("actor"),
            at("at"),
        ),
        relation=sa.Table(
            "relation",
            metadata,
            reference("source_id", "ci.id", primary_key=True, ondelete="CASCADE"),
            reference("target_id", "ci.id", primary_key=True, ondelete="CASCADE", index=True),
            text("kind", primary_key=True),
        ),
        installation=sa.Table(
            "installation",
            metadata,
            number("id", primary_key=True),
            reference("ci_id", "ci.id"),
            text("release", index=True),
            text("version"),
            text("digest"),
            text("state"),
            reference("deployment_id", "deployment.id", nullable=True),
            at("since"),
            sa.UniqueConstraint("ci_id", "release"),
        ),
        history=sa.Table(
            "history",
            metadata,
            seq(),
            at("at"),
            text("actor"),
            text("ci", nullable=True, index=True),
            text("event"),
            document("data"),
            text("asset", nullable=True),
            text("sha256", server_default=NO_SHA256),
            some("ix_history_fleet", "ci IS NULL", "event", "seq"),
            some("ix_history_asset", "asset IS NOT NULL", "asset", "seq"),
        ),
        deployment=sa.Table(
            "deployment",
            metadata,
            number("id", primary_key=True),
            text("rfc", index=True),
            text("release"),
            text("version"),
            text("digest"),
            text("state", index=True),
            document("options"),
            text("holder"),
            sa.Column("token", sa.BigInteger, nullable=False),
            at("lease_until", nullable=True),
            at("open_until", nullable=True),
            text("reason", default=""),
            text("data_state", server_default="none"),
            at("created"),
            at("started", nullable=True),
            at("finished", nullable=True),
            sa.Index(None, "release", "state", "id"),
            sa.Index(None, "token"),
        ),
        wave=sa.Table(
            "wave",
            metadata,
            reference("deployment_id", "deployment.id", primary_key=True),
            number("number", primary_key=True, autoincrement=False),
            text("state"),
            text("decision", nullable=True),
            text("reason", default=""),
            at("opened", nullable=True),
            at("decided", nullable=True),
        ),
        deployment_host=sa.Table(
            "deployment_host",
            metadata,
            reference("deployment_id", "deployment.id", primary_key=True),
            text("host", primary_key=True),
            number("wave"),
            number("position"),
            text("state"),
            text("previous_digest", nullable=True),
            text("previous_version", nullable=True),
            text("detail", default=""),
            at("updated"),
            sa.Column("controller", sa.BigInteger, nullable=True),
            sa.Index(None, "deployment_id", "wave", "position"),
            sa.Index(None, "host", "deployment_id"),
            some("ix_deployment_host_trouble", may_need_a_person(), "deployment_id"),
        ),
        controller=sa.Table(
            "controller",
            metadata,
            sa.Column("token", sa.BigInteger, primary_key=True, autoincrement=False),
            reference("deployment_id", "deployment.id"),
            sa.Column("epoch", sa.BigInteger, nullable=False),
            text("holder"),
            at("lease_until"),
            number("place", nullable=True),
            number("back", nullable=True),
            text("stop", default=""),
            at("done", nullable=True),
            at("ended", nullable=True),
            sa.Index(None, "deployment_id", "epoch"),
        ),
        journal=sa.Table(
            "journal",
            metadata,
            seq(),
            reference("deployment_id", "deployment.id"),
            at("at"),
            text("event"),
            text("host", nullable=True),
            number("wave", nullable=True),
            document("data"),
            text("sha256", server_default=NO_SHA256),
            sa.Index(None, "deployment_id", "seq"),
            some("ix_journal_deployment", "host IS NULL", "event", "deployment_id", "seq"),
        ),
        lock=sa.Table(
            "lock",
            metadata,
            sa.Column("ci", sa.ForeignKey("ci.name"), primary_key=True),
            reference("deployment_id", "deployment.id", index=True),
        ),
        release_status=sa.Table(
            "release_status",
            metadata,
            text("release", primary_key=True),
            text("version", primary_key=True),
            text("digest"),
            text("state"),
            text("reason"),
            text("actor"),
            at("at"),
        ),
        library_seen=sa.Table(
            "library_seen",
            metadata,
            text("release", primary_key=True),
            text("version", primary_key=True),
            text("digest"),
            document("document"),
            text("envelope", default=""),
        ),
        change=sa.Table(
            "change",
            metadata,
            text("number", primary_key=True),
            text("type"),
            text("release"),
            text("version"),
            text("digest"),
            text("fingerprint"),
            text("short_description"),
            text("requested_by"),
            text("assigned_to"),
            number("state"),
            number("risk"),
            at("start_date"),
            at("end_date"),
            at("work_start", nullable=True),
            at("work_end", nullable=True),
            at("updated"),
            text("close_code", default=""),
            text("close_notes", default=""),
            number("sequence", server_default="0"),
            sa.Index(None, "work_end", "end_date"),
        ),
        change_ci=sa.Table(
            "change_ci",
            metadata,
            sa.Column("number", sa.ForeignKey("change.number", ondelete="CASCADE"), primary_key=True),
            text("ci", primary_key=True, index=True),
        ),
        debt=sa.Table(
            "debt",
            metadata,
            text("rfc", primary_key=True),
            text("duty", primary_key=True),
            text("release", index=True),
            text("version"),
            text("digest"),
            text("actor", default=""),
            text("note", default=""),
            at("incurred"),
            at("due"),
            at("settled", nullable=True),
        ),
        entitlement=sa.Table(
            "entitlement",
            metadata,
            text("name", primary_key=True),
            text("product", index=True),
            number("seats"),
            at("valid_from", nullable=True),
            at("valid_until", nullable=True),
            text("reference", default=""),
        ),
        seat=sa.Table(
            "seat",
            metadata,
            sa.Column("entitlement", sa.ForeignKey("entitlement.name"), primary_key=True),
            text("ci", primary_key=True),
            text("release", primary_key=True),
            reference("deployment_id", "deployment.id", index=True),
            reference("leaves_with", "deployment.id", nullable=True, index=True),
            text("state"),
            at("since"),
            sa.Index(None, "ci", "release"),
        ),
        write_off=sa.Table(
            "write_off",
            metadata,
            reference("ci_id", "ci.id", primary_key=True, ondelete="CASCADE"),
            text("actor"),
            text("reason"),
            at("since"),
        ),
        done_by_hand=sa.Table(
            "done_by_hand",
            metadata,
            reference("ci_id", "ci.id", primary_key=True, ondelete="CASCADE"),
            text("release", primary_key=True),
            text("version", nullable=True),
            reference("deployment_id", "deployment.id"),
            text("actor"),
            text("reason"),
            at("since"),
        ),
        host_set=sa.Table(
            "host_set",
            metadata,
            reference("ci_id", "ci.id", primary_key=True, ondelete="CASCADE"),
            text("name", primary_key=True),
            text("sha256"),
            document("entries"),
            text("actor"),
            text("reason"),
            at("at"),
        ),
        message=sa.Table(
            "message",
            metadata,
            number("id", primary_key=True),
            *(text(name) for name in ("channel", "about", "event", "title", "body", "thread")),
            sa.Column("urgent", sa.Boolean, nullable=False),
            at("created"),
            at("due"),
            at("taken", nullable=True),
            sa.UniqueConstraint("channel", "about"),
            some("ix_message_waiting", "taken IS NULL", "due"),
        ),
        message_thread=sa.Table(
            "message_thread",
            metadata,
            text("thread", primary_key=True),
            text("channel", primary_key=True),
            document("roots"),
        ),
        journal_archive=sa.Table(
            "journal_archive",
            metadata,
            reference("deployment_id", "deployment.id", primary_key=True, autoincrement=False),
            text("file"),
            text("sha256"),
            at("at"),
            text("actor"),
            text("reason"),
        ),
        chain=sa.Table(
            "chain",
            metadata,
            text("name", primary_key=True),
            sa.Column("seq", sa.BigInteger, nullable=False),
            text("sha256"),
        ),
        asset=sa.Table(
            "asset",
            metadata,
            number("id", primary_key=True),
            text("tag", unique=True),
            text("identity", unique=True),
            text("manufacturer"),
            text("serial"),
            text("model"),
            text("state"),
            text("substate"),
            text("stockroom", default=""),
            reference("ci_id", "ci.id", nullable=True),
            text("slot", default=""),
            reference("deployment_id", "deployment.id", nullable=True, index=True),
            at("updated"),
            sa.UniqueConstraint("ci_id", "slot"),
            sa.Index(None, "model", "stockroom"),
            *(sa.CheckConstraint(condition, name=f"ck_asset_{name}") for name, condition in ASSET_CHECKS.items()),
        ),
        stock_rule=sa.Table(
            "stock_rule",
            metadata,
            text("model", primary_key=True),
            text("stockroom", primary_key=True),
            number("threshold"),
            number("target"),
            number("order_size"),
            text("source", default=""),
            document("substitutes"),
            at("low_since", nullable=True),
            at("told", nullable=True),
        ),
        asset_firmware=sa.Table(
            "asset_firmware",
            metadata,
            reference("asset_id", "asset.id", primary_key=True, autoincrement=False),
            text("component", primary_key=True),
            text("version"),
            at("at"),
        ),
        firmware_level=sa.Table(
            "firmware_level",
            metadata,
            text("model", primary_key=True),
            text("component", primary_key=True),
            text("version"),
            text("release"),
            reference("deployment_id", "deployment.id"),
            at("at"),
        ),
        work_order=sa.Table(
            "work_order",
            metadata,
            number("id", primary_key=True),
            reference("deployment_id", "deployment.id", index=True),
            text("ci"),
            text("slot"),
            text("old"),
            text("new"),
            text("instructions"),
            sa.Column("back", sa.Boolean, nullable=False),
            text("state"),
            text("claimed_by", default=""),
            text("closed_by", default=""),
            text("read", default=""),
            at("opened", nullable=True),
            at("closed", nullable=True),
            some("ix_work_order_waiting", "state IN ('open', 'claimed')", "id"),
        ),
    )
