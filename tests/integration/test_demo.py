# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo` keeps its word, and would say so if it did not."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The report of a demo that was run by its command, and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "TIDEGATE_"))}
    done = subprocess.run(
        ["make", "demo"], cwd=ROOT, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    return load_demo().read_report(ROOT / "build" / "demo"), done.stdout


def load_demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tidegate_demo", ROOT / "examples" / "demo" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    sys.modules["tidegate_demo"] = demo
    try:
        spec.loader.exec_module(demo)
    finally:
        del sys.modules["tidegate_demo"]
    return demo


def test_the_demo_upgrades_in_waves_and_is_saved_from_a_broken_release(told: tuple[dict[str, Any], str]) -> None:
    report, printed = told
    assert [(entry["version"], entry["state"]) for entry in report["deployments"]] == [
        ("2.2.0", "completed"),
        ("2.3.2", "completed"),
        ("2.4.2", "backed_out"),
        ("2.3.2-dies", "backed_out"),
        ("2.3.2-writes", "backed_out"),
    ]
    upgrade, *bad = report["deployments"][1:]
    assert [wave["number"] for wave in upgrade["waves"]] == list(range(1, len(upgrade["waves"]) + 1))
    assert len(upgrade["waves"][0]["hosts"]) < 8
    assert sum(len(wave["hosts"]) for wave in upgrade["waves"]) == 8
    assert {wave["gate"] for wave in upgrade["waves"]} == {"proceed"}
    assert [entry["waves"][0]["gate"] for entry in bad] == ["back_out"] * 3
    assert all(
        entry["rfc"] and entry["digest"].startswith("sha256:") and entry["started"] < entry["finished"] for entry in report["deployments"]
    )
    assert [host["version"] for host in report["hosts"]] == ["2.3.2"] * 8
    assert len(report["trees"]) == 8
    assert report["probe"]["failed"] == 0
    assert report["probe"]["requests"] > 100
    assert "was backed out" in printed
    assert "Everything was as promised" in printed
    assert (ROOT / "build" / "demo" / "index.html").stat().st_size > 1000


def test_the_page_for_managers_has_the_figures_of_the_demo(told: tuple[dict[str, Any], str]) -> None:
    assert told
    found = json.loads((ROOT / "build" / "demo" / "figures.json").read_text())
    titles = {one["title"]: one["name"] for one in found["definitions"]}
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs" / "why.md").read_text().splitlines()]
    page = {row[0]: row[1] for row in rows if row[0] in titles}
    assert len(page) == 6
    for title, said in page.items():
        figure = found["all"][titles[title]]
        value = figure["value"]
        assert said == (figure["why"] if value is None else f"{value:.0%} of {figure['events']}".replace("%", " %") if value else "0")


def _serves_another(report: dict[str, Any]) -> None:
    report["hosts"][3]["version"] = "2.4.2"


def _failed_a_client(report: dict[str, Any]) -> None:
    report["probe"]["failed"] = 1


def _asked_nothing(report: dict[str, Any]) -> None:
    report["probe"]["requests"] = 0


def _kept_the_broken_one(report: dict[str, Any]) -> None:
    report["deployments"][2]["state"] = "completed"


def _held(report: dict[str, Any]) -> None:
    report["deployments"][2]["waves"][0]["gate"] = "hold"


def _kept_the_one_that_dies(report: dict[str, Any]) -> None:
    report["deployments"][3]["state"] = "completed"


def _went_back_to_other_bytes(report: dict[str, Any]) -> None:
    report["trees"]["ams1"] = "0" * 64


def _could_not_be_read(report: dict[str, Any]) -> None:
    del report["trees"]["lon4"]


SPOILS = [_serves_another, _failed_a_client, _asked_nothing, _kept_the_broken_one, _held]
SPOILS += [_kept_the_one_that_dies, _went_back_to_other_bytes, _could_not_be_read]


@pytest.mark.parametrize("spoil", SPOILS)
def test_the_demo_would_say_so_if_a_promise_was_broken(
    told: tuple[dict[str, Any], str], monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, Any]], None]
) -> None:
    demo = load_demo()
    monkeypatch.setattr(demo, "served_version", lambda _address: "2.3.2")
    report = copy.deepcopy(told[0])
    addresses = dict.fromkeys(demo.HOSTS, "127.0.0.1")
    assert demo.judge(report, addresses) == []
    spoil(report)
    assert demo.judge(report, addresses) != []
