# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page and the files of a report that is already there."""

from __future__ import annotations

import copy
import json
import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import html5lib
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import files as ground
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.files import write_atomically
from ansible_collections.tidegate.release.plugins.plugin_utils.report import files, html
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import merge, write_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import DRAWN, RESULTS, STATES, lanes, render, render_clearance
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState

EVIL = "</title></text><script>alert(1)</script>\"'><img src=http://evil.example/x>"


def wave(number: int, hosts: list[str], state: str = "active", gate: str | None = "proceed", detail: str = "") -> dict[str, Any]:
    return {
        "number": number,
        "state": "decided" if gate else "closed",
        "hosts": hosts,
        "results": {host: {"state": state, "detail": detail, "previous_version": None} for host in hosts},
        "gate": gate,
        "reason": "all well",
        "opened": "2026-03-01T10:00:00.000Z",
        "decided": "2026-03-01T10:00:01.800Z" if gate else None,
    }


def report(word: str = "web", waves: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    deployment = {
        "id": 1,
        "rfc": word,
        "release": word,
        "version": word,
        "digest": word,
        "state": "completed",
        "reason": word,
        "started": "2026-03-01T10:00:00.000Z",
        "finished": None,
        "close_code": "",
        "objectives": [],
        "unrecorded": "",
        "waves": waves if waves is not None else [wave(1, [word], detail=word)],
    }
    host = dict.fromkeys(("name", "site", "environment", "class", "release", "version", "digest"), word)
    host |= {"since": None, "written_off": {"reason": word}}
    return {"generated": "2026-03-01T11:00:00.000Z", "attention": [word], "deployments": [deployment], "hosts": [host]}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]


def test_hostile_names_and_reasons_stay_text() -> None:
    hostile = report(EVIL, [wave(1, [EVIL], detail=EVIL, state=EVIL, gate=EVIL)]) | {"probe": {EVIL: EVIL}}
    page = Page(render(hostile))
    assert not {"script", "img"} & set(page.tags)
    assert "<script>" not in render(hostile)


def test_the_page_needs_nothing_else() -> None:
    text = render(report())
    page = Page(text)
    assert page.addresses == []
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text


def test_every_state_of_a_host_has_a_word_and_a_colour_of_its_own_or_the_idle_one() -> None:
    assert set(STATES) == set(HostState)
    text = render(report(waves=[wave(1, ["h"])]))
    for state in set(HostState) - {HostState.PLANNED, HostState.STAGED}:
        assert f".s-{state}" in text


def test_colour_is_never_the_only_sign() -> None:
    signs = [STATES[state][0] for state in ("active", "failed", "stuck", "lost", "owed", "backed_out", "activating")]
    assert len(set(signs)) == len(signs)
    text = render(report(waves=[wave(1, ["h"], state="stuck", gate="back_out")]))
    assert "back out" in text
    assert "1 stuck between releases" in text


def test_no_cell_leaves_its_column_or_covers_another() -> None:
    drawn = lanes(
        report(waves=[wave(1, ["a" * 80]), wave(2, [f"h{i}" for i in range(24)]), wave(3, [f"h{i}" for i in range(200)])])["deployments"][0]
    )
    boxes = [(cell.x, cell.y) for lane in drawn for cell in lane.cells]
    assert len(set(boxes)) == len(boxes) == 225
    assert all(
        cell.x + cell.width <= 720 and lane.y <= cell.y and cell.y + 22 <= lane.y + lane.height for lane in drawn for cell in lane.cells
    )
    assert all(below.y >= above.y + above.height for above, below in pairwise(drawn))
    assert drawn[0].cells[0].label.endswith("…")
    assert drawn[0].cells[0].title.startswith("a" * 80)


def test_only_the_newest_deployments_are_drawn_and_the_others_counted() -> None:
    many = report()
    many["deployments"] = [copy.deepcopy(many["deployments"][0]) | {"rfc": f"CHG{number:04}"} for number in range(DRAWN + 2)]
    text = render(many)
    assert "2 earlier deployments" in text
    assert "CHG0031" in text
    assert "CHG0001" not in text


def test_an_empty_cmdb_gives_a_page_too() -> None:
    text = render({"generated": "2026-03-01T11:00:00.000Z", "attention": [], "deployments": [], "hosts": []})
    assert "No deployment yet." in text
    assert "The CMDB has no host." in text
    assert "Nothing waits for a person" in text


