# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible says of a host that it lost repeats none of the host's settings."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import host as host_action
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host import HostAction


class Lost(HostAction):
    """A step whose connection breaks, with a message of ssh's that has a setting in it."""

    def __init__(self) -> None:
        self._task = cast("Any", SimpleNamespace(check_mode=False))
        self._connection = MagicMock(transport="local", has_pipelining=False)
        self.journalled = ""

    def visit(self, journal: Any, deployment: Any) -> dict[str, Any]:
        raise AnsibleConnectionFailure("ssh: connect to host vault-7.hidden.example: Connection refused")

    def lost(self, journal: Any, detail: str) -> str:
        self.journalled = detail
        return "lost"


def test_a_lost_connection_s_words_have_no_setting_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Journal", "Holder"):
        monkeypatch.setattr(host_action, name, MagicMock())
    monkeypatch.setattr(host_action.Cmdb, "open", lambda _url: contextlib.nullcontext(MagicMock()))
    step = Lost()
    options = {"cmdb": "cmdb.sqlite", "rfc": "CHG0001.yml", "settings": {"vault": "vault-7.hidden.example"}}
    monkeypatch.setattr(host_action, "rfc_number", lambda _rfc: "CHG0001")
    with pytest.raises(AnsibleConnectionFailure) as caught:
        step.execute(options, {"inventory_hostname": "web1"})
    for said in (str(caught.value), step.journalled):
        assert "hidden" not in said
        assert "${vault}: Connection refused" in said
