# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request for change, with the field names and raw values of ServiceNow's change_request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..cmdb.query import QueryError, check_query
from ..documents import Document, check_endpoint, check_placeholders, parse_time
from ..settings import has_login

SCHEDULED, IMPLEMENT, REVIEW, CLOSED, CANCELED = -2, -1, 0, 3, 4
SERVICENOW = "servicenow+https://"
"""What the address of an RFC in ServiceNow begins with; any other address is a file."""

# What changes while an RFC takes its course; a change of anything else is a change of what was approved.
_OWN = ("release", "version", "digest")  # what ${…} in an objective stands for
_REMEDY = "write it out, or ${release}, ${version} or ${digest}"
_PASSING = ("$schema", "state", "on_hold", "approvals")
STATES = {-5: "New", -4: "Assess", -3: "Authorize", -2: "Scheduled", -1: "Implement", 0: "Review", 3: "Closed", 4: "Canceled"}


@dataclass(frozen=True)
class Approval:
    """What one person said in one role; ``state`` is ``approved``, ``rejected`` or ``requested``."""

    approver: str
    role: str
    state: str
    decided_at: datetime | None


@dataclass(frozen=True)
class Rfc:
    """A request for change: one release digest, one set of CIs, one window.

    Fields have the names and raw values of ServiceNow's change requests.
    """

    number: str
    """Such as ``CHG0030001``."""
    type: str
    """``normal``, ``standard`` or ``emergency``."""
    state: int
    """Where the change stands: a key of :data:`STATES`."""
    risk: int
    """2 high, 3 moderate, 4 low."""
    impact: int
    """1 high, 2 medium, 3 low."""
    short_description: str
    """What it is about, in a line."""
    requested_by: str
    """Who wants it."""
    start_date: datetime
    """When its window opens, aware of its time zone."""
    end_date: datetime
    """When its window is over."""
    backout_plan: str
    """How it is undone, in words."""
    test_plan: str
    """How it was tried, in words."""
    release: str
    """The name of the release."""
    version: str
    """Its version."""
    digest: str
    """The digest of the package, ``sha256:...``."""
    scope: str
    """A JMESPath expression over the CMDB that selects the CIs."""
    approvals: tuple[Approval, ...]
    """What people said of it, as the RFC itself has it."""
    on_hold: bool = False
    """Whether somebody stopped it for now."""
    fingerprint: str = ""
    """The sha256, in hexadecimal, of all that it says but for where it stands: what approvals are of."""
    assigned_to: str = ""
    """Who carries it out; empty for nobody."""
    objectives: tuple[Mapping[str, Any], ...] = ()
    """Checks, of the manifest's kinds, that are made when the release is live."""
    stakeholders: tuple[str, ...] = ()
    """Channels of the policy whose people are informed."""
    communication_plan: str = ""
    """Who is informed of what, when and by whom, in words."""
    instant: datetime | None = None
    """When the hosts of the plan's last wave are switched, all at once; ``None`` for as soon as they are armed."""


def is_in_servicenow(address: str | Path) -> bool:
    """Whether it is an address and no path; what is no address of a change system is refused there."""
    return isinstance(address, str) and ("://" in address or has_login(address))


def build_rfc(document: Document) -> Rfc:
    """An RFC from a document that was checked against its schema; raises :class:`DocumentError` with every problem."""
    _check_window(document)
    _check_scope(document)
    _check_objectives(document)
    document.finish()
    data = document.data
    lasting = {name: value for name, value in data.items() if name not in _PASSING}
    approvals = tuple(
        Approval(entry["approver"], entry["role"], entry["state"], parse_time(entry["decided_at"]) if "decided_at" in entry else None)
        for entry in data["approvals"]
    )
    plain = ("number", "type", "state", "risk", "impact", "short_description", "requested_by", "backout_plan", "test_plan", "scope")
    return Rfc(
        **{name: data[name] for name in plain},
        start_date=parse_time(data["start_date"]),
        end_date=parse_time(data["end_date"]),
        release=data["release"]["name"],
        version=data["release"]["version"],
        digest=data["release"]["digest"],
        approvals=approvals,
        on_hold=data.get("on_hold", False),
        assigned_to=data.get("assigned_to", ""),
        objectives=tuple(_with_defaults(check) for check in data.get("objectives", ())),
        stakeholders=tuple(data.get("stakeholders", ())),
        communication_plan=data.get("communication_plan", ""),
        instant=parse_time(data["instant"]) if "instant" in data else None,
        fingerprint=hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest(),
    )


def _with_defaults(check: Mapping[str, Any]) -> dict[str, Any]:
    return {**check, "http": {"status": 200, **check["http"]}} if "http" in check else dict(check)


def _check_window(document: Document) -> None:
    start, end = ("start_date",), ("end_date",)
    if document.is_good(start, end) and parse_time(document.data["end_date"]) <= parse_time(document.data["start_date"]):
        document.problem(end, "the window ends before it starts, or at once", "set end_date after start_date")
    instant = ("instant",)
    if not document.is_good(start, end, instant):
        return
    opens, at, closes = (parse_time(document.data[name]) for name in ("start_date", "instant", "end_date"))
    if not opens <= at < closes:
        document.problem(instant, "the instant is outside the window", "set it at or after start_date, and before end_date")


def _check_objectives(document: Document) -> None:
    objectives = document.data.get("objectives", [])
    for index, check in enumerate(objectives if isinstance(objectives, list) else []):
        for kind, key in (("http", "url"), ("tcp", "host")):
            place = ("objectives", index, kind, key)
            if document.is_good(place):
                check_endpoint(document, place, str(check[kind][key]))
        wanted, command = ("objectives", index, "http", "contains"), ("objectives", index, "command")
        for text in [check["http"]["contains"]] if document.is_good(wanted) else []:
            check_placeholders(document, wanted, text, _OWN, _REMEDY)
        for text in check["command"] if document.is_good(command) else []:
            check_placeholders(document, command, text, _OWN, _REMEDY)


def _check_scope(document: Document) -> None:
    if not document.is_good(("scope",)):
        return
    try:
        check_query(document.data["scope"])
    except QueryError as error:
        document.problem(("scope",), f"scope is no JMESPath expression that can be used: {error}", "write one such as [?site=='ams']")
