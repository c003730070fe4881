# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waivers as signed evidence: that one control does not stand in the way of one RFC as it reads, for a reason and until a time. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from ..documents import parse_time
from .approval import Matter
from .statement import WAIVER, Statement, purl


def waiver_statement(matter: Matter, control: str, role: str, reason: str, expires: datetime) -> Statement:
    """That somebody in ``role`` waives ``control``."""
    predicate = {
        "rfc": matter.rfc,
        "rfcDigest": {"sha256": matter.fingerprint},
        "control": control,
        "role": role,
        "reason": reason,
        "expires": expires.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    return Statement(purl(matter.release, matter.version), matter.digest, WAIVER, predicate)


def waiver_fault(statement: Statement, matter: Matter, now: datetime) -> str:
    """Why a waiver does not hold for the RFC as it reads at ``now``; empty when it does."""
    said = statement.predicate
    if said.get("rfcDigest") != {"sha256": matter.fingerprint}:
        return f"{matter.rfc} was edited after it was signed"
    if not isinstance(said.get("reason"), str) or not said["reason"].strip():
        return "it gives no reason"
    try:
        expires = parse_time(said["expires"])
    except (KeyError, TypeError, ValueError):
        return "it does not say when it expires"
    return f"it expired at {expires.isoformat()}" if expires <= now else ""
