# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is asked, and its device; a host that nobody can log in to is as good as seen only when its device answered and nothing is due."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.tidegate.release.plugins.action import release_facts
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import device_reading
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.device_reading import DeviceQuestion
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.unit_check import DeviceReading
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError

GOOD, MUTE, ODD = (
    DeviceReading("SN1", "R750"),
    DeviceReading(problem="bmc1 can't be reached", silent=True),
    DeviceReading(problem="no user"),
)
LIVE = {"changed": False, "releases": ["one"]}
GONE, BROKEN = AnsibleConnectionFailure("no route"), TidegateError("it did not answer")


def looked(
    monkeypatch: pytest.MonkeyPatch,
    host: Any,
    reading: DeviceReading,
    *,
    software: bool = False,
    transport: str = "ssh",
    by_host: bool = False,
) -> Any:
    action: Any = release_facts.ActionModule.__new__(release_facts.ActionModule)
    action._connection = SimpleNamespace(transport=transport)

    def look(*_: Any) -> Any:
        if isinstance(host, Exception):
            raise host
        return host

    action._look_at_host = look
    action._asked = lambda *_: DeviceQuestion({}, "SN1", (), software, by_host)
    monkeypatch.setattr(device_reading, "read_device", lambda *_: reading)
    return action.execute({}, {})


def test_both_answers_are_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, LIVE, GOOD) == {**LIVE, "device": GOOD.to_dict()}
    assert looked(monkeypatch, LIVE, MUTE) == {**LIVE, "device": MUTE.to_dict()}


def test_a_host_that_can_not_be_reached_is_seen_by_its_device_when_it_has_no_software(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"changed": False, "releases": [], "device": GOOD.to_dict()}
    assert looked(monkeypatch, GONE, GOOD) == nothing
    assert looked(monkeypatch, BROKEN, GOOD, transport="local") == nothing
    with_software = looked(monkeypatch, GONE, GOOD, software=True)
    assert with_software == {"unreachable": True, "msg": "no route", "device": GOOD.to_dict()}
    assert looked(monkeypatch, GONE, ODD)["unreachable"]
    assert looked(monkeypatch, BROKEN, GOOD) == {"failed": True, "msg": "it did not answer", "device": GOOD.to_dict()}


def test_fwupd_is_asked_on_a_host_that_can_be_reached_and_not_on_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, LIVE, GOOD, by_host=True) == {**LIVE, "device": GOOD.to_dict()}
    assert looked(monkeypatch, LIVE, GOOD, by_host=True, transport="local") == LIVE
    with pytest.raises(AnsibleConnectionFailure, match="no route"):
        looked(monkeypatch, GONE, GOOD, by_host=True)


def test_where_neither_answers_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="no route; nor its BMC: bmc1 can't be reached"):
        looked(monkeypatch, GONE, MUTE, software=True)
    with pytest.raises(AnsibleConnectionFailure, match="its BMC: bmc1"):
        looked(monkeypatch, LIVE, MUTE, transport="local")
    with pytest.raises(TidegateError, match="its BMC: no user"):
        looked(monkeypatch, LIVE, ODD, transport="local")
