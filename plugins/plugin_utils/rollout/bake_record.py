# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bakes and gates as the journal's lines have them: what was measured of a wave, and what its gate says if it is asked again. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..metrics.judge import BakeRecord, Measurement, judge
from ..metrics.model import Bake, BakeVerdict
from .gate import Circumstances, GateDecision, GateInputs, decide_in

BAKE, MEASURED, DECIDED = "bake", "measured", "decided"
"""The events: a bake began, a metric was measured, a gate was decided."""
BAKE_EVENTS = (BAKE, MEASURED, DECIDED)


@dataclass(frozen=True)
class Line:
    """A line of the journal about a wave."""

    at: datetime
    event: str
    wave: int | None
    data: Mapping[str, Any]


@dataclass(frozen=True)
class GateAgain:
    """A gate as it was decided, and as its rules decide it again by the journal's lines alone."""

    at: datetime
    wave: int
    decided: GateDecision
    again: GateDecision

    @property
    def same(self) -> bool:
        """Whether both are the same, word for word."""
        return self.decided == self.again


def begun_data(record: BakeRecord) -> dict[str, Any]:
    """What the event of a bake that begins says."""
    return {"bake": record.bake.to_dict(), "hosts": list(record.hosts), "others": list(record.others)}


def bakes(lines: Iterable[Line]) -> Iterator[tuple[int, BakeRecord]]:
    """The bakes that lines of the journal, in order, are about, each with its wave."""
    found: dict[int, list[BakeRecord]] = {}
    for line in lines:
        if line.wave is None:
            continue
        if line.event == BAKE:
            bake = Bake.from_dict(line.data["bake"])
            found.setdefault(line.wave, []).append(BakeRecord(bake, line.at, tuple(line.data["hosts"]), tuple(line.data["others"])))
        elif line.event == MEASURED:
            found[line.wave][-1] = found[line.wave][-1].with_one(Measurement.from_dict(line.at, line.data))
    return ((wave, record) for wave, records in found.items() for record in records)


def unfinished(lines: Iterable[Line], wave: int) -> BakeRecord | None:
    """The last bake of a wave, unless its gate has decided by it that it was not good: then another one begins."""
    of_wave = [line for line in lines if line.wave == wave]
    begun = max((number for number, line in enumerate(of_wave) if line.event == BAKE), default=None)
    if begun is None or any(_is_spent(line) for line in of_wave[begun:]):
        return None
    return next(record for _wave, record in bakes(of_wave[begun:]))


def judge_again(lines: Iterable[Line]) -> list[GateAgain]:
    """Every gate after a wave among the lines, in their order, as it would be decided now, by nothing but these lines."""
    seen: list[Line] = []
    found = []
    for line in lines:
        seen.append(line)
        if line.event != DECIDED or line.wave is None or "inputs" not in line.data:
            continue  # one of a time in which the journal did not have what gates are decided by
        inputs = GateInputs.from_dict(line.data["inputs"])
        measured = [record for wave, record in bakes(seen) if wave == line.wave]
        if inputs.metrics is not None and inputs.metrics.at:
            nothing = BakeVerdict("inconclusive", "the journal has nothing that was measured")
            again = judge(measured[-1], datetime.fromisoformat(inputs.metrics.at)) if measured else nothing
            inputs = replace(inputs, metrics=again)
        decided = GateDecision(line.data["decision"], line.data["reason"])
        found.append(GateAgain(line.at, line.wave, decided, decide_in(inputs, Circumstances(**line.data["circumstances"]))))
    return found


def gates_record(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Every gate after a wave among the lines, as it was decided and by what, for whoever wants to sign that.

    ``measured`` is the SHA-256 of the lines of its wave before it, as compact JSON with sorted keys: they can be as many as hosts and
    measurements.
    """
    seen: list[Line] = []
    found = []
    for line in lines:
        seen.append(line)
        if line.event != DECIDED or line.wave is None or "inputs" not in line.data:
            continue
        measured = [[one.at.isoformat(), one.event, one.data] for one in seen if one.wave == line.wave and one.event != DECIDED]
        digest = hashlib.sha256(json.dumps(measured, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        decided = {name: line.data[name] for name in ("decision", "reason", "inputs", "circumstances")}
        found.append({"wave": line.wave, "at": line.at.isoformat(), **decided, "measured": digest if measured else ""})
    return found


def _is_spent(line: Line) -> bool:
    measured = (line.data.get("inputs") or {}).get("metrics") or {}
    return line.event == DECIDED and measured.get("outcome") in ("bad", "inconclusive")
