# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is live is also asked outside the trees, where the live release says that its effect is there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import release_facts as facts
from ansible_collections.tidegate.release.plugins.module_utils import release_hooks
from ansible_collections.tidegate.release.plugins.module_utils.health import CheckError
from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from bed import Host, package

READ = {"command": ["sh", "-c", 'cat "$TIDEGATE_DEVICE"'], "timeout": 2}
HEALTH = [{"name": "well", "command": ["true"], "timeout": 1}]


@pytest.fixture
def device(host: Host) -> Path:
    """What is outside the trees of two releases that are on the host, of which the second is live."""
    path = host.root.with_name("device")
    host.settings = {"device": str(path)}
    start = {"command": ["sh", "-c", 'echo "R$TIDEGATE_VERSION" >"$TIDEGATE_DEVICE"'], "timeout": 5}
    said: dict[str, Any] = {"effect": "outside", "settings": {"device": None}, "health": HEALTH, "hooks": {"start": start, "read": READ}}
    one, two = (package(version, reads=f"R{version}", **said) for version in ("1.0", "2.0"))
    path.write_text("R1.0\n")
    host.stage(one)
    assert host.activate(one, None)["state"] == "active"
    host.stage(two)
    assert host.activate(two, one)["state"] == "active"
    return path


def outside(host: Host, **settings: Any) -> dict[str, str]:
    (entry,) = release_facts(str(host.root), settings or host.settings)
    assert entry["version"] == "2.0"
    answer: dict[str, str] = entry["outside"]
    return answer


@pytest.mark.parametrize(("text", "version"), [("R2.0", "2.0"), ("R1.0", "1.0"), ("1.0", "")])
def test_what_the_device_says_is_the_release_that_is_read_so(host: Host, device: Path, text: str, version: str) -> None:
    device.write_text(f"{text}\n")
    assert outside(host) == {"text": text, "version": version, "wanted": "R2.0", "problem": ""}
    assert device.read_text() == f"{text}\n"
    assert host.live == "2.0"


@pytest.mark.parametrize("text", ["", "two\nlines\n"])
def test_what_is_not_one_line_is_a_problem(host: Host, device: Path, text: str) -> None:
    device.write_text(text)
    answer = outside(host)
    assert (answer["text"], answer["version"]) == ("", "")
    assert "hook read of hello 2.0 printed" in answer["problem"]


def test_a_hook_that_fails_is_a_problem_and_says_no_secret(host: Host, device: Path) -> None:
    device.unlink()
    secret = host.root.with_name("device-hunter22")
    answer = outside(host, device=str(secret))
    assert "hook read of hello 2.0" in answer["problem"]
    assert "hunter22" not in answer["problem"]
    assert "hello 2.0 needs device from this host" in outside(host, other="x")["problem"]


def test_whatever_goes_wrong_is_said_without_a_setting(host: Host, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_given: Any) -> str:
        raise CheckError(f"{host.settings['device']} is on fire")

    monkeypatch.setattr(release_hooks, "read_outside", fails)
    assert outside(host)["problem"] == "${device} is on fire"


def test_without_the_host_s_settings_nobody_is_asked(host: Host, device: Path) -> None:
    (entry,) = release_facts(str(host.root))
    assert entry["outside"]["problem"] == "nobody said which settings this host has"


def test_it_is_not_asked_while_somebody_is_at_work_there(host: Host, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_PATIENCE", 0.1)
    lock = os.open(host.root / "hello" / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another operation has been holding" in outside(host)["problem"]
    finally:
        os.close(lock)


def test_a_release_that_is_its_tree_is_asked_nothing(host: Host) -> None:
    host.stage(package())
    assert "outside" not in release_facts(str(host.root), {})[0]
