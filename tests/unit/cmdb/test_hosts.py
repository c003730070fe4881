# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.hosts import is_host, says_how_to_connect
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.model import build_model
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import shipped_document, shipped_model


def ci(of_class: str | None, status: str = "installed") -> dict[str, str | None]:
    return {"name": "x", "class": of_class, "status": status}


@pytest.mark.parametrize(
    ("name", "host_classes", "is_one"),
    [
        ("server", (), True),
        ("application", (), True),  # a class of a team's own is one, rather than that a host is missed
        (None, (), True),
        ("rack", (), False),
        ("Rack", (), False),
        ("rack", ("server", "rack"), True),
        ("Server", ("server",), True),
        ("server", ("SERVER",), True),
        ("vm", ("server",), False),
        (None, ("server",), False),
    ],
)
def test_a_class_says_whether_a_ci_is_a_host(name: str | None, host_classes: tuple[str, ...], is_one: bool) -> None:
    assert is_host(ci(name), host_classes, shipped_model()) is is_one


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        *((kind, False) for kind in ("rack", "Rack", "cmdb_ci_rack", "cmdb_ci_datacenter", "data center", "Patch-Panel", " rack ")),
        *((kind, True) for kind in (None, "", "cmdb_ci_server", "cmdb_ci_linux_server", "storage", "rack server", "site server")),
    ],
)
def test_a_class_is_no_host_however_it_is_written(kind: str | None, host: bool) -> None:
    assert is_host(ci(kind), (), shipped_model()) is host
    assert is_host(ci(kind), ("RACK",), shipped_model()) is (kind in ("rack", "Rack"))


@pytest.mark.parametrize(
    ("status", "live"), [("planned", False), ("in_stock", False), ("installed", True), ("maintenance", True), ("retired", False)]
)
def test_only_what_is_live_is_a_host(status: str, live: bool) -> None:
    assert is_host(ci("server", status), (), shipped_model()) is live
    assert is_host(ci("server", status), ("server",), shipped_model()) is live


def test_a_team_says_which_of_its_classes_are_hosts() -> None:
    model = build_model(shipped_document(), {"classes": {"Kiln": {"host": False}, "rack": {"host": True}}})
    assert [is_host(ci(name), (), model) for name in ("kiln", "cmdb_ci_rack", "server")] == [False, True, True]


def test_what_is_more_than_an_address_says_how_to_connect() -> None:
    names = ("ansible_host", "ansible_port", "ansible_user", "ansible_connection", "ansible_ssh_common_args", "rack")
    assert [says_how_to_connect(name) for name in names] == [False, False, False, True, True, False]
