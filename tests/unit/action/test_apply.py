# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes data holds a deployment that it can't begin with, and says so to people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.action import apply
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_journal import DataJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_people_are_told_of_a_hold_before_data_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def refuse(*_: object) -> None:
        raise TidegateError("nobody trusts it any more")

    def notifier(_policy: object) -> Callable[..., list[str]]:
        return lambda _journal, _run, event, sentence, _now: said.append(f"{event}: {sentence}") or []

    monkeypatch.setattr(apply, "RoleData", refuse)
    monkeypatch.setattr(apply, "make_notifier", notifier)
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "db1", "class": "server"}], "test")
        journal = DataJournal(cmdb)
        package = {"name": "shop", "version": "2.0", "digest": "sha256:b"}
        rollout = Rollout(role="app", tree=False, data_host="db1")
        run = journal.begin("CHG0001", package, [["db1"]], rollout, Holder.this_run(), datetime.now(UTC))
        journal.stage_all(run, NOW)
        journal.decide_staging(run, GateDecision("proceed", "because"), NOW)
        action: Any = object.__new__(apply.ActionModule)
        for step in ("reverse", "migrate"):
            with pytest.raises(TidegateError, match="nobody trusts it"):
                action._change_data({"step": step, "policy": None}, journal, journal.deployment(run.deployment), tmp_path)
        assert journal.deployment(run.deployment).state is DeploymentState.HELD
    assert said == ["hold: no data were migrated: nobody trusts it any more"]
