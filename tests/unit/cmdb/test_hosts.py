# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.hosts import is_host


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
    assert is_host({"name": "x", "class": name}, host_classes) is is_one


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        *((kind, False) for kind in ("rack", "Rack", "cmdb_ci_rack", "cmdb_ci_datacenter", "data center", "Patch-Panel", " rack ")),
        *((kind, True) for kind in (None, "", "cmdb_ci_server", "cmdb_ci_linux_server", "storage", "rack server", "site server")),
    ],
)
def test_a_class_is_no_host_however_it_is_written(kind: str | None, host: bool) -> None:
    assert is_host({"name": "x", "class": kind}, ()) is host
    assert is_host({"name": "x", "class": kind}, ("RACK",)) is (kind in ("rack", "Rack"))
