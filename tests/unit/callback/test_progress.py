# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback does with time and with what others print; the clock and the bar are the test's own."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.utils.display import Display
from ansible_collections.tidegate.release.plugins.callback import progress
from ansible_collections.tidegate.release.plugins.callback.progress import CallbackModule
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import AUDIENCE, Beat
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import Progress


class Bar:
    """Writes down what it is asked to do."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.asked.append((name, *arguments))


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> CallbackModule:
    """In a log, with a wave of 30 hosts under way."""
    for name in ("terminal", "callback", "live"):
        monkeypatch.setattr(AUDIENCE, name, False)
    monkeypatch.setattr(Display(), "display", Display().display)
    made = CallbackModule()
    made._batch = 30
    return made


def test_in_a_log_many_quick_hosts_are_counted_every_ten_seconds(
    callback: CallbackModule, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    callback._spoken = now[0]
    for number in range(30):
        now[0] += 1
        callback._host(Progress("activate", 1, 4, "started"), f"web{number}")
    lines = [re.sub(r"^\S+Z ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["… wave 1 of 4: 10 of 30 hosts, 0 failed", "… wave 1 of 4: 20 of 30 hosts, 0 failed"]


def test_on_a_terminal_signs_of_life_stay_in_the_bar_and_other_lines_take_it_away(
    callback: CallbackModule, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = Bar()
    callback._bar = drawn  # type: ignore[assignment]
    display: Any = Display()
    display.display(Beat("verify: making 3 lab hosts, 20 s"))
    assert drawn.asked == [("status", "verify: making 3 lab hosts, 20 s")]
    assert capsys.readouterr().out == ""
    display.display("something else")
    assert drawn.asked[1:] == [("clear",)]
    assert capsys.readouterr().out == "something else\n"
    callback._draw("wave 1/4", 0)
    display.display(Beat("activate: web1 under way, 20 s"))
    assert [name for name, *_rest in drawn.asked[2:]] == ["draw", "draw"]
