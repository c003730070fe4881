# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of where a release changes data. Pure."""

from __future__ import annotations

from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import Finding, failed, not_applicable, passed


def data_host(facts: Facts, _rfc: Rfc) -> Finding:
    """Whether a release that migrates data says of exactly one CI of the plan that it does so there."""
    own = facts.known(facts.package, "package").manifest.get("ansible", {})
    if "migrate" not in own.get("steps", ()):
        return not_applicable("it migrates no data")
    facts.known(facts.scope, "scope")
    chosen = facts.known(facts.data_host, "data_host")
    if chosen.problem:
        remedy = "let the RFC's scope select that CI, or correct migrate_on and archive the release anew"
        return failed(chosen.problem, remedy)
    return passed(f"data are migrated on {chosen.name}")


CONTROLS = (ControlSpec("data_host", data_host, 192, sources=("data_host",)),)
