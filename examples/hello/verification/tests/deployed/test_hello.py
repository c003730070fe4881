# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the deployment on the lab: what testinfra sees of the service on each host."""

from __future__ import annotations

from typing import Any

from testinfra.host import Host


def test_it_says_hello(host: Host, variables: dict[str, Any]) -> None:
    address, port = variables["tidegate_settings"]["address"], variables["tidegate_settings"].get("port", 8080)
    assert host.socket(f"tcp://{address}:{port}").is_listening
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    assert "hello" in host.check_output("python3 -c %s %s", program, f"http://{address}:{port}/")
