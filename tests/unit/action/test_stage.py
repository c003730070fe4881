# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of staging, without Ansible and hosts: what a host is sent at once, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible_collections.tidegate.release.plugins.action import stage
from ansible_collections.tidegate.release.plugins.plugin_utils.firmware.device import DeviceError

ROLLOUT = SimpleNamespace(keep=3, firmware=False, outside=False, share_files=False, clock_skew_seconds=60)


def staged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, fresh: bool, mirror: str = "", **answer: Any) -> tuple[list[bool], Any]:
    """Whether the program went along with each order, and the task's result."""
    monkeypatch.setattr(stage, "distrust_once", lambda *_: "")
    monkeypatch.setattr(stage, "standing", lambda *_: SimpleNamespace(fresh=fresh, needed=(), installed=None))
    (tmp_path / "pack").write_bytes(b"pack")
    action: Any = stage.ActionModule.__new__(stage.ActionModule)
    action._run, action._host, action._cmdb = None, "web1", None
    action.options = {"dsl": "dsl", "mirror": mirror, "policy": None}
    action.shipment = lambda *_: SimpleNamespace(documents=list, whole=lambda: tmp_path / "pack")
    along: list[bool] = []

    def call(_deployment: Any, _pack: bytes = b"", **_order: Any) -> dict[str, Any]:
        along.append(action.fresh)
        return {"state": "staged", "changed": True, "live": None, "need": [], **answer}

    action.call = call
    deployment = SimpleNamespace(release="hello", version="1.0", digest="sha256:" + "0" * 64, rollout=ROLLOUT)
    return along, action.visit(MagicMock(), deployment)


@pytest.mark.parametrize("mirror", ["", "http://mirror.example/dsl"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_host_that_nobody_has_been_on_gets_the_program_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: bool, mirror: str
) -> None:
    assert staged(monkeypatch, tmp_path, fresh=fresh, mirror=mirror)[0] == [fresh]


def test_a_host_that_can_not_keep_the_program_is_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "warnings" not in staged(monkeypatch, tmp_path, fresh=False)[1]
    _along, result = staged(monkeypatch, tmp_path, fresh=False, unkept="/opt/tidegate/.program: Read-only file system")
    assert result["warnings"] == [
        "web1 can't keep the program for its steps, so each takes longer: /opt/tidegate/.program: Read-only file system"
    ]


@pytest.mark.parametrize("refused", [False, True])
def test_what_a_machine_was_read_to_run_is_noted_also_when_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: bool
) -> None:
    """The next clearance counts spares by it."""
    done, machine = MagicMock(), MagicMock()
    machine.stage.side_effect = DeviceError("it runs another version") if refused else None
    monkeypatch.setattr(stage, "distrust_once", lambda *_: "")
    monkeypatch.setattr(stage, "standing", lambda *_: SimpleNamespace(installed="sha256:1"))
    action: Any = stage.ActionModule.__new__(stage.ActionModule)
    action._run, action._host, action._cmdb, action.options = None, "web1", None, {"dsl": "dsl"}
    action.firmware_journal, action.firmware = lambda: done, lambda *_: machine
    action.recorded_firmware = lambda: {"BIOS": "1"}
    rollout = SimpleNamespace(firmware=True)
    result = action.visit(done, SimpleNamespace(release="hello", version="1.0", digest="sha256:0", rollout=rollout))
    assert result["state"] == ("stage_failed" if refused else "staged")
    machine.stage.assert_called_once_with("sha256:1", {"BIOS": "1"})
    machine.note_read.assert_called_once_with()
    assert (done.stage_failed.called, done.staged.called) == (refused, not refused)
