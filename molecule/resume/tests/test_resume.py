# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a series of killed and repeated deployments, the last of which was backed out: no host is in between."""

from __future__ import annotations

import hashlib
import json

from testinfra.host import Host

HOME = "/opt/tidegate/hello"


def test_the_last_good_release_is_live_and_whole(host: Host) -> None:
    link = host.file(f"{HOME}/current").linked_to
    assert link.startswith(f"{HOME}/releases/1.3-")
    record = json.loads(host.file(link.replace("/tree", "/release.json")).content_string)
    for entry in record["file_index"]["files"]:
        if entry["type"] == "file":
            assert hashlib.sha256(host.file(f"{link}/{entry['path']}").content).hexdigest() == entry["sha256"]


def test_the_service_is_that_release(host: Host) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    assert (
        host.check_output("python3 -c 'import urllib.request as u; print(u.urlopen(\"http://%s:8082/\").read().decode())'", address)
        == "1.3"
    )


def test_nothing_unfinished_is_left(host: Host) -> None:
    assert host.file(f"{HOME}/staging").listdir() == []
