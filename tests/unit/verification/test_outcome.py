# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification has passed only when tests ran to their end and none failed, after a back-out of this very package too."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.outcome import (
    Rehearsal,
    Results,
    RoleRehearsal,
    count_events,
    predicate,
    read_tests,
    reasons,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.parity import Parity
from hypothesis import given
from hypothesis import strategies as st

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
TESTS = Results(passed=("one",), passed_at=(2.0,))
REHEARSAL = Rehearsal(DIGEST, deployed=True, backed_out=True, tests=1, replaced=("",))
NO_RETURN = replace(REHEARSAL, backed_out=False, role=RoleRehearsal(("migrate",), ("migrate",)), no_return=True)


def said(tests: Results = TESTS, rehearsal: Rehearsal = REHEARSAL, ended: str = "") -> dict[str, Any]:
    return predicate(
        tests,
        rehearsal,
        Parity(80, {}, ("python",)),
        ended=ended,
        digest=DIGEST,
        events={"ok": 1},
        hosts={"web1": "web1.example"},
        scenario="f" * 64,
    )


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps({"at": float(number), **event}) + "\n" for number, event in enumerate(events))


def a_test(name: str, outcome: str = "passed") -> dict[str, Any]:
    return {"event": "test", "name": name, "outcome": outcome, "detail": "because" if outcome == "failed" else ""}


START, FINISH = {"event": "start"}, {"event": "finish", "status": 0}


def test_what_passed_is_told_in_the_words_of_in_toto() -> None:
    assert said() == {
        "result": "PASSED",
        "configuration": [{"name": "scenario", "digest": {"sha256": "f" * 64}}],
        "passedTests": ["one"],
        "warnedTests": [],
        "failedTests": [],
        "https://tidegate.example/verification/v1": {
            "reasons": [],
            "rehearsal": {"digest": DIGEST, "deployed": True, "backedOut": True, "tests": 1, "from": [""]},
            "parity": {"score": 80, "parts": {}, "differences": ["python"]},
            "events": {"ok": 1},
            "hosts": {"web1": "web1.example"},
        },
    }


def test_what_its_own_role_did_is_told_of_a_release_that_brings_one() -> None:
    found = said(rehearsal=replace(REHEARSAL, role=RoleRehearsal(("activate", "check"), ("activate", "check"), ("back_out",))))
    assert found["result"] == "PASSED"
    assert found["https://tidegate.example/verification/v1"]["rehearsal"]["role"] == {
        "forward": ["activate", "check"],
        "back": ["back_out"],
    }


def test_of_a_release_that_has_no_way_back_it_is_told_that_nothing_was_backed_out() -> None:
    found = said(rehearsal=NO_RETURN)
    assert found["result"] == "PASSED"
    assert found["https://tidegate.example/verification/v1"]["rehearsal"] == {
        "digest": DIGEST,
        "deployed": True,
        "backedOut": False,
        "tests": 1,
        "from": [""],
        "reverse": "none",
        "role": {"forward": ["migrate"], "back": []},
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tests": Results()}, "no test was run that passed, and what nobody tested is not verified"),
        ({"tests": Results(skipped=("one",))}, "no test was run that passed, and what nobody tested is not verified"),
        ({"tests": replace(TESTS, failed=("two",), details={"two": "it is down"})}, "the test two failed: it is down"),
        ({"tests": replace(TESTS, cut_short=True)}, "a run of the tests was cut short"),
        (
            {"rehearsal": replace(REHEARSAL, role=RoleRehearsal(("activate",), ("activate",)))},
            "back_out of the release's role was not run everywhere in the lab",
        ),
        ({"ended": "the scenario ended with status 1"}, "the scenario ended with status 1"),
        ({"rehearsal": replace(REHEARSAL, digest=OTHER)}, f"the back-out was rehearsed with {OTHER}, not with {DIGEST}"),
        ({"rehearsal": replace(REHEARSAL, digest="")}, f"the back-out was rehearsed with nothing, not with {DIGEST}"),
        ({"rehearsal": replace(REHEARSAL, deployed=False)}, "the release was not deployed everywhere in the lab"),
        (
            {"rehearsal": replace(REHEARSAL, backed_out=False, fault="web1")},
            "not backed out everywhere in the lab: web1",
        ),
        ({"rehearsal": replace(REHEARSAL, tests=0)}, "nothing was tested after the back-out"),
        ({"rehearsal": replace(NO_RETURN, tests=0)}, "nothing was tested after the deployment"),
        ({"rehearsal": replace(NO_RETURN, deployed=False)}, "the release was not deployed everywhere in the lab"),
        (
            {"rehearsal": replace(NO_RETURN, role=RoleRehearsal(("migrate",)))},
            "migrate of the release's role was not run everywhere in the lab",
        ),
    ],
)
def test_what_has_not_passed_says_why(changes: dict[str, Any], reason: str) -> None:
    found = said(**changes)
    assert found["result"] == "FAILED"
    assert [one for one in found["https://tidegate.example/verification/v1"]["reasons"] if reason in one]


