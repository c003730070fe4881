# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose evidence counts: distinct people whom the policy gives the responsibility, each by a signature over this very package. No I/O.

What can't be read, is about something else, or is signed by a key that the policy does not know counts for nothing, and each says why.

What machines find out, the kinds in :data:`.statement.SHARED`, counts in the form of other tools too: its subject may have another name,
there may be others beside it, and a signature need not say by which of the policy's keys it was made. Everything else counts only as
Tidegate writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import IntegrityError, TidegateError
from ..keys import load_public
from ..policy.model import Policy, PublicKey, Trust
from .approval import Matter, concerning
from .envelope import Sealed, open_envelope
from .opinion import opinion_fault
from .statement import APPROVAL, RECORDS, RELEASE, SHARED, UNDATED, WAIVER, Statement, kind_of, purl
from .waiver import waiver_fault

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from .store import Evidence

_EVER = datetime.max.replace(tzinfo=UTC)
_BUDGET = 4 << 30  # bytes that are hashed to find out whose signatures without a key's id are
_TRY = 128 << 10  # bytes that could be hashed in the time that one try of a key takes besides


@dataclass(frozen=True)
class Counted:
    """A signature that counts: who made it, with which key, under what. ``signed_at`` may be :data:`.statement.UNDATED`."""

    person: str
    key: PublicKey
    statement: Statement
    signed_at: datetime

    def order(self, bad: bool) -> tuple[datetime, bool]:
        """What to sort by to have each person's last statement at the end, when it is ``bad`` news or good.

        Of two at one moment the bad one is the last, and so it is when nobody can know which was.
        """
        return (_EVER if bad and self.signed_at == UNDATED else self.signed_at), bad


def revoked(sealed: Sealed, key: PublicKey) -> bool:
    """Whether a key was revoked when it signed, or nobody knows when that was."""
    return key.revoked is not None and (sealed.signed_at == UNDATED or sealed.signed_at >= key.revoked)


