# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide on an RFC: find out what it comes to now, and sign that somebody in a role approves, rejects or waives just that."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..clearance.controls.people import approvals, barred, no_return
from ..clearance.facts import Facts, NotKnown, PackageFacts
from ..clearance.findings import Result
from ..clearance.policy import load_policy
from ..clock import utc_now
from ..cmdb.chain import append_history
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..dsl.package import load_package
from ..dsl.repository import Repository, open_library
from ..errors import ConflictError, NotFoundError, TidegateError
from ..evidence.approval import APPROVED, REJECTED, Matter
from ..evidence.envelope import sign
from ..evidence.store import Evidence, Wanted, attach, collect
from ..evidence.trust import Counted, judge_approvals, signer_name, signers
from ..policy.model import Policy, normalised_name
from ..rfc.model import Rfc
from ..rfc.source import load_rfc
from .sources import matter_of, select

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from securesystemslib.signer import Signer


@dataclass(frozen=True)
class DecisionRequest:
    """An RFC to decide on, what it comes to now, and where decisions on it are kept.

    ``no_return``: whether its release migrates data that nothing brings back, on which more have to decide.
    """

    rfc: Rfc
    policy: Policy
    matter: Matter
    home: Repository
    no_return: bool = False

    def role_of(self, name: str, role: str | None, rejecting: Collection[str]) -> str:
        """The role in which ``name`` decides, the given one or the only one; raises :class:`TidegateError` when there is none.

        A role in which they are ``rejecting`` is one, whoever else decides on this type of RFC.
        """
        asked: set[str] = {*self.policy.signed_by(self.rfc.type), *rejecting, *(self.policy.no_return if self.no_return else ())}
        if not asked:
            raise TidegateError(
                f"the policy takes the approvals of {self.rfc.type} RFCs from the RFC itself; let approvals.{self.rfc.type} name roles, "
                "or have it approved in the change system"
            )
        held = sorted(set(asked) & self.policy.people[name].roles)
        if role is None and len(held) == 1:
            return held[0]
        if role is None or role not in held:
            has = f"of those {name} has {', '.join(held)}" if held else f"{name} has none of them"
            given = "" if role is None else f"{name} can't decide as {role!a:.60}: "
            raise TidegateError(f"{given}{self.rfc.type} RFCs are decided on by {', '.join(sorted(asked))}, and {has}; let others decide")
        return role

    def decisions(self, name: str, role: str, evidence: Evidence, now: datetime) -> list[Counted]:
        """What ``name`` has decided in a role, in order, as far as it counts."""
        judgement = judge_approvals(evidence, self.policy, self.matter, role, 1, now)
        return sorted((one for one in judgement.counted if one.person == name), key=lambda one: one.signed_at)

    def barrier(self, name: str, evidence: Evidence, now: datetime) -> str:
        """What keeps ``name`` from approving and waiving, as the controls see it; empty when nothing does."""
        facts = Facts(now=now, rfc=self.rfc, policy=self.policy, builders=signers(evidence, self.policy, "package"))
        return barred(facts, self.rfc).get(normalised_name(name), "")


def load_decision_request(rfc_path: str, dsl: str, cmdb_url: str, policy_path: str | None) -> DecisionRequest:
    """Find out what there is to decide on; raises :class:`TidegateError` when that is not clear."""
    rfc, policy = load_rfc(rfc_path), load_policy(policy_path)
    home = open_library(dsl).repository(rfc.release)
    archived = home.resolve(rfc.release, rfc.version)
    if archived is None:
        raise NotFoundError(f"the DSL has no {rfc.release} {rfc.version}; archive it before anybody decides on it")
    if archived != rfc.digest:
        raise ConflictError(f"{rfc.number} names {rfc.digest}, but {rfc.release} {rfc.version} is {archived}; correct the RFC")
    manifest = load_package(home, archived).manifest
    policy = policy.narrowed_to(manifest.type, rfc.type, rfc.risk)
    with Cmdb.open(cmdb_url) as cmdb, cmdb.at_one_moment() as moment:
        cis = select(moment, rfc)
    if not cis:
        raise NotFoundError(f"the scope of {rfc.number} selects no CI; correct it, or enter the CIs in the CMDB")
    return DecisionRequest(rfc, policy, matter_of(rfc, cis), home, manifest.no_return)


@dataclass(frozen=True)
class Decision:
    """What somebody says. ``role`` may be ``None`` when it can only be one."""

    decision: str
    role: str | None
    comment: str


