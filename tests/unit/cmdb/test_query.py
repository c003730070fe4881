# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A query gives what JMESPath says, and comes to an end, whatever somebody puts into an RFC's scope."""

from __future__ import annotations

import json
from typing import Any

import jmespath
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.query import QueryError, check_query, search

CIS: list[dict[str, Any]] = [
    {
        "name": f"web{number}",
        "site": ("ams", "fra")[number % 2],
        "attributes": {"rack": number, "tags": ["a", f"t{number % 3}"], "quote": '"'},
    }
    for number in range(200)
]
NAMES = json.dumps([ci["name"] for ci in CIS])


@pytest.mark.parametrize(
    "expression",
    [
        "[?site=='fra']",
        "[?site=='fra' && attributes.rack > `7`].name",
        "[?contains(attributes.tags, 't1') || starts_with(name, 'web19')].name",
        f"[?contains(`{NAMES}`, name)]",
        "[].{name: name, where: site}",
        "sort_by(@, &attributes.rack)[-3:].[name, site][]",
        "[*].attributes.tags[]",
        "[?!(site=='fra')] | [0]",
        "map(&to_string(attributes), @)",
        "max_by(@, &attributes.rack).name",
        "[0].attributes.* | length(@)",
        "merge([0], [1])",
        "@[::2].name | join(',', @)",
    ],
)
def test_it_gives_what_the_library_gives(expression: str) -> None:
    assert search(expression, CIS) == jmespath.search(expression, CIS)


def test_many_cis_have_many_steps() -> None:
    many = [{**ci, "attributes": {f"a{number}": "value" for number in range(100)}} for ci in CIS * 25]
    assert len(search("[?starts_with(name, 'web') && !contains(['x', 'y'], name)].[name, attributes][]", many)) == 2 * len(many)


@pytest.mark.parametrize(
    "expression",
    [
        "|".join(["[@, @]"] * 60),
        "|".join(["{a: @, b: @}"] * 60),
        "|".join(["[@, @][]"] * 60),
        "|".join(["[@, @]"] * 60) + " == " + "|".join(["[@, @]"] * 60),
        "|".join(["[@, @]"] * 60) + " | to_string(@)",
        "[0].name" + " | join('', [@, @])" * 60,
        "[0].attributes.quote" + " | to_string(to_array(@))" * 60,
        "|".join(["map(&[@, @], @)"] * 60),
        "|".join(["map(&@, [@, @])"] * 60),
        f"[*].[`{NAMES}`, `{NAMES}`, `{NAMES}`][][] | [@, @, @, @, @, @, @, @, @, @][] | length(to_string(@))",
        "[0][*] || " + "|".join(["[@, @]"] * 60),
        "@" + "|[*].[@, @][]" * 60,
        "[?" + "|".join(["[@, @]"] * 60) + "]",
        "sort_by(@, &(" + "|".join(["[name, name]"] + ["[@, @][]"] * 60) + ")[0])",
    ],
)
def test_an_expression_that_grows_without_end_is_refused(expression: str) -> None:
    check_query(expression)
    with pytest.raises(QueryError, match=r"it takes more than 1,200,000 steps"):
        search(expression, CIS)


@pytest.mark.parametrize(
    "expression", ["(" * 5000, "[" * 5000, "!" * 5000 + "a", "a" + "[?a" * 2000, "`" + "[" * 100_000 + "`", "||".join("a" * 5000)]
)
def test_an_expression_that_is_nested_without_end_is_refused(expression: str) -> None:
    with pytest.raises(QueryError) as caught:
        search(expression, CIS)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "expression",
    [
        *("[?name < `1`]", "[::0]", "nonsense(@)", "length(`1`)", "sum(@)", "avg([*].name)", "sort_by(@, &attributes)"),
        *(f"[{'9' * 5000}]", f"[:{'9' * 5000}]"),
    ],
)
def test_what_the_library_stumbles_over_is_said(expression: str) -> None:
    with pytest.raises(QueryError) as caught:
        search(expression, CIS)
    assert "\n" not in str(caught.value)
