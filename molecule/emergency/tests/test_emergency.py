# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After an emergency change: it is live, and what it owed is known."""

from __future__ import annotations

import json
import os
from pathlib import Path

from testinfra.host import Host

HOME = "/opt/tidegate/hello"


def test_the_emergency_release_is_live(host: Host) -> None:
    assert host.file(f"{HOME}/current").linked_to.startswith(f"{HOME}/releases/1.0.1-")


def test_the_report_says_what_it_owed() -> None:
    report = json.loads((Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "report" / "report.json").read_text())
    assert [(debt["rfc"], debt["duty"]) for debt in report["debts"]] == [("CHG0002", "review")]
    assert any("CHG0002 (hello 1.0.1) owes review since" in sentence for sentence in report["attention"])
