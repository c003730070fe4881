# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment's progress is told: what the actions report, in words for a terminal or a log. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..activity import listed

# Steps that run on every host, and what each calls its result: the good state first, then the bad one that is always
# counted, then what a host is when its result could not say (failed, unreachable).
HOST_STEPS: Mapping[str, tuple[str, str, str, str]] = {
    "stage": ("staged", "stage_failed", "stage_failed", "stage_failed"),
    "activate": ("started", "failed", "failed", "lost"),
    "arm": ("armed", "failed", "failed", "failed"),
    "fire": ("told", "failed", "failed", "lost"),
    "confirm": ("active", "failed", "failed", "lost"),
    "backout": ("backed_out", "owed", "owed", "owed"),
}
# A step that looks again at the hosts of another: it counts them anew and does not begin a line of its own.
AGAIN: Mapping[str, str] = {"confirm": "activate"}
STEPS = frozenset({*HOST_STEPS, "soak", "instant", "collect", "apply", "devices", "clear", "plan", "gate", "conclude", "report"})
_GOOD = frozenset(states[0] for states in HOST_STEPS.values())
_NAMED = 20  # hosts that a line of a log names of each state
_WORDS = {"stage_failed": "failed", "backed_out": "backed out", "back_out": "back out", "backout": "back out"}


def words(state: str) -> str:
    """A state or step as a person reads it."""
    return _WORDS.get(state, state.replace("_", " "))


def one_line(text: object) -> str:
    """Text from a host or a document, harmless on a terminal: one line, no control or formatting characters."""
    line = " ".join(str(text).split())
    return "".join("?" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co"} else char for char in line)


@dataclass(frozen=True)
class Progress:
    """What one result of an action says under the key ``progress``; ``seconds`` is how long the step took.

    ``more``: the further lines of a message that has some, such as the controls of a clearance or the last ones of a host's log.
    ``outcomes``: what a gate decided about, the hosts by their state; ``after``: what it comes after if not a wave.
    """

    step: str
    wave: int | None = None
    waves: int | None = None
    state: str = ""
    detail: str = ""
    hosts: int | None = None
    decision: str = ""
    reason: str = ""
    after: str = ""
    seconds: float | None = None
    more: tuple[str, ...] = ()
    outcomes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, result: Mapping[str, Any], action: str, *, failed: bool, unreachable: bool) -> Progress | None:
        """What ``result`` of ``action`` (its last name part) says; ``None`` when it is no step of a deployment.

        A step that ended before it could report, such as an unreachable host, is told by its action and message; one that
        had nothing to do says nothing: it has neither a state nor a decision, and perhaps a message.
        """
        told = result.get("progress")
        told = told if isinstance(told, Mapping) else {}
        step = str(told.get("step") or action)
        if step not in STEPS:
            return None
        state = one_line(told.get("state") or "")
        if step in HOST_STEPS and not state and (told or failed or unreachable):
            state = HOST_STEPS[step][3 if unreachable else 2 if failed else 0]
        elif (failed or unreachable) and not state:
            state = "failed"
        detail = told.get("detail") or ""
        more: list[str] = []
        if not told or ((failed or unreachable) and not detail):
            detail = result.get("msg") or ""
            if told or step not in HOST_STEPS:
                detail, *more = str(detail).splitlines() or [""]
        elif step in HOST_STEPS:
            detail, *more = str(detail).splitlines() or [""]
        return cls(
            step=step,
            wave=_number(told.get("wave")),
            waves=_number(told.get("waves")),
            state=state,
            detail=one_line(detail),
            hosts=_number(told.get("hosts")),
            decision=one_line(told.get("decision") or ""),
            reason=one_line(told.get("reason") or ""),
            after=one_line(told.get("after") or ""),
            seconds=_seconds(told.get("seconds")),
            more=tuple(" " * (len(line) - len(line.lstrip())) + one_line(line) for line in (*more, *_texts(told.get("more")))),
            outcomes={one_line(state): tuple(map(one_line, hosts)) for state, hosts in _lists(told.get("outcomes"))},
        )

    @property
    def name(self) -> str:
        """``stage``, ``wave 1/3``, ``back out wave 1/3``."""
        if self.wave is None:
            return words(self.step)
        wave = f"wave {self.wave}/{self.waves}" if self.waves else f"wave {self.wave}"
        return f"{words(self.step)} {wave}" if self.step == "backout" else wave

    @property
    def title(self) -> str:
        """The same for a log: ``stage``, ``wave 1 of 3``, ``back out wave 1 of 3``."""
        return self.name.replace("/", " of ")

    @property
    def good(self) -> bool:
        """Whether a host of this step is where it should be."""
        return self.step in HOST_STEPS and self.state == HOST_STEPS[self.step][0]


