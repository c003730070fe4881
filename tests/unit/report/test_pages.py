# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever links to a page calls it what the site calls it, and no number leads anywhere else."""

from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.report.pages import NUMBER, change_page, published_page
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("pages", ["https://reports.example/tidegate", "https://reports.example/tidegate/"])
def test_a_change_has_the_page_of_its_number(pages: str) -> None:
    assert published_page(pages, "CHG0001") == "https://reports.example/tidegate/changes/CHG0001.html"


@pytest.mark.parametrize(
    "number", ["", "../../etc", "CHG0001/../x", "CHG0001\n", "javascript:alert(1)", "CHG1?x=#y", "@everyone", "CHG\u0660\u0661\u0662"]
)
def test_a_number_that_has_no_page_leads_to_the_first_one(number: str) -> None:
    assert published_page("https://reports.example", number) == "https://reports.example/"


@given(st.text())
def test_no_number_leaves_the_folder_of_changes(number: str) -> None:
    name = change_page(number).removeprefix("changes/")
    assert "/" not in name
    assert name.isascii()
    assert not set(name) & set(" <>\"'?#&@:\\\n")


@given(st.from_regex(NUMBER, fullmatch=True))
def test_the_number_of_a_page_stays_as_it_is(number: str) -> None:
    if number.isascii():
        assert change_page(number) == f"changes/{number}.html"
