# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of the RFC itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ...cmdb.hosts import REMEDY
from ...policy.model import Waivable
from ...rfc.model import IMPLEMENT, SCHEDULED, STATES, Rfc
from ...rollout.states import SPARES
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import REASONS, Finding, failed, passed

_NAMED = 3  # CIs that a finding names


def schema(_facts: Facts, rfc: Rfc) -> Finding:
    """Whether the RFC can be read and each of its fields is valid."""
    return passed(f"{rfc.number} is a complete RFC")


def state(_facts: Facts, rfc: Rfc) -> Finding:
    """Whether the RFC is at Scheduled or Implement, and not on hold."""
    if rfc.on_hold:
        return failed(f"{rfc.number} is on hold", "settle what it waits for and take it off hold")
    if rfc.state in (SCHEDULED, IMPLEMENT):
        return passed(f"{rfc.number} is {STATES[rfc.state]}")
    return failed(f"{rfc.number} is {STATES[rfc.state]}", "bring it to Scheduled (-2) by the change process")


def scope(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the scope selects CIs, only hosts, and none besides those that the RFC was entered in the schedule with."""
    selected = facts.known(facts.scope, "scope")
    if not selected:
        return failed("the scope selects no CI", "correct the scope, or enter the CIs in the CMDB")
    if facts.no_hosts:
        return failed(f"the scope selects what is no host: {_some(facts.no_hosts)}", f"narrow the scope; if it is one, {REMEDY}")
    new = sorted(set(selected) - set(before)) if (before := facts.known(facts.entered, "overlaps")) else []
    if new:
        return failed(
            f"the scope now also selects {_some(new)}, which it did not when {rfc.number} was entered",
            "have it approved for them and entered anew with tidegate.release.schedule, or narrow the scope",
        )
    return passed(f"the scope selects {len(selected)} CI{'s' if len(selected) > 1 else ''}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def backout_plan(_facts: Facts, rfc: Rfc) -> Finding:
    """Whether the RFC says how the change is undone."""
    if not rfc.backout_plan.strip():
        return failed("there is no back-out plan", "write in backout_plan how the change is undone and who decides it")
    return passed("there is a back-out plan")


def objectives(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the policy allows the commands among the RFC's objectives, and people sign their approval of such an RFC.

    Such commands run on the controller.
    """
    commands = [str(check["name"]) for check in rfc.objectives if "command" in check]
    if not commands:
        return passed("no objective is a command")
    policy = facts.known(facts.policy, "policy")
    if not policy.objective_commands:
        return failed(
            f"the policy lets no RFC run a command on the controller, as the objective {commands[0]!a} is",
            "check it with http or tcp, or set commands under objectives in the policy",
        )
    if not any(policy.signed_by(rfc.type).values()):
        return failed(
            f"the objective {commands[0]!a} is a command, and nobody has to sign an approval of {rfc.type} RFCs",
            "name roles in place of a number under approvals in the policy, or check it with http or tcp",
        )
    return passed(f"the policy lets RFCs run commands, and approvals of {rfc.number} are signed")


def debts(facts: Facts, rfc: Rfc) -> Finding:
    """Whether earlier changes of the release have done what is due by now: emergencies their duties, firmware the level of its spares.

    An emergency change does not wait for that, nor do spares on a bench for their own level.
    """
    owed = [debt for debt in facts.known(facts.debts, "debts") if debt.settled is None]
    late = [debt for debt in owed if debt.overdue(facts.now) and not (facts.bench and debt.duty == SPARES)]
    if late and rfc.type != "emergency":
        overdue = [debt.sentence(facts.now) for debt in late]
        more = (f"and {len(overdue) - REASONS} more",) if len(overdue) > REASONS else ()
        remedy = "do it, and say so with tidegate.release.settle"
        if all(debt.duty == SPARES for debt in late):
            remedy = "bring the spares to level on a bench, and have them counted with tidegate.release.stock"
        return failed("\n".join((*overdue[:REASONS], *more)), remedy)
    if owed:
        return passed("; ".join(debt.sentence(facts.now) for debt in owed[:REASONS]))
    return passed(f"no earlier change of {rfc.release} owes anything")


CONTROLS = (
    ControlSpec("rfc_schema", schema, 10),
    ControlSpec("rfc_state", state, 20),
    ControlSpec("scope", scope, 180, sources=("overlaps",)),
    ControlSpec("debts", debts, 240, sources=("debts",)),
    ControlSpec("backout_plan", backout_plan, 250, waivable=Waivable.IN_EMERGENCIES),
    ControlSpec("objectives", objectives, 260),
)
