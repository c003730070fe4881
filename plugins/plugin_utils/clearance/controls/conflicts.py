# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of changes that would get in each other's way. Pure."""

from __future__ import annotations

from ...policy.model import Waivable
from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import REASONS, Finding, failed, passed


def conflicts(facts: Facts, rfc: Rfc) -> Finding:
    """Whether no other change is planned for the same time and the same CIs, or CIs that these hit or are hit by."""
    facts.known(facts.scope, "scope")
    overlaps = facts.known(facts.overlaps, "overlaps")
    if overlaps:
        lines = [one.sentence() for one in overlaps[:REASONS]]
        more = [f"and {len(overlaps) - REASONS} more"] if len(overlaps) > REASONS else []
        return failed(
            "\n".join((*lines, *more)), f"have one of them rescheduled, or withdraw it when it isn't done, and {rfc.number} approved"
        )
    return passed("no other planned change meets it")


CONTROLS = (ControlSpec("conflicts", conflicts, 50, waivable=Waivable.ALWAYS, sources=("overlaps",)),)
