# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a back-out: what testinfra sees on the hosts themselves."""

from __future__ import annotations

import json

from testinfra.host import Host

HOME = "/opt/tidegate/hello"


def test_the_old_release_is_live(host: Host) -> None:
    assert host.file(f"{HOME}/current").linked_to.startswith(f"{HOME}/releases/1.0-")


def test_the_service_is_the_old_release(host: Host) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    assert (
        host.check_output("python3 -c 'import urllib.request as u; print(u.urlopen(\"http://%s:8082/\").read().decode())'", address)
        == "1.0"
    )


def test_only_the_canary_was_touched(host: Host) -> None:
    events = [json.loads(line)["event"] for line in host.file(f"{HOME}/log.jsonl").content_string.splitlines()]
    canary = host.backend.get_hostname() == "ams1"
    assert ("failed" in events) is canary
    assert events[:5] == ["staged", "activating", "started", "active", "staged"]
