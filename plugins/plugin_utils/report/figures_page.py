# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as a page and as files: a page that needs nothing else, with small drawings whose numbers are text besides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .document_file import DocumentFile
from .figures import FIGURES, LEAST, Amount, Figure, Figures
from .figures_formats import BRIEF, amount_text, busiest, events_text, figures_document, first_and_last_day, open_metrics
from .html import template

PAGE: Mapping[str, str] = {"page": "figures.html", "data": "figures.json"}
"""What a report has of figures, as its overview leads there."""
REPORTED = 12
"""Months that a report looks back."""
_ROWS = 100  # releases, and teams, on the page
_BAR, _GAP, _HEIGHT = 8, 2, 32


@dataclass(frozen=True)
class MonthBar:
    """A month in the drawing of a figure; ``height`` 0 where it comes to nothing, ``title``: what it comes to."""

    x: int
    height: int
    title: str


@dataclass(frozen=True)
class Spark:
    """The drawing of a figure over months; ``label`` says it all in words."""

    width: int
    height: int
    bars: tuple[MonthBar, ...]
    label: str


def spark_bars(figure: Figure, amounts: Sequence[Amount], months: Sequence[str]) -> Spark | None:
    """How a figure went from month to month; ``None`` where there is nothing to be drawn."""
    if not any(one.value for one in amounts):
        return None
    most = max(one.value or 0 for one in amounts)
    bars = []
    for place, (month, amount) in enumerate(zip(months, amounts, strict=True)):
        height = max(2, round((amount.value or 0) / most * _HEIGHT)) if amount.value else 0
        bars.append(MonthBar(place * (_BAR + _GAP), height, f"{month}: {amount_text(figure, amount)}"))
    label = f"{figure.title}, {'; '.join(one.title for one in bars)}"
    return Spark(len(bars) * (_BAR + _GAP), _HEIGHT, tuple(bars), label)


def render_figures(figures: Figures, *, within: bool = False) -> str:
    """The page; everything in it is escaped. ``within``: it is one of a report's, and leads to the first."""
    groups = [("release", busiest(figures.releases)), ("team", busiest(figures.teams))]
    return template("figures.html.j2").render(
        figures=figures,
        days=first_and_last_day(figures),
        all_figures=FIGURES,
        brief=BRIEF,
        groups=[(title, found[:_ROWS], len(found[_ROWS:])) for title, found in groups],
        least=LEAST,
        within=within,
        amount_text=amount_text,
        events_text=events_text,
        spark_bars=spark_bars,
    )


def _as_json(figures: Figures) -> str:
    return json.dumps(figures_document(figures), indent=1, ensure_ascii=False) + "\n"


FIGURES_FILE = DocumentFile[Figures](
    "figures",
    {
        ".html": ((b'<meta name="generator" content="Tidegate ', b"<title>Figures</title>"), render_figures),
        ".json": ((b'{\n "first_day": ', b'"least_events": '), _as_json),
        ".prom": ((b"# HELP tidegate_deployment_frequency",), open_metrics),
    },
)


def write_figures_pages(figures: Figures, directory: Path, *, write: bool) -> list[str]:
    """Write the page of a report in its ``directory``, with its data beside it; returns and raises as
    :meth:`DocumentFile.write`."""
    made = {"page": render_figures(figures, within=True), "data": _as_json(figures)}
    if directory.is_dir():
        for name in PAGE.values():
            FIGURES_FILE.check(directory / name)
    return [path for kind, name in PAGE.items() for path in FIGURES_FILE.put(made[kind], directory / name, write=write)]
