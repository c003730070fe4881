# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather what the controls look at, from the RFC, the policy, the DSL and the CMDB, and clear the RFC.

A source that can't be read is a fact too: it makes controls inconclusive instead of ending the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from .cmdb.store import Cmdb
from .dsl.home import open_library
from .dsl.package import TITLE, load_package, verify_package
from .errors import DocumentError, IntegrityError, TidegateError
from .evidence.approval import Matter
from .evidence.store import collect
from .evidence.trust import Judgement, judge, judge_approvals, judge_opinions, judge_waiver, signers
from .policy.clearance import Clearance, evaluate
from .policy.facts import Facts, PackageFacts
from .policy.model import Policy, load_policy
from .rfc.model import Rfc, load_rfc
from .rollout.retention import status

_T = TypeVar("_T")


@dataclass(frozen=True)
class Clearing:
    """A clearance and what it was based on; ``cis`` are the selected CIs as the CMDB gives them."""

    clearance: Clearance
    rfc: Rfc | None
    policy: Policy | None
    cis: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Said:
    """What people signed, as :class:`Facts` has it."""

    evidence: dict[str, Judgement]
    approvals: dict[str, Judgement] | None
    builders: frozenset[str]
    waivers: dict[str, Judgement]
    opinions: dict[str, Judgement]


def clear(rfc_path: str, dsl: str, cmdb_url: str, policy_path: str | None, now: datetime) -> Clearing:
    """Evaluate every control for an RFC; read-only."""
    rfc, rfc_error = _ask(lambda: load_rfc(rfc_path))
    policy, policy_error = _ask(lambda: load_policy(policy_path))
    package: PackageFacts | None = None
    cis: tuple[dict[str, Any], ...] | None = None
    said: Said | None = None
    package_error = scope_error = evidence_error = ""
    if rfc is not None:
        package, package_error = _ask(lambda: _look_up(dsl, rfc))
        if package is not None:
            package = replace(package, retired=_ask(lambda: _retired(cmdb_url, rfc))[0])
        cis, scope_error = _ask(lambda: _select(cmdb_url, rfc))
        if policy is not None and package is not None and package.archived is not None:
            digest = package.archived
            said, evidence_error = _ask(lambda: _judge(dsl, policy, rfc, digest, cis, now))
        else:
            evidence_error = package_error or policy_error
    facts = Facts(
        now=now,
        rfc=rfc,
        policy=policy,
        package=package,
        scope=None if cis is None else tuple(str(ci["name"]) for ci in cis),
        evidence=said.evidence if said else None,
        signed_approvals=said.approvals if said else None,
        builders=said.builders if said else None,
        waivers=said.waivers if said else {},
        opinions=said.opinions if said else None,
        former=former(rfc, cis) if rfc and cis is not None else None,
        errors={"rfc": rfc_error, "policy": policy_error, "package": package_error, "scope": scope_error, "evidence": evidence_error},
    )
    return Clearing(evaluate(facts), rfc, policy, cis or ())


def _ask(source: Callable[[], _T]) -> tuple[_T | None, str]:
    """What a source says, or why it says nothing; even a fault that nobody thought of must leave the others to be heard."""
    try:
        return source(), ""
    except TidegateError as error:
        return None, str(error)
    except RecursionError:
        return None, "it is nested too deeply"
    except Exception as error:  # a JMESPath such as [::0] breaks only when it runs
        return None, f"{type(error).__name__}: {error}"


def _select(cmdb_url: str, rfc: Rfc) -> tuple[dict[str, Any], ...]:
    with Cmdb.open(cmdb_url) as cmdb:
        return tuple(cmdb.query(rfc.scope))


def _retired(cmdb_url: str, rfc: Rfc) -> str:
    with Cmdb.open(cmdb_url) as cmdb:
        found = status(cmdb, rfc.release, rfc.version)
    return found.sentence(rfc.release, rfc.version) if found else ""


def _look_up(dsl: str, rfc: Rfc) -> PackageFacts:
    library = open_library(dsl).repository(rfc.release)
    archived = library.resolve(rfc.release, rfc.version)
    damage = kind = ""
    documents: dict[str, int] = {}
    if archived is not None:
        try:
            verify_package(library, archived)
            opened = load_package(library, archived)
            manifest = opened.manifest
            manifest.check()
            kind = manifest.type
            titles = {part.annotations.get(TITLE, ""): part.size for part in opened.documentation}
            own = f"{manifest.scenario}/" if manifest.scenario else "/"
            documents = {title: size for title, size in titles.items() if not title.startswith(own)}  # tests document nothing
            if (manifest.name, manifest.version) != (rfc.release, rfc.version):
                damage = f"what the DSL keeps as {rfc.release} {rfc.version} is the package of {manifest.name} {manifest.version}"
        except (IntegrityError, DocumentError) as error:
            damage = str(error)
    return PackageFacts(archived, damage, kind, documents)


def _judge(dsl: str, policy: Policy, rfc: Rfc, digest: str, cis: Iterable[Mapping[str, Any]] | None, now: datetime) -> Said:
    roles = policy.approvals[rfc.type]
    asked = roles if isinstance(roles, Mapping) else {}
    if not policy.people:
        return Said({}, {}, frozenset(), {}, {})
    evidence = collect(open_library(dsl).repository(rfc.release), digest)
    matter = None if cis is None else matter_of(rfc, cis)
    return Said(
        {kind: judge(evidence, policy, kind, digest, rfc.release, rfc.version, now) for kind in policy.trust},
        {role: judge_approvals(evidence, policy, matter, role, count, now) for role, count in asked.items()} if matter else None,
        signers(evidence, policy, "package"),
        {control: judge_waiver(evidence, policy, matter, control, now) for control in policy.waivers} if matter else {},
        judge_opinions(evidence, policy, digest, rfc.release, rfc.version, now),
    )


def former(rfc: Rfc, cis: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The digests of what an RFC's release takes the place of, ``""`` for nothing."""
    found = (ci["installations"].get(rfc.release, {}).get("digest", "") for ci in cis)
    return frozenset(str(digest) for digest in found if digest != rfc.digest)


def matter_of(rfc: Rfc, cis: Iterable[Mapping[str, Any]]) -> Matter:
    """What people decide on when they decide on an RFC whose scope selects ``cis``."""
    return Matter(rfc.number, rfc.fingerprint, rfc.release, rfc.version, rfc.digest, tuple(sorted(str(ci["name"]) for ci in cis)))
