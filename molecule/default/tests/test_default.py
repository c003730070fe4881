# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After an upgrade: what testinfra sees on the hosts themselves."""

from __future__ import annotations

import json

from testinfra.host import Host

HOME = "/opt/tidegate/hello"


def test_the_new_release_is_live(host: Host) -> None:
    link = host.file(f"{HOME}/current")
    assert link.is_symlink
    assert link.linked_to.startswith(f"{HOME}/releases/1.1-")
    assert host.file(f"{HOME}/current/version").content_string == "1.1\n"


def test_the_service_is_the_new_release(host: Host) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    assert host.socket(f"tcp://{address}:8082").is_listening
    assert (
        host.check_output("python3 -c 'import urllib.request as u; print(u.urlopen(\"http://%s:8082/\").read().decode())'", address)
        == "1.1"
    )


def test_the_release_before_is_kept_for_a_back_out(host: Host) -> None:
    assert [name[:3] for name in sorted(host.file(f"{HOME}/releases").listdir())] == ["1.0", "1.1"]
    assert host.file(f"{HOME}/staging").listdir() == []


def test_what_did_not_change_is_a_file_of_each_release_s_own(host: Host) -> None:
    inodes = host.check_output(f"stat -c %i {HOME}/releases/*/tree/bin/serve").split()
    assert len(inodes) == 2
    assert len(set(inodes)) == 2


def test_the_second_deployment_did_not_touch_the_host(host: Host) -> None:
    events = [json.loads(line) for line in host.file(f"{HOME}/log.jsonl").content_string.splitlines()]
    assert [event["event"] for event in events] == ["staged", "activating", "started", "active"] * 2
