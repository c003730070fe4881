# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request for change says one thing, with a window that can be, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Approval
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc, rfc_number

Write = Callable[..., Path]
CET = datetime.fromisoformat("2027-03-01T22:00:00+01:00").tzinfo


def test_an_rfc_is_read_with_its_times_and_approvals(write: Write) -> None:
    rfc = load_rfc(write("rfc", on_hold=True))
    assert (rfc.number, rfc.state, rfc.release, rfc.version, rfc.on_hold) == ("CHG0030001", -2, "hello", "1.0", True)
    assert rfc.start_date == datetime(2027, 3, 1, 21, tzinfo=UTC)
    assert rfc.end_date - rfc.start_date == timedelta(hours=4)
    assert rfc.approvals == (Approval("carl", "change-manager", "approved", datetime(2027, 2, 26, 9, 30, tzinfo=CET)),)
    assert load_rfc(write("rfc")).on_hold is False


def test_all_that_servicenow_may_add_is_accepted(write: Write) -> None:
    load_rfc(
        write("rfc", description="a\nb", assigned_to="oscar", implementation_plan="x", cab_required=True, backout_plan="", approvals=[])
    )


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("backout_plan", ..., "backout_plan is missing from the RFC"),
        ("requested_by", "  ", "requested_by is '  '"),
        ("requested_by", 12, "requested_by is the number 12"),
        ("requested_by", None, "requested_by is empty"),
        ("number", "CHG1", "number is 'CHG1'"),
        ("number", "chg0001", "number is 'chg0001'"),
        ("type", "urgent", "type is 'urgent'"),
        ("state", "Scheduled", "state is 'Scheduled'"),
        ("state", 1, "state is the number 1"),
        ("risk", 1, "risk is the number 1"),
        ("impact", 4, "impact is the number 4"),
        ("on_hold", "no", "on_hold is 'no'"),
        ("cab_required", 1, "cab_required is the number 1"),
        ("start_date", "2027-03-01T22:00:00", "start_date is no time with an offset"),
        ("end_date", "2027-03-02", "end_date is no time with an offset"),
        ("end_date", 20270302, "end_date is the number 20270302"),
        ("end_date", "2027-03-01T21:00:00+01:00", "the window ends before it starts"),
        ("end_date", "2027-03-01T22:00:00+01:00", "the window ends before it starts"),
        ("end_date", "2027-03-01T22:30:00+02:00", "the window ends before it starts"),
        ("instant", "2027-03-01T22:30:00", "instant is no time with an offset"),
        ("instant", "2027-03-01T21:59:59+01:00", "the instant is outside the window"),
        ("instant", "2027-03-02T02:00:00+01:00", "the instant is outside the window"),
        ("scope", "", "scope is empty"),
        ("scope", "[?site==", "scope is no JMESPath expression"),
        ("scope", "`{", "scope is no JMESPath expression"),
        ("scope", "nonsense(@", "scope is no JMESPath expression"),
        ("scope", "(" * 4000, "scope is no JMESPath expression that can be used: it is nested too deeply"),
        ("scope", "a" * 5000, "scope is 'aaa"),
        ("scope", ["web1"], "scope is a list"),
        ("release", "hello", "release is 'hello'"),
        ("release", {"name": "hello", "version": 1.0, "digest": "sha256:" + "0" * 64}, "release.version is the number 1.0"),
        ("release", {"name": "hello", "version": "1.0", "digest": "sha256:" + "0" * 63}, "release.digest is 'sha256:"),
        ("release", {"name": "hello", "version": "1.0", "digest": "sha256:" + "A" * 64}, "release.digest is 'sha256:"),
        ("release", {"name": "../x", "version": "../y", "digest": "sha256:" + "0" * 64}, "release.name is '../x'"),
        ("release", {"name": "hello", "version": "1.0"}, "digest is missing from release"),
        ("approvals", {}, "approvals is a mapping"),
        ("approvals", [{"approver": " ", "role": "cab", "state": "approved"}], "approvals.0.approver is ' '"),
        ("approvals", [{"approver": "a", "role": "cab", "state": "yes"}], "approvals.0.state is 'yes'"),
        (
            "approvals",
            [{"approver": "a", "role": "cab", "state": "approved", "decided_at": "2027-03-01T22:00"}],
            "approvals.0.decided_at is no",
        ),
    ],
)
def test_what_is_no_request_is_refused(write: Write, key: str, value: Any, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_rfc(write("rfc", **{key: value}))
    assert any(problem.what.startswith(what) for problem in caught.value.problems), caught.value


def test_the_fault_is_told_at_its_line(write: Write) -> None:
    path = write("rfc", end_date="2027-03-01T21:00:00+01:00")
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("end_date"))
    with pytest.raises(DocumentError) as caught:
        load_rfc(path)
    assert [problem.where for problem in caught.value.problems] == [f"{path}:{line}"]


def test_the_number_of_an_rfc_is_known_whatever_else_is_wrong_with_it(write: Write) -> None:
    assert rfc_number(write("rfc", scope="[", colour="red", end_date=...)) == "CHG0030001"
    for number in (..., 7, "../x", None):
        with pytest.raises(DocumentError, match="number"):
            rfc_number(write("rfc", number=number))


def test_objectives_may_name_what_the_rfc_is_about(write: Write) -> None:
    http = {"url": "http://a", "contains": "${version} of ${release}"}
    aims: list[dict[str, Any]] = [
        {"name": "a", "timeout": 1, "http": http},
        {"name": "b", "timeout": 1, "command": ["sh", "-c", "echo ${digest} $x ${HOME}"]},
    ]
    assert load_rfc(write("rfc", objectives=aims)).objectives[0]["http"]["contains"] == "${version} of ${release}"
    aims[0]["http"] = http | {"contains": "${verison}"}
    aims[1]["command"] = ["x", "${tree}"]
    with pytest.raises(DocumentError) as caught:
        load_rfc(write("rfc", objectives=aims))
    assert [problem.what for problem in caught.value.problems] == ["${verison} stands for nothing", "${tree} stands for nothing"]
