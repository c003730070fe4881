# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.keepalive import connect_anew, keep_alive, prefer_fast


class _Connection:
    def __init__(self, transport: str = "ssh", **options: object) -> None:
        self.transport, self.options = transport, options

    has_pipelining = True
    resets = 0

    def reset(self) -> None:
        self.resets += 1

    def get_option(self, name: str) -> object:
        return self.options.get(name)

    def get_option_and_origin(self, name: str, _variables: object) -> tuple[object, str]:
        return self.options.get(name), "default" if name not in self.options else "env"

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


def test_a_connection_that_is_opened_anew_is_shared_with_none_that_was_open() -> None:
    """What ends the old one only warns when that fails."""
    one = _Connection(host="web1")
    keep_alive(one)
    before = one.options["control_path"]
    connect_anew(one)
    assert one.resets == 1
    assert one.options["control_path"] != before
    other = _Connection("local")
    connect_anew(other)
    assert (other.resets, other.options) == (1, {})


@pytest.mark.parametrize("transport", ["local", "community.docker.docker"])
def test_other_connections_are_left_alone(transport: str) -> None:
    connection = _Connection(transport)
    keep_alive(connection)
    assert connection.options == {}


def test_what_is_fast_is_set_where_the_user_has_set_nothing() -> None:
    connection = _Connection()
    prefer_fast(connection, {})
    assert connection.options == {"pipelining": True, "ssh_args": "-o ControlMaster=auto -o ControlPersist=60s"}
    own = {"pipelining": False, "ssh_args": "-C"}
    connection = _Connection(**own)
    prefer_fast(connection, {})
    assert connection.options == own
    connection = _Connection("local")
    prefer_fast(connection, {})
    assert "ssh_args" not in connection.options
