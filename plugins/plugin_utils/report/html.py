# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report, and a clearance, as pages that need nothing but each other: no network; light and dark, on a telephone and on paper.

No page has a script but the search, which is a list that can be read without.
No page has more than a browser shows at once, however large the fleet and however old the CMDB is.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..rollout.forecast import in_bytes, in_time
from ..rollout.states import OPEN
from .differences import difference_lines
from .pages import NUMBER, change_page
from .search import anchor
from .timeline import Axis, Stretch

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
_CHANGE_WAVES = 100  # waves of a deployment on the page of its change
_LONGER = 100  # times that a window may be as long as a deployment, to be drawn beside it
_CALENDAR_ROWS, _LABEL = 60, 24  # rows of the drawing of a calendar, and letters of a row's name
_LIST_ROW = 260  # bytes of a row of a list, beside its texts
_RISKY = re.compile("[<>&\"']|[^\x20-\x7e]")  # what is longer on a page than it is
_UTC = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.0-9]*Z")
_NUMBER = re.compile(f"(?<![A-Za-z0-9])({NUMBER.pattern})(?![A-Za-z0-9])")
_BACK = frozenset({"backing_out", "backed_out"})  # events of a deployment that goes back
_STRIP, _STRIP_LABEL, _VERSIONS = 30, 18, 3  # waves of a plan that are drawn over time, letters of a name there, versions before
_LEFT, _WIDTH = 0, 680  # where the cells start and how far they may go, in the drawing's own units
_SMALL_CELL, _GAP, _HEIGHT = 20, 4, 22
_HEAD = 42  # what is above the cells of a wave


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
    name: str = ""
    """What there is to read of it besides the sign, where there is room for all of it: the host, or how many are in the state."""


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
    is_bar: bool = False
    """Whether its cells are parts of one bar, as wide as the share of hosts that each stands for."""


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


@dataclass(frozen=True)
class Row:
    """What one line of a drawing over time shows: bars with the classes that colour them."""

    label: str
    bars: tuple[tuple[Stretch, str], ...]


@dataclass(frozen=True)
class Time:
    """A drawing over time; ``now``: where that is on the axis, in percent, ``None`` for nowhere."""

    axis: Axis
    rows: Sequence[Row]
    now: float | None = None


def render_overview(overview: Mapping[str, Any], deployments: Mapping[str, Mapping[str, Any]], changes: Collection[str] = ()) -> str:
    """The first page of a report, see :class:`..model.Report`; everything in it is escaped. ``changes``: the numbers that have a page."""
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
    return template("index.html.j2").render(
        report=overview,
        deployments=entries,
        total=sum(counts.values()),
        over=[(state, count) for state, count in counts.items() if state not in OPEN],
        open=[(state, count) for state, count in counts.items() if state in OPEN],
        gates=GATES,
        probe=overview.get("probe"),
        audit=audit,
        audited=difference_lines(audit["differences"]) if audit else [],
        changes=changes,
    )


def render_deployment(deployment: Mapping[str, Any], changes: Collection[str] = ()) -> str:
    """The page of one deployment; everything in it is escaped. ``changes``: the numbers that have a page."""
    return template("deployment.html.j2").render(page=_page(deployment), calm=_CALM, gates=GATES, changes=changes)


def render_hosts(page: Mapping[str, Any], deployments: Collection[int] = ()) -> str:
    """A page of hosts, what each of them runs and how that came; everything in it is escaped. ``deployments``: those that have a page."""
    grouped = [(name, list(entries)) for name, entries in groupby(page["hosts"], key=itemgetter("name"))]
    lines: dict[tuple[Any, ...], markupsafe.Markup] = {}  # most of a host's neighbours run what it runs, so each line is made once
    cards = []
    for name, entries in grouped:
        keys = [(one["release"], one["version"], one["since"], one["digest"]) for one in entries]
        for key in keys:
            if key not in lines:
                lines[key] = _installed(*key)
        cards.append((name, entries[0], markupsafe.Markup("").join(lines[key] for key in keys), page["past"].get(name, ())))
    return template("hosts.html.j2").render(site=page["site"], hosts=page["hosts"], cards=cards, deployments=deployments)


def _installed(release: str | None, version: str, since: str | None, digest: str | None) -> markupsafe.Markup:
    """A release on a host, as an entry of the list of what it runs."""
    if not release:
        return markupsafe.Markup("<li>Nothing is installed.</li>\n")
    code = markupsafe.Markup(" <code>{}</code>").format(digest[:19]) if digest else ""
    return markupsafe.Markup("<li><strong>{} {}</strong> since {}{}</li>\n").format(release, version, _moment(since), code)


