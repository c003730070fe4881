# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release policy: what an RFC has to carry, whose signature counts for what, and how a rollout is cut."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..documents import Document, load_document, parse_time
from ..rollout.options import Rollout, Share
from .checks import check_controls, check_responsibilities, check_roles, check_steps
from .communication import Communication, check_communication, communication_of

DEFAULT = Path(__file__).parent / "default.yml"
# The controls that a policy may let people waive, for they weigh what people have to do; and those that nobody may.
WAIVABLE = frozenset(
    {
        *("window", "freeze", "conflicts", "malware", "evidence", "documentation", "duties", "backout_plan", "version", "responsibilities"),
        *("communication", "verification", "rehearsal", "opinions"),
    }
)
# Those of them that only an emergency change may have waived: every other one can be backed out, and that was rehearsed.
_IN_EMERGENCIES = frozenset({"backout_plan", "rehearsal"})
CONTROLS = WAIVABLE | {
    *("rfc_schema", "rfc_state", "digest", "payload_archived", "payload_intact", "library", "signatures", "scope", "approvals", "debts"),
    *("compatibility", "licences", "objectives"),
}


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
class CalendarFiles:
    """Absolute paths of iCalendar files, or patterns of them: maintenance windows, and freezes."""

    windows: tuple[str, ...] = ()
    freezes: tuple[str, ...] = ()


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
class Policy:
    """``approvals``: for each type of RFC how many distinct people have to approve it, by what it says itself; or how many in each role,
    by evidence that they signed. ``separate``: duties out of requester, builder and approver that one person may not have together.
    ``trust``: who has to sign evidence of each kind. ``documentation``: for each type of release, patterns that each have to be the name
    of a document that comes with it. ``waivers``: who may waive which control. ``versions``: for each type of release, which number of its
    version it raises, counted from 1. ``responsibilities``: for each step, who has which part in it. ``rules`` and ``controls``: what the
    policy adds for some changes, and checks of its own. ``emergency``: what an emergency change owes afterwards, in so many days.
    ``opinions``: what users in each role have to think. ``verification``: what else than to have passed is asked of test results; ``None``
    for nothing. ``more_approvals``: what rules ask on top of ``approvals``, in each role by evidence. ``host_classes``: the classes of CIs
    that are hosts; with none, see :mod:`..cmdb.hosts`. ``objective_commands``: whether objectives of an RFC may be commands.
    """

    approvals: Mapping[str, int | Mapping[str, int]]
    rollout: Rollout
    people: Mapping[str, Person] = field(default_factory=dict)
    trust: Mapping[str, Trust] = field(default_factory=dict)
    separate: frozenset[str] = frozenset({"requester", "approver"})
    documentation: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waivers: Mapping[str, Trust] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    responsibilities: Mapping[str, Responsibility] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    controls: tuple[OwnControl, ...] = ()
    emergency: Mapping[str, int] = field(default_factory=dict)
    calendars: CalendarFiles = CalendarFiles()
    communication: Communication = field(default_factory=Communication)
    opinions: Mapping[str, Quorum] = field(default_factory=dict)
    verification: Verification | None = None
    more_approvals: Mapping[str, int] = field(default_factory=dict)
    host_classes: tuple[str, ...] = ()
    objective_commands: bool = False
    identity: Identity = Identity()

    @property
    def heard(self) -> Mapping[str, Quorum]:
        """The roles whose opinions are asked for some change, this one or another: each of them can block."""
        asked = {role: wanted for rule in self.rules for role, wanted in rule.opinions.items()}
        return {**asked, **self.opinions}

    @property
    def deciders(self) -> frozenset[str]:
        """The roles that sign approvals of some change, this one or another: each of them can reject."""
        asked = (*self.approvals.values(), *(rule.approvals for rule in self.rules), self.more_approvals)
        return frozenset(role for roles in asked if isinstance(roles, Mapping) for role in roles)

    def signed_by(self, change: str) -> Mapping[str, int]:
        """How many distinct people in each role have to sign their approval of a type of RFC."""
        asked = self.approvals[change]
        return {**(asked if isinstance(asked, Mapping) else {}), **self.more_approvals}

    def of(self, release: str, change: str, risk: int) -> Policy:
        """The policy for a type of release, a type of RFC and a risk: with the rules that apply, of two that say otherwise the later one.

        Unless it is an emergency, the waivers that are for those are left out.
        """
        waivers = {control: wanted for control, wanted in self.waivers.items() if change == "emergency" or control not in _IN_EMERGENCIES}
        result = replace(self, waivers=waivers)
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


