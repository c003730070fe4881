# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.licence import usage
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.entitlements import Held
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Entitlement, Seat, SeatState
from effort import growth

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)


def survey(monkeypatch: pytest.MonkeyPatch, entitlements: list[Entitlement], seats: list[Held]) -> list[dict[str, Any]]:
    monkeypatch.setattr(usage, "entitlements", lambda _connection, _product: entitlements)
    monkeypatch.setattr(usage, "taken_seats", lambda _connection, _product: iter(seats))
    cmdb: Any = SimpleNamespace(read=lambda: nullcontext(None))
    return usage.survey(cmdb, None, NOW)


def test_a_ci_counts_once_and_as_used_when_one_of_its_releases_uses_the_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    states = (SeatState.USED, SeatState.RESERVED)
    seats = [
        Held(Seat("A", ci, release), state, NOW, "CHG1") for ci in ("web2", "web1") for release, state in zip("ba", states, strict=True)
    ]
    both, none = survey(
        monkeypatch,
        [Entitlement("A", "acme", 3), Entitlement("B", "bolt", 1)],
        [*seats, Held(Seat("A", "web3", "a"), states[1], NOW, "CHG2")],
    )
    assert [both[key] for key in ("used", "reserved", "free")] == [2, 1, 0]
    assert [(user["ci"], user["release"]) for user in both["users"]] == [
        ("web1", "a"),
        ("web1", "b"),
        ("web2", "a"),
        ("web2", "b"),
        ("web3", "a"),
    ]
    assert (none["free"], none["users"]) == (1, [])


def test_a_survey_costs_as_much_as_there_are_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(size: int) -> None:
        entitlements = [Entitlement(f"E{number}", f"prod{number}", 10) for number in range(size)]
        survey(
            monkeypatch,
            entitlements,
            [Held(Seat(one.name, f"h{ci}", "a"), SeatState.USED, NOW, "CHG1") for one in entitlements for ci in range(4)],
        )

    assert growth(work, 200) < 3
