# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions of a policy's own controls decide as in a playbook, see nothing but the facts, and never pass by mistake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import limits
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Finding, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.own_controls import evaluate_own, speaking_of
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import OwnControl

NAMES: dict[str, Any] = {
    "rfc": {"risk": 3, "short_description": "{{ lookup('pipe', 'id') }}", "start_date": datetime(2027, 3, 1, tzinfo=UTC)},
    "now": datetime(2027, 2, 1, tzinfo=UTC),
    "cmdb": {"cis": [{"name": f"web{number}", "site": "ams", "attributes": {"tier": number % 2}} for number in range(4)]},
    "release": {"version": "2.10"},
}


def find(*that: str) -> Finding:
    return evaluate_own([OwnControl("own", that, "it is wrong", "mend it")], NAMES)["own"]


@pytest.mark.parametrize(
    "condition",
    [
        "rfc.risk >= 3",
        "now < rfc.start_date",
        "release.version is version('2.9', '>')",
        "release.version is ansible.builtin.version('2.9', '>')",
        "cmdb.cis | selectattr('attributes.tier', 'equalto', 1) | list | length == 2",
        "cmdb.cis | map(attribute='site') | ansible.builtin.difference(['ams']) == []",
        "rfc.risk in [2, 3]",
        "rfc.assigned_to is not defined",
        "rfc.short_description is not search('uid=')",
    ],
)
def test_a_condition_is_what_stands_after_when_in_a_playbook(condition: str) -> None:
    assert find(condition) == Finding(Result.PASS, "1 condition is met")


def test_every_condition_has_to_be_true() -> None:
    found = find("rfc.risk == 3", "rfc.risk == 2")
    assert found == Finding(Result.FAIL, "it is wrong\nnot so: rfc.risk == 2", "mend it")


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        ("rfc.risk", "neither true nor false"),
        ("rfc.nothing", "neither true nor false"),
        ("'yes'", "neither true nor false"),
        ("nothing.at.all", "'nothing' is undefined"),
        ("rfc.risk >", "can't be evaluated"),
        ("rfc.risk | no_such_filter", "No filter named"),
        ("rfc.risk is no_such_test", "No test named"),
        ("lookup('pipe', 'id') is search('uid')", "'lookup' is undefined"),
        ("''.__class__.__mro__ | length > 0", "unsafe"),
        ("cmdb.cis.append(1) is none", "unsafe"),
        ("1 / 0 > 1", "division by zero"),
        ("'/etc/*' | fileglob | length > 0", "No filter named 'fileglob'"),
        ("'$HOME' | ansible.builtin.expandvars != ''", "No filter named"),
        ("'/etc/passwd' is file", "No test named 'file'"),
        ("'/etc/passwd' is ansible.builtin.exists", "No test named"),
    ],
)
def test_a_condition_that_can_not_decide_is_inconclusive(condition: str, what: str) -> None:
    found = find(condition)
    assert found.result is Result.INCONCLUSIVE, found
    assert what in found.reason
    assert found.remedy


@pytest.mark.parametrize(
    "condition",
    [
        "('a' * 40 ~ 'b') is regex('(a+)+$')",
        "('a' * 40 ~ 'b') is search('(a|a)*c')",
        "('a' * 40 ~ 'b') | regex_search('(a*)*$') is none",
        "7 ** (10 ** 9) > 1",
        "'a' * 10 ** 11 == ''",
        "('a' * 10 ** 9) is search('b')",
        "'%099999999999d' % 1 == ''",
        "'x' | center(10 ** 11) == ''",
        "range(99999) | product(range(99999)) | list | length > 0",
        "range(30) | permutations | list | length > 0",
        "cmdb.cis | to_json(indent=10 ** 11) == ''",
        "('x' * 64) | regex_replace('(x+x+)+y', '') == ''",
    ],
)
def test_a_condition_that_never_ends_is_inconclusive_and_stops_nothing_else(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CPU", 0)
    controls = [OwnControl(name, (that,), "", "") for name, that in (("before", "1 == 1"), ("own", condition), ("after", "1 == 1"))]
    found = evaluate_own(controls, NAMES)
    assert found["own"].result is Result.INCONCLUSIVE, found
    assert "can't be evaluated" in found["own"].reason
    assert found["own"].remedy
    assert found["before"] == found["after"] == Finding(Result.PASS, "1 condition is met")


def test_the_limit_is_named() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "CPU", 0)
        assert "it takes more than 0 s of computing" in find("7 ** (10 ** 9) > 1").reason
    assert "it needs more than 512 MiB of memory" in find("'a' * 10 ** 11 == ''").reason


def test_a_condition_that_is_nested_without_end_may_speak_of_anything() -> None:
    deep = OwnControl("own", ("(" * 5000 + "now" + ")" * 5000,), "", "")
    assert speaking_of([deep], ["now"]) == (deep,)
    assert evaluate_own([deep], NAMES)["own"].result is Result.INCONCLUSIVE


def test_no_process_is_left() -> None:
    before = children()
    find("1 == 1")
    find("7 ** 7 > 1")
    assert children() <= before


def children() -> set[str]:
    """The processes of this one, those among them that have ended and that nobody waited for."""
    return {number for path in Path("/proc/self/task").glob("*/children") for number in path.read_text().split()}
