# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit is in one place, there once, and only goes where its state lets it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import (
    INSTALL_STATUS,
    MOVES,
    RESERVED,
    SUBSTATES,
    WITH_STOCKROOM,
    MoveOrder,
    Unit,
    UnitState,
    plan_moves,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

S = UnitState
PSU = Unit("A-1", "Contoso", "PS1", "PSU-800", S.IN_STOCK, "available", "ams")
NEW = MoveOrder("receive", "A-2", "Contoso", "PS2", "PSU-800", stockroom="ams")
CIS = ("web1", "web2")


def plan(*orders: MoveOrder, known: tuple[Unit, ...] = (PSU,)) -> list[Unit]:
    return [change.after for change in plan_moves(known, orders, CIS)]


def refused(*orders: MoveOrder, known: tuple[Unit, ...] = (PSU,)) -> str:
    with pytest.raises(TidegateError) as caught:
        plan_moves(known, orders, CIS)
    return str(caught.value)


def test_every_state_has_a_number_substates_and_a_way_there_and_back_to_the_stock() -> None:
    assert set(INSTALL_STATUS) == set(SUBSTATES) == set(S) == {move.target for move in MOVES.values()}
    assert len(set(INSTALL_STATUS.values())) == len(S)
    for name, move in MOVES.items():
        assert set(move.substates) <= set(SUBSTATES[move.target]), name
        assert move.new or move.sources, name
        for state, substates in move.sources.items():
            assert substates <= set(SUBSTATES[state]), name
    # Only what is given away for good does not come back.
    reach = {state: {move.target for move in MOVES.values() if state in move.sources} for state in S}
    for state in set(S) - {S.RETIRED, S.IN_STOCK}:
        seen, todo = set(), [state]
        while todo:
            for new in reach[todo.pop()] - seen:
                seen.add(new)
                todo.append(new)
        assert S.IN_STOCK in seen, state


def test_nobody_moves_what_is_reserved_and_no_move_reserves() -> None:
    assert all(RESERVED not in substates for move in MOVES.values() for substates in move.sources.values())
    assert all(RESERVED not in move.substates for move in MOVES.values())
    mine = replace(PSU, substate=RESERVED, deployment=7)
    for move in MOVES:
        more = {"stockroom": "fra"} if MOVES[move].target in WITH_STOCKROOM and move != "inspect" else {}
        more |= {"ci": "web1"} if move == "install" else {"substate": "defective"} if move == "inspect" else {}
        assert "reserved for deployment 7" in refused(MoveOrder(move, "A-1", **more), known=(mine,)), move


def test_a_unit_goes_its_way() -> None:
    orders = (
        MoveOrder("order", "A-9", "Contoso", "X9", "PSU-800", stockroom="ams"),
        MoveOrder("receive", "A-9", stockroom="ams", substate="quarantine"),
        MoveOrder("inspect", manufacturer="CONTOSO", serial="x9", substate="available"),
        MoveOrder("transfer", "A-9", stockroom="fra"),
        MoveOrder("arrive", "A-9"),
        MoveOrder("install", "A-9", ci="web1", slot="PSU.2"),
        MoveOrder("remove", "A-9", stockroom="fra"),
        MoveOrder("repair", "A-9", substate="rma"),
        MoveOrder("receive", "A-9", stockroom="fra"),
        MoveOrder("report_missing", "A-9"),
        MoveOrder("retire", "A-9"),
    )
    found = [str(unit) for unit in plan(*orders)]
    assert found == [
        "on order ams",
        "in stock ams, quarantine",
        "in stock ams, available",
        "in transit fra, available",
        "in stock fra, available",
        "in use by web1 (PSU.2)",
        "in stock fra, quarantine",
        "in maintenance, rma",
        "in stock fra, quarantine",
        "missing, lost",
        "retired, disposed",
    ]


