# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign what somebody who tried a package thinks of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from ..clearance.controls.opinions import latest
from ..dsl.repository import Repository
from ..errors import ConflictError, TidegateError
from ..evidence.envelope import sign
from ..evidence.opinion import SCORES, Opinion
from ..evidence.package import PackageName
from ..evidence.store import Wanted, attach, collect
from ..evidence.trust import judge_opinions, signer_name
from ..policy.model import Policy

if TYPE_CHECKING:
    from securesystemslib.signer import Signer


def opine(
    home: Repository, release: PackageName, policy: Policy, signer: Signer, opinion: Opinion, now: datetime, write: bool
) -> tuple[str, Opinion, bool]:
    """Sign an opinion, unless it is this person's latest opinion in that role already; return who, the opinion, and whether that is new.

    Its role may be empty when it can only be one. Raises :class:`TidegateError` when it would count for nothing.
    """
    name = signer_name(policy, signer, now)
    if isinstance(opinion.score, bool) or opinion.score not in SCORES:
        raise TidegateError(f"the score is {opinion.score}; give a whole number from {SCORES[0]} to {SCORES[-1]}")
    opinion = replace(opinion, role=_role(policy, name, opinion.role))
    statement = opinion.statement(release.name, release.version, release.digest)
    judged = judge_opinions(collect(home, release.digest, Wanted()), policy, release.digest, release.name, release.version, now)
    last = next((one for one in latest(judged[opinion.role].counted) if one.person == name), None)
    if last is not None and last.statement == statement:
        return name, opinion, False
    if last is not None and last.signed_at.replace(microsecond=0) == now.replace(microsecond=0):
        raise ConflictError(f"{name} gave an opinion of {release.name} {release.version} in this very second; run this again")
    if write:
        attach(home, release.digest, sign(statement, signer, now))
    return name, opinion, True


def _role(policy: Policy, name: str, role: str) -> str:
    if not policy.opinion_quorums:
        raise TidegateError("the policy asks nobody for an opinion; name the roles that have one under opinions")
    held = sorted(set(policy.opinion_quorums) & policy.people[name].roles)
    if not role and len(held) == 1:
        return held[0]
    if role not in held:
        has = f"of those {name} has {', '.join(held)}" if held else f"{name} has none of them"
        raise TidegateError(
            f"opinions are asked of {', '.join(sorted(policy.opinion_quorums))}, and {has}; give one of their roles, or let others say"
        )
    return role
