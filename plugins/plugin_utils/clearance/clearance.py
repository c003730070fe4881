# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clearance: every control's result for one RFC at one moment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import shortened
from .evaluate import evaluate_controls
from .facts import Facts
from .findings import NO_PACKAGE, REASONS, Control, Result

_ORDER = (Result.FAIL, Result.INCONCLUSIVE, Result.WAIVED, Result.PASS, Result.NOT_APPLICABLE)
_LISTED = 4  # lines of a reason, in a list that has a line for each cause


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
        """The decision, in one sentence; of a refusal for one reason, with that and what to do."""
        passes, waived = (sum(control.result is result for control in self.controls) for result in (Result.PASS, Result.WAIVED))
        if self.granted:
            return f"{self.rfc} is cleared: {self.release}; {_count(passes)}{f', {waived} waived' if waived else ''}."
        causes = self._causes()
        if not causes:
            return f"{self.rfc} is not cleared: no control was evaluated."
        if len(causes) == 1 and len(causes[0].lines()) == 1:
            said = causes[0].lines()[0]
            return f"{self.rfc} is not cleared: {said}{'' if said[-1] in '.?!' else '.'}"
        *names, last = (cause.name for cause in causes)
        if not names:
            return f"{self.rfc} is not cleared: {last} stands in the way."
        return f"{self.rfc} is not cleared: {', '.join(names)} and {last} stand in the way."

    def details(self, complete: bool = False) -> list[str]:
        """The lines below the sentence.

        What is in the way, each cause once with its remedy, then what is waived, what is to be known all the same, and how much passes.

        ``complete``: every control by itself, with all of its reason.
        """
        if complete:
            shown = [control for control in self.controls if control.result is not Result.NOT_APPLICABLE]
            return [line for control in sorted(shown, key=_rank) for line in _table_row(control)]
        causes = self._causes()
        lines = []
        for cause in causes:
            first, *others = cause.lines()
            # One cause that takes one line is in the sentence.
            if len(causes) > 1 or others:
                lines += [f"  {cause.result:<12}  {first}", *(f"{'':<16}{line}" for line in others)]
        waived = (control for control in self.controls if control.result is Result.WAIVED)
        lines += [f"  {control.result:<12}  {control.name}: {_joined(control.reason)}" for control in waived]
        lines += [f"  {'note':<12}  {note}" for note in self.notes]
        passes = sum(control.result is Result.PASS for control in self.controls)
        return lines + ([f"  {_count(passes)} (-v lists them)"] if passes and not self.granted else [])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person has to know although it stands in nobody's way: what controls that pass say below their reason, each once."""
        passing = (control for control in self.controls if control.result is Result.PASS)
        return tuple(dict.fromkeys(line for control in passing for line in control.reason.splitlines()[1:]))[:REASONS]

    def text(self) -> str:
        """The sentence, and each control below it with all of its reason."""
        return "\n".join((self.sentence(), *self.details(complete=True)))

    def _causes(self) -> list[_Cause]:
        """What is in the way, what fails first."""
        groups: dict[str, list[Control]] = {}
        for control in self.controls:
            if control.blocks:
                groups.setdefault(control.cause or f"of {control.name}", []).append(control)
        causes = [_Cause(tuple(sorted(group, key=_rank))) for group in groups.values()]
        return sorted(causes, key=lambda cause: _rank(cause.controls[0]))

    def to_dict(self) -> dict[str, Any]:
        """The clearance as JSON can hold it."""
        controls = [{name: str(getattr(control, name)) for name in ("name", "result", "reason", "remedy")} for control in self.controls]
        return {
            "rfc": self.rfc,
            "release": self.release,
            "digest": self.digest,
            "at": self.at.isoformat(),
            "granted": self.granted,
            "controls": controls,
        }


@dataclass(frozen=True)
class _Cause:
    """Controls that one thing is in the way of, what fails first."""

    controls: tuple[Control, ...]

    @property
    def result(self) -> Result:
        return self.controls[0].result

    @property
    def name(self) -> str:
        """The control that fails for it, or how many can't be evaluated."""
        first, number = self.controls[0], len(self.controls)
        return first.name if number == 1 or first.result is Result.FAIL else f"{number} controls that can't be evaluated"

    def lines(self) -> list[str]:
        """One line, unless a document has several faults; three at most."""
        first = self.controls[0]
        if first.cause and (len(self.controls) > 1 or first.result is Result.FAIL) and first.cause != NO_PACKAGE:
            # It says itself what to do.
            lines = shortened(first.reason if first.result is Result.FAIL else first.cause).splitlines()
        else:
            lines = [f"{_joined(first.reason)}{f'; {first.remedy}' if first.remedy else ''}"]
        return [f"{self.name}: {lines[0] if lines else ''}", *lines[1:]]


def _rank(control: Control) -> int:
    return _ORDER.index(control.result)


def _table_row(control: Control) -> list[str]:
    first, *others = control.reason.splitlines() or [""]
    others += [f"-> {control.remedy}"] if control.blocks and control.remedy else []
    return [f"  {control.result:<12}  {control.name}: {first}", *(f"{'':<16}{line}" for line in others)]


def _joined(reason: str) -> str:
    """A reason on one line, the first things that it lists."""
    lines = reason.splitlines()
    more = f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return "; ".join(lines[:_LISTED]) + more


def _count(passes: int) -> str:
    return "1 control passes" if passes == 1 else f"{passes} controls pass"


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
