# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release policy: what an RFC has to carry, whose signature counts for what, and how a rollout is cut."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from ..calendar.model import CalendarFiles
from ..dhs.spare_rules import SpareRules
from ..rollout.options import Rollout
from .communication import Channel, Communication


class Waivable(Enum):
    """For which changes a policy may let people waive a control: one that weighs what people have to do, not what is so."""

    NEVER = "no"
    IN_EMERGENCIES = "in emergency changes"
    ALWAYS = "yes"


@dataclass(frozen=True)
class PublicKey:
    """A key of a person. ``id`` is the same for the same key; what it signs at ``revoked`` or later does not count."""

    id: str
    pem: str
    revoked: datetime | None = None


@dataclass(frozen=True)
class Person:
    """What somebody is responsible for, and the keys they sign with: more than one while keys are rotated."""

    roles: frozenset[str]
    keys: tuple[PublicKey, ...] = ()


@dataclass(frozen=True)
class Trust:
    """How many distinct people with a role have to sign."""

    role: str
    threshold: int = 1


@dataclass(frozen=True)
class Responsibility:
    """Which roles have which part in a step: who does it, who answers for it, who is asked before, who is told."""

    responsible: tuple[str, ...]
    accountable: str
    consulted: tuple[str, ...] = ()
    informed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """What more is asked of some changes: those whose type of release, type of RFC and risk are each among the ones named, if any are."""

    release: frozenset[str]
    change: frozenset[str]
    risk: frozenset[int]
    approvals: Mapping[str, int]
    trust: Mapping[str, Trust]
    documentation: tuple[str, ...]
    opinions: Mapping[str, Quorum]

    def applies(self, release: str, change: str, risk: int) -> bool:
        """Whether a change is one of them."""
        return all(not among or value in among for among, value in ((self.release, release), (self.change, change), (self.risk, risk)))


@dataclass(frozen=True)
class OwnControl:
    """A control that the policy adds: every condition in ``that`` has to be true, or ``reason`` is why the change is not cleared."""

    name: str
    that: tuple[str, ...]
    reason: str
    remedy: str


@dataclass(frozen=True)
class Quorum:
    """How many distinct people have to give their opinion, and the mean score, 1 to 5, that it has to come to."""

    quorum: int
    minimum: float


@dataclass(frozen=True)
class Verification:
    """What a test result has to say. ``parity``: how much like live the lab has to be, 0 to 100; ``rehearsal``: of the back-out."""

    parity: int | None = None
    rehearsal: bool = False


@dataclass(frozen=True)
class Identity:
    """How signed clearances name the policy and who judged by it: URIs, empty for what names itself by its file and its key."""

    policy: str = ""
    verifier: str = ""


@dataclass(frozen=True)
class MetricsSource:
    """Where the metrics of rollouts come from: the address of a Prometheus, and the token that it wants, ``None`` for none."""

    address: Channel
    token: Channel | None = None


