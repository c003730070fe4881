# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of a report's site: what is on them, that they find each other, and that nothing on them is more than text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import write_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import (
    render_change,
    render_deployment,
    render_hosts,
    render_list,
    render_overview,
    render_release,
    render_search,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import Report, build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.site import with_library, with_site
from report_place import COMING, HOSTS, NOW, NUMBER, Place
from schemas import assert_schema

EVIL = "</title></text><script>alert(1)</script>\"'><img src=http://evil.example/x>&"
SCHEMAS = {"changes": "report_change", "releases": "report_release", "hosts": "report_hosts", "search": "report_search"}
LISTS = {"changes": "report_changes", "releases": "report_releases", "calendar": "report_calendar"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def report(place: Place) -> Report:
    return place.report()


@pytest.fixture(scope="module")
def site(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_report(report, folder, write=True)
    return folder


def text_of(page: Path) -> str:
    """What a page says to who reads it, on one line."""
    body = html5lib.parse(page.read_bytes(), namespaceHTMLElements=False).find("body")
    return " ".join(" ".join(body.itertext()).split())


def test_each_page_s_data_is_as_its_schema_says(report: Report) -> None:
    for name, pages in {"changes": report.changes, "releases": report.releases, "hosts": report.hosts, "search": report.search}.items():
        for page in pages.values():
            assert_schema(SCHEMAS[name], page)
    for name, page in report.lists.items():
        assert_schema(LISTS[name], page)


def test_the_page_of_a_change_says_who_asked_who_decided_and_with_which_key(site: Path, report: Report) -> None:
    text = text_of(site / f"changes/{NUMBER}.html")
    for said in (
        "Say hello to everybody",
        "Requested by rita",
        "carl release-manager ✓ approved, that is all that it needs 2027-02-28 22:00:00 UTC the change as it reads",
        "approved: as discussed",
        "approved: too early ✕ does not count: CHG0030001 was edited after it was approved",
        "approved: let me in ✕ does not count: signed by nobody whom the policy names",
        "waives window: no time, until 2027-03-01 23:00:00 UTC",
        "✕ scan: fails",
        "1 of 3 hosts failed, and 0 may",
        "errors: web 0.2; hosts of the wave: 2 active, 1 failed of 3; bad so far: 1 of 6 hosts; wave may fail: 0; total may fail: 5%",
        "2027-03-01 20:30:00 UTC: backing out, wave 2 lost too many",
        "review, due 2027-03-03 22:00:00 UTC: not settled",
        "6 of 6 hosts compared by ann, 2027-03-01 21:55:00 UTC: no differences",
    ):
        assert said in text, said
    assert "of another change" not in text
    (approved,) = [one for one in report.changes[f"changes/{NUMBER}"]["evidence"]["pieces"] if one["reason"] == "as discussed"]
    assert approved["keys"][0][:12] in text


def test_a_piece_by_somebody_without_the_role_does_not_count(place: Place) -> None:
    rules = place.policy()
    people = {**rules.people, "carl": type(rules.people["carl"])(frozenset(["tester"]), rules.people["carl"].keys)}
    with Cmdb.open(place.cmdb) as cmdb, cmdb.at_one_moment() as moment:
        made = with_site(build_report(moment, NOW, past=True), moment, rules, NOW)
    changed = type(rules)(rules.approvals, rules.rollout, people, rules.trust)
    pieces = with_library(made, str(place.path / "dsl"), changed, NOW).changes[f"changes/{NUMBER}"]["evidence"]["pieces"]
    assert [one["fault"] for one in pieces if one["reason"] == "as discussed"] == ["nobody of those has the role release-manager"]


def test_a_report_without_a_library_says_so_and_is_whole(place: Place) -> None:
    for dsl, said in ((None, "was given no library"), (str(place.path / "nowhere"), "could not be read")):
        with Cmdb.open(place.cmdb) as cmdb, cmdb.at_one_moment() as moment:
            made = with_site(build_report(moment, NOW, past=True), moment, place.policy(), NOW)
        made = with_library(made, dsl, place.policy(), NOW)
        assert said in made.changes[f"changes/{NUMBER}"]["evidence"]["fault"]
        assert said in render_change(made.changes[f"changes/{NUMBER}"])
        assert said in render_release(made.releases["releases/hello"])
        assert_schema("report_change", made.changes[f"changes/{NUMBER}"])


def test_the_page_of_a_release_says_what_it_is_and_where(site: Path) -> None:
    text = text_of(site / "releases/hello.html")
    assert "live on 3 hosts at ams" in text
    assert all(name in text for name in HOSTS[:3])
    assert re.search("Parts 3 in the SBOM of 2027-02-28 22:00:00 UTC: 1 MIT, 1 Apache-2.0, 1 not declared", text)
    assert f"1.0 1 {NUMBER} backed out" in text


def test_the_calendar_has_freezes_and_which_change_they_stop(site: Path) -> None:
    text = text_of(site / "calendar.html")
    assert f"{COMING} Again hello 1.0 2 CIs at ams Scheduled ! in a freeze: quarter's end" in text
    assert "2027-03-03 22:00:00 UTC 2027-03-06 22:00:00 UTC quarter's end all all" in text


def test_a_calendar_that_can_not_be_read_is_a_sentence_on_its_page(place: Place) -> None:
    rules = place.policy()
    Path(rules.calendars.freezes[0]).write_text("BEGIN:VCALENDAR\n")
    try:
        with Cmdb.open(place.cmdb) as cmdb, cmdb.at_one_moment() as moment:
            page = with_site(build_report(moment, NOW), moment, rules, NOW).lists["calendar"]
    finally:
        place.policy()
    assert any("freezes.ics" in note for note in page["notes"])
    assert "freezes.ics" in render_list("calendar", page)


def test_a_host_s_place_says_what_it_runs_and_what_came_to_it(site: Path) -> None:
    text = text_of(site / "hosts/1.html")
    assert f"{HOSTS[0]} live, server hello 1.0 since 2027-03-01 20:00:00 UTC" in text
    assert f"{NUMBER} : hello 1.0, backed out" in text


def test_every_link_leads_somewhere(site: Path) -> None:
    """On a disk without any server, with places on pages."""
    pages = sorted(site.rglob("*.html"))
    places = {page: {each.get("id") for each in html5lib.parse(page.read_bytes(), namespaceHTMLElements=False).iter()} for page in pages}
    for page in pages:
        document = html5lib.parse(page.read_bytes(), namespaceHTMLElements=False)
        for each in document.iter():
            address = each.get("href") or each.get("action") or ""
            if not address:
                continue
            parts = urlsplit(address)
            assert not parts.scheme
            assert not parts.netloc
            target = (page.parent / unquote(parts.path)).resolve()
            assert target in places, f"{page}: {address}"
            assert not parts.fragment or parts.fragment in places[target], f"{page}: {address}"


def test_no_page_needs_anything_and_only_the_search_has_a_script(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        tags = {str(each.tag) for each in html5lib.parse(text, namespaceHTMLElements=False).iter()}
        assert not {"link", "iframe", "img", "object"} & tags
        assert ("script" in tags) == (page.parent.name == "search")
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "url(" not in text
        assert "src=" not in text
        assert len(text.encode()) <= 500_000


def test_the_search_lists_all_and_its_policy_lets_its_own_script_run(site: Path) -> None:
    page = site / "search/1.html"
    text = text_of(page)
    assert all(f"host {name}" in text for name in HOSTS)
    assert f"change {NUMBER}" in text
    assert "release hello 1.0 on 3" in text
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", page.read_text())


def test_a_page_can_be_found_ones_way_in_by_ear_and_by_keyboard(site: Path) -> None:
    """What axe asks for: one main landmark, headings in order, tables with headers, fields with names, and what scrolls can be reached."""
    for page in site.rglob("*.html"):
        body = html5lib.parse(page.read_bytes(), namespaceHTMLElements=False).find("body")
        assert [each.tag for each in body if each.tag != "script"] == ["nav", "main"]
        headings = [int(each.tag[1]) for each in body.iter() if re.fullmatch("h[1-6]", str(each.tag))]
        assert headings[0] == 1
        assert headings.count(1) == 1
        assert all(below - above <= 1 for above, below in pairwise(headings)), page
        assert all(header.get("scope") for header in body.iter("th"))
        assert all(each.get("aria-label") for each in [*body.iter("input"), *body.iter("nav")])
        assert all(each.get("aria-label") for each in body.iter() if each.get("role") in ("img", "region"))
        assert all(each.get("tabindex") == "0" for each in [*body.iter("pre"), *body.findall(".//*[@class='scroll']")])
        identities = [each.get("id") for each in body.iter() if each.get("id")]
        assert len(identities) == len(set(identities))


def hostile(value: Any, key: str = "") -> Any:
    """A document in which every text that somebody may have written is an attack."""
    if isinstance(value, Mapping):
        return {name: hostile(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, list):
        return [hostile(entry, key) for entry in value]
    if not isinstance(value, str) or key in ("page", "state", "gate", "event") or is_time(value):
        return value
    return EVIL + value


def is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def test_whatever_people_wrote_is_text(report: Report) -> None:
    made = [
        *(render_change(hostile(page), [EVIL]) for page in report.changes.values()),
        *(render_release(hostile(page), [EVIL]) for page in report.releases.values()),
        *(render_list(name, hostile(page)) for name, page in report.lists.items()),
        *(render_search(hostile(page)) for page in report.search.values()),
        *(render_hosts(hostile({**page, "past": {}})) for page in report.hosts.values()),
        *(render_hosts({**page, "past": hostile(page["past"])}) for page in report.hosts.values()),
        *(render_deployment(hostile({**page, "waves": []}), [EVIL]) for page in report.deployments.values()),
        render_overview({**report.overview, "attention": [f"{EVIL} {NUMBER} {EVIL}"]}, report.deployments, [NUMBER]),
    ]
    for text in made:
        document = html5lib.parse(text, namespaceHTMLElements=False)
        scripts = [str(each.text) for each in document.iter("script")]
        assert all("alert" not in script for script in scripts)
        assert not list(document.iter("img"))
        assert all("evil" not in (each.get("href") or "") or each.get("href", "").startswith("../") for each in document.iter("a"))
    assert f'<a href="changes/{NUMBER}.html">{NUMBER}</a>' in made[-1]


def test_pages_of_changes_that_a_report_has_no_more_go_and_a_person_s_do_not(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path, write=True)
    old = tmp_path / "changes/CHG0000009.html"
    old.write_text((tmp_path / f"changes/{NUMBER}.html").read_text())
    old.with_suffix(".json").write_text("{}")
    mine = [tmp_path / "changes/CHG0000010.html", tmp_path / "releases/notes.html", tmp_path / "releases/notes.json"]
    for path in mine:
        path.write_text("a person's")
    changed = write_report(report, tmp_path, write=True)
    assert sorted(Path(path).name for path in changed) == ["CHG0000009.html", "CHG0000009.json"]
    assert not old.exists()
    assert all(path.exists() for path in mine)
    assert write_report(report, tmp_path, write=True) == []


def test_a_cmdb_without_anything_gives_a_whole_site(tmp_path: Path) -> None:
    rules = load_policy(None)
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        made = with_library(with_site(build_report(cmdb, NOW, past=True), cmdb, rules, NOW), None, rules, NOW)
    write_report(made, tmp_path / "out", write=True)
    test_every_link_leads_somewhere(tmp_path / "out")
    assert "No change is planned." in text_of(tmp_path / "out/calendar.html")
    assert "There is nothing yet." in text_of(tmp_path / "out/search/1.html")
