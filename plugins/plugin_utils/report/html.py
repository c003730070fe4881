# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report, and a clearance, as pages that need nothing else: no network, no script; light and dark."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

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

# More deployments than these are in report.json only.
DRAWN = 30
# Waves up to this many hosts show their hosts' names.
_NAMED = 24
_LEFT, _WIDTH = 120, 600  # where the cells start and how far they may go, in the drawing's own units
_NAME_CELL, _SMALL_CELL, _GAP, _HEIGHT = 146, 20, 4, 22


@dataclass(frozen=True)
class Cell:
    """One host in the drawing of a wave. ``log``: all of its detail, when that is more than a line."""

    x: int
    y: int
    width: int
    host: str
    state: str
    sign: str
    label: str
    title: str
    log: str


@dataclass(frozen=True)
class Lane:
    """One wave in the drawing of a deployment."""

    wave: Mapping[str, Any]
    y: int
    height: int
    cells: tuple[Cell, ...]
    seconds: str


def render(report: Mapping[str, Any]) -> str:
    """The page of a report as :func:`..model.build_report` makes it; everything in it is escaped."""
    template, audit = _template("page.html.j2"), report.get("audit")
    deployments = list(report["deployments"])
    drawn = deployments[: -DRAWN - 1 : -1]
    sites = groupby(sorted(report["hosts"], key=lambda host: (host["site"] is None, host["site"] or "")), key=lambda host: host["site"])
    return template.render(
        report=report,
        deployments=[(each, lanes(each), _states(each)) for each in drawn],
        undrawn=len(deployments) - len(drawn),
        sites=[(site, list(hosts)) for site, hosts in sites],
        fleet=len({host["name"] for host in report["hosts"]}),
        gates=GATES,
        probe=report.get("probe"),
        audit=audit,
        audited=difference_lines(audit["differences"]) if audit else [],
    )


def render_clearance(clearance: Mapping[str, Any]) -> str:
    """The page of a clearance as :func:`..steps.clear.Clearing.document` makes it; everything in it is escaped."""
    order = list(RESULTS)
    controls = sorted(clearance["controls"], key=lambda control: order.index(control["result"]))
    counts = Counter(control["result"] for control in controls)
    return _template("clearance.html.j2").render(
        clearance=clearance, controls=controls, counts=[(result, counts[result]) for result in order if counts[result]], results=RESULTS
    )


def _template(name: str) -> jinja2.Template:
    # Loaded as text: a template loader would want a package, and a template here includes no other.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        moment=_moment, state=lambda state: STATES.get(state, ("", state)), words=lambda text: text.replace("_", " ")
    )
    folder = Path(__file__).parent
    environment.globals["style"] = markupsafe.Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return environment.from_string((folder / name).read_text(encoding="utf-8"))


def lanes(deployment: Mapping[str, Any]) -> list[Lane]:
    """Where each wave and each of its hosts is drawn."""
    result, y = [], 0
    for wave in deployment["waves"]:
        named = len(wave["hosts"]) <= _NAMED
        width = _NAME_CELL if named else _SMALL_CELL
        columns = (_WIDTH + _GAP) // (width + _GAP)
        cells = tuple(
            _cell(host, wave["results"][host], _LEFT + index % columns * (width + _GAP), y + index // columns * (_HEIGHT + _GAP), width)
            for index, host in enumerate(wave["hosts"])
        )
        rows = -(-len(cells) // columns)
        height = max(2 * _HEIGHT, rows * (_HEIGHT + _GAP))
        result.append(Lane(wave, y, height, cells, _seconds(wave["opened"], wave["decided"])))
        y += height + 18
    return result


def _cell(host: str, result: Mapping[str, Any], x: int, y: int, width: int) -> Cell:
    sign, words = STATES.get(result["state"], ("", result["state"]))
    room = (width - 30) // 7
    label = "" if width == _SMALL_CELL else host if len(host) <= room else f"{host[: room - 1]}…"
    reason, _end, log = result["detail"].partition("\n")
    title = f"{host} {words}{': ' if reason else ''}{reason}"
    return Cell(x, y, width, host, result["state"], sign, label, title, result["detail"] if log else "")


def _states(deployment: Mapping[str, Any]) -> list[tuple[str, int]]:
    counted = Counter(result["state"] for wave in deployment["waves"] for result in wave["results"].values())
    known = [(state, counted.pop(state)) for state in STATES if counted.get(state)]
    return known + sorted(counted.items())


def _moment(text: str | None) -> str:
    return "—" if text is None else f"{text[:10]} {text[11:19]} UTC"


def _seconds(start: str | None, end: str | None) -> str:
    if start is None or end is None:
        return ""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
