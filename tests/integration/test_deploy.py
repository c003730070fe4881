# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole deployments on lab hosts, as a user runs them."""

from __future__ import annotations

from fleet import Fleet

BROKEN = {"hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["bin/nothing"], "timeout": 10}}}


def test_install_upgrade_and_back_out(fleet: Fleet) -> None:
    first = fleet.deploy("CHG0001", "1.0")
    assert first.returncode == 0, first.stdout
    assert set(fleet.served().values()) == {"1.0"}

    second = fleet.deploy("CHG0002", "1.1")
    assert second.returncode == 0, second.stdout
    assert set(fleet.served().values()) == {"1.1"}
    assert fleet.installed() == dict.fromkeys(fleet.hosts, "1.1")

    third = fleet.deploy("CHG0003", "1.2", **BROKEN)
    assert third.returncode != 0
    assert "CHG0003: hello 1.2 was backed out" in third.stdout
    assert set(fleet.served().values()) == {"1.1"}
    assert fleet.installed() == dict.fromkeys(fleet.hosts, "1.1")
    assert fleet.state("CHG0003") == "backed_out"
    assert fleet.rows("select count(*) from lock") == [(0,)]

    audit = fleet.play("tidegate.release.audit")
    assert audit.returncode == 0, audit.stdout
