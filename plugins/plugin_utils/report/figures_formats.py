# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as text for a terminal, as data and as OpenMetrics. Pure.

What each says is the same all day long, unless something happens: no moment is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Any

from .figures import FIGURES, LEAST, Amount, Figure, FigureGroup, Figures
from .progress import counted, one_line

BRIEF = tuple(FIGURES[:5])
"""What is shown of each release and team."""
_HEADS = ("Freq.", "Lead", "Failed", "Recovery", "Rework")
_BARS = "▁▂▃▄▅▆▇█"
_NAME, _CELL = 23, 11  # letters of a line of 80
_ROWS, _MONTHS = 20, 12  # releases, teams and bars in a terminal
_DAY = 24 * 3600
_UNITS = {"seconds": "seconds", "ratio": "ratio"}


def amount_text(figure: Figure, amount: Amount, *, short: bool = False) -> str:
    """What a figure comes to, as people read it: ``12 %``, ``3 d 4 h``, ``too few``. ``short``: without the unit of a rate."""
    if amount.value is None:
        return amount.why
    if figure.unit == "ratio":
        return f"{amount.value * 100:.0f} %"
    if figure.unit == "seconds":
        return _time_text(round(amount.value))
    if figure.unit == "rate":
        return f"{amount.value:.1f}" if short else f"{amount.value:.1f} in 30 days"
    return f"{amount.value:.0f}"


def _time_text(seconds: int) -> str:
    days, hours, minutes = seconds // _DAY, seconds // 3600, seconds // 60
    if days >= 2:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes >= 2 else f"{seconds} s"


def events_text(figure: Figure, amount: Amount) -> str:
    """Of how many that is, where that says more than the figure itself."""
    return "" if figure.unit == "count" and not figure.fleet else f"of {amount.events}"


def first_and_last_day(figures: Figures) -> tuple[str, str]:
    """The days that figures are about, such as ``2026-11-01``."""
    return f"{figures.months[0]}-01", f"{figures.until.astimezone(UTC):%Y-%m-%d}"


def busiest(groups: Mapping[str, FigureGroup]) -> list[tuple[str, FigureGroup]]:
    """Groups, those with most deployments first."""
    return sorted(groups.items(), key=lambda item: (-item[1].whole["deployment_frequency"].events, item[0]))


def figures_lines(figures: Figures) -> Iterator[str]:
    """Figures for a terminal of 80 columns."""
    first, last = first_and_last_day(figures)
    yield f"figures from {first} to {last}, a bar for each month"
    for figure in FIGURES:
        amount = figures.everything.whole[figure.name]
        bars = spark(figures.everything.months.get(figure.name, ())[-_MONTHS:])
        said = f"{amount_text(figure, amount):<16}{events_text(figure, amount):<9}{bars}"
        yield f"  {figure.title:<34}{said}".rstrip()
    for title, groups in (("release", figures.releases), ("team", figures.teams)):
        if groups:
            yield "".join((f"by {title}".ljust(_NAME + 2), *(head.rjust(_CELL) for head in _HEADS)))
        shown = busiest(groups)
        for name, group in shown[:_ROWS]:
            cells = (amount_text(figure, group.whole[figure.name], short=True).rjust(_CELL) for figure in BRIEF)
            yield f"  {_shortened(one_line(name), _NAME).ljust(_NAME)}{''.join(cells)}"
        if len(shown) > _ROWS:
            yield f"  and {len(shown) - _ROWS} more, which a file has: tidegate_figures_file"
    if figures.archived:
        yield f"the journal of {counted(figures.archived, 'deployment')} is archived; what needs it leaves them out"


def spark(amounts: Sequence[Amount]) -> str:
    """A bar for each amount, a dot where there is none."""
    most = max((one.value or 0 for one in amounts), default=0)
    return "".join("·" if one.value is None else _BARS[round(one.value / most * 7) if most else 0] for one in amounts)


def figures_document(figures: Figures) -> dict[str, Any]:
    """Figures as JSON can hold them. Months in which nothing of a figure happened for a release or team are there all the same, unless
    nothing did in any."""
    first, last = first_and_last_day(figures)
    return {
        "first_day": first,
        "last_day": last,
        "months": list(figures.months),
        "least_events": LEAST,
        "archived": figures.archived,
        "definitions": [{**asdict(one), "metric": one.metric} for one in FIGURES],
        "all": _group(figures.everything),
        "releases": {name: _group(group) for name, group in figures.releases.items()},
        "teams": {name: _group(group) for name, group in figures.teams.items()},
    }


def _group(group: FigureGroup) -> dict[str, Any]:
    found = {}
    for name, amount in group.whole.items():
        months = group.months.get(name, ())
        by_month = {"by_month": [asdict(one) for one in months]} if any(one.events for one in months) else {}
        found[name] = asdict(amount) | by_month
    return found


def open_metrics(figures: Figures) -> str:
    """Figures as OpenMetrics text, which is good as the older text format of Prometheus as well.

    Each figure is a gauge: without a label of all, with ``month``, with ``release``, and with ``team``. What has no value has no sample.
    ``tidegate_figure_events`` says of how many each is.
    """
    lines, events = [], []
    for figure in FIGURES:
        lines += [f"# HELP {figure.metric} {_escaped(figure.definition)}", f"# TYPE {figure.metric} gauge"]
        lines += [f"# UNIT {figure.metric} {unit}" for unit in [_UNITS.get(figure.unit)] if unit]
        for labels, amount in _samples(figures, figure):
            events.append(f"tidegate_figure_events{_labels({'figure': figure.name, **labels})} {amount.events}")
            if amount.value is not None:
                lines.append(f"{figure.metric}{_labels(labels)} {amount.value!r}")
    about = "Of how many events a figure is the share or the median, how many there are, or of audits, how many there were."
    lines += [f"# HELP tidegate_figure_events {about}", "# TYPE tidegate_figure_events gauge", *events, "# EOF"]
    return "\n".join(lines) + "\n"


def _samples(figures: Figures, figure: Figure) -> Iterator[tuple[dict[str, str], Amount]]:
    everything = figures.everything
    yield {}, everything.whole[figure.name]
    if not figure.fleet:
        yield from (({"month": month}, amount) for month, amount in zip(figures.months, everything.months[figure.name], strict=True))
        for label, groups in (("release", figures.releases), ("team", figures.teams)):
            yield from (({label: name}, group.whole[figure.name]) for name, group in groups.items())


def _labels(labels: Mapping[str, str]) -> str:
    said = ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels.items())
    return f"{{{said}}}" if said else ""


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
