# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of who is informed: every channel can be used, and the RFC says how people are informed of the change. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...policy.communication import plain
from ...policy.model import Waivable
from ..control_spec import ControlSpec
from ..findings import Finding, failed, not_applicable, passed

if TYPE_CHECKING:
    from ...rfc.model import Rfc
    from ..facts import Facts


def communication(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the RFC has a communication plan, and every channel that it and the policy name can be used."""
    wanted = facts.known(facts.policy, "policy").communication
    if not wanted.required:
        return not_applicable("the policy asks for no communication plan")
    if not rfc.communication_plan.strip():
        return failed("there is no communication plan", "write in communication_plan who is told what, when and by whom")
    if not any(wanted.tell.values()):
        return failed("the policy tells nobody of anything", "name channels under communication.tell in the policy")
    unusable = facts.known(facts.channels, "channels")
    without_channel = [f"the stakeholder {plain(name)} has no channel" for name in rfc.stakeholders if name not in wanted.channels]
    named = {name for names in wanted.tell.values() for name in names} | {name for name in rfc.stakeholders if name in wanted.channels}
    lacking = without_channel + [f"the channel {name} can't be used: {unusable[name]}" for name in sorted(named) if unusable.get(name)]
    if lacking:
        return failed("\n".join(lacking), "enter the channel in the policy, and its address where the policy says that it is")
    return passed(f"there is a communication plan, and {len(named)} channel{'s' if len(named) > 1 else ''} can be used")


CONTROLS = (ControlSpec("communication", communication, 270, waivable=Waivable.ALWAYS, sources=("channels",)),)
