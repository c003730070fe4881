# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index of a search: everything is in it, in parts that a browser can show, and each host's place is its own."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.report.html import render_search
from ansible_collections.tidegate.release.plugins.plugin_utils.report.search import anchor, search_pages
from hypothesis import given
from hypothesis import strategies as st


def hosts(*names: str) -> dict[str, Any]:
    return {"hosts/1": {"hosts": [{"name": name, "release": None, "version": None} for name in names]}}


def test_thirty_thousand_hosts_are_in_parts_that_no_browser_minds() -> None:
    names = [f"host-{number:05}.fra.example.net" for number in range(30_000)]
    parts = search_pages([], [], hosts(*names))
    assert len(parts) > 1
    assert [entry["name"] for part in parts.values() for entry in part["entries"]] == names
    for number, (name, part) in enumerate(parts.items(), 1):
        assert (name, part["part"], len(part["parts"])) == (f"search/{number}", number, len(parts))
        text = render_search(part)
        assert len(text.encode()) <= 500_000
        assert text.count('<a href="') == len(part["entries"]) + len(parts) - 1 + 5  # the other parts, and the way to other pages


def test_names_that_get_longer_on_a_page_make_its_part_smaller() -> None:
    parts = search_pages([], [], hosts(*(f"{number:05}{'<' * 200}" for number in range(1000))))
    assert all(len(render_search(part).encode()) <= 500_000 for part in parts.values())


def test_what_is_found_of_a_release_is_where_it_is_live() -> None:
    shop = {"release": "shop", "versions": [{"version": "1.0", "hosts": 3}, {"version": "0.9", "hosts": 1}], "page": "releases/shop.html"}
    (part,) = search_pages([], [shop, {**shop, "versions": []}], {}).values()
    assert [entry["says"] for entry in part["entries"]] == ["1.0 on 3, 0.9 on 1", "live nowhere"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), unique=True, max_size=30))
def test_no_two_hosts_share_a_place_and_each_can_stand_in_an_address(names: list[str]) -> None:
    places = [anchor(name) for name in names]
    assert len(set(places)) == len(names)
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-~") for place in places for letter in place)
