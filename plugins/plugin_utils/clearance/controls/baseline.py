# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of what is there before a release whose effect is not its tree. Pure."""

from __future__ import annotations

from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import REASONS, Finding, failed, not_applicable, passed


def baseline(facts: Facts, rfc: Rfc) -> Finding:
    """Whether what firmware, or a release with an effect outside its tree, takes the place of is archived, where it is the way back."""
    package = facts.known(facts.package, "package")
    if "firmware" not in package.manifest and "reads" not in package.manifest:
        return not_applicable("its effect is its tree")
    facts.known(facts.scope, "scope")
    missing = facts.known(facts.unarchived, "baseline")
    if missing:
        more = (f"and {len(missing) - REASONS} more",) if len(missing) > REASONS else ()
        remedy = f"archive the version of {rfc.release} that is there now, by which it could be brought back"
        return failed("\n".join((*missing[:REASONS], *more)), remedy)
    return passed(f"nothing is known to be there that no archived version of {rfc.release} brings back")


CONTROLS = (ControlSpec("baseline", baseline, 197, sources=("baseline",)),)
