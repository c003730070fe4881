# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RFCs in ServiceNow are read, and their course is written, through the Table API; whatever the instance answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import servicenow
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Course
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import load_rfc
from servicenow import Instance

DIGEST = "sha256:" + "ab" * 32
RELEASE = ("hello", "1.0", DIGEST)
NUMBER = "CHG0030001"
START = datetime(2027, 3, 1, 21, 0, 5, tzinfo=UTC)
IMPLEMENTING = Course(-1, START)
DONE = Course(0, START, START.replace(hour=22), "successful", "hello 1.0 is live.")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with servicenow.serve(tmp_path) as instance:
        for name, value in instance.environment.items():
            monkeypatch.setenv(name, value)
        yield instance


def refusal(instance: Instance, query: str = "") -> str:
    with pytest.raises(TidegateError) as caught:
        load_rfc(instance.address(NUMBER, query))
    message = str(caught.value)
    for secret in (servicenow.PASSWORD, servicenow.TOKEN):
        assert secret not in message
    return message


def test_a_change_request_is_the_rfc(instance: Instance) -> None:
    instance.change(
        NUMBER,
        RELEASE,
        start_date="2027-03-01 21:00:00",
        end_date="2027-03-02 01:00:00",
        on_hold="true",
        assigned_to=instance.user("oscar"),
    )
    rfc = load_rfc(instance.address(NUMBER))
    assert (rfc.number, rfc.type, rfc.state, rfc.risk, rfc.on_hold) == (NUMBER, "normal", -2, 3, True)
    assert (rfc.release, rfc.version, rfc.digest, rfc.scope) == (*RELEASE, "[?class=='server']")
    assert (rfc.requested_by, rfc.assigned_to) == ("rita", "oscar")
    assert rfc.start_date == datetime(2027, 3, 1, 21, tzinfo=UTC)  # not as it is shown, in this user's zone
    assert [(one.approver, one.role, one.state) for one in rfc.approvals] == [("carl", "approver", "approved")]
