# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of what a release of firmware or hardware needs of the hardware storage. Pure."""

from __future__ import annotations

from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import Finding, failed, not_applicable, passed

_LISTED = 5  # units that a finding names


def spares(facts: Facts, _rfc: Rfc) -> Finding:
    """Whether there is a unit for each CI that gets a part, or that can fail before a gate looks and that no firmware brings back."""
    manifest = facts.known(facts.package, "package").manifest
    if not {"firmware", "hardware"} & manifest.keys():
        return not_applicable("it is neither firmware nor hardware")
    what = "new parts" if "hardware" in manifest else "spares for what can't go back"
    facts.known(facts.scope, "scope")
    allotment = facts.known(facts.spares, "spares")
    if not allotment.needed and allotment.suffices:
        return passed("no unit has to be reserved")
    if not allotment.suffices:
        others = "".join(f"; {reason}" for reason in allotment.unusable[:_LISTED])
        more = f"; and {len(allotment.unusable) - _LISTED} more" if len(allotment.unusable) > _LISTED else ""
        remedy = "get more into stock with tidegate.release.dhs_asset, or choose fewer CIs"
        if not allotment.lacking:
            remedy = "find out which unit is there, and correct that with tidegate.release.dhs_asset; or choose fewer CIs"
        return failed(f"{what}: {allotment.sentence()}{others}{more}", remedy)
    return passed(f"{what}: {allotment.sentence()}")


CONTROLS = (ControlSpec("spares", spares, 196, sources=("spares",)),)