@dataclass(frozen=True)
class Policy:
    """A release policy, as ``policy.yml`` and the shipped one together say it."""

    approvals: Mapping[str, int | Mapping[str, int]]
    """By type of RFC: how many distinct people have to approve it, as the RFC itself says; or, by role, how many have to sign that."""
    rollout: Rollout
    """How a rollout is cut in waves and when it stops."""
    people: Mapping[str, Person] = field(default_factory=dict)
    """The people whom the policy knows, by name."""
    trust: Mapping[str, Trust] = field(default_factory=dict)
    """By kind of evidence, who has to sign it."""
    separate: frozenset[str] = frozenset({"requester", "approver"})
    """Duties, out of ``requester``, ``builder`` and ``approver``, that one person may not have together."""
    documentation: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By type of release, patterns that each have to match the name of a document that comes with it."""
    waivers: Mapping[str, Trust] = field(default_factory=dict)
    """By control, who may waive it."""
    emergency_only: frozenset[str] = frozenset()
    """The controls that can be waived in emergency changes alone."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """By type of release, which number of its version it raises, counted from 1."""
    responsibilities: Mapping[str, Responsibility] = field(default_factory=dict)
    """By step, which roles have which part in it."""
    rules: tuple[Rule, ...] = ()
    """What more is asked of some changes, in the order of the file."""
    controls: tuple[OwnControl, ...] = ()
    """Controls that the policy adds."""
    emergency: Mapping[str, int] = field(default_factory=dict)
    """What an emergency change owes afterwards: by duty, within how many days."""
    calendars: CalendarFiles = field(default_factory=CalendarFiles)
    """The files of maintenance windows and freezes."""
    communication: Communication = field(default_factory=Communication)
    """Who is informed of how a change goes, and in which words."""
    opinions: Mapping[str, Quorum] = field(default_factory=dict)
    """By role, what its people have to think of a release."""
    verification: Verification | None = None
    """What is asked of test results besides that they passed; ``None`` for nothing."""
    more_approvals: Mapping[str, int] = field(default_factory=dict)
    """What rules ask on top of ``approvals``: by role, how many people have to sign."""
    no_return: Mapping[str, int] = field(default_factory=dict)
    """Whose approval a release needs besides that can't bring back the data that it migrates: by role, how many people have to sign."""
    host_classes: tuple[str, ...] = ()
    """The classes of CIs that are hosts; empty for the usual ones, see :mod:`..cmdb.hosts`."""
    audit_copies: tuple[str, ...] = ("/opt", "/srv")
    """Directories of hosts in which an audit looks for copies of releases."""
    journal_days: int = 730
    """For how many days the journal of a deployment that is over is in the CMDB before it may be archived."""
    spares: SpareRules = field(default_factory=SpareRules)
    """Which spares firmware releases have to reserve."""
    objective_commands: bool = False
    """Whether the objectives of an RFC may be commands."""
    prometheus: MetricsSource | None = None
    """Where the metrics of rollouts come from; ``None`` when none are measured."""
    identity: Identity = Identity()
    """How signed clearances name the policy and who judged by it."""
    sha256: str = field(default="", compare=False)
    """Of the file as it was read, in hexadecimal; empty for a policy that was read from none."""

    @property
    def opinion_quorums(self) -> Mapping[str, Quorum]:
        """The roles whose opinions are asked for some change, this one or another: each of them can block."""
        asked = {role: wanted for rule in self.rules for role, wanted in rule.opinions.items()}
        return {**asked, **self.opinions}

    @property
    def deciders(self) -> frozenset[str]:
        """The roles that sign approvals of some change, this one or another: each of them can reject."""
        asked = (*self.approvals.values(), *(rule.approvals for rule in self.rules), self.more_approvals, self.no_return)
        return frozenset(role for roles in asked if isinstance(roles, Mapping) for role in roles)

    def signed_by(self, change: str) -> Mapping[str, int]:
        """How many distinct people in each role have to sign their approval of a type of RFC."""
        asked = self.approvals[change]
        return {**(asked if isinstance(asked, Mapping) else {}), **self.more_approvals}

    def narrowed_to(self, release: str, change: str, risk: int) -> Policy:
        """The policy for a type of release, a type of RFC and a risk: with the rules that apply, of two that say otherwise the later one.

        Unless it is an emergency, the waivers that are for those alone are left out.
        """
        barred = frozenset() if change == "emergency" else self.emergency_only
        result = replace(self, waivers={control: wanted for control, wanted in self.waivers.items() if control not in barred})
        for rule in self.rules:
            if rule.applies(release, change, risk):
                result = replace(
                    result,
                    more_approvals={**result.more_approvals, **rule.approvals},
                    trust={**result.trust, **rule.trust},
                    opinions={**result.opinions, **rule.opinions},
                    documentation={**result.documentation, release: (*result.documentation.get(release, ()), *rule.documentation)},
                )
        return result

    def holders(self, *roles: str) -> tuple[str, ...]:
        """The people who have one of the roles, by name."""
        return tuple(sorted(name for name, described in self.people.items() if not described.roles.isdisjoint(roles)))


def normalised_name(name: str) -> str:
    """The same person, however the name is written: case, spaces, letters of another width, signs that nobody sees."""
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())