def test_what_is_defective_is_so_after_a_journey_too() -> None:
    broken = replace(PSU, substate="defective")
    assert [unit.substate for unit in plan(MoveOrder("transfer", "A-1", stockroom="fra"), MoveOrder("arrive", "A-1"), known=(broken,))] == [
        "defective",
        "defective",
    ]


def test_what_waits_for_repair_or_disposal_is_no_spare_because_it_was_moved() -> None:
    for substate in ("pending_disposal", "pending_repair", "pending_install"):
        waiting = replace(PSU, substate=substate)
        assert "say in substate what it is good for" in refused(MoveOrder("transfer", "A-1", stockroom="fra"), known=(waiting,))
        told = plan(MoveOrder("transfer", "A-1", stockroom="fra", substate="defective"), MoveOrder("arrive", "A-1"), known=(waiting,))
        assert [unit.substate for unit in told] == ["defective", "defective"]
    assert (
        plan(MoveOrder("transfer", "A-1", stockroom="fra"), known=(replace(PSU, substate="pending_transfer"),))[0].substate == "available"
    )


def test_what_was_out_of_sight_comes_back_into_quarantine() -> None:
    for state, substate in ((S.IN_MAINTENANCE, "rma"), (S.MISSING, "stolen")):
        away = replace(PSU, state=state, substate=substate, stockroom="")
        assert plan(MoveOrder("receive", "A-1", stockroom="ams"), known=(away,))[0].substate == "quarantine"
        assert plan(MoveOrder("receive", "A-1", stockroom="ams", substate="available"), known=(away,))[0].substate == "available"


def test_what_is_so_already_is_left_as_it_is() -> None:
    assert plan(NEW, NEW, replace(NEW, tag="A-1", serial="PS1")) == [replace(PSU, tag="A-2", serial="PS2")]
    live = Unit("A-1", "Contoso", "PS1", "PSU-800", S.IN_USE, ci="web1", slot="1")
    assert plan(MoveOrder("install", "A-1", ci="web1", slot="1"), known=(live,)) == []


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (MoveOrder("install"), "nothing says which unit it is"),
        (MoveOrder("install", serial="PS1", ci="web1"), "a serial number counts with its manufacturer alone"),
        (MoveOrder("install", "A-1"), "install needs ci"),
        (MoveOrder("install", "A-1", ci="web9"), "the CMDB has no CI 'web9'"),
        (MoveOrder("install", "A-7", ci="web1"), "not in the storage, so there is nothing to install"),
        (MoveOrder("install", "A-1", ci="web1", stockroom="ams"), "install takes no stockroom"),
        (MoveOrder("receive", "A-7", stockroom="ams"), "it is new, so it needs manufacturer and serial and model"),
        (MoveOrder("receive", "A-7", "Contoso", "ps1", "PSU-800", stockroom="ams"), "Contoso PS1 has the tag A-1; one unit is there once"),
        (MoveOrder("receive", "A-1", "Contoso", "PS7", "PSU-800", stockroom="ams"), "the tag A-1 is on Contoso PS1"),
        (replace(NEW, tag="A-1\n- name: x"), "signs that can be seen"),
        (replace(NEW, serial="PS2 "), "signs that can be seen"),
        (replace(NEW, serial="PS2\u200b"), "signs that can be seen"),
        (replace(NEW, tag="A-\ud800"), "signs that can be seen"),
        (replace(NEW, serial="\uff30S1"), "Contoso PS1 has the tag A-1"),
        (MoveOrder("install", "A-1", ci="web2", slot="psu.1"), "the slot psu.1 of web2 has A-8"),
        (replace(NEW, tag="{{ 1 }}"), "the first a letter or digit"),
        (MoveOrder("inspect", "A-1", model="PSU-900", substate="defective"), "it is a PSU-800, not a PSU-900"),
        (MoveOrder("inspect", "A-1", substate="reserved"), "inspect makes no unit 'reserved'"),
        (MoveOrder("transfer", "A-1", stockroom="ams"), "it is in ams already"),
        (MoveOrder("arrive", "A-1", stockroom="fra"), "it is in stock ams, available, and arrive is not possible from there"),
        (MoveOrder("remove", "A-1", stockroom="fra"), "remove is not possible from there"),
    ],
)
def test_what_can_not_be_is_refused(order: MoveOrder, why: str) -> None:
    other = Unit("A-8", "Contoso", "PS8", "PSU-800", S.IN_USE, ci="web2", slot="PSU.1")
    assert why in refused(order, known=(PSU, other))


