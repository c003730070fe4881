# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report, and a clearance, as pages that need nothing else: no network, no script; light and dark.

No page has more than a browser shows at once, however large the fleet and however old the CMDB is.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..rollout.states import OPEN
from .differences import difference_lines

with contextlib.suppress(ImportError):
    import jinja2
    import markupsafe

# Each state has a sign and a word besides its colour, so that no reader depends on seeing colours.
STATES: Mapping[str, tuple[str, str]] = {
    "active": ("✓", "active"),
    "failed": ("✕", "failed, went back by itself"),
    "stage_failed": ("✕", "staging failed"),
    "stuck": ("!", "stuck between releases"),
    "lost": ("?", "lost"),
    "owed": ("◷", "back-out owed"),
    "backed_out": ("↩", "backed out"),
    "written_off": ("✝", "written off"),
    "superseded": ("↷", "changed by a later deployment"),
    "accepted": ("=", "stays as it is, as a person accepts"),
    "backing_out": ("…", "backing out"),
    "activating": ("…", "activating"),
    "started": ("…", "came up, not looked at again yet"),
    "staged": ("·", "staged"),
    "planned": ("", "planned"),
}
GATES: Mapping[str, tuple[str, str]] = {"proceed": ("✓", "proceed"), "hold": ("‖", "hold"), "back_out": ("↩", "back out")}

# The results of controls, those that a person has to do something about first.
RESULTS: Mapping[str, tuple[str, str]] = {
    "fail": ("✕", "fails"),
    "inconclusive": ("?", "inconclusive"),
    "waived": ("↷", "waived"),
    "pass": ("✓", "passes"),
    "not_applicable": ("·", "does not apply"),
}

# Waves up to this many hosts show their hosts' names.
_NAMED = 24
# Bytes that a deployment's page may have, about. The names of hosts come first; a drawing with fewer cells says the same.
_ROOM = 450_000
_CELL, _WAVE, _LOG = 1000, 2500, 4  # bytes of what names leave, for each cell and wave of a drawing; its share for logs
_OVERVIEW_CELLS, _OVERVIEW_WAVES = 300, 100
_PLAN_WAVES, _PLAN_ROWS, _PLAN_NAMES = 200, 500, 100  # waves of a plan that are drawn, rows of its table, and hosts that a row names
_REASONS = 100  # that hosts of a deployment give, on its page
# States of hosts that nobody has to do anything about.
_CALM = frozenset({"active", "planned", "staged", "backed_out", "superseded", "accepted"})
_LEFT, _WIDTH = 120, 600  # where the cells start and how far they may go, in the drawing's own units
_NAME_CELL, _SMALL_CELL, _GAP, _HEIGHT = 146, 20, 4, 22


@dataclass(frozen=True)
class Cell:
    """In the drawing of a wave, one host, or all of its hosts that are in one state."""

    x: int
    y: int
    width: int
    state: str
    sign: str
    label: str
    title: str


@dataclass(frozen=True)
class Lane:
    """One wave in the drawing of a deployment."""

    wave: Mapping[str, Any]
    y: int
    height: int
    cells: tuple[Cell, ...]
    seconds: str
    whole: bool
    """Whether each of its hosts is a cell that has its name."""


@dataclass(frozen=True)
class Page:
    """A deployment as its page and the overview show it."""

    deployment: Mapping[str, Any]
    lanes: list[Lane]
    states: list[tuple[str, int]]
    """How many hosts are in which state."""
    hosts: Mapping[str, list[str]] = field(default_factory=dict)
    """The hosts by state, when not each is named in the drawing; not those that are well, when they are too many."""
    reasons: Sequence[tuple[str, str, list[str]]] = ()
    """What there is to say of hosts: state, reason, and the hosts that it is said of."""
    more_reasons: int = 0
    logs: Sequence[tuple[str, str]] = ()
    """The logs of hosts, by host."""
    more_logs: int = 0

    @property
    def more_waves(self) -> int:
        """Waves that are not drawn."""
        return len(self.deployment["waves"]) - len(self.lanes)


def render_overview(overview: Mapping[str, Any], deployments: Mapping[str, Mapping[str, Any]]) -> str:
    """The first page of a report, see :class:`..model.Report`; everything in it is escaped."""
    audit = overview.get("audit")
    newest = sorted(overview["deployments"], key=lambda one: (one["state"] in OPEN, one["id"]), reverse=True)
    cells, waves, entries = _OVERVIEW_CELLS, _OVERVIEW_WAVES, []
    for entry in newest:
        deployment = deployments[entry["page"].removesuffix(".html")]
        page = Page(deployment, lanes(deployment, cells, waves), _states(deployment))
        cells -= sum(len(lane.cells) for lane in page.lanes)
        waves -= len(page.lanes)
        entries.append((entry, page))
    counts = overview["counts"]["deployments"]
    return _template("index.html.j2").render(
        report=overview,
        deployments=entries,
        total=sum(counts.values()),
        over=[(state, count) for state, count in counts.items() if state not in OPEN],
        open=[(state, count) for state, count in counts.items() if state in OPEN],
        gates=GATES,
        probe=overview.get("probe"),
        audit=audit,
        audited=difference_lines(audit["differences"]) if audit else [],
    )


