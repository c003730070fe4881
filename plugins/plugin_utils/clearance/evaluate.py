# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controls: each one check of an RFC against the policy and the facts. Pure.

To add a control, write a function of :class:`Facts` and the RFC that returns a :class:`Finding`, in the module of its subject, and put
it in ``CONTROLS``. What is not known is inconclusive, never a pass: ``facts.known`` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..policy.model import normalised_name
from ..rfc.model import Rfc
from .controls import change, compatibility, opinions, package, people, signed, verified, window
from .controls.communication import communication
from .facts import Facts, NotKnown
from .findings import NO_RFC, REASONS, Control, Finding, Result, failed, unknown

if TYPE_CHECKING:
    from ..evidence.trust import Judgement


CONTROLS: Mapping[str, Callable[[Facts, Rfc], Finding]] = {
    "rfc_schema": change.schema,
    "rfc_state": change.state,
    "window": window.window,
    "freeze": window.freeze,
    "conflicts": change.conflicts,
    "digest": package.digest,
    "payload_archived": package.archived,
    "payload_intact": package.intact,
    "library": package.library,
    "signatures": signed.signatures,
    "malware": signed.malware,
    "evidence": signed.evidence,
    "version": package.version,
    "verification": verified.verification,
    "rehearsal": verified.rehearsal,
    "opinions": opinions.opinions,
    "documentation": package.documentation,
    "scope": change.scope,
    "compatibility": compatibility.compatibility,
    "licences": package.licences,
    "approvals": people.approvals,
    "duties": people.duties,
    "responsibilities": people.responsibilities,
    "debts": change.debts,
    "backout_plan": change.backout_plan,
    "objectives": change.objectives,
    "communication": communication,
}

# What is looked at again before each wave, for it can change while the others run. The RFC itself is read by the gate, and what is staged
# has the digest that was cleared.
GATED = (
    "window",
    "freeze",
    "payload_archived",
    "library",
    "signatures",
    "malware",
    "evidence",
    "verification",
    "rehearsal",
    "opinions",
    "compatibility",
    "approvals",
)


def _own(name: str) -> Callable[[Facts, Rfc], Finding]:
    """A control of the policy's own: what its conditions came to was found out with the other facts."""
    return lambda facts, _rfc: facts.known(facts.own.get(name), "own")


def _waived(finding: Finding, judgement: Judgement | None, barred: Mapping[str, str]) -> Finding:
    """What a finding comes to with the waivers that people signed. What could not be found out can't be waived: nobody knows what it is."""
    if finding.result is not Result.FAIL or judgement is None or judgement.wanted is None:
        return finding
    given = {one.person: one.statement.predicate for one in judgement.counted if normalised_name(one.person) not in barred}
    if len(given) < judgement.wanted.threshold:
        notes = [
            f"{name}'s waiver does not count: {barred[normalised_name(name)]}"
            for name in judgement.people
            if normalised_name(name) in barred
        ]
        return replace(finding, reason="\n".join((finding.reason, *notes, *judgement.refused[:REASONS])))
    words = [f"waived by {name} until {said['expires']}: {' '.join(said['reason'].split()):.200}" for name, said in sorted(given.items())]
    return Finding(Result.WAIVED, "\n".join((finding.reason, *words)))


def evaluate_controls(facts: Facts, only: Collection[str] | None = None) -> tuple[Control, ...]:
    """Every control's result, or that of some, whatever the others found; one that breaks has found nothing out."""
    results = []
    own = {control.name: _own(control.name) for control in facts.policy.controls} if facts.policy else {}
    for name, control in {**CONTROLS, **own}.items():
        if only is not None and name not in only:
            continue
        if facts.rfc is not None:
            try:
                finding = control(facts, facts.rfc)
                finding = _waived(finding, facts.waivers.get(name), people.barred(facts, facts.rfc))
            except NotKnown as error:
                finding = unknown(error.reason, error.remedy, error.cause)
            except Exception as error:  # a broken control must neither pass nor hide the others
                finding = unknown(f"the control itself failed: {type(error).__name__}: {error}", "report it to the control's author")
        elif name == "rfc_schema":
            finding = failed(facts.errors.get("rfc", ""), "correct the RFC", NO_RFC)
        else:
            finding = unknown("there is no valid RFC to evaluate", "correct the RFC", NO_RFC)
        results.append(Control(name, finding.result, finding.reason, finding.remedy, finding.cause))
    return tuple(results)
