# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole deployments on lab hosts, as a user runs them."""

from __future__ import annotations

import json
import re

import pytest
from fleet import BROKEN, Fleet

# A freeze that is none has to be said, or nobody notices that it should have been one.
CALLED_OFF = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Example//EN
BEGIN:VEVENT
UID:sale@example
DTSTAMP:20260101T000000Z
SUMMARY:Sale
STATUS:CANCELLED
DTSTART:20260101T000000Z
DTEND:20990101T000000Z
END:VEVENT
END:VCALENDAR
"""

STOP = {"command": ["bin/stop"], "timeout": 10}
# Its daemon keeps the hook's output, which must not keep the connection.
CHATTY = """
setsid sh -c 'echo serving; exec "$TIDEGATE_PYTHON" -B "$TIDEGATE_TREE/bin/serve"' </dev/null &
echo $! >"$TIDEGATE_STATE/pid"
echo "from ${TIDEGATE_PREVIOUS:-nothing} to $TIDEGATE_NEXT"
"""


@pytest.mark.thorough
def test_a_first_release_is_removed_and_one_that_can_not_stop_replaced(fleet: Fleet) -> None:
    start = {"command": ["sh", "-c", CHATTY], "timeout": 20}
    remove = {"command": ["sh", "-c", 'echo "from $TIDEGATE_PREVIOUS to ${TIDEGATE_NEXT:-nothing}" >/etc/hello-removed'], "timeout": 5}
    hooks = {"stop": STOP, "start": start, "remove": remove}
    done = fleet.deploy("CHG0001", "0.8", hooks=hooks)
    assert done.returncode == 0, done.stdout
    assert set(fleet.served().values()) == {"0.8"}
    host = fleet.hosts[0]
    assert fleet.run_on(host, "sort /opt/tidegate/hello/output/start.log") == "from nothing to 0.8\nserving\n"
    back = fleet.play("tidegate.release.backout", {"tidegate_rfc": str(fleet.path / "CHG0001.yml"), "tidegate_reason": "no use for it"})
    assert "was backed out" in back.stdout
    assert set(fleet.served().values()) == {None}
    assert fleet.run_on(host, "cat /etc/hello-removed") == "from 0.8 to nothing\n"

    hooks["stop"] = {"command": ["sh", "-c", "setsid sleep 60 & wait"], "timeout": 1}
    assert fleet.deploy("CHG0002", "0.9", hooks=hooks).returncode == 0
    after = fleet.deploy("CHG0003", "1.0")
    assert after.returncode == 0, after.stdout
    assert set(fleet.served().values()) == {"1.0"}
    assert "hook stop of hello 0.9: sh did not end within 1 s; 1 process of 0.9 had to be ended" in after.stdout
    assert fleet.run_on(host, "ps -eo args | grep -c '[s]leep 60\\|[S]OURCE' || true") == "0\n"


def test_install_upgrade_and_back_out(fleet: Fleet) -> None:
    first = fleet.deploy("CHG0001", "1.0")
    assert first.returncode == 0, first.stdout
    assert set(fleet.served().values()) == {"1.0"}

    (fleet.path / "sale.ics").write_text(CALLED_OFF)
    fleet.write_policy(**fleet.policy, calendars={"freezes": ["sale.ics"]})
    second = fleet.deploy("CHG0002", "1.1")
    assert second.returncode == 0, second.stdout
    assert re.search(r"WARNING.: sale.ics: the event 'Sale.{,60} is cancelled .{,40}so it stops nothing", " ".join(second.stdout.split()))
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
    assert "3 of 3 hosts were compared with the CMDB and the DSL: each runs what the CMDB says and the DSL holds" in audit.stdout
    (noted,) = fleet.rows("select data from history where event = 'audited'")
    assert json.loads(noted[0]) == {"compared": 3, "hosts": 3, "count": 0, "severity": "clean", "differences": []}

    before = fleet.rows("select count(*) from history"), fleet.rows("select count(*) from deployment")
    rfc = fleet.rfc("CHG0004", "1.3", fleet.archive("1.3"))
    checked = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)}, "--check")
    assert checked.returncode == 0, checked.stdout
    assert "CHG0004 is cleared: hello 1.3; " in checked.stdout
    # Of its files only that with the version is another.
    assert "  wave 1/2: web1: 1.1 -> 1.3, 1 file, 3 bytes\n" in checked.stdout
    assert "  wave 2/2: web2, web3: 1.1 -> 1.3, 1 file, 3 bytes each\n" in checked.stdout
    assert "; by the last 2 deployments of hello it takes about " in checked.stdout
    fleet.rfc("CHG0004", "1.3", fleet.archive("1.3"), approvals=[])
    refused = fleet.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)}, "--check")
    assert refused.returncode != 0
    assert refused.stdout.count("0 of 1 approvals") == 1
    assert "  wave 1/2: web1: 1.1 -> 1.3, 1 file, 3 bytes\n" in refused.stdout
    assert before == (fleet.rows("select count(*) from history"), fleet.rows("select count(*) from deployment"))
