# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command says of deployments and of the past, in lines for a terminal or a log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..report.progress import counted, one_line, words
from ..rollout.states import DeploymentState

if TYPE_CHECKING:
    from ..report.model import Report

_D = DeploymentState
_GOING = frozenset({_D.PLANNED, _D.STAGING, _D.ACTIVATING, _D.BAKING, _D.BACKING_OUT})
_NUMBER = re.compile(r"(?m)^number *:")
_LONGEST = 200  # letters of what a line of the past says
_CLEAR = "\x1b[{}F\x1b[0J"  # the cursor so many lines up, and nothing below it: ECMA-48


def kind_of(text: str) -> str:
    """Whether a document is an ``rfc``, which has a number, or a ``policy``."""
    return "rfc" if _NUMBER.search(text) else "policy"


def indented(where: str, text: str) -> str:
    """A message, each line of which begins with the document that it is about, unless it names it itself."""
    return "\n".join(line if where in line else f"{where}: {line}" for line in text.splitlines())


def past(line: Mapping[str, Any]) -> str:
    """One line of the history, or of the journal, as ``2027-03-01 21:03:07 web1 active (CHG0030001#3, hello 1.1)``."""
    moment = str(line["at"])[:19].replace("T", " ")
    data = {key: value for key, value in (line["data"] or {}).items() if value not in (None, "", [], {})}
    said = ", ".join(f"{key} {value}" for key, value in data.items() if isinstance(value, str | int | float))
    if "deployment" in line:
        where = line["host"] or (f"wave {line['wave']}" if line["wave"] else "deployment")
        about = f"{line['deployment']}, {line['release']} {line['version']}"
    else:
        where, about = line["ci"], f"by {line['actor']}"
    told = f"{moment} {where} {words(line['event'])} ({about})"
    return one_line(f"{told}: {said}"[:_LONGEST] if said else told)


def standing(report: Report, rfc: str | None) -> Iterator[str]:
    """Where all deployments stand, or that of one RFC with its waves, and what waits for a person."""
    shown = [one for one in report.deployments.values() if rfc in (None, one["rfc"])]
    going = [one for one in shown if one["state"] in _GOING]
    for one in shown if rfc else going:
        yield from _deployment(one, waves=rfc is not None)
    if rfc is None:
        if not going:
            yield "nothing is under way"
        waiting = report.overview["attention"]
        if waiting:
            yield f"{counted(len(waiting), 'thing')} to look at:"
            yield from (f"  {one_line(sentence)}" for sentence in waiting)


def _deployment(one: Mapping[str, Any], *, waves: bool) -> Iterator[str]:
    hosts = Counter(result["state"] for wave in one["waves"] for result in wave["results"].values())
    reason = f": {one['reason']}" if one["reason"] else ""
    yield one_line(f"{one['rfc']} {one['release']} {one['version']} {words(one['state'])}, {_counts(hosts)}{reason}")
    for wave in one["waves"] if waves else ():
        states = Counter(result["state"] for result in wave["results"].values())
        gate = f", gate {words(wave['gate'])}{': ' + wave['reason'] if wave['reason'] else ''}" if wave["gate"] else ""
        yield "  " + one_line(f"wave {wave['number']} of {len(one['waves'])} {words(wave['state'])}: {_counts(states)}{gate}")
        for host, result in wave["results"].items():
            if result["detail"]:
                yield "    " + one_line(f"{host} {words(result['state'])}: {result['detail'].splitlines()[0]}")


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {words(state)}" for state, number in sorted(states.items())) or "no hosts"


def goes_on(report: Report, rfc: str | None) -> bool:
    """Whether something may change by itself: a deployment, that of the RFC if one is given, is under way."""
    return any(one["state"] in _GOING for one in report.deployments.values() if rfc in (None, one["rfc"]))


def outcome(report: Report, rfc: str) -> int:
    """The exit status for the last deployment of an RFC: 0 when it is live or under way, 1 when not, or when it waits for a person."""
    last = [one for one in report.deployments.values() if one["rfc"] == rfc][-1]
    return 0 if last["state"] in (*_GOING - {_D.BACKING_OUT}, _D.COMPLETED, _D.SUPPORTING) else 1


def redrawn(text: str, before: str) -> str:
    """``text`` for a terminal in place of what was written ``before``."""
    return (_CLEAR.format(before.count("\n") + 1) if before else "") + text
