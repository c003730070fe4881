# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an action's result says of its step, and in which words."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.report import progress, status_line
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import (
    Progress,
    Tally,
    gate_sentence,
    one_line,
    share,
    step_line,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.report.status_line import live
from hypothesis import given
from hypothesis import strategies as st

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)
KEYS = st.sampled_from(["step", "wave", "waves", "state", "detail", "hosts", "decision", "reason", "seconds", "more", "outcomes", "after"])
TOLD = st.dictionaries(KEYS, ANYTHING) | st.builds(
    lambda told, step: told | {"step": step}, st.dictionaries(KEYS, ANYTHING), st.sampled_from(sorted(progress.STEPS))
)


def read(result: dict[str, Any], action: str = "activate", failed: bool = False, unreachable: bool = False) -> Progress | None:
    return Progress.read(result, action, failed=failed, unreachable=unreachable)


@given(ANYTHING | TOLD, ANYTHING, st.sampled_from(["activate", "gate", "cmdb_ci"]), st.booleans(), st.booleans())
def test_any_result_is_read_without_an_error_and_told_in_one_harmless_line(
    told: Any, msg: Any, action: str, failed: bool, lost: bool
) -> None:
    read_ = read({"progress": told, "msg": msg}, action, failed, lost)
    if read_ is None:
        return
    tally = Tally(read_, 0.0) if read_.step in progress.HOST_STEPS and read_.state else None
    if tally:
        tally.add(read_, "we\x1bb\n1", 1.0)
    lines = (tally.line(read_), tally.sentence(read_), tally.sentence()) if tally else ()
    for line in (step_line(read_), gate_sentence(read_), *lines):
        assert line.isprintable() or all(char.isspace() or char.isprintable() or ord(char) > 127 for char in line)
        assert "\n" not in line
        assert "\x1b" not in line


@pytest.mark.parametrize(
    ("action", "failed", "unreachable", "state"),
    [
        ("activate", True, False, "failed"),
        ("activate", False, True, "lost"),
        ("stage", False, True, "stage_failed"),
        ("backout", True, False, "owed"),
    ],
)
def test_a_host_that_could_not_report_is_told_by_its_step_and_message(action: str, failed: bool, unreachable: bool, state: str) -> None:
    told = read({"msg": "no route\nto host"}, action, failed, unreachable)
    assert told is not None
    assert (told.step, told.state, told.detail, told.good) == (action, state, "no route to host", False)


@pytest.mark.parametrize("step", ["gate", "plan", "report"])
def test_a_step_that_broke_says_why(step: str) -> None:
    told = read({"msg": "the CMDB is gone"}, step, failed=True)
    assert told is not None
    assert step_line(told) == f"{step}  failed  the CMDB is gone"


def test_a_second_look_counts_a_host_in_place_of_the_first() -> None:
    tally = Tally(read({"progress": {"step": "activate", "wave": 1, "state": "started"}}) or Progress(""), 0.0)
    for number, state in enumerate(["started"] * 3 + ["failed"]):
        tally.add(Progress("activate", 1, state=state), f"web{number}", 1.0)
    assert (tally.line(), tally.bad) == ("wave 1  4 hosts  0 active  1 failed  3 started  1.0 s", 1)
    for number, state in enumerate(("active", "failed", "lost")):
        tally.add(Progress("confirm", 1, state=state), f"web{number}", 2.0)
    assert (tally.line(), tally.bad) == ("wave 1  4 hosts  1 active  2 failed  1 lost  2.0 s", 3)
    assert tally.sentence() == "wave 1: web0 active, web1 web3 failed, web2 lost, 2.0 s"


def test_in_a_log_a_wave_names_its_hosts_and_does_not_grow_with_them() -> None:
    outcomes = {"lost": ["web0"], "active": [f"web{number}" for number in range(1, 26)]}
    gate = {"step": "gate", "wave": 2, "waves": 4, "decision": "hold", "reason": "the window is closed", "outcomes": outcomes}
    names = " ".join(outcomes["active"][:20])
    told = read({"progress": gate}) or Progress("")
    assert gate_sentence(told) == f"wave 2 of 4: {names} and 5 more active, web0 lost, gate: hold (the window is closed)"
    staged = replace(told, wave=None, after="stage", outcomes={"staged": ("web1",), "stage_failed": ("web2",)}, decision="proceed")
    assert gate_sentence(staged) == "stage: web1 staged, web2 failed, gate: proceed"
    assert gate_sentence(replace(staged, after="all waves", outcomes={"active": ("web1",)})) == "all waves: web1 active, gate: proceed"


@pytest.mark.parametrize(
    ("number", "of", "words"), [(1, 1, "1 host"), (0, 1, "0 of 1 host"), (1, 2, "1 of 2 hosts"), (0, 0, "0 of 0 hosts")]
)
def test_one_host_is_no_plural(number: int, of: int, words: str) -> None:
    assert share(number, of) == words


def test_the_log_of_a_host_that_failed_is_further_lines() -> None:
    detail = "it broke\nlog says:\n  out of \x1b[2Jcheese"
    told = read({"msg": "x", "progress": {"step": "confirm", "state": "failed", "detail": detail}}, "confirm", failed=True)
    assert told is not None
    assert (told.detail, told.more) == ("it broke", ("log says:", "  out of ?[2Jcheese"))


def test_results_of_other_actions_are_not_told() -> None:
    assert read({"changed": True}, "cmdb_ci") is None
    assert read({"msg": "no such CI"}, "cmdb_ci", failed=True) is None
    assert read({"progress": {"step": "dance"}}) is None


def test_a_step_that_had_nothing_to_do_says_nothing_but_its_message() -> None:
    assert read({"changed": False}, "stage") == Progress("stage")
    assert read({"changed": False, "reason": "past staging"}, "gate") == Progress("gate")
    assert read({"changed": False, "msg": "nothing to do"}, "plan") == Progress("plan", detail="nothing to do")


def test_control_and_direction_characters_do_not_reach_the_terminal() -> None:
    assert one_line("a\x1b[31mb\x07\u202ec\r\nd\x00") == "a?[31mb??c d?"


def test_a_gate_that_stops_says_why_and_one_that_proceeds_does_not() -> None:
    gate = {"step": "gate", "wave": 2, "waves": 3, "decision": "hold", "reason": "the change window is closed"}
    assert step_line(read({"progress": gate}) or Progress("")) == "wave 2/3  gate: hold (the change window is closed)"
    assert step_line(read({"progress": gate | {"decision": "proceed"}}) or Progress("")) == "wave 2/3  gate: proceed"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_needs_a_terminal_nobody_who_wants_plain_text_and_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    able = {"TERM": "xterm"}
    assert live(Terminal(), able)
    assert not live(io.StringIO(), able)
    assert not live(Terminal(), {"TERM": "dumb"})
    assert not live(Terminal(), {})
    for name in ("NO_COLOR", "CI", "ANSIBLE_NOCOLOR"):
        assert not live(Terminal(), able | {name: "1"})
    monkeypatch.delattr(status_line, "rich")
    assert not live(Terminal(), able)
