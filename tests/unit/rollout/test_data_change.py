# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person may say of data that nobody knows, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_change import (
    DataStatement,
    after_ordered,
    after_statement,
    in_doubt,
    no_way_back,
    statements,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment, JournalEntry
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DATA, DATA_EVENTS, IN_DOUBT, DataState, DeploymentState
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ONCE = ["migrating"]
TWICE = ["migrating", "not_migrated", "migrating"]


def deployment(data: DataState, *, no_return: bool = False) -> Deployment:
    rollout = Rollout(role="app", data_host="db1", no_return=no_return)
    return Deployment(1, "CHG1", "shop", "2.0", "sha256:b", DeploymentState.HELD, 7, "", rollout, data=data)


def log(events: Sequence[str], detail: str = "") -> list[JournalEntry]:
    """The entries, of which those that begin something have the numbers 1, 2 and so on."""
    begun = [sum(one in ("migrating", "reversing") for one in events[: number + 1]) for number in range(len(events))]
    return [JournalEntry(number, NOW, event, None, {"detail": detail}) for number, event in zip(begun, events, strict=True)]


def said(text: str, *, backout: bool = False) -> DataStatement:
    return DataStatement.parse(text, "I looked", backout)


@pytest.mark.parametrize(
    ("data", "events", "text", "backout", "then"),
    [
        ("migrating", ONCE, "migrated:1", False, "migrated"),
        ("migrating", ONCE, "as_before:1", False, "not_migrated"),
        ("migrating", ONCE, "kept:1", True, "kept"),
        ("reversing", [*ONCE, "migrated", "reversing"], "as_before:2", True, "reversed"),
        ("reversing", [*ONCE, "migrated", "reversing"], "migrated:2", False, "migrated"),
        ("migrated", [*ONCE, "migrated"], "as_before:1", True, "reversed"),
        ("migrated", [*ONCE, "migrated"], "kept:1", True, "kept"),
        # The same command once more, when what it said is on record, and the deployment went on.
        ("migrated", [*ONCE, "migrated"], "migrated:1", False, "migrated"),
        ("not_migrated", [*ONCE, "not_migrated"], "as_before:1", False, "not_migrated"),
        ("migrated", [*TWICE, "migrated"], "as_before:1", False, "migrated"),
        ("kept", [*ONCE, "migrated", "kept"], "kept:1", True, "kept"),
    ],
)
def test_what_a_person_says_is_taken(data: str, events: list[str], text: str, backout: bool, then: str) -> None:
    assert after_statement(deployment(DataState(data)), log(events), said(text, backout=backout)) == then


@pytest.mark.parametrize(
    ("data", "events", "text", "backout", "why"),
    [
        ("migrating", TWICE, "as_before:1", False, "is about attempt 1, but the last one to change data for CHG1#1 was number 2"),
        ("migrating", ONCE, "migrated:2", False, "is about attempt 2, but the last one .* was number 1"),
        ("migrated", [*TWICE, "migrated"], "kept:1", True, "say kept:2 if that is still so"),
        ("migrating", ONCE, "kept:1", False, "can't be taken by deploy; leave it out, or back out with it"),
        ("migrated", [*ONCE, "migrated"], "as_before:1", False, "can't be taken by deploy"),
        (
            "reversed",
            [*ONCE, "migrated", "reversing", "reversed"],
            "migrated:2",
            True,
            "the data of CHG1#1 are reversed, so .* can't be taken;",
        ),
        ("none", [], "migrated:1", False, "was number 0"),
    ],
)
def test_what_can_not_be_so_or_is_of_an_earlier_attempt_is_refused(
    data: str, events: list[str], text: str, backout: bool, why: str
) -> None:
    with pytest.raises(StateError, match=why):
        after_statement(deployment(DataState(data)), log(events), said(text, backout=backout))


@pytest.mark.parametrize("text", ["migrated", "done:1", "migrated:0", "migrated:-1", "migrated:1 ", "MIGRATED:1", "migrated:1e3", ""])
def test_a_statement_has_a_form(text: str) -> None:
    with pytest.raises(StateError, match="write it as the message that asked for it has it"):
        said(text)


@given(
    st.sampled_from(sorted(DataState)), st.lists(st.sampled_from(sorted(DATA_EVENTS))), st.sampled_from(["migrated", "as_before", "kept"])
)
def test_nothing_that_is_said_leads_anywhere_the_table_does_not(data: DataState, events: list[str], what: str) -> None:
    number = sum(event in ("migrating", "reversing") for event in events) or 1
    for backout in (False, True):
        try:
            new = after_statement(deployment(data), log(events), said(f"{what}:{number}", backout=backout))
        except StateError:
            continue
        assert new is data or new in DATA[data]
        assert new not in IN_DOUBT, "nobody says that they don't know"


def test_a_hold_says_what_happened_and_the_exact_words_that_end_it() -> None:
    held = in_doubt(deployment(DataState.MIGRATING), log(ONCE))
    assert "migrate on db1 was interrupted, so it is not known what it has done" in held
    assert "-e tidegate_data=migrated:1 if they are migrated, or -e tidegate_data=as_before:1 if they are as before" in held
    failed = in_doubt(deployment(DataState.REVERSING), log([*TWICE, "migrated", "reversing", "reverse_failed"], "the task 'x' failed"))
    assert "reverse on db1 failed (the task 'x' failed)" in failed
    assert "tidegate_data=migrated:3 if they are migrated, so that reverse runs again, or -e tidegate_data=as_before:3" in failed
    assert list(statements(deployment(DataState.MIGRATING), log(ONCE)).values()) == ["migrated:1", "as_before:1"]
    for data in DataState:
        assert bool(in_doubt(deployment(data), log(ONCE))) == bool(statements(deployment(data), log(ONCE))) == (data in IN_DOUBT)


def test_behind_the_point_of_no_return_nothing_goes_back_unless_a_person_says_how_the_data_are() -> None:
    past, events = deployment(DataState.MIGRATED, no_return=True), log([*ONCE, "migrated"])
    assert "is past its point of no return: shop 2.0 has migrated data and says reverse: none" in no_way_back(past, events)
    with pytest.raises(StateError, match=r"backout with -e tidegate_data=as_before:1 if .* or -e tidegate_data=kept:1 if "):
        after_ordered(past, events, None)
    with pytest.raises(StateError, match="past its point of no return"):
        after_ordered(past, events, said("migrated:1", backout=True))
    assert after_ordered(past, events, said("kept:1", backout=True)) is DataState.KEPT
    assert after_ordered(past, events, said("as_before:1", backout=True)) is DataState.REVERSED
    assert no_way_back(deployment(DataState.NOT_MIGRATED, no_return=True), []) == ""
    assert no_way_back(deployment(DataState.MIGRATED), events) == ""
    with pytest.raises(StateError, match="migrate on db1 was interrupted"):
        after_ordered(deployment(DataState.MIGRATING), log(ONCE), None)
