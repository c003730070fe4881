# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.keepalive import keep_alive


class _Connection:
    def __init__(self, transport: str = "ssh", **options: object) -> None:
        self.transport, self.options = transport, options

    def get_option(self, name: str) -> object:
        return self.options.get(name)

    def set_option(self, name: str, value: object) -> None:
        self.options[name] = value


def test_a_frozen_host_is_noticed_and_what_the_user_sets_comes_first() -> None:
    connection = _Connection(ssh_extra_args="-o ServerAliveInterval=1")
    keep_alive(connection)
    assert connection.options["ssh_extra_args"] == "-o ServerAliveInterval=1 -o ServerAliveInterval=10 -o ServerAliveCountMax=3"


def test_no_connection_is_shared_with_a_run_that_would_not_notice() -> None:
    one, same, other = (_Connection(host=host) for host in ("web1", "web1", "web2"))
    for connection in (one, same, other):
        keep_alive(connection)
    assert one.options["control_path"] == same.options["control_path"] != other.options["control_path"]
    own = _Connection(control_path="%(directory)s/mine")
    keep_alive(own)
    assert own.options["control_path"] == "%(directory)s/mine"


@pytest.mark.parametrize("transport", ["local", "community.docker.docker"])
def test_other_connections_are_left_alone(transport: str) -> None:
    connection = _Connection(transport)
    keep_alive(connection)
    assert connection.options == {}
