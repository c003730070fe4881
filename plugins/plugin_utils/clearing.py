# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather what the controls look at, from the RFC, the policy, the DSL and the CMDB, and clear the RFC.

A source that can't be read is a fact too: it makes controls inconclusive instead of ending the evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .cmdb.store import Cmdb
from .dsl.layout import OciLayout
from .dsl.package import load_package, verify_package
from .errors import DocumentError, IntegrityError, TidegateError
from .policy.clearance import Clearance, evaluate
from .policy.controls import Facts, PackageFacts
from .policy.model import Policy, load_policy
from .rfc.model import Rfc, load_rfc


@dataclass(frozen=True)
class Clearing:
    """A clearance and what it was based on; ``cis`` are the selected CIs as the CMDB gives them."""

    clearance: Clearance
    rfc: Rfc | None
    policy: Policy | None
    cis: tuple[dict[str, Any], ...]


def clear(rfc_path: str, dsl: str, cmdb_url: str, policy_path: str | None, now: datetime) -> Clearing:
    """Evaluate every control for an RFC; read-only."""
    rfc, policy, package, cis = None, None, None, None
    rfc_error = policy_error = package_error = scope_error = ""
    try:
        rfc = load_rfc(rfc_path)
    except TidegateError as error:
        rfc_error = str(error)
    try:
        policy = load_policy(policy_path)
    except TidegateError as error:
        policy_error = str(error)
    if rfc is not None:
        try:
            package = _look_up(dsl, rfc)
        except TidegateError as error:
            package_error = str(error)
        try:
            with Cmdb.open(cmdb_url) as cmdb:
                cis = tuple(cmdb.query(rfc.scope))
        except TidegateError as error:
            scope_error = str(error)
        except RecursionError:
            scope_error = "the expression is nested too deeply"
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
    )
    return Clearing(evaluate(facts), rfc, policy, cis or ())


def _look_up(dsl: str, rfc: Rfc) -> PackageFacts:
    library = OciLayout.open(dsl)
    archived = library.resolve(rfc.release, rfc.version)
    damage = ""
    if archived is not None:
        try:
            verify_package(library, archived)
            manifest = load_package(library, archived).manifest
            manifest.check()
            if (manifest.name, manifest.version) != (rfc.release, rfc.version):
                damage = f"what the DSL keeps as {rfc.release} {rfc.version} is the package of {manifest.name} {manifest.version}"
        except (IntegrityError, DocumentError) as error:
            damage = str(error)
    return PackageFacts(archived, damage)
