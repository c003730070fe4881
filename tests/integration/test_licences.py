# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment takes the seats of a licensed product that it needs, or does nothing; what it took is free again when it is backed out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import Fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("licences"), count=2)
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


def run(fleet: Fleet, *tasks: dict[str, Any], options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    play = fleet.path / "play.yml"
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}]))
    done = fleet.play(str(play), None, *options, inventory="localhost,")
    assert "Traceback" not in done.stdout
    return done


def licence(fleet: Fleet, *options: str, **arguments: Any) -> str:
    done = run(fleet, {"tidegate.release.licence": arguments}, options=options)
    return " ".join(done.stdout.split())


def look(fleet: Fleet, *that: str) -> None:
    done = run(
        fleet,
        {"tidegate.release.licence_info": {"product": "acme"}, "register": "found"},
        {"ansible.builtin.debug": {"var": "found"}},
        {"ansible.builtin.assert": {"that": list(that)}},
    )
    assert done.returncode == 0, done.stdout


def test_seats_follow_what_is_installed(fleet: Fleet) -> None:
    licensed = {"licensed_product": "acme"}

    # An entitlement is what it is said to be: in check mode it isn't entered, the second time nothing changes.
    assert "needs product and seats" in licence(fleet, name="C-1")
    assert "not a moment" in licence(fleet, name="C-1", product="acme", seats=1, valid_until="tomorrow")
    assert "can't have -1 seats" in licence(fleet, name="C-1", product="acme", seats=-1)
    assert "changed=1" in licence(fleet, "--check", name="C-1", product="acme", seats=1)
    told = licence(fleet, "--diff", name="C-1", product="acme", seats=1, valid_until="2099-01-01T00:00:00+01:00")
    assert "changed=1" in told
    assert '+ "seats": 1' in told
    assert "changed=0" in licence(fleet, name="C-1", valid_until="2098-12-31T23:00:00+00:00")

    # Two hosts need two seats: refused, and nothing happened.
    refused = fleet.deploy("CHG0001", "1.0", **licensed)
    assert refused.returncode != 0
    assert "licences: 2 more seats of acme are needed and 1 are free for the whole window, 1 too few" in refused.stdout
    assert fleet.rows("select * from deployment") == fleet.rows("select * from seat") == []
    assert fleet.run_on("web1", "ls /opt/tidegate 2>/dev/null || true") == ""
    assert "changed=1" in licence(fleet, name="C-1", seats=2, valid_until="2020-01-01T00:00:00+00:00")
    done = fleet.play("tidegate.release.clear", {"tidegate_rfc": str(fleet.path / "CHG0001.yml")}, inventory="localhost,")
    assert done.returncode != 0
    assert "C-1, with 2, is valid until 2020-01-01" in done.stdout

    # With enough of them it is deployed; they are used; the next version takes no more.
    assert "changed=1" in licence(fleet, name="C-1", valid_until="")
    assert fleet.deploy("CHG0002", "1.0", **licensed).returncode == 0
    look(
        fleet,
        "found.entitlements[0].used == 2 and found.entitlements[0].free == 0",
        "found.entitlements[0].users | map(attribute='ci') | list == ['web1', 'web2']",
        "found.unlicensed == []",
    )
    assert "2 seats of C-1 are taken (web1, web2)" in licence(fleet, name="C-1", state="absent")
    assert "so it can't have 1" in licence(fleet, name="C-1", seats=1)
    broken = {"health": [{"name": "fails", "command": ["/bin/false"], "timeout": 1}]}
    upgrade = fleet.deploy("CHG0003", "1.1", **licensed, **broken)
    assert upgrade.returncode != 0
    assert fleet.state("CHG0003") == "backed_out"
    look(fleet, "found.entitlements[0].used == 2 and found.entitlements[0].reserved == 0")

    # What runs with an entitlement that has ended is named by the audit, and by it alone.
    assert fleet.play("tidegate.release.audit").returncode == 0
    assert "changed=1" in licence(fleet, name="C-1", valid_until="2020-01-01T00:00:00+00:00")
    audit = fleet.play("tidegate.release.audit")
    assert audit.returncode != 0
    assert "web1, web2: hello 1.0 uses acme, but its seat is of C-1, which is valid until 2020-01-01" in audit.stdout
    look(fleet, "found.unlicensed | map(attribute='ci') | list == ['web1', 'web2']", "not found.entitlements[0].valid")

    # A back-out is never refused, and frees the seats.
    back = fleet.play("tidegate.release.backout", {"tidegate_rfc": str(fleet.path / "CHG0002.yml"), "tidegate_reason": "enough"})
    assert back.returncode == 0, back.stdout
    look(fleet, "found.entitlements[0].free == 2 and found.entitlements[0].users == []", "found.unlicensed == []")
    assert "changed=1" in licence(fleet, name="C-1", state="absent")
    assert "changed=0" in licence(fleet, name="C-1", state="absent")
