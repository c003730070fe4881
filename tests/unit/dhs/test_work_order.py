# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may become of a work order, and how it is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.work_order import (
    WAITING,
    WORK_ORDER,
    WorkOrder,
    WorkOrderState,
    check_move,
    undoing,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import StateError

S = WorkOrderState
ORDER = WorkOrder(3, "web1", "PSU 1", "A-1", "A-7", "psu.md", state=S.OPEN, number=12)


def test_what_somebody_says_to_have_done_is_not_cancelled() -> None:
    assert set(WORK_ORDER) == set(S)
    assert {old for old, new in WORK_ORDER.items() if S.CANCELLED in new} == {S.PLANNED, S.OPEN}
    assert {old for old, new in WORK_ORDER.items() if not new} == {S.DONE, S.CANCELLED}
    assert {old for old, new in WORK_ORDER.items() if S.DONE in new} == WAITING
    for old in S:
        for new in set(S) - WORK_ORDER[old]:
            with pytest.raises(StateError, match=f"work order 12 .the slot PSU 1 of web1. is {old} and can't become {new}"):
                check_move(replace(ORDER, state=old), new)


def test_it_says_what_to_do() -> None:
    assert ORDER.sentence() == "work order 12, the slot PSU 1 of web1: take out A-1 and put in A-7, as psu.md says"
    assert replace(ORDER, slot="", old="", instructions="").sentence() == "work order 12, web1: put in A-7"
    assert replace(ORDER, new="", instructions="").sentence() == "work order 12, the slot PSU 1 of web1: take out A-1"
    claimed = replace(ORDER, state=S.CLAIMED, claimed_by="ann").sentence()
    assert claimed.endswith("; ann says that it was done, and a second person has to confirm that")


def test_what_undoes_one_brings_the_units_back_where_they_were() -> None:
    back = undoing(ORDER)
    assert (back.old, back.new, back.back, back.number) == ("A-7", "A-1", True, 0)
    assert (back.ci, back.slot, back.deployment) == (ORDER.ci, ORDER.slot, ORDER.deployment)