def decide(question: DecisionRequest, signer: Signer, wanted: Decision, now: datetime, write: bool) -> tuple[str, str, bool]:
    """Sign a decision, unless it is this person's latest decision already; return who decided, in which role, and whether that is new."""
    name = signer_name(question.policy, signer, now)
    rfc, decision = question.rfc, wanted.decision
    evidence = collect(question.home, rfc.digest, Wanted(rfc.number))
    signed = {role: question.decisions(name, role, evidence, now) for role in question.policy.deciders}
    rejecting = {role for role, said in signed.items() if said and said[-1].statement.predicate.get("decision") == REJECTED}
    role = question.role_of(name, wanted.role, rejecting)
    own = signed[role]
    barrier = question.barrier(name, evidence, now)
    if decision == APPROVED and barrier and role not in rejecting:
        raise TidegateError(f"{name} is {barrier} and can't approve {rfc.number}; let somebody else decide who has the role {role}")
    if own and own[-1].statement.predicate.get("decision") == decision:
        return name, role, False
    if own and own[-1].signed_at.replace(microsecond=0) == now.replace(microsecond=0):
        raise ConflictError(f"{name} decided on {rfc.number} in this very second; run this again")
    if write:
        attach(question.home, rfc.digest, sign(question.matter.statement(role, decision, wanted.comment), signer, now))
    return name, role, True


def is_approved(question: DecisionRequest, now: datetime) -> bool:
    """Whether the RFC has every approval that the policy asks for; what else it needs is for clear to find out."""
    rfc, policy, matter = question.rfc, question.policy, question.matter
    evidence = collect(question.home, rfc.digest, Wanted(rfc.number))
    facts = Facts(
        now=now,
        rfc=rfc,
        policy=policy,
        package=PackageFacts(rfc.digest, "", manifest={"ansible": {"reverse": "none"}} if question.no_return else {}),
        scope=matter.cis,
        builders=signers(evidence, policy, "package"),
        signed_approvals={role: judge_approvals(evidence, policy, matter, role, 1, now) for role in policy.deciders},
    )
    try:
        return all(control(facts, rfc).result in (Result.PASS, Result.NOT_APPLICABLE) for control in (approvals, no_return))
    except NotKnown:
        return False


def record_decision(cmdb_url: str, question: DecisionRequest, said: tuple[str, str, str], now: datetime, new: bool) -> list[str]:
    """Have the CMDB's history say who decided what in which role; what is not ``new`` only when it does not say so, or not that it is all.

    One line says of an approval that it was all that was needed, until somebody rejects: rules act upon it, and a further approval is
    no word to begin again. What was signed stands whatever becomes of this, so a CMDB that can't be written to is a sentence that is
    returned.
    """
    name, role, decision = said
    matter, h = question.matter, schema().history.c
    about: dict[str, Any] = {"rfc": matter.rfc, "release": matter.release, "version": matter.version, "digest": matter.digest}
    about |= {"fingerprint": matter.fingerprint, "cis": len(matter.cis)}
    data = {**about, "role": role}
    line = {"at": now, "actor": name, "event": f"rfc {decision}"}
    events = [f"rfc {word}" for word in (APPROVED, REJECTED)]
    select = sa.select(h.actor, h.event, h.data).where(h.ci.is_(None), h.event.in_(events), h.data["rfc"].as_string() == matter.rfc)
    try:
        # By the clock as it is now: what others signed while this was signed counts, and what a fast clock dated after it may by now.
        approved = decision == APPROVED and is_approved(question, utc_now())
        with Cmdb.open(cmdb_url) as cmdb, cmdb.begin() as connection:
            rows = connection.execute(select.order_by(h.seq)).all()
            own = any((row.actor, row.event) == (name, line["event"]) and data.items() <= row.data.items() for row in rows)
            complete = approved and not _is_said(row for row in rows if about.items() <= row.data.items())
            if new or not own or complete:
                append_history(connection, [{**line, "data": {**data, "complete": complete}}])
    except TidegateError as error:
        return [f"the CMDB's history does not say that {name} {decision} {matter.rfc}; run this again when it can be written to: {error}"]
    return []


def _is_said(rows: Iterable[Any]) -> bool:
    """Whether the history's lines about a matter say that it has all its approvals; what is rejected has them no more."""
    said = False
    for row in rows:
        said = row.event == f"rfc {APPROVED}" and (said or row.data.get("complete") is True)
    return said