def test_a_slot_has_one_unit_and_what_is_in_use_is_not_retired() -> None:
    live = Unit("A-2", "Contoso", "PS2", "PSU-800", S.IN_USE, ci="web1", slot="1")
    both = (PSU, live)
    assert "the slot 1 of web1 has A-2; remove that first" in refused(MoveOrder("install", "A-1", ci="web1", slot="1"), known=both)
    assert "it is in use by web1 (1), and retire is not possible" in refused(MoveOrder("retire", "A-2"), known=both)
    swap = (MoveOrder("remove", "A-2", stockroom="ams"), MoveOrder("install", "A-1", ci="web1", slot="1"))
    assert [str(unit) for unit in plan(*swap, known=both)] == ["in stock ams, quarantine", "in use by web1 (1)"]


def test_arriving_elsewhere_is_no_arrival() -> None:
    away = replace(PSU, state=S.IN_TRANSIT, stockroom="fra")
    assert "on its way to fra, not to ams" in refused(MoveOrder("arrive", "A-1", stockroom="ams"), known=(away,))


def test_all_faults_are_said_and_nothing_is_changed() -> None:
    message = refused(NEW, MoveOrder("arrive", "A-5"), MoveOrder("repair", "A-6"))
    assert message.splitlines()[0] == "no unit was changed in the definitive hardware storage"
    assert ["A-5" in message, "A-6" in message, "A-2" in message] == [True, True, False]


TAGS, PLACES = st.sampled_from(["A", "B", "C", ""]), st.sampled_from(["ams", "fra", ""])
ORDERS = st.builds(
    MoveOrder,
    st.sampled_from(sorted(MOVES)),
    TAGS,
    st.sampled_from(["Contoso", "contoso", ""]),
    st.sampled_from(["1", "2", "x", "X", ""]),
    st.sampled_from(["PSU", "DISK", ""]),
    st.sampled_from(["", "available", "quarantine", "rma", "lost", "reserved"]),
    PLACES,
    st.sampled_from(["web1", "web2", "gone", ""]),
    st.sampled_from(["1", "2", ""]),
)


class Storage(RuleBasedStateMachine):
    """Whatever people say that they did with units, each is in one place and there once."""

    def __init__(self) -> None:
        super().__init__()
        self.units: dict[str, Unit] = {}

    @rule(orders=st.lists(ORDERS, max_size=4))
    def move(self, orders: list[MoveOrder]) -> None:
        try:
            changes = plan_moves(self.units.values(), orders, CIS)
        except TidegateError:
            return
        for change in changes:
            assert change.before == self.units.get(change.after.tag)
            assert change.before != change.after
            self.units[change.after.tag] = change.after
        assert plan_moves(self.units.values(), orders[-1:], CIS) == []

    @invariant()
    def each_is_in_one_place(self) -> None:
        for unit in self.units.values():
            assert unit.substate in SUBSTATES[unit.state]
            assert bool(unit.stockroom) == (unit.state in WITH_STOCKROOM)
            assert bool(unit.ci) == (unit.state is S.IN_USE)
            assert (unit.deployment is None) == (unit.substate != RESERVED)

    @invariant()
    def each_is_there_once(self) -> None:
        assert len({unit.identity for unit in self.units.values()}) == len(self.units)
        slots = [(unit.ci, unit.slot) for unit in self.units.values() if unit.ci]
        assert len(set(slots)) == len(slots)


TestStorage = Storage.TestCase
