# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose evidence counts: distinct people whom the policy gives the responsibility, each by a signature over this very package. No I/O.

What can't be read, is about something else, or is signed by a key that the policy does not know counts for nothing, and each says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from ..errors import IntegrityError
from ..policy.model import Policy, PublicKey, Trust
from .approval import Matter, concerning
from .envelope import Sealed, open_envelope
from .keys import load_public
from .opinion import opinion_fault
from .statement import APPROVAL, KINDS, RELEASE, WAIVER, Statement, purl
from .store import Evidence
from .waiver import waiver_fault


@dataclass(frozen=True)
class Counted:
    """A signature that counts: who made it, with which key, under what."""

    person: str
    key: PublicKey
    statement: Statement
    signed_at: datetime


@dataclass(frozen=True)
class Judgement:
    """What the evidence of one kind comes to. ``wanted`` is ``None`` when the policy asks for none of it.

    ``refused``: a sentence for each signature that does not count, and why. ``unread``: those of them for evidence that can't even be
    read, so that nobody knows of which kind it was and what it said. ``alarming``: those for signatures in the name of somebody whom the
    policy names that are forged, of something else, or made by a revoked key: no policy ever let them count.
    """

    kind: str
    wanted: Trust | None
    counted: tuple[Counted, ...]
    refused: tuple[str, ...]
    unread: tuple[str, ...] = ()
    alarming: tuple[str, ...] = ()

    @property
    def people(self) -> tuple[str, ...]:
        """Who counts, each once, however often and with however many keys they signed."""
        return tuple(sorted({signature.person for signature in self.counted}))

    @property
    def trusted(self) -> bool:
        """Whether enough people signed. Never when the policy does not say how many that is."""
        return self.wanted is not None and len(self.people) >= self.wanted.threshold

    @property
    def by_revoked(self) -> tuple[str, ...]:
        """A sentence for each signature that counts although its key was revoked after it had been made."""
        return tuple(
            f"{one.person}'s key {one.key.id[:12]} signed at {one.signed_at.isoformat()}, and was revoked at {one.key.revoked.isoformat()}"
            for one in self.counted
            if one.key.revoked
        )

    def sentence(self) -> str:
        """The judgement for a person; why signatures don't count is in ``refused``."""
        if self.wanted is None:
            return f"the policy asks for no signature under the {self.kind}"
        by = f" ({', '.join(self.people)})" if self.people else ""
        return f"{len(self.people)} of {self.wanted.threshold} with the role {self.wanted.role} signed the {self.kind}{by}"


def judge(evidence: Evidence, policy: Policy, kind: str, digest: str, name: str, version: str, now: datetime) -> Judgement:
    """Whose signatures under evidence of ``kind`` (a key of ``KINDS``) count for the package ``digest`` of a release at ``now``."""
    wanted = policy.trust.get(kind)
    return Judgement(kind, None, (), ()) if wanted is None else _judge(evidence, policy, kind, wanted, (digest, purl(name, version)), now)


def judge_approvals(evidence: Evidence, policy: Policy, matter: Matter, role: str, threshold: int, now: datetime) -> Judgement:
    """Whose decisions in ``role`` on an RFC count; rejections count as well, so look at what each says."""
    subject = (matter.digest, purl(matter.release, matter.version))
    decisions = concerning(evidence, APPROVAL, rfc=matter.rfc, role=role)
    return _judge(decisions, policy, "approval", Trust(role, threshold), subject, now, matter.fault)


def judge_waiver(evidence: Evidence, policy: Policy, matter: Matter, control: str, now: datetime) -> Judgement:
    """Whose waivers of ``control`` count for an RFC."""
    wanted = policy.waivers[control]
    waivers = concerning(evidence, WAIVER, rfc=matter.rfc, control=control, role=wanted.role)
    subject = (matter.digest, purl(matter.release, matter.version))
    return _judge(waivers, policy, "waiver", wanted, subject, now, lambda statement: waiver_fault(statement, matter, now))


