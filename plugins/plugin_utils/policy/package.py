# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of the package that the DSL keeps. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..rfc.model import Rfc
from .facts import Facts
from .findings import Finding, failed, not_applicable, passed, unknown


def digest(facts: Facts, rfc: Rfc) -> Finding:
    package = facts.known(facts.package, "package")
    if package.archived is None:
        return unknown(f"there is no archived {rfc.release} {rfc.version} to compare with", "archive the release")
    if package.archived != rfc.digest:
        return failed(
            f"the RFC names {rfc.digest}, but {rfc.release} {rfc.version} is {package.archived}",
            "have the RFC approved for what is archived",
        )
    return passed(f"the RFC names the archived {rfc.release} {rfc.version}")


def archived(facts: Facts, rfc: Rfc) -> Finding:
    package = facts.known(facts.package, "package")
    if package.archived is None:
        return failed(f"the DSL has no {rfc.release} {rfc.version}", "archive it and name its digest in the RFC")
    if package.retired is None:
        return unknown(f"whether {rfc.release} {rfc.version} was retired could not be found out", "make the CMDB readable")
    if package.retired:
        return failed(package.retired, "un-retire it with dsl_release, or use another version")
    return passed(f"{rfc.release} {rfc.version} is in the DSL")


def intact(facts: Facts, _rfc: Rfc) -> Finding:
    package = facts.known(facts.package, "package")
    if package.archived is None:
        return unknown("there is no package to look at", "archive the release")
    if package.damage:
        return failed(package.damage, "restore the package from a copy of the DSL")
    return passed("every blob of the package is what its digest says")


def documentation(facts: Facts, rfc: Rfc) -> Finding:
    policy, package = facts.known(facts.policy, "policy"), facts.package
    if not any(policy.documentation.values()):
        return not_applicable("the policy asks for no documentation")
    if package is None or package.archived is None or package.damage:
        return unknown(f"there is no intact package of {rfc.release} {rfc.version} to look at", "archive the release")
    wanted = policy.documentation.get(package.type, ())
    if not wanted:
        return not_applicable(f"the policy asks for no documentation of {package.type} releases")
    there = sorted(name for name, size in package.documents.items() if size)
    lacking = [pattern for pattern in wanted if not any(fnmatchcase(name, pattern) for name in there)]
    if lacking:
        return failed(
            f"no documentation with something in it is named {', '.join(lacking)}", "write it and name it in release.yml, in a new version"
        )
    return passed(f"the documentation of {package.type} releases is there: {', '.join(there)}")
