# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo-hardware` keeps its word, and would say so if it did not."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fwupd_host import LACKS

pytestmark = pytest.mark.skipif(bool(LACKS), reason=LACKS)
ROOT = Path(__file__).resolve().parents[2]


def load_demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tidegate_demo_hardware", ROOT / "examples" / "hardware" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return demo


@pytest.fixture(scope="module")
def told() -> tuple[dict[str, Any], str]:
    """The report of a demo that was run by its command, and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "TIDEGATE_"))}
    command = ["make", "demo-hardware"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    return load_demo().read_report(ROOT / "build" / "demo-hardware"), done.stdout


@pytest.mark.thorough
def test_firmware_goes_in_waves_and_all_are_saved_from_one_that_does_not_run_it(told: tuple[dict[str, Any], str]) -> None:
    report, printed = told
    assert [(entry["version"], entry["state"]) for entry in report["deployments"]] == [("1.2.3", "completed"), ("1.2.6", "backed_out")]
    for deployment in report["deployments"]:
        assert [len(wave["hosts"]) for wave in deployment["waves"]] == [1, 3, 4]
    assert set(report["now"].values()) == {"1.2.3"}
    assert len(report["now"]) == 8
    assert "lon4 failed: it runs b585990a-003e-5270-89d5-3705a17f9a43 1.2.3, not 1.2.6" in printed
    assert "was backed out of all 8 hosts" in printed
    assert "Everything was as promised" in printed


def _kept_the_broken_one(report: dict[str, Any]) -> None:
    report["deployments"][1]["state"] = "completed"


def _held(report: dict[str, Any]) -> None:
    report["deployments"][1]["waves"][2]["gate"] = "hold"


def _went_in_one_wave(report: dict[str, Any]) -> None:
    del report["deployments"][0]["waves"][1:]


def _did_not_go_back(report: dict[str, Any]) -> None:
    report["now"]["ams2"] = "1.2.6"


def _never_got_there(report: dict[str, Any]) -> None:
    del report["reached"]["lon1"]


@pytest.mark.parametrize("spoil", [_kept_the_broken_one, _held, _went_in_one_wave, _did_not_go_back, _never_got_there])
def test_the_demo_would_say_so_if_a_promise_was_broken(told: tuple[dict[str, Any], str], spoil: Callable[[dict[str, Any]], None]) -> None:
    demo, report = load_demo(), copy.deepcopy(told[0])
    assert demo.judge(report) == []
    spoil(report)
    assert demo.judge(report) != []
