# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of whether there is a plan. Pure."""

from __future__ import annotations

from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import Finding, failed, not_applicable, passed


def plan(facts: Facts, _rfc: Rfc) -> Finding:
    """Whether the hosts can be put in waves that keep all that the policy's rollout asks for.

    More waves than its max_waves are said, and stand in nobody's way.
    """
    facts.known(facts.policy, "policy")
    facts.known(facts.scope, "scope")
    if fault := facts.errors.get("plan"):
        return failed(fault, "correct rollout in the policy, or choose other CIs", fault)
    waves = facts.known(facts.waves, "plan")
    if not waves:
        return not_applicable("there is no wave to be done")
    if facts.plan is None:
        return passed("its plan is under way")
    return passed("\n".join((f"the plan has {'1 wave' if len(waves) == 1 else f'{len(waves)} waves'}", *facts.plan.warnings)))


CONTROLS = (ControlSpec("plan", plan, 185),)
