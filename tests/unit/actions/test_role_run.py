# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a run of a role came that took too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import role_run
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_run import Seen


class Process:
    """One that writes of another part while it is being ended."""

    status: int | None = None

    def poll(self) -> int | None:
        return self.status


def test_what_is_written_until_a_run_is_ended_says_how_far_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts, process, seen = tmp_path / "receipts", Process(), Seen()

    def write(part: str) -> None:
        with receipts.open("a") as stream:
            stream.write(json.dumps({"event": "task", "step": part}) + "\n")

    def end(_process: Any) -> None:
        if process.status is None:
            write("the tree of app 2")
            process.status = -9

    monkeypatch.setattr(role_run, "_end", end)
    write("drain of app 2")
    given: Any = process
    role_run._follow(given, receipts, {"drain of app 2": -1}, seen, lambda: None)
    assert (seen.step, seen.ended) == ("the tree of app 2", "drain of app 2 took longer than -1 s")
