# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clearance: every control's result for one RFC at one moment. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from .controls import evaluate_controls
from .facts import Facts
from .findings import Control


@dataclass(frozen=True)
class Clearance:
    """``rfc`` is its number, or words for an RFC that can't be read; ``at`` is when the controls were evaluated."""

    rfc: str
    release: str
    digest: str
    at: datetime
    controls: tuple[Control, ...]

    @property
    def granted(self) -> bool:
        """True only if there are controls and none of them blocks."""
        return bool(self.controls) and not any(control.blocks for control in self.controls)

    def sentence(self) -> str:
        """The decision, in one sentence."""
        if self.granted:
            return f"{self.rfc} is cleared: {self.release}, {len(self.controls)} controls."
        blocking = [control for control in self.controls if control.blocks]
        if not blocking:
            return f"{self.rfc} is not cleared: no control was evaluated."
        names = ", ".join(control.name for control in blocking[1:])
        others = f"; {names} stand{'' if blocking[2:] else 's'} in the way too" if names else ""
        return f"{self.rfc} is not cleared: {blocking[0].name} says that {_one_line(blocking[0].reason)}{others}."

    def text(self) -> str:
        """A table with a line for each control; below it the rest of a long reason, and what to do when it blocks."""
        name = max((len(control.name) for control in self.controls), default=0)
        lines = []
        for control in self.controls:
            first, *others = control.reason.splitlines() or [""]
            lines.append(f"  {control.result:<14} {control.name:<{name}}  {first}")
            if control.blocks and control.remedy:
                others.append(f"-> {control.remedy}")
            lines += [f"      {line}" for line in others]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The clearance as JSON can hold it."""
        controls = [{**asdict(control), "result": str(control.result)} for control in self.controls]
        return {
            "rfc": self.rfc,
            "release": self.release,
            "digest": self.digest,
            "at": self.at.isoformat(),
            "granted": self.granted,
            "controls": controls,
        }


def _one_line(reason: str) -> str:
    """The reason, of several lines the first and how many there are."""
    first, *others = reason.splitlines() or [""]
    return f"{first} (and {len(others)} more)" if others else first


def evaluate(facts: Facts) -> Clearance:
    """Evaluate every control."""
    rfc = facts.rfc
    return Clearance(
        rfc=rfc.number if rfc else "the RFC",
        release=f"{rfc.release} {rfc.version}" if rfc else "",
        digest=rfc.digest if rfc else "",
        at=facts.now,
        controls=evaluate_controls(facts),
    )
