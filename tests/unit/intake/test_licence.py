# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.licence import normalise
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("MIT", "MIT"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("LicenseRef-acme", "LicenseRef-acme"),
        ("MIT AND LicenseRef-acme", "MIT AND LicenseRef-acme"),
        ("Free for all", None),
        ("MIT AND", None),
        ("(MIT", None),
        ("LicenseRef-", None),
        ("", None),
        (" ", None),
        ("(" * 2000, None),
    ],
)
def test_only_spdx_expressions_are_taken(text: str, expression: str | None) -> None:
    assert normalise(text) == expression


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(["MIT", "AND", "OR", "WITH", "(", ")", "+"]), max_size=8).map(" ".join))
def test_no_text_breaks_it(text: str) -> None:
    normalise(text)
