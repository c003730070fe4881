# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After upgrades behind a load balancer, one of which was backed out, and one killed: what testinfra sees on the hosts themselves."""

from __future__ import annotations

import json

from testinfra.host import Host

HOME = "/opt/tidegate/hello"


def test_each_host_runs_the_last_release_and_was_backed_out_of_the_bad_one(host: Host) -> None:
    if host.backend.get_hostname() == "lb1":
        return
    assert host.file(f"{HOME}/current").linked_to.startswith(f"{HOME}/releases/1.4-")
    events = [json.loads(line)["event"] for line in host.file(f"{HOME}/log.jsonl").content_string.splitlines()]
    assert "backed_out" in events


def test_the_load_balancer_has_every_host_in_service(host: Host) -> None:
    if host.backend.get_hostname() != "lb1":
        return
    rows = host.check_output("echo 'show stat app 4 -1' | socat stdio /run/haproxy-admin.sock").splitlines()
    assert [row.split(",")[17] for row in rows if row.startswith("app,")] == ["UP"] * 2
