# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release policy: what an RFC has to carry, whose signature counts for what, and how a rollout is cut."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..documents import Document, Place, load_document, parse_time
from ..rollout.options import Rollout, Share

DEFAULT = Path(__file__).parent / "default.yml"


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
class Policy:
    """``approvals``: for each type of RFC how many distinct people have to approve it, by what it says itself; or how many in each role,
    by evidence that they signed. ``separate``: duties out of requester, builder and approver that one person may not have together.
    ``trust``: who has to sign evidence of each kind. ``documentation``: for each type of release, patterns that each have to be the name
    of a document that comes with it. ``waivers``: who may waive which control. ``opinions``: what users in each role have to think.
    ``verification``: what else than to have passed is asked of test results; ``None`` for nothing.
    """

    approvals: Mapping[str, int | Mapping[str, int]]
    rollout: Rollout
    people: Mapping[str, Person] = field(default_factory=dict)
    trust: Mapping[str, Trust] = field(default_factory=dict)
    separate: frozenset[str] = frozenset({"requester", "approver"})
    documentation: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waivers: Mapping[str, Trust] = field(default_factory=dict)
    opinions: Mapping[str, Quorum] = field(default_factory=dict)
    verification: Verification | None = None


def load_policy(path: str | Path | None = None) -> Policy:
    """Load a policy.yml, the shipped one when ``path`` is ``None``; what it leaves out has the shipped value.

    Raises :class:`DocumentError` with every problem.
    """
    base, _nobody = _load(DEFAULT)
    own, people = _load(DEFAULT if path is None else path)
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
        ),
        people=people,
        trust={kind: Trust(**wanted) for kind, wanted in own.get("trust", {}).items()},
        separate=frozenset(own.get("separate", base["separate"])),
        waivers={control: Trust(**wanted) for control, wanted in own.get("waivers", {}).items()},
        opinions={role: Quorum(**wanted) for role, wanted in own.get("opinions", {}).items()},
        verification=Verification(**own["verification"]) if "verification" in own else None,
        documentation={kind: tuple(wanted) for kind, wanted in own.get("documentation", base["documentation"]).items()},
    )


def person(name: str) -> str:
    """The same person, however the name is written: case, spaces, letters of another width, signs that nobody sees."""
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def _load(path: str | Path) -> tuple[dict[str, Any], dict[str, Person]]:
    document = load_document(path, "policy")
    _check_steps(document)
    sound = document.is_good(("people",)) or "people" not in document.data
    people = _people(document)
    if sound:
        _check_trust(document, people)
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


def _check_trust(document: Document, people: Mapping[str, Person]) -> None:
    """Enough people with a key have to have each role, or what is asked for could never be given."""
    for section in ("trust", "waivers"):
        trust = document.data.get(section, {})
        for kind, wanted in trust.items() if isinstance(trust, dict) else ():
            if document.is_good((section, kind)):
                place = (section, kind, "threshold" if "threshold" in wanted else "role")
                _check_role(document, people, wanted["role"], wanted.get("threshold", 1), (section, kind, "role"), place)
    if document.is_good(("verification",)) and "test-result" not in document.data.get("trust", {}):
        document.problem(("verification",), "nobody is trusted to verify", "say under trust who signs a test-result")
    opinions = document.data.get("opinions", {})
    for role, wanted in opinions.items() if isinstance(opinions, dict) else ():
        if document.is_good(("opinions", role)):
            _check_role(document, people, role, wanted["quorum"], ("opinions", role), ("opinions", role, "quorum"))
    approvals = document.data.get("approvals", {})
    for kind, wanted in approvals.items() if isinstance(approvals, dict) else ():
        if document.is_good(("approvals", kind)) and isinstance(wanted, dict):
            for role, threshold in wanted.items():
                _check_role(document, people, role, threshold, ("approvals", kind, role), ("approvals", kind, role))


def _check_role(document: Document, people: Mapping[str, Person], role: str, threshold: int, name: Place, number: Place) -> None:
    """``name`` and ``number`` are where the role and the threshold are written."""
    holders = sorted(one for one, described in people.items() if role in described.roles)
    able = [one for one in holders if document.data["people"][one].get("keys")]
    if not holders:
        document.problem(name, f"nobody has the role {role!a}", "give it to somebody under people, or correct it")
    elif len(able) < threshold:
        have = f"{len(able)} with a key {'has' if len(able) == 1 else 'have'} it"
        what = ".".join(str(part) for part in name[:2])
        document.problem(number, f"{what} asks for {threshold} with the role {role!a}, but {have}", "lower it, or give the role to more")


def _check_steps(document: Document) -> None:
    place = ("rollout", "steps")
    if document.is_good(place):
        steps = document.data["rollout"]["steps"]
        if steps != sorted(set(steps)) or steps[-1] != 100:
            document.problem(place, f"the steps are {steps}", "let them rise and end with 100")


def _share(value: int | str) -> Share:
    return Share(int(value[:-1]), percent=True) if isinstance(value, str) else Share(value)