def render_change(change: Mapping[str, Any], releases: Collection[str] = ()) -> str:
    """The page of one change; everything in it is escaped. ``releases``: the names that have a page."""
    deployments = [
        (one, _course(one, change), [event for event in one["events"] if event["event"] in _BACK]) for one in change["deployments"]
    ]
    release_page = f"../releases/{change['release']}.html" if change["release"] in releases else ""
    about = {"release_page": release_page, "room": _CHANGE_WAVES, "gates": GATES, "results": RESULTS}
    return template("change.html.j2").render(change=change, deployments=deployments, **about)


def render_release(page: Mapping[str, Any], changes: Collection[str] = ()) -> str:
    """The page of one release; everything in it is escaped. ``changes``: the numbers that have a page."""
    return template("release.html.j2").render(page=page, changes=changes)


def render_list(name: str, page: Mapping[str, Any]) -> str:
    """The page with all changes, or all releases, in short, or the calendar, by its ``name``; everything in it is escaped."""
    if name == "calendar":
        return template("calendar.html.j2").render(page=page, time=_ahead(page))
    shown, room = [], _ROOM
    for row in page[name]:
        room -= _LIST_ROW + sum(6 * len(str(value)[:120]) if _RISKY.search(str(value)) else len(str(value)[:120]) for value in row.values())
        if room < 0:
            break
        shown.append(row)
    return template(f"{name}.html.j2").render(rows=shown, more=len(page[name]) - len(shown))


def render_search(page: Mapping[str, Any]) -> str:
    """A page of what can be searched; everything in it is escaped."""
    return template("search.html.j2").render(page=page)


def _course(deployment: Mapping[str, Any], change: Mapping[str, Any]) -> Time | None:
    """The waves of a deployment over time, beside the window of its change where that is not a hundred times as long."""
    waves = deployment["waves"][:_CHANGE_WAVES]
    axis = Axis.over([deployment["started"], deployment["finished"], *(wave[key] for wave in waves for key in ("opened", "decided"))])
    if axis is None:
        return None
    window = Axis.over([change["start_date"], change["end_date"]])
    rows = []
    if window is not None and window.end - window.start < (axis.end - axis.start) * _LONGER:
        axis = Axis(min(axis.start, window.start), max(axis.end, window.end))
        rows.append(Row("Window", _bars(axis, change["start_date"], change["end_date"], "window")))
    rows += [
        Row(f"Wave {wave['number']}", _bars(axis, wave["opened"], wave["decided"], f"g-{wave['gate']}" if wave["gate"] else ""))
        for wave in waves
    ]
    ends = [event["at"] for event in deployment["events"] if event["event"] in _BACK]
    if ends:
        rows.append(Row("Back-out", _bars(axis, ends[0], deployment["finished"] or ends[-1], "g-back_out")))
    return Time(axis, rows)


def _bars(axis: Axis, start: str | None, end: str | None, kind: str) -> tuple[tuple[Stretch, str], ...]:
    found = axis.stretch(start, end)
    return ((found, kind),) if found else ()


