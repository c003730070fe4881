# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of figures and the files: nothing of anybody's name does anything there, and nobody's file is overwritten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures import (
    FIGURES,
    Amount,
    FigureFacts,
    Figures,
    StartedDeployment,
    count_figures,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.report.figures_page import (
    FIGURES_FILE,
    render_figures,
    spark_bars,
    write_figures_pages,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOSTILE = '<script>alert(1)</script>"><b>'


def figures(names: int = 3, now: datetime = NOW) -> Figures:
    def one(number: int) -> StartedDeployment:
        started = now - timedelta(days=number % 80)
        return StartedDeployment(
            number, "CHG1", f"{HOSTILE}{number % names}", "d", DeploymentState.COMPLETED, started, teams=frozenset({HOSTILE})
        )

    return count_figures(FigureFacts([one(number) for number in range(3 * names)]), now, 12)


class Elements(HTMLParser):
    """The elements of a page, by name, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_each_figure_with_its_definition_and_source() -> None:
    page = Elements(render_figures(figures()))
    assert "script" not in page.names
    assert f"{HOSTILE}1" in page.text
    assert not [one.name for one in FIGURES if not (one.title in page.text and one.definition in page.text and one.source in page.text)]
    assert page.names.count("svg") > 3


def test_a_page_of_many_releases_stays_small() -> None:
    page = render_figures(figures(500))
    assert len(page.encode()) < 500_000
    assert "400 more with fewer deployments are not shown here" in page


def test_a_bar_is_as_high_as_its_month_and_never_too_low_to_be_seen() -> None:
    months = ("2026-09", "2026-10", "2026-11")
    drawn = spark_bars(FIGURES[0], [Amount(0.001, 1), Amount(None, 0, "too few"), Amount(10, 9)], months)
    assert drawn is not None
    assert [(bar.height, bar.title) for bar in drawn.bars] == [
        (2, "2026-09: 0.0 in 30 days"),
        (0, "2026-10: too few"),
        (32, "2026-11: 10.0 in 30 days"),
    ]
    assert spark_bars(FIGURES[0], [Amount(0, 0)] * 3, months) is None


@pytest.mark.parametrize("name", ["figures.json", "figures.prom", "figures.html"])
def test_a_file_is_written_once_a_day_unless_something_happens(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert FIGURES_FILE.write(figures(), path, write=False) == [str(path)]
    assert not path.exists()
    assert FIGURES_FILE.write(figures(), path, write=True) == [str(path)]
    late = count_figures(FigureFacts([]), NOW, 12), count_figures(FigureFacts([]), NOW + timedelta(hours=3), 12)
    FIGURES_FILE.write(late[0], path, write=True)
    assert FIGURES_FILE.write(late[1], path, write=True) == []
    assert FIGURES_FILE.write(figures(), path, write=True) == [str(path)]


def test_only_the_page_of_a_report_leads_to_its_first_page() -> None:
    assert 'href="index.html"' in render_figures(figures(), within=True)
    assert 'href="index.html"' not in render_figures(figures())


def test_a_report_has_the_page_and_its_data(tmp_path: Path) -> None:
    there = [str(tmp_path / "figures.html"), str(tmp_path / "figures.json")]
    assert write_figures_pages(figures(), tmp_path / "new", write=False) == [one.replace("/figures", "/new/figures") for one in there]
    assert write_figures_pages(figures(), tmp_path, write=True) == there
    assert write_figures_pages(figures(), tmp_path, write=True) == []
    (tmp_path / "figures.json").write_text("mine\n")
    with pytest.raises(TidegateError, match=r"figures\.json has something else than figures in it"):
        write_figures_pages(figures(), tmp_path, write=True)


@pytest.mark.parametrize("name", ["figures.json", "figures.prom", "figures.html"])
def test_what_is_something_else_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(TidegateError, match="has something else than figures in it, and is not overwritten; give another file"):
        FIGURES_FILE.write(figures(), tmp_path / name, write=True)
    assert (tmp_path / name).read_text() == "mine\n"


@pytest.mark.parametrize(
    ("name", "says"),
    [("figures.txt", "let it end with .html, .json, .prom"), ("no/figures.json", "is no directory, so nothing is written there")],
)
def test_what_is_no_name_for_figures_is_refused(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(TidegateError, match=says):
        FIGURES_FILE.write(figures(), tmp_path / name, write=True)
    (tmp_path / "a.json").mkdir()
    with pytest.raises(TidegateError, match="is a directory; give a file for figures"):
        FIGURES_FILE.write(figures(), tmp_path / "a.json", write=True)
