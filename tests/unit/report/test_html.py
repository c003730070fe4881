# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page and the files of a report that is already there."""

from __future__ import annotations

import json
import re
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import html5lib
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import files as ground
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.files import write_atomically
from ansible_collections.tidegate.release.plugins.plugin_utils.report import files, html, model
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import merge, write_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import (
    RESULTS,
    STATES,
    lanes,
    render_clearance,
    render_deployment,
    render_hosts,
    render_overview,
    render_stock,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import Report
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState

NAV = ["index.html", "changes.html", "releases.html", "calendar.html", "search/1.html", "search/1.html"]
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


def deployment(word: str = "web", waves: list[dict[str, Any]] | None = None, number: int = 1) -> dict[str, Any]:
    return {
        "id": number,
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
        "data_changes": [],
        "work_orders": [],
        "unrecorded": "",
        "waves": waves if waves is not None else [wave(1, [word], detail=word)],
    }


def host(word: str = "web") -> dict[str, Any]:
    about = dict.fromkeys(("name", "site", "environment", "class", "release", "version", "digest"), word)
    return about | {"since": None, "written_off": {"reason": word}}


def stocked(word: str) -> dict[str, Any]:
    """A page of stock, with a rule and a level."""
    rule = {**dict.fromkeys(("model", "stockroom", "source"), word), "substitutes": [word], "unfit": {word: 2}, "order_size": 1}
    figures = dict.fromkeys(("threshold", "target", "usable", "reserved", "on_the_way", "to_order"), 3)
    units = {key: {"units": 3, "at_level": 1} for key in ("in_use", "in_stock")}
    level = {**dict.fromkeys(("model", "component", "version", "release"), word), "since": "2026-03-01T10:00:00.000Z", **units}
    return {"read_days": 90, "rules": [{**rule, **figures, "short": True}], "levels": [level]}


def report(word: str = "web", waves: list[dict[str, Any]] | None = None, deployments: int = 1, **more: Any) -> Report:
    """A report as the CMDB's is made, with the same functions for what one page says of another."""
    pages = {f"deployments/{number}": deployment(word, waves, number) for number in range(1, deployments + 1)}
    hosts = dict(model._host_pages([host(word)], {}))
    overview = {
        "generated": "2026-03-01T11:00:00.000Z",
        "attention": [word],
        "counts": {"deployments": {"completed": deployments} if deployments else {}, "hosts": len(hosts)},
        "deployments": [model._summary(name, page) for name, page in pages.items()],
        "debts": [],
        "hosts": [model._page(name, page) for name, page in hosts.items()],
        "stock": {"rules": 1, "short": 1, "levels": 1, "pages": [{"page": "stock/1.html", "data": "stock/1.json"}]},
        "audit": None,
        **more,
    }
    return Report(overview, pages, hosts, {"stock/1": stocked(word)})


def empty() -> Report:
    counts: dict[str, Any] = {"deployments": {}, "hosts": 0}
    nothing: dict[str, Any] = {"attention": [], "deployments": [], "hosts": [], "stock": {"pages": []}, "audit": None}
    return Report({"generated": "2026-03-01T11:00:00.000Z", "counts": counts, **nothing}, {}, {})


def pages(report: Report) -> list[str]:
    """All pages of a report, the first one first."""
    deployments, hosts = map(render_deployment, report.deployments.values()), map(render_hosts, report.hosts.values())
    return [render_overview(report.overview, report.deployments), *deployments, *hosts, *map(render_stock, report.stock.values())]


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
    hostile = report(EVIL, [wave(1, [EVIL], detail=f"{EVIL}\n{EVIL}", state=EVIL, gate=EVIL)], probe={EVIL: EVIL})
    for text in pages(hostile):
        page = Page(text)
        assert not {"script", "img"} & set(page.tags)
        assert "<script>" not in text


def test_the_pages_need_nothing_but_each_other() -> None:
    first, *others = pages(report())
    assert Page(first).addresses == [*NAV, "deployments/1.html", "stock/1.html", "hosts/1.html"]
    assert [Page(text).addresses for text in others] == [[f"../{page}" for page in NAV]] * 3
    for text in (first, *others):
        assert not {"script", "link", "iframe", "img", "object"} & set(Page(text).tags)
        assert "url(" not in text
        assert "@import" not in text


def test_every_state_of_a_host_has_a_word_and_a_colour_of_its_own_or_the_idle_one() -> None:
    assert set(STATES) == set(HostState)
    for text in pages(report(waves=[wave(1, ["h"])]))[:2]:
        for state in set(HostState) - {HostState.PLANNED, HostState.STAGED}:
            assert f".s-{state}" in text


def test_colour_is_never_the_only_sign() -> None:
    signs = [STATES[state][0] for state in ("active", "failed", "stuck", "lost", "owed", "backed_out", "activating")]
    assert len(set(signs)) == len(signs)
    for text in pages(report(waves=[wave(1, ["h"], state="stuck", gate="back_out")]))[:2]:
        assert "back out" in text
        assert "1 stuck between releases" in text


def test_no_cell_leaves_its_column_or_covers_another() -> None:
    waves = [wave(1, ["a" * 120]), wave(2, [f"h{i}" for i in range(24)]), wave(3, [f"h{i}" for i in range(200)])]
    waves.append(wave(4, [f"h{i}" for i in range(10_000)]))
    for index, state in enumerate(STATES):
        waves[3]["results"][f"h{index}"]["state"] = state
    drawn = lanes(deployment(waves=waves))
    boxes = [(cell.x, cell.y) for lane in drawn for cell in lane.cells]
    assert len(set(boxes)) == len(boxes) == 225 + len(STATES)
    assert all(
        cell.x + cell.width <= 680 and lane.y <= cell.y and cell.y + 22 <= lane.y + lane.height for lane in drawn for cell in lane.cells
    )
    assert all(left.x + left.width < right.x for left, right in pairwise(drawn[3].cells))
    assert all(below.y >= above.y + above.height for above, below in pairwise(drawn))
    assert drawn[0].cells[0].label.endswith("…")
    assert drawn[0].cells[0].title.startswith("a" * 120)


def test_the_waves_that_somebody_has_to_look_at_are_drawn_before_all_others() -> None:
    waves = [wave(number, [f"h{number}"], gate="hold" if number == 900 else "proceed") for number in range(1, 1001)]
    drawn = [lane.wave["number"] for lane in lanes(deployment(waves=waves), waves=10)]
    assert drawn == [*range(1, 10), 900]
    assert re.search("8[0-9]{2} more waves that are not drawn here", pages(report(waves=waves))[1])


def test_deployments_that_wait_for_somebody_come_first_and_the_others_are_counted() -> None:
    many = report(deployments=3)
    many.overview["deployments"][0]["state"] = "held"
    many.overview["counts"]["deployments"] = {"completed": 1999, "held": 1}
    text = render_overview(many.overview, many.deployments)
    assert Page(text).addresses[len(NAV) :][:3] == ["deployments/1.html", "deployments/3.html", "deployments/2.html"]
    assert "1 held, 1999 completed; here are all that are open, and the newest of the others" in text


def test_no_page_is_more_than_a_browser_shows_at_once(fleet_of_10_000: Report) -> None:
    for text in pages(fleet_of_10_000):
        assert len(text.encode()) <= 500_000
        assert len(Page(text).tags) <= 20_000


def test_hosts_and_reasons_that_are_not_drawn_are_named_all_the_same(fleet_of_10_000: Report) -> None:
    text = render_deployment(fleet_of_10_000.deployments["deployments/2"])
    assert all(f"host-{number:05}.fra.example.net" in text for number in range(10_000))
    assert text.count("it said no") >= 100
    assert "more: see 2.json" in text


@pytest.fixture(scope="module")
def fleet_of_10_000() -> Report:
    """Two deployments, each of all hosts, each of which failed for a reason of its own, with a log."""
    names = [f"host-{number:05}.fra.example.net" for number in range(10_000)]
    waves = [wave(number, names[number * 20 : number * 20 + 20], "failed", "hold", detail="") for number in range(500)]
    for each in waves:
        for name in each["hosts"]:
            each["results"][name]["detail"] = f"it said no at {name}\n" + "and why\n" * 200
    made = report(waves=waves, deployments=2)
    hosts = dict(model._host_pages([{**host(), "name": name, "digest": "sha256:" + "0" * 64} for name in names for _twice in range(2)], {}))
    return Report({**made.overview, "hosts": [model._page(name, page) for name, page in hosts.items()]}, made.deployments, hosts)


def test_an_empty_cmdb_gives_a_page_too() -> None:
    (text,) = pages(empty())
    assert "No deployment yet." in text
    assert "The CMDB has no host." in text
    assert "Nothing waits for a person" in text


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


ALL = [*(f"{folder}/1.{kind}" for folder in ("deployments", "hosts") for kind in ("html", "json")), "index.html", "report.json"]
ALL += ["stock/1.html", "stock/1.json"]


def test_the_same_news_is_not_written_again(tmp_path: Path) -> None:
    out = tmp_path / "new" / "dir"
    first = write_report(report(), out, write=True)
    assert sorted(Path(path).relative_to(out).as_posix() for path in first) == ALL
    written = (out / "report.json").read_bytes()
    assert write_report(report(generated="2027-01-01T00:00:00.000Z"), out, write=True) == []
    assert (out / "report.json").read_bytes() == written
    assert write_report(report("other"), out, write=True)
    for name in ("index.html", "deployments/1.html"):
        (out / name).unlink()
        assert write_report(report("other"), out, write=True)
        assert names_in(out) == ALL


def test_pages_of_other_templates_are_written_anew(tmp_path: Path) -> None:
    write_report(report(), tmp_path, write=True)
    page = tmp_path / "deployments/1.html"
    page.write_text(page.read_text().replace(html.generator(), "Tidegate 0123456789ab"))
    assert [Path(path).name for path in write_report(report(), tmp_path, write=True)] == ["1.html", "1.json"]
    assert html.generator() in page.read_text()


def test_pages_that_a_report_has_no_more_go_and_nothing_else_does(tmp_path: Path) -> None:
    write_report(report(deployments=3), tmp_path, write=True)
    kept = ["deployments/4.css", "deployments/notes.html", "hosts/rack 7.json", "3.html"]
    for name in kept:
        (tmp_path / name).write_text("a person's")
    assert len(write_report(report(), tmp_path, write=False)) == 6
    assert "deployments/3.html" in names_in(tmp_path)
    assert len(write_report(report(), tmp_path, write=True)) == 6
    assert names_in(tmp_path) == sorted(ALL + kept)
    assert write_report(report(), tmp_path, write=True) == []


def test_a_page_that_is_not_a_report_s_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>Our wiki</title>")
    for write in (False, True):
        with pytest.raises(TidegateError, match="is not a report's; give the report a directory of its own"):
            write_report(report(), tmp_path, write=write)
    assert names_in(tmp_path) == ["index.html"]


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
    assert names_in(tmp_path) == ALL


@pytest.mark.parametrize("after", range(6))
def test_what_could_not_be_written_after_so_many_files_is_written_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    write_report(report(), tmp_path, write=True)
    written = 0

    def full(path: Path, text: bytes) -> None:
        nonlocal written
        if written == after:
            raise OSError(28, "No space left on device")
        written += 1
        write_atomically(path, text)

    monkeypatch.setattr(files, "write_atomically", full)
    with pytest.raises(TidegateError):
        write_report(report("new"), tmp_path, write=True)
    monkeypatch.undo()
    assert write_report(report("new"), tmp_path, write=True)
    assert all("new" in (tmp_path / name).read_text() for name in ALL)


def test_extra_keys_are_added_but_replace_nothing() -> None:
    assert merge(report().overview, {"probe": {"failed": 0}})["probe"] == {"failed": 0}
    with pytest.raises(TidegateError, match="extra has deployments, hosts"):
        merge(report().overview, {"hosts": [], "deployments": []})
    with pytest.raises(TidegateError, match="can't be written as JSON"):
        merge(report().overview, {"probe": {1, 2}})
    json.dumps(merge(report().overview, {"probe": None}), allow_nan=False)


FULL = report("web", [wave(number, [f"web{number}"], state, detail="it said no\nand so on") for number, state in enumerate(STATES)])
LARGE = report("web", [wave(1, [f"web{number}" for number in range(1000)], "lost", None, detail="it said no\nand so on")])
PAGES = {
    **{f"report {number}": partial(str, text) for number, text in enumerate(pages(FULL) + pages(LARGE))},
    "attention": lambda: pages(report(probe={"requests": 1}))[0],
    "empty": lambda: pages(empty())[0],
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
    *before, main = body
    assert main.tag == "main"
    assert [each.tag for each in before] == (["nav"] if name.startswith(("report", "attention", "empty")) else [])
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
