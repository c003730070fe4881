# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of what a release has to get on with. Pure."""

from __future__ import annotations

from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import NO_PACKAGE, REASONS, Finding, failed, passed, unknown


def compatibility(facts: Facts, rfc: Rfc) -> Finding:
    """Whether what the release and those on related CIs require is there, and nothing that they conflict with, also between two waves."""
    package = facts.known(facts.package, "package")
    if package.archived is None or package.damage:
        return unknown(f"there is no intact package of {rfc.release} {rfc.version} to look at", "archive the release", NO_PACKAGE)
    facts.known(facts.scope, "scope")
    found = facts.known(facts.compatibility, "compatibility")
    if found.faults:
        remedy = "deploy what it requires first, choose other CIs, or correct the CMDB"
        return failed(_some(found.faults), remedy)
    if found.unknown:
        return unknown(_some(found.unknown), "correct what the CMDB says, or restore the package")
    return passed(f"{rfc.release} {rfc.version} gets on with what is on the CIs in scope and around them")


def _some(lines: tuple[str, ...]) -> str:
    more = (f"and {len(lines) - REASONS} more",) if len(lines) > REASONS else ()
    return "\n".join((*lines[:REASONS], *more))


CONTROLS = (ControlSpec("compatibility", compatibility, 190, asked_at_gates=True, sources=("compatibility",)),)
