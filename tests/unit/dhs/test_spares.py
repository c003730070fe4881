# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A spare for each unit that can fail before a gate looks, the nearest first, and none that a stockroom has to keep."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.spare_rules import LARGEST_WAVE, SpareRules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.spares import Exposed, allot_spares, exposed_at_once
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import RuleStock, StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import Unit, UnitState
from hypothesis import given
from hypothesis import strategies as st

S = UnitState
NEAR = SpareRules(near={"ams": ("ams-2", "ams-1"), "fra": ("fra-1",)})


def spare(tag: str, stockroom: str = "ams-1", model: str = "R750", substate: str = "available") -> Unit:
    return Unit(tag, "Contoso", tag, model, S.IN_STOCK, substate, stockroom, deployment=7 if substate == "reserved" else None)


WEB = Exposed("web1", "R750", "ams")


def test_the_nearest_stockroom_comes_first_and_all_or_none_are_taken() -> None:
    units = [spare("A", "zzz"), spare("B", "ams-1"), spare("C", "ams-2"), spare("D", "fra-1")]
    assert allot_spares([WEB], units, {}, [], NEAR, "normal").taken == ("C",)
    assert allot_spares([WEB, replace(WEB, site="fra"), WEB], units, {}, [], NEAR, "normal").taken == ("C", "D", "B")
    five = allot_spares([WEB] * 5, units, {}, [], NEAR, "normal")
    assert (five.taken, five.lacking, five.suffices) == ((), {"R750": 1}, False)
    assert five.sentence() == "5 of R750 are needed and 4 are usable"


def test_only_what_is_in_stock_available_and_of_the_model_counts_and_why_is_said() -> None:
    units = [
        spare("A", substate="reserved"),
        spare("B", substate="defective"),
        spare("C", substate="quarantine"),
        spare("D", model="R650"),
        replace(spare("E"), state=S.IN_TRANSIT),
        Unit("F", "Contoso", "F", "R750", S.IN_USE, ci="web1"),
    ]
    found = allot_spares([WEB], units, {}, [], NEAR, "normal")
    assert not found.suffices
    assert found.unusable == (
        "A is in stock ams-1, reserved",
        "B is in stock ams-1, defective",
        "C is in stock ams-1, quarantine",
        "E is in transit ams-1, available",
    )


def test_what_a_stockroom_has_to_keep_is_left_unless_the_policy_lets_it_be_taken() -> None:
    units = [spare("A"), spare("B")]
    stock = [RuleStock(StockRule("R750", "ams-1", 1, 4), usable=2)]
    assert allot_spares([WEB], units, {}, stock, NEAR, "normal").taken == ("A",)
    short = allot_spares([WEB, WEB], units, {}, stock, NEAR, "normal")
    assert (short.taken, short.unusable) == ((), ("B is one of those that ams-1 has to keep",))
    assert allot_spares([WEB, WEB], units, {}, stock, replace(NEAR, undercut=frozenset({"emergency"})), "emergency").taken == ("A", "B")


def test_what_a_rule_counts_as_a_substitute_is_kept_for_it_too() -> None:
    units = [spare("A", model="R650"), spare("B", model="R650"), spare("C", model="R650")]
    stock = [RuleStock(StockRule("R750", "ams-1", 2, 4, substitutes=("R650",)), usable=3)]
    exposed = [Exposed("web1", "R650"), Exposed("web2", "R650")]
    assert allot_spares(exposed[:1], units, {}, stock, NEAR, "normal").taken == ("A",)
    short = allot_spares(exposed, units, {}, stock, NEAR, "normal")
    assert (short.taken, short.lacking) == ((), {"R650": 1})


def test_the_first_wave_with_any_is_covered_or_the_largest_of_each_model() -> None:
    exposed = [Exposed(f"h{number}", "R750" if number < 5 else "R650") for number in range(8)]
    waves = [["x"], ["h0", "h5"], ["h1", "h2", "h3"], ["h4", "h6", "h7"]]
    assert [one.ci for one in exposed_at_once(waves, exposed, "canary")] == ["h0", "h5"]
    assert [one.ci for one in exposed_at_once(waves, exposed, LARGEST_WAVE)] == ["h6", "h7", "h1", "h2", "h3"]
    assert exposed_at_once([["x"]], exposed, LARGEST_WAVE) == []


PLACES = st.sampled_from(["ams-1", "ams-2", "fra-1"])
MODELS = st.sampled_from(["R750", "R650"])
SUBSTATES = st.sampled_from(["available", "available", "reserved", "defective"])


@given(
    st.lists(st.tuples(PLACES, MODELS, SUBSTATES), max_size=12),
    st.lists(st.builds(Exposed, st.just("web1"), MODELS, st.sampled_from(["ams", "fra", ""])), max_size=5),
    st.dictionaries(st.tuples(MODELS, PLACES), st.integers(0, 4), max_size=4),
    st.booleans(),
)
def test_no_stockroom_goes_below_its_threshold_and_no_unit_is_taken_twice(
    described: list[tuple[str, str, str]], exposed: list[Exposed], thresholds: dict[tuple[str, str], int], leave: bool
) -> None:
    units = [spare(f"U{number:02}", place, model, substate) for number, (place, model, substate) in enumerate(described)]

    def usable(model: str, place: str, but: tuple[str, ...] = ()) -> int:
        here = [unit for unit in units if (unit.model, unit.stockroom, unit.substate) == (model, place, "available")]
        return len([unit for unit in here if unit.tag not in but])

    stock = [RuleStock(StockRule(model, place, low, low + 1), usable(model, place)) for (model, place), low in thresholds.items()]
    rules = replace(NEAR, undercut=frozenset({"normal"} if leave else ()))
    found = allot_spares(exposed, units, {}, stock, rules, "normal")
    by_tag = {unit.tag: unit for unit in units}
    assert len(set(found.taken)) == len(found.taken)
    assert all(by_tag[tag].substate == "available" for tag in found.taken)
    if found.suffices:
        assert sorted(by_tag[tag].model for tag in found.taken) == sorted(one.model for one in exposed)
    else:
        assert found.taken == ()
    if not leave:
        for (model, place), low in thresholds.items():
            assert usable(model, place, found.taken) >= min(low, usable(model, place))
