# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waive a control: sign that somebody in a role takes the responsibility for what it says, until a given time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..documents import parse_time
from ..errors import TidegateError
from ..evidence.envelope import sign
from ..evidence.store import Wanted, attach, collect
from ..evidence.trust import judge_waiver, signer_name
from ..evidence.waiver import waiver_statement
from .approve import DecisionRequest

if TYPE_CHECKING:
    from securesystemslib.signer import Signer


@dataclass(frozen=True)
class WaiverRequest:
    """Which control, why it is right to go on, and until when."""

    control: str
    reason: str
    expires: datetime


def waive(question: DecisionRequest, signer: Signer, waived: WaiverRequest, now: datetime, write: bool) -> tuple[str, str, bool]:
    """Sign a waiver, unless this person has waived it until then or later; return who, in which role, and whether that is new.

    Raises :class:`TidegateError` when it would count for nothing.
    """
    policy, rfc, expires = question.policy, question.rfc, waived.expires
    name = signer_name(policy, signer, now)
    wanted = policy.waivers.get(waived.control)
    if wanted is None:
        can = ", ".join(sorted(policy.waivers)) or "none"
        nobody = f"the policy lets nobody waive {waived.control!a:.60} of a {rfc.type} RFC"
        raise TidegateError(f"{nobody}; controls that can be waived are {can}")
    if wanted.role not in policy.people[name].roles:
        raise TidegateError(f"{waived.control} is waived by people with the role {wanted.role}, which is not {name}'s; let others decide")
    evidence = collect(question.home, rfc.digest, Wanted(rfc.number))
    if barrier := question.barrier(name, evidence, now):
        raise TidegateError(f"{name} is {barrier} and can't waive anything in {rfc.number}; let another {wanted.role} decide")
    if expires <= now:
        raise TidegateError(f"a waiver until {expires.isoformat()} has expired already; give a time to come")
    if not waived.reason.strip():
        raise TidegateError("a waiver without a reason counts for nothing; say why")
    judgement = judge_waiver(evidence, policy, question.matter, waived.control, now)
    if any(one.person == name and parse_time(one.statement.predicate["expires"]) >= expires for one in judgement.counted):
        return name, wanted.role, False
    if write:
        statement = waiver_statement(question.matter, waived.control, wanted.role, waived.reason, expires)
        attach(question.home, rfc.digest, sign(statement, signer, now))
    return name, wanted.role, True
