# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather what the controls look at, from the RFC, the policy, the DSL and the CMDB, and clear the RFC.

A source that can't be read is a fact too: it makes controls inconclusive instead of ending the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from .cmdb.store import Cmdb
from .dsl.home import open_library
from .dsl.package import TITLE, load_package, verify_package
from .errors import DocumentError, IntegrityError, TidegateError
from .evidence.store import collect
from .evidence.trust import Judgement, judge
from .policy.clearance import Clearance, evaluate
from .policy.controls import Facts, PackageFacts
from .policy.model import Policy, load_policy
from .rfc.model import Rfc, load_rfc

_T = TypeVar("_T")


@dataclass(frozen=True)
class Clearing:
    """A clearance and what it was based on; ``cis`` are the selected CIs as the CMDB gives them."""

    clearance: Clearance
    rfc: Rfc | None
    policy: Policy | None
    cis: tuple[dict[str, Any], ...]


def clear(rfc_path: str, dsl: str, cmdb_url: str, policy_path: str | None, now: datetime) -> Clearing:
    """Evaluate every control for an RFC; read-only."""
    rfc, rfc_error = _ask(lambda: load_rfc(rfc_path))
    policy, policy_error = _ask(lambda: load_policy(policy_path))
    package: PackageFacts | None = None
    cis: tuple[dict[str, Any], ...] | None = None
    evidence: dict[str, Judgement] | None = None
    package_error = scope_error = evidence_error = ""
    if rfc is not None:
        package, package_error = _ask(lambda: _look_up(dsl, rfc))
        cis, scope_error = _ask(lambda: _select(cmdb_url, rfc))
        if policy is not None and package is not None and package.archived is not None:
            digest = package.archived
            evidence, evidence_error = _ask(lambda: _judge(dsl, policy, rfc, digest, now))
        else:
            evidence_error = package_error or policy_error
    facts = Facts(
        now=now,
        rfc=rfc,
        rfc_error=rfc_error,
        policy=policy,
        policy_error=policy_error,
        package=package,
        package_error=package_error,
        scope=None if cis is None else tuple(str(ci["name"]) for ci in cis),
        scope_error=scope_error,
        evidence=evidence,
        evidence_error=evidence_error,
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


def _look_up(dsl: str, rfc: Rfc) -> PackageFacts:
    library = open_library(dsl).repository(rfc.release)
    archived = library.resolve(rfc.release, rfc.version)
    damage = kind = ""
    documentation: tuple[str, ...] = ()
    if archived is not None:
        try:
            verify_package(library, archived)
            package = load_package(library, archived)
            manifest = package.manifest
            manifest.check()
            kind = manifest.type
            filled = {part.annotations.get(TITLE) for part in package.documentation if part.size}
            documentation = tuple(name for name in manifest.documentation if name in filled)
            if (manifest.name, manifest.version) != (rfc.release, rfc.version):
                damage = f"what the DSL keeps as {rfc.release} {rfc.version} is the package of {manifest.name} {manifest.version}"
        except (IntegrityError, DocumentError) as error:
            damage = str(error)
    return PackageFacts(archived, damage, kind, documentation)


def _judge(dsl: str, policy: Policy, rfc: Rfc, digest: str, now: datetime) -> dict[str, Judgement]:
    evidence = collect(open_library(dsl).repository(rfc.release), digest) if policy.trust else None
    return {kind: judge(evidence, policy, kind, digest, rfc.release, rfc.version, now) for kind in policy.trust if evidence is not None}
