# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stockroom has for a rule, and how many are to be ordered."""

from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import RuleStock, StockRule, count_stock
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from hypothesis import given
from hypothesis import strategies as st

RULE = StockRule("PSU", "ams", 2, 6, 4, "Contoso", ("PSU-b",))


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 120), st.integers(0, 120))
def test_the_smallest_multiple_that_reaches_the_target_is_ordered(threshold: int, above: int, size: int, usable: int, coming: int) -> None:
    rule = StockRule("PSU", "ams", threshold, threshold + above, size)
    rule.check()
    found = RuleStock(rule, usable, on_the_way=coming)
    assert found.is_short == (usable <= threshold)
    assert found.to_order % size == 0
    if found.is_short:
        enough = usable + coming + found.to_order >= rule.target
        assert enough
        assert found.to_order == 0 or usable + coming + found.to_order - size < rule.target
    else:
        assert found.to_order == 0


def test_only_what_is_there_and_available_is_usable_and_substitutes_count() -> None:
    counts = [
        ("ams", "PSU", "in_stock", "available", 1),
        ("ams", "PSU-b", "in_stock", "available", 1),
        ("ams", "PSU", "in_stock", "reserved", 3),
        ("ams", "PSU", "in_stock", "quarantine", 2),
        ("ams", "PSU", "in_transit", "available", 1),
        ("ams", "PSU", "in_transit", "defective", 4),
        ("ams", "PSU", "on_order", "", 2),
        ("fra", "PSU", "in_stock", "available", 9),
        ("ams", "DISK", "in_stock", "available", 9),
    ]
    (found,) = count_stock([RULE], counts)
    assert found == RuleStock(RULE, 2, 3, 3, {"quarantine": 2, "defective": 4})
    assert found.sentence() == (
        "PSU in ams: 2 usable, 3 reserved, 3 on the way, 4 defective, 2 quarantine; short, for 2 is the threshold: order 4 from Contoso"
    )
    assert count_stock([RULE], [("ams", "PSU", "in_stock", "available", 3)])[0].sentence() == (
        "PSU in ams: 3 usable, 0 reserved, 0 on the way"
    )
    assert RuleStock(RULE, 2, 0, 4).sentence().endswith("enough is on the way")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (StockRule("PSU", "ams", 2, 2), "the target has to be more"),
        (StockRule("PSU", "ams", -1, 2), "the threshold -1"),
        (StockRule("PSU", "ams", 1, 2_000_000), "at most 1000000"),
        (StockRule("PSU", "ams", 1, 2, 0), "the order size 0"),
        (StockRule("", "ams", 1, 2), "name both"),
        (StockRule("PSU", "ams\0", 1, 2), "signs that can be seen"),
        (StockRule("PSU", "ams", 1, 2, source="Contoso\nstock is enough"), "signs that can be seen"),
        (StockRule("PSU", "ams", 1, 2, substitutes=("PSU",)), "counts a model twice"),
        (StockRule("PSU", "ams", 1, 2, substitutes=("b", "b")), "counts a model twice"),
    ],
)
def test_figures_that_make_no_sense_are_refused(rule: StockRule, why: str) -> None:
    with pytest.raises(TidegateError, match=why):
        rule.check()
