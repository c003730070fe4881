# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of the package that the DSL keeps. Pure."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from ...dsl.seen import how_to_copy_evidence, listed, losses
from ...policy.model import Waivable
from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import NO_PACKAGE, REASONS, Finding, failed, not_applicable, passed, unknown

_NUMBERS = 9  # of a version that are compared
_VERSION = re.compile(r"v?([0-9]{1,9}(?:\.[0-9]{1,9})*)")


def digest(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the digest that the RFC names is the one that the library has under the name and version of the release."""
    package = facts.known(facts.package, "package")
    if package.archived is None:
        return unknown(f"there is no archived {rfc.release} {rfc.version} to compare with", "archive the release", NO_PACKAGE)
    if package.archived != rfc.digest:
        return failed(
            f"the RFC names {rfc.digest}, but {rfc.release} {rfc.version} is {package.archived}",
            "have the RFC approved for what is archived",
        )
    return passed(f"the RFC names the archived {rfc.release} {rfc.version}")


def archived(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the library has the release, and nobody has retired it."""
    package = facts.known(facts.package, "package")
    if package.archived is None:
        return failed(f"the DSL has no {rfc.release} {rfc.version}", "archive it and name its digest in the RFC", NO_PACKAGE)
    if package.retired is None:
        return unknown(f"whether {rfc.release} {rfc.version} was retired could not be found out", "make the CMDB readable", package.unread)
    if package.retired:
        return failed(package.retired, "un-retire it with dsl_release, or use another version")
    return passed(f"{rfc.release} {rfc.version} is in the DSL")


def intact(facts: Facts, _rfc: Rfc) -> Finding:
    """Whether every blob of the package is what its digest says, and the package is of this release."""
    package = facts.known(facts.package, "package")
    if package.archived is None:
        return unknown("there is no package to look at", "archive the release", NO_PACKAGE)
    if package.damage:
        return failed(package.damage, "restore the package from a copy of the DSL", NO_PACKAGE)
    return passed("every blob of the package is what its digest says")


def library(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the library still has all that was seen in it of the release.

    A rejection that vanished was not taken back.
    """
    package = facts.known(facts.package, "package")
    seen = facts.known(facts.seen, "seen")
    if package.archived is None and not seen:
        return not_applicable(f"nothing was ever seen in the library of {rfc.release} {rfc.version}")
    evidence = None if package.archived is None else facts.known(facts.sight, "evidence").evidence
    lost = [loss for snapshot in seen for loss in losses(snapshot, package.archived, evidence)]
    if lost:
        remedy = "heal it from a second home with dsl_verify and tidegate_dsl_replica, or give up what is lost for good with dsl_release"
        return unknown(f"the library lacks what was seen in it before, {listed(lost, REASONS)}", remedy + copied_alone(facts))
    return passed(f"the library has all that was seen in it of {rfc.release} {rfc.version}")


def copied_alone(facts: Facts) -> str:
    """What else to do, after a remedy, about a package without any evidence, as other tools copy it."""
    if facts.package is None or facts.package.archived is None or facts.sight is None or facts.sight.evidence != {}:
        return ""
    return f"; {how_to_copy_evidence(facts.package.archived)}"


def documentation(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the release brings the documents that the policy asks of its type, none of them empty."""
    policy = facts.known(facts.policy, "policy")
    if not any(policy.documentation.values()):
        return not_applicable("the policy asks for no documentation")
    package = facts.known(facts.package, "package")
    if package.archived is None or package.damage:
        return unknown(f"there is no intact package of {rfc.release} {rfc.version} to look at", "archive the release", NO_PACKAGE)
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


def licences(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the CIs in scope have, or would get, the seats of the licensed product that the release uses."""
    package = facts.known(facts.package, "package")
    if package.archived is None or package.damage:
        return unknown(f"there is no intact package of {rfc.release} {rfc.version} to look at", "archive the release", NO_PACKAGE)
    if not package.manifest.get("licensed_product"):
        return not_applicable(f"{rfc.release} {rfc.version} uses no licensed product")
    facts.known(facts.scope, "scope")
    seats = facts.known(facts.seats, "seats")
    if not seats.suffices:
        return failed(seats.sentence(), "enter an entitlement with tidegate.release.licence, or choose fewer CIs")
    return passed(seats.sentence())


def version(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the version raises the number that this type of release has to raise, over every version that it takes the place of."""
    policy = facts.known(facts.policy, "policy")
    if not policy.versions:
        return not_applicable("the policy has no rule for versions")
    package = facts.known(facts.package, "package")
    if package.archived is None or package.damage:
        return unknown(f"there is no intact package of {rfc.release} {rfc.version} to look at", "archive the release", NO_PACKAGE)
    raised = policy.versions.get(package.type)
    if raised is None:
        return not_applicable(f"the policy has no rule for the versions of {package.type} releases")
    new = _numbers(rfc.version)
    if new is None:
        return unknown(f"the version {rfc.version} does not start with a number, so it can't be compared", "number releases like 1.2.3")
    faults = [
        f"{ci} runs {old}"
        for old, ci in sorted(facts.known(facts.live, "scope").items())
        # What is live may be older than the rule, and without a number there is none to raise.
        if old != rfc.version and (was := _numbers(old)) is not None and not _raises(new, was, raised)
    ]
    if faults:
        return failed(
            f"a {package.type} release raises number {raised} of the version, which {rfc.version} does not: {'; '.join(faults[:REASONS])}",
            "give it the number or the type that it has to have, or choose other CIs",
        )
    return passed(f"{rfc.version} is numbered as a {package.type} release has to be")


def _raises(new: tuple[int, ...], old: tuple[int, ...], position: int) -> bool:
    return new[: position - 1] == old[: position - 1] and new[position - 1] > old[position - 1]


def _numbers(version: str) -> tuple[int, ...] | None:
    """The numbers that a version starts with, and noughts behind them up to nine; ``None`` when it starts with none."""
    found = _VERSION.match(version)
    if found is None:
        return None
    return tuple(int(number) for number in (found[1].split(".") + ["0"] * _NUMBERS)[:_NUMBERS])


CONTROLS = (
    ControlSpec("digest", digest, 60),
    ControlSpec("payload_archived", archived, 70, asked_at_gates=True, sources=("retired",)),
    ControlSpec("payload_intact", intact, 80, sources=("contents",)),
    ControlSpec("library", library, 90, asked_at_gates=True, sources=("seen",)),
    ControlSpec("version", version, 130, waivable=Waivable.ALWAYS),
    ControlSpec("documentation", documentation, 170, waivable=Waivable.ALWAYS, sources=("contents",)),
    ControlSpec("licences", licences, 200, sources=("seats",)),
)
