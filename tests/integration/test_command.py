# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment as somebody who types sees it: the command, with nothing configured."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from fleet import Fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
ANSIBLE_S = re.compile(r"PLAY|TASK|RECAP|localhost|ok=|\[WARNING|\[DEPRECATION")


def tidegate(fleet: Fleet, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in fleet.environment.items() if not name.startswith("ANSIBLE_") or "CONTROL_PATH" in name}
    elsewhere = fleet.path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    done = subprocess.run(
        ["tidegate", *arguments], env=kept | environment, cwd=elsewhere, check=False, capture_output=True, text=True, timeout=300
    )
    fleet.said += done.stdout.splitlines()
    assert not ANSIBLE_S.search(done.stdout + done.stderr), done.stdout + done.stderr
    return done


def test_a_deployment_is_held_from_elsewhere_resumed_and_looked_at(fleet: Fleet) -> None:
    rfc, inventory = str(fleet.path / "CHG0001.yml"), ["-i", str(fleet.path / "cmdb.yml")]
    archived = tidegate(fleet, "archive", str(fleet.release("1.0")))
    assert (archived.returncode, archived.stderr) == (0, "")
    digest = archived.stdout.split()[-1]
    assert archived.stdout == f"hello 1.0 is {digest}\n"
    fleet.rfc("CHG0001", "1.0", digest)
    assert tidegate(fleet, "check", rfc, str(fleet.path / "policy.yml")).returncode == 0

    assert tidegate(fleet, "stage", rfc, *inventory).returncode == 0
    asked = tidegate(fleet, "hold", rfc, "--reason", "the boss = wants to look")
    assert asked.stdout == "CHG0001#1 holds at its next gate; tidegate resume goes on with it\n"
    held = tidegate(fleet, "deploy", rfc, *inventory)
    assert held.returncode == 2
    assert "asked to hold it: the boss = wants to look" in held.stdout
    typed = f"{rfc} -i {fleet.path}/cmdb.yml"
    assert f"To go on: tidegate deploy {typed}\n" in held.stdout
    assert f"To undo it: tidegate backout {typed}\n" in held.stdout
    unsaid = tidegate(fleet, "report")
    assert unsaid.returncode == 2
    assert "--report is missing; add --report ..., directory for the report" in unsaid.stdout
    assert set(fleet.served().values()) == {None}
    stands = tidegate(fleet, "status", "CHG0001")
    assert stands.returncode == 1
    assert re.match(
        r"CHG0001 hello 1\.0 held, 3 staged: .* asked to hold it: the boss = wants to look\n  wave 1 of 2 closed", stands.stdout
    )
    assert "CHG0001, hello 1.0 is held:" in tidegate(fleet, "status").stdout
    again = tidegate(fleet, "hold", "CHG0001", "--reason", "x")
    assert (again.returncode, again.stderr) == (1, "tidegate: CHG0001#1 is held, so there is no further wave to hold\n")

    assert tidegate(fleet, "resume", rfc, *inventory).returncode == 0
    assert set(fleet.served().values()) == {"1.0"}
    live = tidegate(fleet, "status", rfc, "--watch")
    assert live.returncode == 0
    assert re.match(r"CHG0001 hello 1\.0 completed, 3 active\n  wave 1 of 2 decided: 1 active, gate proceed", live.stdout)
    past = tidegate(fleet, "history", "web1").stdout
    assert re.search(r"(?m)^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d web1 activating \(CHG0001#1, hello 1\.0\)", past)
    events = [json.loads(line)["event"] for line in tidegate(fleet, "history", "CHG0001", "--json").stdout.splitlines()]
    assert events.index("hold_asked") < events.index("held") < events.index("completed")
    gone = tidegate(fleet, "hold", "CHG0009", "--reason", "x")
    assert gone.stderr == "tidegate: CHG0009 has no deployment; check its number, and which CMDB this is\n"