def test_the_same_news_is_not_written_again(tmp_path: Path) -> None:
    first = write_report(report(), tmp_path / "new" / "dir", write=True)
    assert [Path(path).name for path in first] == ["report.html", "report.json"]
    written = (tmp_path / "new/dir/report.json").read_bytes()
    assert write_report(report() | {"generated": "2027-01-01T00:00:00.000Z"}, tmp_path / "new/dir", write=True) == []
    assert (tmp_path / "new/dir/report.json").read_bytes() == written
    assert write_report(report("other"), tmp_path / "new/dir", write=True)
    (tmp_path / "new/dir/report.html").unlink()
    assert write_report(report("other"), tmp_path / "new/dir", write=True)
    assert sorted(os.listdir(tmp_path / "new/dir")) == ["report.html", "report.json"]


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert write_report(report(), tmp_path / "out", write=False)
    assert not (tmp_path / "out").exists()


def test_a_directory_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TidegateError, match=r"can't be written to .*file"):
        write_report(report(), tmp_path / "file", write=True)


def test_a_write_that_fails_leaves_the_old_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(report(), tmp_path, write=True)
    old = (tmp_path / "report.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ground.os, "fsync", full)
    with pytest.raises(TidegateError, match="No space left"):
        write_report(report("new"), tmp_path, write=True)
    assert (tmp_path / "report.json").read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.json"]


def test_data_that_could_not_follow_the_page_is_written_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(report(), tmp_path, write=True)

    def full_after_one(path: Path, text: bytes) -> None:
        monkeypatch.setattr(files, "write_atomically", no_space)
        write_atomically(path, text)

    def no_space(path: Path, text: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_atomically", full_after_one)
    with pytest.raises(TidegateError):
        write_report(report("new"), tmp_path, write=True)
    monkeypatch.undo()
    assert write_report(report("new"), tmp_path, write=True)
    assert "new" in (tmp_path / "report.html").read_text()


def test_extra_keys_are_added_but_replace_nothing() -> None:
    assert merge(report(), {"probe": {"failed": 0}})["probe"] == {"failed": 0}
    with pytest.raises(TidegateError, match="extra has deployments, hosts"):
        merge(report(), {"hosts": [], "deployments": []})
    with pytest.raises(TidegateError, match="can't be written as JSON"):
        merge(report(), {"probe": {1, 2}})
    json.dumps(merge(report(), {"probe": None}), allow_nan=False)


PAGES = {
    "report": lambda: render(
        report("web", [wave(number, [f"web{number}"], state, detail="it said no\nand so on") for number, state in enumerate(STATES)])
    ),
    "attention": lambda: render(report() | {"probe": {"requests": 1}}),
    "empty": lambda: render({"generated": "2026-03-01T11:00:00.000Z", "attention": [], "deployments": [], "hosts": []}),
    "clearance": lambda: render_clearance(clearance(*RESULTS)),
    "no controls": lambda: render_clearance(clearance()),
}


def clearance(*results: str) -> dict[str, Any]:
    controls = [{"name": result, "result": result, "reason": "so\nand so", "remedy": "mend it"} for result in results]
    about = [["Change", "x"]]
    return {
        "rfc": "CHG0030001",
        "at": "2026-03-01T11:00:00+00:00",
        "granted": False,
        "sentence": "x.",
        "about": about,
        "controls": controls,
    }


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_valid_html(name: str) -> None:
    html5lib.HTMLParser(strict=True).parse(PAGES[name]())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_found_ones_way_in_by_ear_and_by_keyboard(name: str) -> None:
    """What axe asks for: all in one main landmark, headings in order, tables with headers, and what scrolls can be reached."""
    body = html5lib.parse(PAGES[name](), namespaceHTMLElements=False).find("body")
    (main,) = body
    assert main.tag == "main"
    headings = [int(each.tag[1]) for each in main.iter() if re.fullmatch("h[1-6]", str(each.tag))]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(headings))
    assert all(header.get("scope") for header in main.iter("th"))
    assert all(each.get("tabindex") == "0" for each in [*main.iter("pre"), *main.findall(".//*[@class='scroll']")])
    assert all(each.get("role") == "img" and each.get("aria-label") for each in main.iter("svg"))


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(scheme: str) -> None:
    """In drawings too, where axe can't tell what is behind a text. 4.5 is what WCAG asks for."""
    blocks = re.findall(r":root \{([^}]*)\}", (Path(html.__file__).parent / "style.css").read_text())
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    behind = {"ink": colours.keys() - {"ink", "soft", "line", "alarm-line"}, "soft": {"paper", "panel", "alarm"}}
    for text, backgrounds in behind.items():
        for background in backgrounds:
            lighter, darker = sorted((_luminance(colours[text]), _luminance(colours[background])), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{text} on {background}"