def load_policy(path: str | Path | None = None) -> Policy:
    """Load a policy.yml, the shipped one when ``path`` is ``None``; what it leaves out has the shipped value.

    Raises :class:`DocumentError` with every problem.
    """
    base, _nobody = _load(DEFAULT)
    own, people = _load(DEFAULT if path is None else path)
    folder = Path(path or DEFAULT).absolute().parent
    rollout: dict[str, Any] = {**base["rollout"], **own.get("rollout", {})}
    budget: dict[str, Any] = {**base["rollout"]["budget"], **rollout["budget"]}
    return Policy(
        approvals={**base["approvals"], **own.get("approvals", {})},
        rollout=Rollout(
            canary=_share(rollout["canary"]),
            steps=tuple(rollout["steps"]),
            order_by=rollout["order_by"],
            wave_budget=_share(budget["wave"]),
            total_budget=_share(budget["total"]),
            on_failure=rollout["on_failure"],
            keep=rollout["keep"],
            stable=rollout["stable"],
            wave_minutes=rollout["wave_minutes"],
            clock_skew_seconds=rollout["clock_skew_seconds"],
            share_files=rollout["share_files"],
        ),
        people=people,
        trust=_trust(own.get("trust", {})),
        separate=frozenset(own.get("separate", base["separate"])),
        waivers=_trust(own.get("waivers", {})),
        opinions=_opinions(own.get("opinions", {})),
        verification=Verification(**own["verification"]) if "verification" in own else None,
        documentation={kind: tuple(wanted) for kind, wanted in own.get("documentation", base["documentation"]).items()},
        versions=own.get("versions", base["versions"]),
        responsibilities={step: _responsibility(parts) for step, parts in own.get("responsibilities", {}).items()},
        rules=tuple(_rule(described) for described in own.get("rules", ())),
        calendars=_calendars(own.get("calendars", {}), folder),
        emergency=own.get("emergency", base["emergency"]),
        communication=communication_of(own.get("communication", {}), folder),
        controls=tuple(_own_control(described) for described in own.get("controls", ())),
        host_classes=tuple(own.get("host_classes", base["host_classes"])),
        objective_commands={**base["objectives"], **own.get("objectives", {})}["commands"],
        identity=Identity(**own.get("identity", {})),
    )


def load_host_classes(path: str | Path) -> tuple[str, ...]:
    """The ``host_classes`` of a policy.yml, without a look at its people and their keys.

    Raises :class:`DocumentError` with every problem that its schema finds.
    """
    document = load_document(path, "policy")
    document.finish()
    return tuple(document.data.get("host_classes", ()))


def person(name: str) -> str:
    """The same person, however the name is written: case, spaces, letters of another width, signs that nobody sees."""
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def _load(path: str | Path) -> tuple[dict[str, Any], dict[str, Person]]:
    document = load_document(path, "policy")
    check_steps(document)
    check_communication(document)
    check_controls(document, WAIVABLE, CONTROLS)
    sound = document.is_good(("people",)) or "people" not in document.data
    people = _people(document)
    if sound:
        check_roles(document, people)
        check_responsibilities(document, people)
    document.finish()
    return document.data, people


def _people(document: Document) -> dict[str, Person]:
    """The people of the policy; notes a key that can't be read or that two of them have, and a person who is there twice."""
    described = document.data.get("people")
    if not isinstance(described, dict) or not described:
        return {}
    from ..evidence.keys import load_public  # noqa: PLC0415 - slow to import, and each fork that stages a package loads this module

    found: dict[str, Person] = {}
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name, description in described.items():
        other = names.setdefault(person(name), name)
        if other != name:
            document.problem(("people", name), f"{name!a} and {other!a} are one person", "give all their roles and keys to one of them")
        keys = []
        listed = description.get("keys") if isinstance(description, dict) else None
        for index, entry in enumerate(listed if isinstance(listed, list) else []):
            place = ("people", name, "keys", index)
            if not document.is_good((*place, "public")):
                continue
            try:
                key_id = load_public(entry["public"]).keyid
            except ValueError as error:
                document.problem(
                    (*place, "public"), f"people.{name}.keys.{index}.public {error}", "write what openssl pkey -in key.pem -pubout prints"
                )
                continue
            owner = owners.setdefault(key_id, f"people.{name}.keys.{index}")
            if owner != f"people.{name}.keys.{index}":
                document.problem(place, f"people.{name}.keys.{index} is the key of {owner}", "give each key to one person, once")
            if document.is_good(place):
                revoked = entry.get("revoked")
                keys.append(PublicKey(key_id, entry["public"], parse_time(revoked) if revoked else None))
        roles = description.get("roles") if isinstance(description, dict) else None
        texts = (role for role in (roles if isinstance(roles, list) else []) if isinstance(role, str))
        found[name] = Person(frozenset(texts), tuple(keys))
    return found


def _share(value: int | str) -> Share:
    return Share(int(value[:-1]), percent=True) if isinstance(value, str) else Share(value)


def _calendars(described: Mapping[str, Any], folder: Path) -> CalendarFiles:
    """The patterns, below the folder of the policy where they are relative."""
    return CalendarFiles(**{kind: tuple(str(folder / pattern) for pattern in described.get(kind, ())) for kind in ("windows", "freezes")})


def _trust(described: Mapping[str, Any]) -> dict[str, Trust]:
    return {what: Trust(**wanted) for what, wanted in described.items()}


def _opinions(described: Mapping[str, Any]) -> dict[str, Quorum]:
    return {role: Quorum(**wanted) for role, wanted in described.items()}


def _responsibility(parts: Mapping[str, Any]) -> Responsibility:
    lists = {part: tuple(parts.get(part, ())) for part in ("responsible", "consulted", "informed")}
    return Responsibility(accountable=parts["accountable"], **lists)


def _rule(described: Mapping[str, Any]) -> Rule:
    when = {name: frozenset(described["when"].get(name, ())) for name in ("release", "change", "risk")}
    documentation = tuple(described.get("documentation", ()))
    return Rule(
        **when,
        approvals=described.get("approvals", {}),
        trust=_trust(described.get("trust", {})),
        documentation=documentation,
        opinions=_opinions(described.get("opinions", {})),
    )


def _own_control(described: Mapping[str, Any]) -> OwnControl:
    that = described["that"]
    conditions = (that,) if isinstance(that, str) else tuple(that)
    return OwnControl(described["name"], conditions, described["reason"], described.get("remedy", ""))