def test_what_was_skipped_is_no_pass() -> None:
    found = said(replace(TESTS, skipped=("two",)))
    assert (found["result"], found["warnedTests"]) == ("WARNED", ["two"])


def test_of_two_runs_of_a_test_the_worse_one_counts() -> None:
    first = (START, a_test("one"), a_test("two", "failed"), FINISH)
    found = read_tests(lines(*first, START, a_test("one"), a_test("two"), a_test("x", "skipped"), FINISH))
    assert found == Results(passed=("one",), failed=("two",), skipped=("x",), details={"two": "because"}, passed_at=(1.0, 5.0, 6.0))
    for outcomes in permutations(["passed", "skipped", "failed", "unheard of"], 2):
        found = read_tests(lines(START, *(a_test("one", outcome) for outcome in outcomes), FINISH))
        assert found.passed == ()
        assert bool(found.failed) == (set(outcomes) != {"passed", "skipped"})


@pytest.mark.parametrize(
    "text",
    [
        lines(START, a_test("one")),
        lines(START, a_test("one"), START, a_test("one"), FINISH),
        lines(START, a_test("one"), FINISH)[:-20],
        lines(START, a_test("one"), FINISH) + "{",
        lines(START, a_test("one"), FINISH) + "[1]\n",
        lines(START, {"event": "test", "name": "one"}, FINISH),
    ],
)
def test_a_run_that_was_cut_short_has_not_passed(text: str) -> None:
    found = read_tests(text)
    assert found.cut_short
    assert reasons(found, REHEARSAL, "", DIGEST)


@given(cut=st.integers(0, 400))
def test_no_part_of_what_was_written_passes(cut: int) -> None:
    whole = lines(START, a_test("one"), a_test("two"), FINISH)
    part = whole[: min(cut, len(whole.rstrip()) - 1)]
    assert said(read_tests(part))["result"] == "FAILED"
    assert said(read_tests(whole))["result"] == "PASSED"


def test_events_are_counted_by_how_tasks_ended() -> None:
    kinds = ["runner_on_ok", "runner_on_ok", "runner_on_failed", "runner_on_unreachable", "playbook_on_stats", None]
    assert count_events({"event": kind} for kind in kinds) == {"ok": 2, "failed": 1, "unreachable": 1, "skipped": 0}


@pytest.mark.parametrize("before", [0, 490])
def test_why_a_test_failed_has_no_secret_wherever_it_is_cut(before: int) -> None:
    failed = {**a_test("one[hidden-secret-1]", "failed"), "detail": f"{'x' * before} assert 'hidden-secret-1' == 'y'"}
    tests = read_tests(lines(START, failed, FINISH), Redactor({"token": "hidden-secret-1"}))
    assert tests.failed == ("one[${token}]",)
    assert "hidden" not in str(tests)
    assert len(tests.details["one[${token}]"]) <= 500