def judge_opinions(evidence: Evidence, policy: Policy, digest: str, name: str, version: str, now: datetime) -> dict[str, Judgement]:
    """Whose opinions of a package count, in each role that the policy asks about some change."""
    judged = {}
    for role, wanted in policy.heard.items():

        def fault(statement: Statement, role: str = role) -> str:
            said = statement.predicate.get("role")
            return opinion_fault(statement) or ("" if said == role else f"it was signed as {said!a:.40}, not as {role}")

        subject = (digest, purl(name, version))
        judged[role] = _judge(evidence, policy, "opinion", Trust(role, wanted.quorum), subject, now, fault)
    return judged


def signers(evidence: Evidence, policy: Policy, kind: str) -> frozenset[str]:
    """The people of the policy who signed evidence of ``kind``, whatever their roles and whatever it says."""
    owners = {key.id: (name, key) for name, person in policy.people.items() for key in person.keys}
    found = set()
    for content in evidence:
        with suppress(IntegrityError):
            sealed = open_envelope(content)
            known = [owners[key_id] for key_id in sealed.keys if key_id in owners and sealed.statement.type == KINDS[kind]]
            found |= {name for name, key in known if sealed.signed_by(load_public(key.pem))}
    return frozenset(found)


def _judge(
    evidence: Evidence,
    policy: Policy,
    kind: str,
    wanted: Trust,
    subject: tuple[str, str],
    now: datetime,
    also: Callable[[Statement], str] = lambda _statement: "",
) -> Judgement:
    counted: list[Counted] = []
    unread = list(evidence.broken)
    refused = []
    alarming = []
    for content in evidence:
        try:
            sealed = open_envelope(content)
        except IntegrityError as error:
            unread.append(f"evidence counts for nothing: {error}")
            continue
        if sealed.statement.type not in KINDS.values():
            refused.append(f"evidence of the unknown type {sealed.statement.type!a:.100} counts for nothing")
        elif sealed.statement.type == KINDS[kind]:
            fault = _fault(sealed, *subject, now) or also(sealed.statement)
            for verdict in _signatures(sealed, policy, wanted, fault):
                if isinstance(verdict, Counted):
                    counted.append(verdict)
                else:
                    refused.append(verdict.sentence)
                    alarming += [verdict.sentence] if verdict.alarming else []
    return Judgement(kind, wanted, tuple(counted), tuple(dict.fromkeys((*unread, *refused))), tuple(unread), tuple(alarming))


def _fault(sealed: Sealed, digest: str, subject: str, now: datetime) -> str:
    """Why the statement, whoever signed it, says nothing about this package; empty when it does."""
    statement = sealed.statement
    if statement.digest != digest:
        return f"it is about {statement.digest}, not about {digest}"
    if statement.name != subject:
        return f"it is about {statement.name!a:.100}, not about {subject}"
    if statement.type == RELEASE and statement.predicate.get("purl") != subject:
        return f"it is of the release {statement.predicate.get('purl')!a:.100}, not of {subject}"
    if sealed.signed_at > now:
        return f"it says that it was signed at {sealed.signed_at.isoformat()}, a time to come"
    return ""


@dataclass(frozen=True)
class _Refused:
    """Why a signature does not count; ``alarming`` when that is not because the policy asks for more than was asked for once."""

    sentence: str
    alarming: bool = False


def _signatures(sealed: Sealed, policy: Policy, wanted: Trust, fault: str) -> Iterator[Counted | _Refused]:
    """For each signature of an envelope that it counts, or why not."""
    owners = {key.id: (name, key) for name, person in policy.people.items() for key in person.keys}
    for key_id in sealed.keys:
        if key_id not in owners:
            yield _Refused(f"a signature by the key {key_id!a:.20} does not count: the policy gives that key to nobody")
            continue
        name, key = owners[key_id]
        why = fault
        forged = not sealed.signed_by(load_public(key.pem))
        revoked = key.revoked is not None and sealed.signed_at >= key.revoked
        if forged:
            why = "it was not made by that key over these bytes"
        elif wanted.role not in policy.people[name].roles:
            why = f"{name} does not have the role {wanted.role}"
        elif not why and key.revoked is not None and revoked:
            why = f"the key {key.id[:12]} was revoked at {key.revoked.isoformat()}, and it signed at {sealed.signed_at.isoformat()}"
        if why:
            yield _Refused(f"the signature of {name} does not count: {why}", bool(fault) or forged or revoked)
        else:
            yield Counted(name, key, sealed.statement, sealed.signed_at)