def _ahead(page: Mapping[str, Any]) -> Time | None:
    """The changes and freezes of a calendar over time, as many as there is room for."""
    events = [("freeze", event, event["summary"]) for event in page["freezes"][: _CALENDAR_ROWS // 2]]
    events += [("g-hold" if one["stopped"] else "g-proceed", one, one["number"]) for one in page["changes"][: _CALENDAR_ROWS - len(events)]]
    if not events:
        return None
    last = max(event["end"] for _kind, event, _label in events)
    axis = Axis.over([page["from"], min(last, page["until"])])
    if axis is None:
        return None
    rows = [Row(label[:_LABEL], _bars(axis, event["start"], event["end"], kind)) for kind, event, label in events]
    return Time(axis, rows, axis.place(page["from"]))


def render_stock(page: Mapping[str, Any]) -> str:
    """A page of stock rules and firmware levels; everything in it is escaped."""
    return template("stock.html.j2").render(page=page)


def render_clearance(clearance: Mapping[str, Any]) -> str:
    """The page of a clearance as :func:`..steps.clear.Clearing.document` makes it; everything in it is escaped."""
    order = list(RESULTS)
    controls = sorted(clearance["controls"], key=lambda control: order.index(control["result"]))
    counts = Counter(control["result"] for control in controls)
    return template("clearance.html.j2").render(
        clearance=clearance, controls=controls, counts=[(result, counts[result]) for result in order if counts[result]], results=RESULTS
    )


def render_plan(plan: Mapping[str, Any]) -> str:
    """The page of a plan as :func:`..steps.preview.preview` makes it; everything in it is escaped."""
    rows = _plan_rows(plan)
    sizes = [entry["bytes"] for wave in plan["waves"] for entry in wave["hosts"] if entry["bytes"] is not None]
    about = {"rows": rows[:_PLAN_ROWS], "more_rows": len(rows[_PLAN_ROWS:]), "room": _PLAN_NAMES, "total": sum(sizes) if sizes else None}
    return template("plan.html.j2").render(plan=plan, drawn=draw_plan(plan), **about)


def render_plan_drawing(plan: Mapping[str, Any]) -> str:
    """The drawing of a plan's waves as an SVG that needs nothing else; everything in it is escaped."""
    return template("plan.svg.j2").render(plan=plan, drawn=draw_plan(plan))


@dataclass(frozen=True)
class PlanDrawing:
    """Where the waves of a plan are drawn, and below them ``strip``, when they are likely to be, beside windows and freezes."""

    lanes: list[Lane]
    strip: Time | None
    strip_y: int
    height: int


def draw_plan(plan: Mapping[str, Any]) -> PlanDrawing:
    """Where each wave of a plan and each of its hosts is drawn, as far as there is room; a cell's title says why the host is there."""
    waves = [_planned_wave(plan, wave) for wave in plan["waves"]]
    drawn = lanes({"waves": waves}, 500, _PLAN_WAVES)
    strip = _plan_strip(plan)
    below = drawn[-1].y + drawn[-1].height if drawn else 0
    return PlanDrawing(drawn, strip, below + 24, below + (24 + 22 * (len(strip.rows) + 1) if strip else 0))


def _planned_wave(plan: Mapping[str, Any], wave: Mapping[str, Any]) -> dict[str, Any]:
    hosts = wave["hosts"]
    reasons = Counter(entry["why"] for entry in hosts).most_common()
    before = Counter(entry["from"] or "nothing" for entry in hosts).most_common()
    sizes = [entry["bytes"] for entry in hosts if entry["bytes"] is not None]
    likely = plan["estimate"]["waves"][wave["number"] - 1 : wave["number"]] if plan["estimate"] else []
    when = f"about {_minute(likely[0]['start'])} to {_minute(likely[0]['end'])} UTC" if likely else ""
    when = f"not before {_minute(wave['not_before'])} UTC" if wave["not_before"] and not when else when
    when = f"at {_moment(wave['instant'])}" if wave["instant"] else when
    return {
        **dict.fromkeys(("gate", "opened", "decided")),
        "number": wave["number"],
        "state": "closed",
        "hosts": [entry["host"] for entry in hosts],
        "results": {entry["host"]: {"state": entry["state"] or "planned", "detail": entry["why"]} for entry in hosts},
        "reason": reasons[0][0] if reasons else "",
        "more_reasons": max(0, len(reasons) - 1),
        "change": f"{', '.join(version for version, _count in before[:_VERSIONS]) or 'nothing'} → {plan['version']}",
        "bytes": sum(sizes) if sizes else None,
        "when": when,
    }


def _plan_strip(plan: Mapping[str, Any]) -> Time | None:
    """The waves of a plan as they are likely to be, beside the windows and freezes of their time."""
    likely = plan["estimate"]["waves"] if plan["estimate"] else []
    if not likely:
        return None
    ends = [moment for one in likely for moment in (one["start"], one["end"])]
    axis = Axis.over([*ends, plan["change"]["start"], plan["change"]["end"]])
    if axis is None:
        return None
    if (axis.end - axis.start) > _LONGER * timedelta(seconds=plan["estimate"]["seconds"]):
        axis = Axis.over(ends) or axis
    rows = [Row("window of the RFC", _bars(axis, plan["change"]["start"], plan["change"]["end"], "window"))]
    rows += [
        Row(one["summary"][:_STRIP_LABEL], _bars(axis, one["start"], one["end"], one["kind"]))
        for one in plan["calendar"]
        if datetime.fromisoformat(one["start"]) < axis.end and axis.start < datetime.fromisoformat(one["end"])
    ]
    rows += [Row(f"wave {number}", _bars(axis, one["start"], one["end"], "s-active")) for number, one in enumerate(likely[:_STRIP], 1)]
    return Time(axis, rows)


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
        if path.suffix in (".j2", ".css", ".js"):
            digest.update(path.read_bytes())
    return f"Tidegate {digest.hexdigest()[:12]}"


def template(name: str) -> jinja2.Template:
    """A template of this directory, which escapes whatever it is given."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> jinja2.Environment:
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        moment=_moment,
        state=lambda state: STATES.get(state, ("", state)),
        words=lambda text: text.replace("_", " "),
        time=lambda at: _moment(at.astimezone(UTC).isoformat()),
        bytes=in_bytes,
        length_of=in_time,
        anchor=anchor,
        linked=_linked,
    )
    script = (folder / "search.js").read_text(encoding="utf-8")
    environment.globals["script"] = markupsafe.Markup(script)  # noqa: S704 - our own file
    environment.globals["script_hash"] = f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
    environment.globals["generator"] = generator()
    environment.globals["style"] = markupsafe.Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return environment


def _linked(sentence: str, changes: Collection[str]) -> markupsafe.Markup:
    """A sentence in which the number of each change that has a page leads there; for the first page."""
    parts = []
    for word in _NUMBER.split(sentence):
        text = markupsafe.escape(word)
        link = markupsafe.Markup('<a href="{}">{}</a>').format(change_page(word), text) if word in changes else text
        parts.append(link)
    return markupsafe.Markup("").join(parts)


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
        below = y + _HEAD
        drawn = _cells(wave, below, _name_cell(wave["hosts"]) if named else _SMALL_CELL) if whole else _bar(wave, below)
        cells -= len(drawn)
        height = max([2 * _HEIGHT, *(cell.y - y + _HEIGHT + _GAP for cell in drawn)])
        result.append(Lane(wave, y, height, drawn, _seconds(wave["opened"], wave["decided"]), whole and named, not whole))
        y += height + 18
    return result


def _name_cell(hosts: Sequence[str]) -> int:
    """How wide cells are in which the longest of the names has room, or as much of it as there is."""
    longest = 32 + 7.3 * max(map(len, hosts), default=0)
    widths = ((_WIDTH + _GAP) // columns - _GAP for columns in (4, 3, 2, 1))
    return next((width for width in widths if width >= longest), _WIDTH)


def _cells(wave: Mapping[str, Any], y: int, width: int) -> tuple[Cell, ...]:
    columns = (_WIDTH + _GAP) // (width + _GAP)
    return tuple(
        _cell(host, wave["results"][host], _LEFT + index % columns * (width + _GAP), y + index // columns * (_HEIGHT + _GAP), width)
        for index, host in enumerate(wave["hosts"])
    )


def _cell(host: str, result: Mapping[str, Any], x: int, y: int, width: int) -> Cell:
    sign, words = STATES.get(result["state"], ("", result["state"]))
    room = int((width - 30) / 7.3)
    label = "" if width == _SMALL_CELL else host if len(host) <= room else f"{host[: room - 1]}…"
    reason = result["detail"].partition("\n")[0]
    title = f"{host} {words}{': ' if reason else ''}{reason}"
    return Cell(x, y, width, result["state"], sign, label, title, "" if width == _SMALL_CELL else host)


def _bar(wave: Mapping[str, Any], y: int) -> tuple[Cell, ...]:
    """A wave as one bar, a part for each state, as wide as its share and never too small to be seen."""
    counted = Counter(wave["results"][host]["state"] for host in wave["hosts"])
    room = _WIDTH - len(counted) * (_SMALL_CELL + _GAP) + _GAP
    cells, x = [], _LEFT
    for state in sorted(counted, key=_rank):
        sign, words = STATES.get(state, ("", state))
        width = _SMALL_CELL + room * counted[state] // len(wave["hosts"])
        label = str(counted[state]) if len(str(counted[state])) <= (width - 30) // 7 else ""
        cells.append(Cell(x, y, width, state, sign, label, f"{counted[state]} {words}", f"{counted[state]} {words}"))
        x += width + _GAP
    return tuple(cells)


def _moment(text: str | None) -> str:
    """A moment, RFC 3339, as people read it, in UTC."""
    if text is None:
        return "—"
    if text.endswith("Z") and _UTC.fullmatch(text):  # as all documents of a report have it
        return f"{text[:10]} {text[11:19]} UTC"
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError):  # what is no moment stays as somebody wrote it
        return text


def _minute(text: str) -> str:
    return _moment(text)[5:16]


def _seconds(start: str | None, end: str | None) -> str:
    if start is None or end is None:
        return ""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
