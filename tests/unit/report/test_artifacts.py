# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run passes on is small, plain, and nothing that a later run would evaluate."""

from __future__ import annotations

import json

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.tidegate.release.plugins.plugin_utils.report.artifacts import NAMED, first, inert, passed_on, planned
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(alphabet="{%#} a", max_size=12)


@given(TEXT)
def test_no_text_is_a_template(text: str) -> None:
    safe = inert(text)
    assert not any(opening in safe for opening in ("{{", "{%", "{#"))
    assert Templar(DataLoader(), {}).template(trust_as_template(safe)) == safe
    assert safe.replace("{ ", "{").replace(" ", "") == text.replace("{ ", "{").replace(" ", "")


def test_what_is_within_is_none_either() -> None:
    assert inert({"hosts": ["{{ a }}", 1, None], "more": {"x": "{% y %}"}}) == {"hosts": ["{ { a }}", 1, None], "more": {"x": "{ % y %}"}}


def test_it_is_one_variable_of_the_run_and_the_last_word_counts() -> None:
    result = passed_on("concluded", {"state": "held"}, sentence="it is {{ held }}")
    assert result["passed_on"] == {"state": "held"}
    assert result["ansible_stats"] == {
        "data": {"tidegate_concluded": {"state": "held", "sentence": "it is { { held }}"}},
        "per_host": False,
        "aggregate": False,
    }
    json.dumps(result)


def test_of_many_names_there_are_the_first() -> None:
    assert first(f"web{number}" for number in range(100)) == [f"web{number}" for number in range(NAMED)]
    many = planned("CHG1", "hello", "1.0", [["web"] * 50] * 1000)
    assert (many["hosts"], many["waves"], len(many["sizes"])) == (50_000, 1000, NAMED)