def render_deployment(deployment: Mapping[str, Any]) -> str:
    """The page of one deployment; everything in it is escaped."""
    return _template("deployment.html.j2").render(page=_page(deployment), calm=_CALM, gates=GATES)


def render_hosts(page: Mapping[str, Any]) -> str:
    """A page of hosts and what each of them runs; everything in it is escaped."""
    return _template("hosts.html.j2").render(site=page["site"], hosts=page["hosts"])


def render_stock(page: Mapping[str, Any]) -> str:
    """A page of stock rules and firmware levels; everything in it is escaped."""
    return _template("stock.html.j2").render(page=page)


def render_clearance(clearance: Mapping[str, Any]) -> str:
    """The page of a clearance as :func:`..steps.clear.Clearing.document` makes it; everything in it is escaped."""
    order = list(RESULTS)
    controls = sorted(clearance["controls"], key=lambda control: order.index(control["result"]))
    counts = Counter(control["result"] for control in controls)
    return _template("clearance.html.j2").render(
        clearance=clearance, controls=controls, counts=[(result, counts[result]) for result in order if counts[result]], results=RESULTS
    )


def render_plan(plan: Mapping[str, Any]) -> str:
    """The page of a plan as :func:`..steps.preview.preview` makes it; everything in it is escaped."""
    rows = _plan_rows(plan)
    about = {"rows": rows[:_PLAN_ROWS], "more_rows": len(rows[_PLAN_ROWS:]), "room": _PLAN_NAMES}
    return _template("plan.html.j2").render(plan=plan, lanes=plan_lanes(plan), **about)


def render_plan_drawing(plan: Mapping[str, Any]) -> str:
    """The drawing of a plan's waves as an SVG that needs nothing else; everything in it is escaped."""
    return _template("plan.svg.j2").render(plan=plan, lanes=plan_lanes(plan))


def plan_lanes(plan: Mapping[str, Any]) -> list[Lane]:
    """Where each wave of a plan and each of its hosts is drawn, as far as there is room; a cell's title says why the host is there."""
    waves = [
        {
            **dict.fromkeys(("gate", "opened", "decided")),
            "number": wave["number"],
            "state": "closed",
            "hosts": [entry["host"] for entry in wave["hosts"]],
            "results": {entry["host"]: {"state": entry["state"] or "planned", "detail": entry["why"]} for entry in wave["hosts"]},
            "reason": Counter(entry["why"] for entry in wave["hosts"]).most_common(1)[0][0],
            "more_reasons": len({entry["why"] for entry in wave["hosts"]}) - 1,
        }
        for wave in plan["waves"]
    ]
    return lanes({"waves": waves}, 500, _PLAN_WAVES)


def _plan_rows(plan: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str | None, str, list[str]]]:
    """The rows of a plan's table: wave, version before, reason, hosts."""
    rows: dict[tuple[int, str | None, str], list[str]] = {}
    for wave in plan["waves"]:
        for entry in wave["hosts"]:
            rows.setdefault((wave["number"], entry["from"], entry["why"]), []).append(entry["host"])
    waves = {wave["number"]: wave for wave in plan["waves"]}
    return [(waves[number], before, why, hosts) for (number, before, why), hosts in rows.items()]


