# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controls that there are, and what they come to. Pure.

A control is added in the file of its subject in ``controls/``: a function of :class:`Facts` and the RFC that returns a
:class:`Finding`, and its :class:`ControlSpec` in ``CONTROLS`` of that file. What is not known is inconclusive, never a pass:
``facts.known`` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..policy.model import normalised_name
from ..rfc.model import Rfc
from .control_spec import ControlSpec
from .controls import (
    baseline,
    change,
    communication,
    compatibility,
    conflicts,
    data,
    hardware,
    opinions,
    package,
    people,
    plan,
    signed,
    verified,
    window,
)
from .facts import Facts, NotKnown
from .findings import NO_RFC, REASONS, Control, Finding, Result, failed, unknown

if TYPE_CHECKING:
    from ..evidence.trust import Judgement

_LISTED: tuple[ControlSpec, ...] = (
    *baseline.CONTROLS,
    *change.CONTROLS,
    *communication.CONTROLS,
    *compatibility.CONTROLS,
    *conflicts.CONTROLS,
    *data.CONTROLS,
    *hardware.CONTROLS,
    *opinions.CONTROLS,
    *package.CONTROLS,
    *people.CONTROLS,
    *plan.CONTROLS,
    *signed.CONTROLS,
    *verified.CONTROLS,
    *window.CONTROLS,
)
CONTROLS: Mapping[str, ControlSpec] = {spec.name: spec for spec in sorted(_LISTED, key=lambda spec: spec.order)}
# What is asked again before each wave. The RFC itself is read by the gate, and what is staged has the digest that was cleared.
ASKED_AT_GATES = frozenset(name for name, spec in CONTROLS.items() if spec.asked_at_gates)


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
    lines = [f"waived by {name} until {said['expires']}: {' '.join(said['reason'].split()):.200}" for name, said in sorted(given.items())]
    return Finding(Result.WAIVED, "\n".join((finding.reason, *lines)))


def evaluate_controls(facts: Facts, only: Collection[str] | None = None) -> tuple[Control, ...]:
    """Every control's result, or that of some, whatever the others found; one that breaks has found nothing out."""
    results = []
    checks = {name: spec.check for name, spec in CONTROLS.items()}
    checks |= {control.name: _own(control.name) for control in facts.policy.controls} if facts.policy else {}
    for name, check in checks.items():
        if only is not None and name not in only:
            continue
        if facts.rfc is not None:
            try:
                finding = check(facts, facts.rfc)
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