@dataclass
class Owners:
    """Whose keys made the signatures of envelopes. The keys of people who have the ``role`` are tried first.

    ``left``: bytes that may still be hashed to find it out by trial.
    """

    policy: Policy
    role: str = ""
    left: int = field(default_factory=lambda: _BUDGET)
    _keys: dict[str, tuple[str, PublicKey]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, person in sorted(self.policy.people.items(), key=lambda entry: self.role not in entry[1].roles):
            for key in person.keys:
                self._keys[key.id] = (name, key)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def of(self, sealed: Sealed, number: int) -> tuple[str, PublicKey] | None:
        """Who made that signature of an envelope, and with which key; ``None`` when it was nobody whom the policy knows.

        A signature by a key that it names falsely is nobody's. Where it names none of the policy's and other tools sign too, each is tried.
        """
        named = self._keys.get(sealed.signatures[number][0])
        tried = [named] if named else self._keys.values() if sealed.shared else ()
        for name, key in tried:
            if not named:
                self.left -= len(sealed.payload) + _TRY
                if self.left < 0:
                    return None
            if sealed.made_by(load_public(key.pem), number):
                return name, key
        return None

    def named(self, key_id: str) -> str:
        """The person of the policy to whom that key belongs."""
        return self._keys[key_id][0]

    def holding(self, sealed: Sealed, now: datetime) -> list[str]:
        """The people of the policy whose signature under an envelope holds: made before ``now`` by a key that was not revoked then."""
        made = (self.of(sealed, number) for number in range(len(sealed.signatures)))
        return sorted({maker[0] for maker in made if maker and sealed.signed_at <= now and not revoked(sealed, maker[1])})

    def signers(self, sealed: Sealed) -> set[str]:
        """The people of the policy who signed an envelope, whatever their roles."""
        return {found[0] for number in range(len(sealed.signatures)) if (found := self.of(sealed, number))}


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
    for role, wanted in policy.opinion_quorums.items():

        def fault(statement: Statement, role: str = role) -> str:
            said = statement.predicate.get("role")
            return opinion_fault(statement) or ("" if said == role else f"it was signed as {said!a:.40}, not as {role}")

        subject = (digest, purl(name, version))
        judged[role] = _judge(evidence, policy, "opinion", Trust(role, wanted.quorum), subject, now, fault)
    return judged


def signers(evidence: Evidence, policy: Policy, kind: str) -> frozenset[str]:
    """The people of the policy who signed evidence of ``kind``, whatever their roles and whatever it says."""
    owners = Owners(policy)
    found: set[str] = set()
    for content in evidence:
        with suppress(IntegrityError):
            sealed = open_envelope(content)
            if kind_of(sealed.statement.type) == kind:
                found |= owners.signers(sealed)
    return frozenset(found)


def sort_out(evidence: Evidence, digest: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What of the evidence about the package ``digest`` is judged, each by its sha256, and a sentence for all that counts for nothing.

    An earlier clearance is not judged, it is what judging comes to; nor are gates of a deployment.
    """
    inputs, ignored = [], [*evidence.broken, *evidence.foreign]
    for content in evidence:
        try:
            statement = open_envelope(content, digest).statement
        except IntegrityError as error:
            ignored.append(f"evidence counts for nothing: {error}")
            continue
        kind = kind_of(statement.type)
        if kind is None:
            ignored.append(unknown_type(statement))
        elif kind not in RECORDS:
            inputs.append(hashlib.sha256(content).hexdigest())
    return tuple(sorted(inputs)), tuple(dict.fromkeys(ignored))


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
    owners = Owners(policy, wanted.role)
    for content in evidence:
        try:
            sealed = open_envelope(content, subject[0])
        except IntegrityError as error:
            unread.append(f"evidence counts for nothing: {error}")
            continue
        found = kind_of(sealed.statement.type)
        if found is None:
            refused.append(unknown_type(sealed.statement))
        elif found == kind:
            fault = statement_fault(sealed, *subject, now) or also(sealed.statement)
            for verdict in _signatures(sealed, owners, wanted, fault):
                if isinstance(verdict, Counted):
                    counted.append(verdict)
                else:
                    refused.append(verdict.sentence)
                    alarming += [verdict.sentence] if verdict.alarming else []
    foreign = evidence.foreign if kind in SHARED else ()
    return Judgement(kind, wanted, tuple(counted), tuple(dict.fromkeys((*unread, *refused, *foreign))), tuple(unread), tuple(alarming))


def unknown_type(statement: Statement) -> str:
    """That a statement counts for nothing because the policy has no word for what it says."""
    return f"evidence of the unknown type {statement.type!a:.100} counts for nothing"


def statement_fault(sealed: Sealed, digest: str, subject: str, now: datetime) -> str:
    """Why the statement, whoever signed it, says nothing about the package ``digest``; empty when it does.

    ``subject`` is the package URL of its release.
    """
    statement = sealed.statement
    if statement.digest != digest:
        return f"it is about {statement.digest}, not about {digest}"
    if sealed.signed_at > now:
        return f"it says that it was signed at {sealed.signed_at.isoformat()}, a time to come"
    if sealed.shared or sealed.loose:
        return "" if sealed.shared else sealed.loose
    if statement.name != subject:
        return f"it is about {statement.name!a:.100}, not about {subject}"
    if statement.type == RELEASE and statement.predicate.get("purl") != subject:
        return f"it is of the release {statement.predicate.get('purl')!a:.100}, not of {subject}"
    return ""


@dataclass(frozen=True)
class _Refused:
    """Why a signature does not count; ``alarming`` when that is not because the policy asks for more than was asked for once."""

    sentence: str
    alarming: bool = False


def _signatures(sealed: Sealed, owners: Owners, wanted: Trust, fault: str) -> Iterator[Counted | _Refused]:
    """For each signature of an envelope that it counts, or why not."""
    for number, (key_id, _content) in enumerate(sealed.signatures):
        maker = owners.of(sealed, number)
        if maker is None:
            yield _unmade(sealed, owners, key_id)
            continue
        name, key = maker
        why = fault
        late = revoked(sealed, key)
        if wanted.role not in owners.policy.people[name].roles:
            why = f"{name} does not have the role {wanted.role}"
        elif not why and key.revoked is not None and late:
            when = "does not say when it signed" if sealed.signed_at == UNDATED else f"signed at {sealed.signed_at.isoformat()}"
            why = f"the key {key.id[:12]} was revoked at {key.revoked.isoformat()}, and it {when}"
        if why:
            yield _Refused(f"the signature of {name} does not count: {why}", bool(fault) or late)
        else:
            yield Counted(name, key, sealed.statement, sealed.signed_at)


def _unmade(sealed: Sealed, owners: Owners, key_id: str) -> _Refused:
    """Why a signature does not count that was made by nobody whom the policy knows."""
    if key_id in owners:
        return _Refused(f"the signature of {owners.named(key_id)} does not count: it was not made by that key over these bytes", True)
    by = f"a signature by the key {key_id!a:.20}" if key_id else "a signature that names no key"
    if sealed.shared and owners.left < 0:
        return _Refused(f"{by} does not count: there are more such signatures here than are tried; find out who put them there")
    if key_id:
        return _Refused(f"{by} does not count: the policy gives that key to nobody")
    return _Refused(f"{by} does not count: it was made by none of the policy's keys")


def signer_name(policy: Policy, signer: Signer, now: datetime) -> str:
    """Whose key it is; raises :class:`TidegateError` when it is nobody's, or revoked by ``now``."""
    for name, described in policy.people.items():
        for key in described.keys:
            if key.id == signer.public_key.keyid:
                if key.revoked is not None and key.revoked <= now:
                    raise TidegateError(f"the policy says that this key of {name} is revoked; sign with another")
                return name
    raise TidegateError("the policy gives this key to nobody, so what it signs counts for nothing; enter its owner and it under people")