@functools.cache
def generator() -> str:
    """What a report's pages say they are made by: another text for other templates, so that a page of older ones is known."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in (".j2", ".css"):
            digest.update(path.read_bytes())
    return f"Tidegate {digest.hexdigest()[:12]}"


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


@functools.cache
def _environment() -> jinja2.Environment:
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        moment=_moment, state=lambda state: STATES.get(state, ("", state)), words=lambda text: text.replace("_", " ")
    )
    environment.globals["generator"] = generator()
    environment.globals["style"] = markupsafe.Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return environment


def _states(deployment: Mapping[str, Any]) -> list[tuple[str, int]]:
    counted = Counter(result["state"] for wave in deployment["waves"] for result in wave["results"].values())
    return [(state, counted[state]) for state in sorted(counted, key=_rank)]


def _rank(state: str) -> tuple[int, str]:
    order = list(STATES)
    return (order.index(state) if state in STATES else len(order), state)


def _page(deployment: Mapping[str, Any]) -> Page:
    results = [(host, wave["results"][host]) for wave in deployment["waves"] for host in wave["hosts"]]
    by_state: dict[str, list[str]] = defaultdict(list)
    for host, result in results:
        by_state[result["state"]].append(host)
    hosts: dict[str, list[str]] = {}
    room = _ROOM
    for state in sorted(by_state, key=lambda state: (state in _CALM, _rank(state))):
        letters = sum(len(host.encode("utf-8", "replace")) + 1 for host in by_state[state])
        hosts[state] = by_state[state] if state not in _CALM or letters <= room // 2 else []
        room -= letters if hosts[state] else 0
    room = max(room, _ROOM // 10)
    drawn = lanes(deployment, min(500, room // _CELL), room // _WAVE)
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    logs, letters, more_logs = [], 0, 0
    for host, result in results:
        reason, _end, log = result["detail"].partition("\n")
        if reason:
            said[result["state"], reason].append(host)
        if log and letters + len(result["detail"]) <= room // _LOG:
            letters += len(result["detail"])
            logs.append((host, result["detail"]))
        elif log:
            more_logs += 1
    reasons = sorted(((state, reason, whose) for (state, reason), whose in said.items()), key=lambda one: (-len(one[2]), one[:2]))
    shown = len(drawn) == len(deployment["waves"]) and all(lane.whole for lane in drawn)
    states = _states(deployment)
    return Page(deployment, drawn, states, {} if shown else hosts, reasons[:_REASONS], len(reasons[_REASONS:]), logs, more_logs)


def lanes(deployment: Mapping[str, Any], cells: int = 500, waves: int = 200) -> list[Lane]:
    """Where each wave and each of its hosts is drawn, with so many cells and waves at most.

    When there are more waves, those are left out first whose gate let the rollout proceed, or that are not begun.
    """
    result, y = [], 0
    chosen = sorted(deployment["waves"], key=lambda wave: (wave["gate"] == "proceed" or wave["state"] == "closed", wave["number"]))
    for wave in sorted(chosen[: max(0, waves)], key=lambda wave: wave["number"]):
        whole, named = len(wave["hosts"]) <= cells, len(wave["hosts"]) <= _NAMED
        drawn = _cells(wave, y, _NAME_CELL if named else _SMALL_CELL) if whole else _bar(wave, y)
        cells -= len(drawn)
        height = max([2 * _HEIGHT, *(cell.y - y + _HEIGHT + _GAP for cell in drawn)])
        result.append(Lane(wave, y, height, drawn, _seconds(wave["opened"], wave["decided"]), whole and named))
        y += height + 18
    return result


def _cells(wave: Mapping[str, Any], y: int, width: int) -> tuple[Cell, ...]:
    columns = (_WIDTH + _GAP) // (width + _GAP)
    return tuple(
        _cell(host, wave["results"][host], _LEFT + index % columns * (width + _GAP), y + index // columns * (_HEIGHT + _GAP), width)
        for index, host in enumerate(wave["hosts"])
    )


def _cell(host: str, result: Mapping[str, Any], x: int, y: int, width: int) -> Cell:
    sign, words = STATES.get(result["state"], ("", result["state"]))
    room = (width - 30) // 7
    label = "" if width == _SMALL_CELL else host if len(host) <= room else f"{host[: room - 1]}…"
    reason = result["detail"].partition("\n")[0]
    title = f"{host} {words}{': ' if reason else ''}{reason}"
    return Cell(x, y, width, result["state"], sign, label, title)


def _bar(wave: Mapping[str, Any], y: int) -> tuple[Cell, ...]:
    """A wave as one bar, a part for each state, as wide as its share and never too small to be seen."""
    counted = Counter(wave["results"][host]["state"] for host in wave["hosts"])
    room = _WIDTH - len(counted) * (_SMALL_CELL + _GAP) + _GAP
    cells, x = [], _LEFT
    for state in sorted(counted, key=_rank):
        sign, words = STATES.get(state, ("", state))
        width = _SMALL_CELL + room * counted[state] // len(wave["hosts"])
        label = str(counted[state]) if len(str(counted[state])) <= (width - 30) // 7 else ""
        cells.append(Cell(x, y, width, state, sign, label, f"{counted[state]} {words}"))
        x += width + _GAP
    return tuple(cells)


def _moment(text: str | None) -> str:
    return "—" if text is None else f"{text[:10]} {text[11:19]} UTC"


def _seconds(start: str | None, end: str | None) -> str:
    if start is None or end is None:
        return ""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