@dataclass
class Tally:
    """The hosts of one step, or of one wave of it, that have reported so far. ``started``: monotonic seconds."""

    first: Progress
    started: float
    ended: float = 0.0
    hosts: dict[str, str] = field(default_factory=dict)

    def add(self, progress: Progress, host: str, now: float) -> None:
        """Take the result of one host, in place of the one before when this step looks at it again."""
        self.hosts[one_line(host)] = progress.state
        self.ended = now

    @property
    def states(self) -> Counter[str]:
        """How many hosts are in which state."""
        return Counter(self.hosts.values())

    @property
    def outcomes(self) -> dict[str, tuple[str, ...]]:
        """The hosts by their state."""
        return {state: tuple(sorted(host for host, its in self.hosts.items() if its == state)) for state in self.states}

    def joined(self, other: Tally) -> Tally:
        """Both together, told as this one."""
        return Tally(self.first, min(self.started, other.started), max(self.ended, other.ended), {**other.hosts, **self.hosts})

    @property
    def done(self) -> int:
        """Hosts that have reported."""
        return self.states.total()

    @property
    def bad(self) -> int:
        """Hosts that have reported, and not what they should."""
        return sum(count for state, count in self.states.items() if state not in _GOOD)

    def line(self, gate: Progress | None = None) -> str:
        """The summary: ``wave 1/3  2 hosts  2 active  0 failed  1.8 s  gate: proceed``."""
        again = next((step for step, first in AGAIN.items() if first == self.first.step), self.first.step)
        good, bad = HOST_STEPS[again][:2]
        name = self.first.name if gate is None or gate.wave is None else gate.name
        parts = [name, hosts(self.done), f"{self.states[good]} {words(good)}", f"{self.states[bad]} {words(bad)}"]
        parts += [f"{count} {words(state)}" for state, count in sorted(self.states.items()) if count and state not in (good, bad)]
        parts.append(self._seconds)
        return "  ".join(parts if gate is None else [*parts, verdict(gate)])

    def sentence(self, gate: Progress | None = None) -> str:
        """The summary for a log, with names: ``wave 1 of 3: web1 web2 active, gate: proceed, 1.8 s``."""
        about = self.first if gate is None or gate.wave is None else gate
        outcomes = (gate.outcomes if gate else {}) or self.outcomes
        return f"{outcome_sentence(about, outcomes, gate)}, {self._seconds}"

    @property
    def _seconds(self) -> str:
        return f"{max(0.0, self.ended - self.started):.1f} s"


def outcome_sentence(about: Progress, outcomes: Mapping[str, Sequence[str]], gate: Progress | None = None) -> str:
    """How the hosts of a step or a wave came out, those that did well first, and what its gate decided."""
    ordered = sorted(outcomes.items(), key=lambda item: (item[0] not in _GOOD, item[0]))
    parts = [f"{listed(hosts, _NAMED)} {words(state)}" for state, hosts in ordered if hosts]
    return f"{about.title}: {', '.join(parts if gate is None else [*parts, verdict(gate)]) or 'no host'}"


def gate_sentence(gate: Progress) -> str:
    """What a gate decided about, and what: ``wave 1 of 3: web1 web2 active, gate: proceed``, ``stage: web1 web2 staged, gate: proceed``."""
    return outcome_sentence(replace(gate, step=gate.after or gate.step), gate.outcomes, gate)


def verdict(gate: Progress) -> str:
    """What a gate said, with its reason unless it lets the rollout proceed."""
    reason = f" ({gate.reason})" if gate.reason and gate.decision != "proceed" else ""
    return f"gate: {words(gate.decision or 'undecided')}{reason}"


def step_line(progress: Progress) -> str:
    """The line of a step that runs once: plan, clear, conclude, or a gate whose hosts reported in an earlier run."""
    parts = [progress.name]
    if progress.hosts is not None:
        parts.append(hosts(progress.hosts))
    if progress.step == "gate" and progress.decision:
        parts.append(verdict(progress))
    else:
        parts += [part for part in (words(progress.state), progress.detail) if part]
    if progress.seconds is not None:
        parts.append(f"{progress.seconds:.1f} s")
    return "  ".join(parts)


def hosts(number: int) -> str:
    """``1 host``, ``2 hosts``."""
    return counted(number, "host")


def counted(number: int, what: str) -> str:
    """``1 wave``, ``2 waves``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def share(number: int, of: int) -> str:
    """``2 of 3 hosts``; ``1 host`` when that is all there is."""
    return "1 host" if number == of == 1 else f"{number} of {hosts(of)}"


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _texts(value: object) -> Iterable[str]:
    return map(str, value) if isinstance(value, list | tuple) else ()


def _lists(value: object) -> Iterable[tuple[str, Iterable[object]]]:
    return ((str(key), hosts) for key, hosts in value.items() if isinstance(hosts, list | tuple)) if isinstance(value, Mapping) else ()


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
